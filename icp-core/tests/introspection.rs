//! For how long what an issuer says of an opaque token is believed, by a clock that is moved.

#![expect(clippy::unwrap_used, reason = "a setup that fails is a test that fails")]
#![cfg(feature = "http")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::{HeaderMap, StatusCode};
use icp_core::Engine;
use icp_core::egress::{EgressError, EgressRequest, EgressResponse, Timings, Transport};
use icp_core::id::OrgId;
use icp_core::resource::{Actor, Draft};
use icp_core::secret::{LocalKeys, SystemEntropy};
use icp_core::store::MemoryStore;
use icp_core::time::{Timestamp, TokioClock};
use serde_json::{Value, json};
use tokio::time::advance;

const TOKEN: &str = "an-opaque-token-of-ann";
/// In seconds since 1970.
const BEGIN: i64 = 1_800_000_000;

/// A node, and an issuer in memory that it asks.
struct World {
    engine: Engine,
    org: OrgId,
    /// What the issuer says next, and how often it was asked.
    issuer: Arc<Mutex<(Value, usize)>>,
}

impl World {
    async fn new() -> Self {
        let issuer = Arc::new(Mutex::new((json!({ "active": false }), 0)));
        let asked = Arc::clone(&issuer);
        let transport = Transport::new(tower::service_fn(move |_: EgressRequest| {
            let mut issuer = asked.lock().unwrap();
            issuer.1 += 1;
            let body = issuer.0.to_string().into();
            std::future::ready(Ok::<_, EgressError>(EgressResponse {
                status: StatusCode::OK,
                headers: HeaderMap::new(),
                body,
                truncated: false,
                timings: Timings::default(),
                remote: None,
            }))
        }));
        let keys = LocalKeys::generate("k1", &SystemEntropy).unwrap();
        let clock = TokioClock::starting_at(Timestamp::from_millis(BEGIN * 1_000));
        let builder = Engine::builder(MemoryStore::new()).clock(clock).keys(keys);
        let engine = builder.program_transport(transport).build().unwrap();
        let org = OrgId::new("acme").unwrap();
        let made = async |kind: &str, spec: Value| {
            let draft = Draft { spec, ..Draft::default() };
            engine.resources().create(&org, kind, draft, &Actor::host()).await.unwrap();
        };
        made("organization", json!({})).await;
        let introspection = json!({
            "endpoint": "https://issuer.example/introspect", "client_id": "icp",
            "client_secret": "hush",
        });
        made(
            "issuer",
            json!({
                "issuer": "https://issuer.example", "audiences": ["icp"], "leeway_seconds": 0,
                "grants": [{ "role": "viewer" }], "introspection": introspection,
            }),
        )
        .await;
        Self { engine, org, issuer }
    }

    fn says(&self, more: &Value) {
        let mut said = json!({ "active": true, "sub": "ann", "aud": "icp" });
        let more = more.as_object().unwrap().clone();
        said.as_object_mut().unwrap().extend(more);
        self.issuer.lock().unwrap().0 = said;
    }

    /// Whether the token is good `after` seconds more, and how often it was asked about by then.
    async fn is_good(&self, after: u64) -> (bool, usize) {
        advance(Duration::from_secs(after)).await;
        let who = self.engine.authenticate_at(TOKEN, Some(&self.org)).await.unwrap();
        (who.is_some(), self.issuer.lock().unwrap().1)
    }
}

#[tokio::test(start_paused = true)]
async fn that_a_token_is_good_is_believed_for_five_minutes() {
    let world = World::new().await;
    world.says(&json!({}));
    assert_eq!(world.is_good(0).await, (true, 1));
    // It was taken back, which is not known until then.
    world.says(&json!({ "active": false }));
    assert_eq!(world.is_good(299).await, (true, 1));
    assert_eq!(world.is_good(1).await, (false, 2));
}

#[tokio::test(start_paused = true)]
async fn a_far_end_of_the_token_does_not_make_it_longer() {
    let world = World::new().await;
    world.says(&json!({ "exp": BEGIN + 86_400 }));
    assert_eq!(world.is_good(0).await, (true, 1));
    assert_eq!(world.is_good(299).await, (true, 1));
    assert_eq!(world.is_good(1).await, (true, 2));
}

#[tokio::test(start_paused = true)]
async fn no_token_is_good_beyond_its_end_whatever_its_issuer_says() {
    let world = World::new().await;
    world.says(&json!({ "exp": BEGIN + 60 }));
    assert_eq!(world.is_good(0).await, (true, 1));
    assert_eq!(world.is_good(59).await, (true, 1));
    // The issuer is asked once more, and says what cannot be.
    assert_eq!(world.is_good(1).await, (false, 2));
    assert_eq!(world.is_good(9).await, (false, 2));
    world.says(&json!({ "exp": BEGIN + 600 }));
    assert_eq!(world.is_good(1).await, (true, 3));
}

#[tokio::test(start_paused = true)]
async fn that_a_token_is_not_good_is_believed_for_ten_seconds() {
    let world = World::new().await;
    assert_eq!(world.is_good(0).await, (false, 1));
    world.says(&json!({}));
    assert_eq!(world.is_good(9).await, (false, 1));
    assert_eq!(world.is_good(1).await, (true, 2));
}
