//! Requests that code of the host signs: what it is shown, and that nothing is sent without it.

#![expect(clippy::unwrap_used, reason = "what a test needs fails by panicking")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use icp_core::Engine;
use icp_core::delivery::{Attempt, AttemptOutcome, DeliveryQuery, DeliveryState};
use icp_core::egress::{EgressError, EgressRequest, EgressResponse, Timings, Transport};
use icp_core::engine::EngineBuilder;
use icp_core::event::NewEvent;
use icp_core::id::{OrgId, ResourceId};
use icp_core::integration::auth::{RequestSigner, SIGNER_TIMEOUT, SignerError, UnsignedRequest};
use icp_core::integration::http::HttpConnector;
use icp_core::resource::{Actor, Draft};
use icp_core::secret::{LocalKeys, SystemEntropy};
use icp_core::store::MemoryStore;
use icp_core::time::{Timestamp, TokioClock};
use icp_core::trial::{Sample, TestOf, TestOutcome};
use serde_json::{Value, json};
use tokio::time::sleep;

const SECOND: Duration = Duration::from_secs(1);
const TOKEN: &str = "Custom canary-of-this-request";

type Seen<T> = Arc<Mutex<Vec<T>>>;

/// What a signer was shown.
#[derive(Debug)]
struct Shown {
    handler: String,
    config: Option<Value>,
    request: EgressRequest,
    attempt: u32,
    event: String,
}

/// Does what its config says.
#[derive(Clone, Debug, Default)]
struct Vault {
    shown: Seen<Shown>,
}

#[async_trait]
impl RequestSigner for Vault {
    async fn sign(&self, unsigned: &UnsignedRequest<'_>) -> Result<HeaderMap, SignerError> {
        self.shown.lock().unwrap().push(Shown {
            handler: unsigned.handler.to_owned(),
            config: unsigned.config.cloned(),
            request: unsigned.request.clone(),
            attempt: unsigned.outgoing.number,
            event: unsigned.outgoing.event.id.to_string(),
        });
        let told = unsigned.config.and_then(Value::as_str).unwrap_or_default();
        let field = |name: &'static str, value: &'static str| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        match told {
            "hang" => std::future::pending().await,
            "fail" => Err(SignerError::new("vault_sealed", "the vault is sealed")),
            "fail once" if unsigned.outgoing.number == 1 => {
                Err(SignerError::new("vault_sealed", "the vault is sealed"))
            }
            "nothing" => Ok(HeaderMap::new()),
            "framing" => Ok(HeaderMap::from_iter([field("content-length", "1")])),
            "replace" => Ok(HeaderMap::from_iter([field("x-shop", "8")])),
            _ => Ok(HeaderMap::from_iter([field("authorization", TOKEN), field("x-date", "now")])),
        }
    }
}

/// A client that repeats the credentials which it got.
fn client() -> (Transport, Seen<EgressRequest>) {
    let seen = Seen::default();
    let record = Arc::clone(&seen);
    let service = tower::service_fn(move |request: EgressRequest| {
        let repeated = request.headers.get("authorization").cloned();
        record.lock().unwrap().push(request);
        async move {
            let body = repeated.map(|value| value.as_bytes().to_vec()).unwrap_or_default();
            Ok::<_, EgressError>(EgressResponse {
                status: StatusCode::OK,
                headers: HeaderMap::new(),
                body: body.into(),
                truncated: false,
                timings: Timings::default(),
                remote: None,
            })
        }
    });
    (Transport::new(service), seen)
}

struct Stage {
    engine: Engine,
    org: OrgId,
    sent: Seen<EgressRequest>,
}

impl Stage {
    async fn with(signers: impl FnOnce(EngineBuilder) -> EngineBuilder) -> Self {
        let clock = TokioClock::starting_at(Timestamp::from_millis(1_800_000_000_000));
        let (transport, sent) = client();
        let keys = LocalKeys::generate("k1", &SystemEntropy).unwrap();
        let builder = Engine::builder(MemoryStore::new()).clock(clock).keys(keys);
        let engine = signers(builder.connector(HttpConnector::new(transport))).build().unwrap();
        let stage = Self { engine, org: OrgId::new("acme").unwrap(), sent };
        stage.create("organization", None, json!({})).await;
        stage
    }

    async fn create(&self, kind: &str, name: Option<&str>, spec: Value) {
        let id = name.map(|name| ResourceId::new(name).unwrap());
        let draft = Draft { id, spec, ..Draft::default() };
        self.engine.resources().create(&self.org, kind, draft, &Actor::host()).await.unwrap();
    }

    async fn integration(&self, auth: Value) {
        let secret = format!("whsec_{}", STANDARD.encode([7; 32]));
        let spec = json!({
            "events": ["order.*"],
            "target": {
                "kind": "http", "url": "https://example.com/hook?a=1", "method": "PUT",
                "headers": { "x-shop": "7" },
            },
            "signing": { "keys": [{ "secret": secret }] },
            "retry": { "max_attempts": 2 },
            "auth": auth,
        });
        self.create("integration", Some("crm"), spec).await;
    }

    /// Publishes an event, and runs the engine until its delivery ended.
    async fn delivered(&self) -> (DeliveryState, Vec<Attempt>) {
        let event = NewEvent::json("acme", "order.paid", &json!({ "order": 17 })).unwrap();
        self.engine.publish(event).await.unwrap();
        let running = self.engine.start().await.unwrap();
        let delivery = loop {
            sleep(SECOND).await;
            let found = self.engine.deliveries(&self.org, &DeliveryQuery::default()).await.unwrap();
            let [delivery] = <[_; 1]>::try_from(found.items).unwrap();
            if delivery.state.is_final() {
                break delivery;
            }
        };
        running.shutdown(SECOND).await;
        (delivery.state, self.engine.attempts(&self.org, delivery.id).await.unwrap())
    }
}

fn asks(config: &str) -> Value {
    json!({ "type": "host", "handler": "vault", "config": config })
}

#[tokio::test(start_paused = true)]
async fn a_signer_is_shown_the_request_and_adds_to_it() {
    let vault = Vault::default();
    let stage = Stage::with(|builder| builder.request_signer("vault", vault.clone())).await;
    stage.integration(asks("k1")).await;
    let (state, attempts) = stage.delivered().await;
    assert_eq!(state, DeliveryState::Delivered);

    let shown = vault.shown.lock().unwrap().pop().unwrap();
    let sent = stage.sent.lock().unwrap().pop().unwrap();
    assert_eq!((shown.handler.as_str(), shown.config), ("vault", Some(json!("k1"))));
    assert_eq!(
        (shown.attempt, shown.event.as_str()),
        (1, sent.headers["webhook-id"].to_str().unwrap())
    );
    assert_eq!((&shown.request.method, &shown.request.url), (&sent.method, &sent.url));
    assert_eq!(sent.url.as_str(), "https://example.com/hook?a=1");
    assert_eq!((&shown.request.body, &sent.body[..]), (&sent.body, &br#"{"order":17}"#[..]));
    assert!(shown.request.headers.contains_key("webhook-signature"), "ours are there already");

    let mut expected = shown.request.headers;
    expected.insert("authorization", HeaderValue::from_static(TOKEN));
    expected.insert("x-date", HeaderValue::from_static("now"));
    assert_eq!(sent.headers, expected, "nothing but what it said is added");
    assert!(sent.headers["authorization"].is_sensitive());
    let kept = format!("{:?}", attempts[0].exchange);
    assert!(kept.contains("***") && !kept.contains("canary"), "{kept}");
}

#[tokio::test(start_paused = true)]
async fn nothing_is_sent_without_a_good_answer() {
    for (config, class, message) in [
        ("fail", "signer_vault_sealed", "the vault is sealed"),
        ("hang", "signer_timeout", "did not answer within 30 s"),
        ("nothing", "signer_fields_invalid", "0 header fields"),
        ("framing", "signer_fields_invalid", "`content-length`"),
        ("replace", "signer_fields_invalid", "`x-shop`"),
    ] {
        let vault = Vault::default();
        let stage = Stage::with(|builder| builder.request_signer("vault", vault.clone())).await;
        stage.integration(asks(config)).await;
        let (state, attempts) = stage.delivered().await;
        assert_eq!((state, attempts.len()), (DeliveryState::Dead, 2), "{config}");
        for attempt in attempts {
            assert_eq!(attempt.outcome, AttemptOutcome::Failed(class.to_owned()), "{config}");
            let told = attempt.message.unwrap_or_default();
            assert!(told.contains(message), "{config}: {told}");
            // So it is no fault of the receiver.
            assert!(attempt.exchange.is_none() && attempt.timings.total == 0, "{config}");
        }
        assert_eq!(stage.sent.lock().unwrap().len(), 0, "{config}");
        assert_eq!(vault.shown.lock().unwrap().len(), 2, "{config}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_was_not_signed_is_made_again() {
    let vault = Vault::default();
    let stage = Stage::with(|builder| builder.request_signer("vault", vault)).await;
    stage.integration(asks("fail once")).await;
    let (state, attempts) = stage.delivered().await;
    assert_eq!((state, attempts.len()), (DeliveryState::Delivered, 2));
    assert_eq!(stage.sent.lock().unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_name_that_nobody_has_is_for_the_signer_of_all_others() {
    let stage = Stage::with(|builder| builder.request_signer("another", Vault::default())).await;
    stage.integration(asks("k1")).await;
    let (state, attempts) = stage.delivered().await;
    assert_eq!(state, DeliveryState::Dead);
    assert_eq!(attempts[0].outcome, AttemptOutcome::Failed("signer_no_handler".to_owned()));
    assert_eq!(stage.sent.lock().unwrap().len(), 0);

    let (vault, unused) = (Vault::default(), Vault::default());
    let both = |builder: EngineBuilder| {
        builder.request_signer("another", unused.clone()).other_request_signers(vault.clone())
    };
    let stage = Stage::with(both).await;
    stage.integration(asks("k1")).await;
    assert_eq!(stage.delivered().await.0, DeliveryState::Delivered);
    assert_eq!(vault.shown.lock().unwrap()[0].handler, "vault");
    assert!(unused.shown.lock().unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn tests_ask_the_signer_and_commands_do_not() {
    let vault = Vault::default();
    let stage = Stage::with(|builder| builder.request_signer("vault", vault.clone())).await;
    stage.integration(asks("hang")).await;
    let crm = || TestOf::Saved(ResourceId::new("crm").unwrap());
    let report = stage.engine.test_delivery(&stage.org, crm(), Sample::default()).await.unwrap();
    let TestOutcome::Unsent { class, .. } = &report.outcome else { panic!("{report:?}") };
    assert_eq!(class, "signer_timeout");
    assert!(vault.shown.lock().unwrap()[0].request.headers.contains_key("icp-test"));

    let curl = stage.engine.integration_curl(&stage.org, crm(), Sample::default()).await.unwrap();
    assert!(!curl.command.contains("authorization"), "{}", curl.command);
    assert!(curl.notes.iter().any(|note| note.contains("the host adds")), "{:?}", curl.notes);
    assert_eq!(vault.shown.lock().unwrap().len(), 1);
    assert!(SIGNER_TIMEOUT < Duration::from_secs(150), "it is over before the attempt is");
}
