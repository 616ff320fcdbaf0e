#![expect(clippy::panic, clippy::unwrap_used, reason = "what a test needs fails by panicking")]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::BodyExt;
use icp_core::access::ApiKey;
use icp_core::secret::{LocalKeys, SystemEntropy};
use icp_core::store::MemoryStore;
use icp_core::{Engine, EngineBuilder};
use jsonschema::Validator;
use serde_json::{Value, json};
use tower::ServiceExt;

/// An API and a key for it.
pub(crate) struct Api {
    pub(crate) engine: Engine,
    pub(crate) key: String,
    pub(crate) router: Router,
    pub(crate) document: Value,
}

/// An answer, read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Api {
    pub(crate) async fn new() -> Self {
        Self::of(Engine::builder(MemoryStore::new())).await
    }

    /// An API over what `builder` makes, and a key for it.
    pub(crate) async fn of(builder: EngineBuilder) -> Self {
        let mut api = Self::over(builder);
        let key = ApiKey::generate(api.engine.ids(), &SystemEntropy).unwrap();
        assert!(api.engine.bootstrap_key(&key).await.unwrap());
        api.key = key.to_text().expose().to_owned();
        api
    }

    /// An API that nobody can use yet.
    pub(crate) fn without_key() -> Self {
        Self::over(Engine::builder(MemoryStore::new()))
    }

    fn over(builder: EngineBuilder) -> Self {
        let keys = LocalKeys::generate("k1", &SystemEntropy).unwrap();
        let engine = builder.keys(keys).allow_loopback().build().unwrap();
        let router = icp_axum::Api::new(engine.clone()).first_user_by_request().build().unwrap();
        let document = icp_axum::openapi(engine.resources().kinds());
        Self { engine, key: String::new(), router, document }
    }

    /// An API with the organization `acme` and its integration `orders`, which takes `order.*`.
    pub(crate) async fn with_orders() -> Self {
        let api = Self::new().await;
        let made = api.post("/api/v1/organizations", json!({"id": "acme", "spec": {}})).await;
        made.expect(201);
        let made = api.post("/api/v1/organizations/acme/integrations", orders()).await;
        made.expect(201);
        api
    }

    pub(crate) async fn raw(&self, request: Request<Body>) -> Answer {
        Answer::read(self.respond(request).await).await
    }

    /// The answer, of which the body is not read yet.
    pub(crate) async fn respond(&self, request: Request<Body>) -> Response<Body> {
        self.router.clone().oneshot(request).await.unwrap()
    }

    pub(crate) async fn call(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Answer {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("authorization", format!("Bearer {}", self.key));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = self.raw(request.body(Body::from(body.to_owned())).unwrap()).await;
        self.documented(method, path, &answer);
        answer
    }

    /// Every answer of every test must be one that the document of the routes names.
    fn documented(&self, method: &str, path: &str, answer: &Answer) {
        let path = path.split('?').next().unwrap();
        let fits = |template: &str| {
            let parts = || template.split('/').zip(path.split('/'));
            template.split('/').count() == path.split('/').count()
                && parts().all(|(known, own)| known == own || known.starts_with('{'))
        };
        let paths = self.document["paths"].as_object().unwrap();
        // The one that says most in words of its own is the one that is routed to.
        let fitting = paths.keys().filter(|template| fits(template));
        let Some(template) = fitting.min_by_key(|template| template.matches('{').count()) else {
            return;
        };
        let pointer = template.replace('~', "~0").replace('/', "~1");
        let operation = format!("/paths/{pointer}/{}", method.to_lowercase());
        if self.document.pointer(&operation).is_none() {
            return;
        }
        let status = answer.status.as_str();
        let at = format!("{operation}/responses/{status}");
        let named = self.document.pointer(&at);
        assert!(named.is_some(), "{method} {template} answers {status}: {}", answer.text);
        let media = answer.headers.get("content-type").map_or("", |media| media.to_str().unwrap());
        let content = &named.unwrap()["content"];
        if let Some(fault) = schema_fault(&self.document, content, media, &answer.text) {
            panic!("{method} {template} answers {status}: {fault}: {}", answer.text);
        }
    }

    /// The head of an answer that does not end by itself, and which is then hung up on; where it is
    /// none of these, the whole answer.
    pub(crate) async fn head(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        let response = self.open(path, headers).await;
        let answer = if is_stream(response.headers()) {
            let (parts, _) = response.into_parts();
            Answer { status: parts.status, headers: parts.headers, text: String::new() }
        } else {
            Answer::read(response).await
        };
        self.documented("GET", path, &answer);
        answer
    }

    /// An answer whose body is not read yet.
    pub(crate) async fn open(&self, path: &str, headers: &[(&str, &str)]) -> Response<Body> {
        let bearer = format!("Bearer {}", self.key);
        let mut request = Request::builder().uri(path).header("authorization", bearer);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap()
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.call("GET", path, &[], "").await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Answer {
        self.send("POST", path, &[], body).await
    }

    pub(crate) async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Value,
    ) -> Answer {
        let json = [("content-type", "application/json")];
        self.call(method, path, &[&json, headers].concat(), &body.to_string()).await
    }

    /// Publishes an event of type `order.paid` and answers its id and that of its delivery.
    pub(crate) async fn paid(&self) -> (String, String) {
        let events = "/api/v1/organizations/acme/events";
        let published = self.post(events, json!({"type": "order.paid", "data": {"n": 1}})).await;
        let event = published.expect(202)["id"].as_str().unwrap().to_owned();
        let path = format!("/api/v1/organizations/acme/deliveries?event={event}");
        let found = self.get(&path).await.expect(200);
        (event, found["items"][0]["id"].as_str().unwrap().to_owned())
    }

    /// Publishes an event as [`paid`](Self::paid) does and has its one attempt made; answers the
    /// id of its delivery. What was handed over by the publish is done when the engine has stopped.
    pub(crate) async fn attempted(&self) -> String {
        let running = self.engine.start().await.unwrap();
        assert_eq!(self.get("/ready").await.expect(200)["ready"], true);
        let (_, delivery) = self.paid().await;
        let drained = running.shutdown(Duration::from_secs(20)).await;
        assert_eq!((drained.finished, drained.released, drained.unsettled), (1, 0, 0));
        delivery
    }
}

fn is_stream(headers: &HeaderMap) -> bool {
    headers.get("content-type").is_some_and(|media| media == "text/event-stream")
}

/// What is wrong with a body of this media type, by what the document says of the answer.
fn schema_fault(document: &Value, content: &Value, media: &str, text: &str) -> Option<String> {
    if text.is_empty() && media.is_empty() {
        return None;
    }
    // A parameter such as `charset` says nothing about the schema.
    let bare = media.split(';').next().unwrap_or_default();
    let Some(known) = content.get(media).or_else(|| content.get(bare)) else {
        return Some(format!("`{media}` is none of {content}"));
    };
    if text.is_empty() || (bare != "application/json" && !bare.ends_with("+json")) {
        return None;
    }
    let schema = json!({ "components": document["components"], "allOf": [known["schema"]] });
    static KNOWN: Mutex<BTreeMap<String, Arc<Validator>>> = Mutex::new(BTreeMap::new());
    let mut validators = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    let validator = validators
        .entry(schema["allOf"].to_string())
        .or_insert_with(|| Arc::new(jsonschema::draft202012::new(&schema).unwrap()));
    let validator = Arc::clone(validator);
    drop(validators);
    let body = serde_json::from_str(text).unwrap();
    let fault = validator.validate(&body).err();
    fault.map(|fault| format!("{fault} at `{}`", fault.instance_path()))
}

impl Answer {
    async fn read(response: Response<Body>) -> Self {
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        Self { status: parts.status, headers: parts.headers, text }
    }

    /// The body, where the status is `status`.
    #[track_caller]
    pub(crate) fn expect(&self, status: u16) -> Value {
        assert_eq!(self.status.as_u16(), status, "{}", self.text);
        if self.text.is_empty() {
            return Value::Null;
        }
        serde_json::from_str(&self.text).unwrap()
    }

    /// The problem of this status and code.
    #[track_caller]
    pub(crate) fn problem(&self, status: u16, code: &str) -> Value {
        let problem = self.expect(status);
        assert_eq!(problem["code"], code, "{}", self.text);
        assert_eq!(problem["status"], status);
        assert_eq!(problem["type"], format!("urn:icp:error:{code}"));
        assert_eq!(self.header("content-type"), "application/problem+json");
        problem
    }

    #[track_caller]
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers[name].to_str().unwrap()
    }
}

/// An integration that sends to a port where nobody listens, once.
pub(crate) fn orders() -> Value {
    json!({
        "id": "orders",
        "labels": {"team": "a"},
        "spec": {
            "events": ["order.*"],
            "target": {"kind": "http", "url": "http://127.0.0.1:1/hooks"},
            "auth": {"type": "bearer", "token": "hush-hush"},
            "retry": {"max_attempts": 1},
        },
    })
}
