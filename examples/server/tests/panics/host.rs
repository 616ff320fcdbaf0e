//! A host whose code panics wherever the engine and its API call it.

use std::fmt::Debug;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::Request;
use bytes::Bytes;
use icp::access::ApiKey;
use icp::egress::AddressPolicy;
use icp::error::Violation;
use icp::id::OrgId;
use icp::integration::{Binding, Connector, Integration, Outgoing, Preview, Sent};
use icp::secret::{LocalKeys, SystemEntropy};
use icp::store_sql::sqlite::SqliteStore;
use icp::telemetry::{SystemLog, log_panics};
use icp::transform::{Plan, Report, TransformContext, TransformError, Transformer};
use icp::{Engine, Result};
use serde_json::{Value, json};
use tower::ServiceExt;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::fmt::format::FmtSpan;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::{CARRIED, HELD};

/// All that is logged, spans among it.
pub(crate) const LOG: &str = "log";
/// The metrics as they are shown.
pub(crate) const METRICS: &str = "metrics";
/// Every other answer.
const ANSWERS: &str = "answers";

const ACME: &str = "/api/v1/organizations/acme";
const PATIENCE: Duration = Duration::from_secs(60);

/// Whether plans are refused by a panic, not only run by one.
static CHECKS: AtomicBool = AtomicBool::new(false);

/// A transformer that panics with what it has at hand.
#[derive(Debug)]
struct Clumsy;

#[async_trait]
impl Transformer for Clumsy {
    async fn check(&self, _: &Plan, org: &OrgId) -> Result<(), Vec<TransformError>> {
        assert!(!CHECKS.load(Ordering::SeqCst), "{org} does not know {HELD}");
        Ok(())
    }

    async fn run(
        &self,
        _: &Plan,
        input: Bytes,
        cx: &TransformContext<'_>,
    ) -> Result<Report, TransformError> {
        match cx.event_type.as_str() {
            "order.held" => panic!("{} opens nothing", key()),
            "order.any" => std::panic::panic_any(key()),
            "order.words" => panic!("words of the program itself"),
            _ => panic!("{} cannot be read", String::from_utf8_lossy(&input)),
        }
    }
}

/// Not known to the compiler, which would make it a text of the program.
fn key() -> String {
    std::hint::black_box(HELD).to_owned()
}

/// A target that panics as it is sent to.
#[derive(Clone, Debug)]
struct Broken;

impl Connector for Broken {
    fn kind(&self) -> &'static str {
        "broken"
    }

    fn validate(&self, target: &Value, _: &str, _: &AddressPolicy) -> Vec<Violation> {
        assert!(target["at"] != "validate", "{} is not valid", key());
        Vec::new()
    }

    fn schema(&self) -> Value {
        json!({ "type": "object" })
    }

    fn bind(&self, binding: Binding<'_>) -> Result<Arc<dyn Integration>> {
        assert!(binding.target["at"] != "bind", "{} is not bound", key());
        Ok(Arc::new(self.clone()))
    }
}

#[async_trait]
impl Integration for Broken {
    async fn send(&self, outgoing: Outgoing<'_>) -> Sent {
        panic!("{} does not send {:?}", key(), outgoing.body);
    }

    fn preview(&self, outgoing: &Outgoing<'_>) -> Result<Preview> {
        panic!("{} does not show {:?}", key(), outgoing.body);
    }
}

struct Host {
    router: Router,
    key: String,
    answers: File,
}

impl Host {
    async fn ask(&mut self, method: &str, path: &str, body: Value) -> (u16, Value) {
        self.ask_with(method, path, &[], body).await
    }

    async fn ask_with(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Value,
    ) -> (u16, Value) {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("authorization", format!("Bearer {}", self.key))
            .header("content-type", "application/json");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let body = if body.is_null() { Body::empty() } else { Body::from(body.to_string()) };
        let response = self.router.clone().oneshot(request.body(body).unwrap()).await.unwrap();
        let (status, fields) = (response.status().as_u16(), format!("{:?}", response.headers()));
        let bytes = to_bytes(response.into_body(), 16 << 20).await.unwrap();
        writeln!(self.answers, "{method} {path} {status} {fields}").unwrap();
        self.answers.write_all(&bytes).unwrap();
        let text = || Value::from(String::from_utf8_lossy(&bytes).into_owned());
        (status, serde_json::from_slice(&bytes).unwrap_or_else(|_| text()))
    }

    async fn good(&mut self, method: &str, path: &str, body: Value) -> Value {
        let (status, answer) = self.ask(method, path, body).await;
        assert!((200..300).contains(&status), "{method} {path}: {status} {answer}");
        answer
    }

    /// As [`ask`](Self::ask), where the code of the host panics within the request.
    async fn broken(&mut self, path: &str, headers: &[(&str, &str)], body: Value) {
        let (status, problem) = self.ask_with("POST", path, headers, body).await;
        assert_eq!((status, &problem["code"]), (500, &json!("internal")), "{path}: {problem}");
    }
}

/// Plays the host; what it leaves in `folder` is for others to look at.
pub(crate) fn play(folder: &Path) {
    let log = SystemLog::default();
    let lines = tracing_subscriber::fmt::layer()
        .with_ansi(false)
        .with_span_events(FmtSpan::FULL)
        .with_writer(Mutex::new(File::create(folder.join(LOG)).unwrap()));
    tracing_subscriber::registry().with(LevelFilter::TRACE).with(lines).with(log.layer()).init();
    log_panics();
    let runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = { runtime }.worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(act(folder, log));
}

async fn act(folder: &Path, log: SystemLog) {
    let store = SqliteStore::builder(folder.join("icp.db")).open().await.unwrap();
    let keys = LocalKeys::generate("k1", &SystemEntropy).unwrap();
    let builder = Engine::builder(store.clone()).keys(keys).system_log(log).allow_loopback();
    let engine = builder.connector(Broken).transformer(Clumsy).build().unwrap();
    let running = engine.start().await.unwrap();
    let key = ApiKey::generate(engine.ids(), &SystemEntropy).unwrap();
    assert!(engine.bootstrap_key(&key).await.unwrap());
    let answers = File::create(folder.join(ANSWERS)).unwrap();
    let key = key.to_text().expose().to_owned();
    let mut host = Host { router: icp::axum::router(engine), key, answers };
    host.good("POST", "/api/v1/organizations", json!({ "id": "acme", "spec": {} })).await;
    configure(&mut host).await;
    deliver(&mut host).await;
    try_out(&mut host).await;
    look(&mut host, folder).await;
    running.shutdown(PATIENCE).await;
    store.close().await.unwrap();
}

async fn configure(host: &mut Host) {
    let path = format!("{ACME}/integrations");
    let once = json!({ "max_attempts": 1 });
    let plain = json!({
        "events": ["order.*"], "target": { "kind": "http", "url": "http://127.0.0.1:1/" },
        "transform": [{ "map": {} }], "retry": once,
    });
    let sent = json!({ "events": ["order.*"], "target": { "kind": "broken" }, "retry": once });
    let unbound = json!({
        "events": ["order.*"], "target": { "kind": "broken", "at": "bind" }, "retry": once,
    });
    for (id, spec) in [("plain", &plain), ("sent", &sent)] {
        host.good("POST", &path, json!({ "id": id, "spec": spec })).await;
    }
    // Whether it is bound as it is saved, or as it is used, is not for this test to say.
    host.ask("POST", &path, json!({ "id": "unbound", "spec": unbound })).await;
    let wrong = json!({ "events": ["*"], "target": { "kind": "broken", "at": "validate" } });
    host.broken(&path, &[], json!({ "id": "wrong", "spec": wrong })).await;
    CHECKS.store(true, Ordering::SeqCst);
    host.broken(&path, &[], json!({ "id": "unchecked", "spec": plain })).await;
    let key = [("idempotency-key", "once")];
    host.broken(&path, &key, json!({ "id": "unchecked", "spec": plain })).await;
    CHECKS.store(false, Ordering::SeqCst);
}

/// Events for which each attempt panics.
async fn deliver(host: &mut Host) {
    let kinds = ["order.held", "order.any", "order.words", "order.carried"];
    for kind in kinds {
        let event = json!({ "type": kind, "data": { "order": CARRIED } });
        host.good("POST", &format!("{ACME}/events"), event).await;
    }
    let path = format!("{ACME}/deliveries?state=dead&limit=100");
    let wait = async {
        loop {
            let page = host.good("GET", &path, Value::Null).await;
            if page["items"].as_array().unwrap().len() >= kinds.len() * 2 {
                break page;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let dead = tokio::time::timeout(PATIENCE, wait).await.unwrap();
    for delivery in dead["items"].as_array().unwrap() {
        let id = delivery["id"].as_str().unwrap();
        host.good("GET", &format!("{ACME}/deliveries/{id}"), Value::Null).await;
        let attempts = format!("{ACME}/deliveries/{id}/attempts");
        let attempts = host.good("GET", &attempts, Value::Null).await.to_string();
        assert!(attempts.contains("the attempt broke off; see the log"), "{attempts}");
    }
}

async fn try_out(host: &mut Host) {
    let sample = json!({ "type": "order.held", "data": { "order": CARRIED } });
    let asked = json!({ "integration": "plain", "sample": sample });
    host.broken(&format!("{ACME}/transforms/dry-run"), &[], asked).await;
    for id in ["plain", "sent"] {
        let path = format!("{ACME}/integrations/{id}/test");
        let (status, answer) = host.ask("POST", &path, json!({ "sample": sample })).await;
        assert!(status < 600, "{answer}");
    }
}

async fn look(host: &mut Host, folder: &Path) {
    for path in ["dead-letters", "audit", "events", "integrations", "lanes"] {
        host.good("GET", &format!("{ACME}/{path}"), Value::Null).await;
    }
    let lines = "/api/v1/system/log?level=trace&limit=200";
    let lines = host.good("GET", lines, Value::Null).await.to_string();
    assert!(lines.contains("panicked"), "{lines}");
    host.good("GET", "/api/v1/system/status", Value::Null).await;
    let (_, metrics) = host.ask("GET", "/metrics", Value::Null).await;
    std::fs::write(folder.join(METRICS), metrics.to_string()).unwrap();
}
