//! When an issuer is asked for its keys, and what is used while it does not answer.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt;
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};
use tokio_util::task::TaskTracker;

use super::forge::{Forge, ISSUER};
use super::issuer;
use crate::egress::{
    AddressPolicy, EgressError, EgressRequest, EgressResponse, Timings, Transport,
};
use crate::error::{Code, Result};
use crate::id::{OrgId, ResourceId};
use crate::issuer::keyring::{Keyring, Keys, Wanted};
use crate::issuer::spec::{Issuer, address};
use crate::resource::Revision;
use crate::transform::Outlet;

/// An issuer in memory, and a node that knows it.
struct World {
    issuer: Arc<Issuer>,
    keyring: Keyring,
    tasks: TaskTracker,
    asked: Arc<AtomicUsize>,
    /// What it answers with next.
    answer: Arc<Mutex<(u16, Vec<u8>)>>,
    outlet: Outlet,
    org: OrgId,
    id: ResourceId,
}

impl World {
    fn new(keys: &Value) -> Self {
        let asked = Arc::new(AtomicUsize::new(0));
        let answer = Arc::new(Mutex::new((200, keys.to_string().into_bytes())));
        let (count, says) = (Arc::clone(&asked), Arc::clone(&answer));
        let transport = Transport::new(tower::service_fn(move |request: EgressRequest| {
            count.fetch_add(1, Ordering::SeqCst);
            let (status, body) = says.lock().unwrap().clone();
            async move {
                // Others have time to come for the same.
                tokio::task::yield_now().await;
                let truncated = body.len() > request.response_limit;
                Ok::<_, EgressError>(EgressResponse {
                    status: StatusCode::from_u16(status).unwrap(),
                    headers: HeaderMap::new(),
                    body: body[..body.len().min(request.response_limit)].to_vec().into(),
                    truncated,
                    timings: Timings::default(),
                    remote: None,
                })
            }
        }));
        let jwks_uri = address(&format!("{ISSUER}/keys"));
        Self {
            issuer: Arc::new(Issuer { jwks_uri, ..issuer() }),
            keyring: Keyring::default(),
            tasks: TaskTracker::new(),
            asked,
            answer,
            outlet: Outlet { transport, policy: Arc::new(AddressPolicy::strict()) },
            org: OrgId::new("acme").unwrap(),
            id: ResourceId::new("idp").unwrap(),
        }
    }

    async fn keys(&self, now: u64, beyond: Option<u64>) -> Result<Keys> {
        let now = Duration::from_secs(now);
        let wanted = Wanted { org: &self.org, id: &self.id, revision: Revision(1), beyond, now };
        let outlet = Some(self.outlet.clone());
        self.keyring.keys(&self.issuer, outlet, wanted, &self.tasks).await
    }

    fn says(&self, status: u16, body: &str) {
        *self.answer.lock().unwrap() = (status, body.as_bytes().to_vec());
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

fn one(forge: &Forge, kid: &str) -> Value {
    json!({ "keys": [forge.jwk("p256", kid)] })
}

#[tokio::test]
async fn callers_at_the_same_time_share_one_request() {
    let world = World::new(&one(&Forge::new(), "a"));
    let together = (0..50).map(|_| world.keys(0, None));
    assert!(futures_util::future::join_all(together).await.iter().all(Result::is_ok));
    assert_eq!(world.asked(), 1);
}

#[tokio::test]
async fn who_hangs_up_neither_repeats_nor_spoils_a_request() {
    let world = World::new(&one(&Forge::new(), "a"));
    assert!(world.keys(0, None).now_or_never().is_none());
    assert!(world.keys(0, None).await.is_ok());
    assert_eq!(world.asked(), 1);
}

#[tokio::test]
async fn a_key_that_is_missing_is_asked_for_at_most_each_half_minute() {
    let forge = Forge::new();
    let world = World::new(&one(&forge, "a"));
    let first = world.keys(0, None).await.unwrap().generation;
    for now in [0, 10, 29] {
        assert_eq!(world.keys(now, Some(first)).await.unwrap().generation, first);
    }
    assert_eq!(world.asked(), 1);
    assert_eq!(world.keys(30, Some(first)).await.unwrap().generation, first, "the same keys");
    assert_eq!(world.asked(), 2);
    world.says(200, &one(&forge, "b").to_string());
    assert_eq!(world.keys(59, Some(first)).await.unwrap().generation, first);
    let second = world.keys(60, Some(first)).await.unwrap().generation;
    assert!(second > first);
    assert_eq!(world.keys(61, Some(first)).await.unwrap().generation, second);
    assert_eq!(world.asked(), 3);
}

#[tokio::test]
async fn keys_are_fetched_anew_and_kept_while_that_fails() {
    let world = World::new(&one(&Forge::new(), "a"));
    let first = world.keys(0, None).await.unwrap().generation;
    assert_eq!(world.keys(599, None).await.unwrap().generation, first);
    assert_eq!(world.asked(), 1);
    world.says(500, "");
    for (now, asked) in [(600, 2), (629, 2), (630, 3), (86_399, 4)] {
        assert_eq!(world.keys(now, None).await.unwrap().generation, first, "{now}");
        assert_eq!(world.asked(), asked, "{now}");
    }
    let over = world.keys(86_430, None).await.unwrap_err();
    assert_eq!(over.code(), Code::IssuerUnavailable);
}

#[tokio::test]
async fn answers_that_are_no_keys_are_refused_and_not_asked_for_again_at_once() {
    let large = format!("{{\"keys\":[],\"x\":\"{}\"}}", "x".repeat(256 * 1_024));
    let forge = Forge::new();
    let good = one(&forge, "a").to_string();
    for (status, body) in [
        (404, good.as_str()),
        (302, &good),
        (204, ""),
        (200, "<html>"),
        (200, "{}"),
        (200, "{\"keys\":[],\"keys\":[]}"),
        (200, &large),
    ] {
        let world = World::new(&json!({}));
        world.says(status, body);
        for _ in 0..3 {
            let error = world.keys(0, None).await.unwrap_err();
            assert_eq!(error.code(), Code::IssuerUnavailable, "{status} {body:.20}");
        }
        assert_eq!(world.asked(), 1, "{status} {body:.20}");
        world.says(200, &good);
        assert!(world.keys(30, None).await.is_ok());
    }
}
