//! A rotated secret: both sign until the overlap is over, then only the new one.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use icp::Engine;
use icp::id::{OrgId, ResourceId};
use icp::resource::{Actor, Expect, Revision};
use icp::secret::SecretString;
use icp::signing::{KeyRing, Rotation, Signer, standard};
use icp::time::{Clock, Timestamp};
use icp::trial::{Sample, TestOf};
use serde_json::json;

use crate::stage::{Backend, SIGNING_SECRET, create};

crate::on_every_store! {
    the_old_secret_stops_by_itself,
    of_two_rotations_at_once_one_is_told_of_the_other,
}

/// A clock that stands still until it is set.
#[derive(Clone, Debug)]
struct Hand(Arc<AtomicI64>);

impl Hand {
    fn advance(&self, by: Duration) {
        self.0.fetch_add(i64::try_from(by.as_millis()).unwrap(), Ordering::SeqCst);
    }
}

impl Clock for Hand {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.0.load(Ordering::SeqCst))
    }

    fn monotonic(&self) -> Duration {
        Duration::from_millis(self.0.load(Ordering::SeqCst).unsigned_abs())
    }
}

async fn signing(backend: &Backend) -> (Engine, OrgId, ResourceId, Hand) {
    let clock = Hand(Arc::new(AtomicI64::new(1_800_000_000_000)));
    let engine = backend.builder().clock(clock.clone()).build().unwrap();
    let org = OrgId::new("acme").unwrap();
    create(&engine, &org, "organization", None, json!({})).await.unwrap();
    let spec = json!({
        "events": ["*"],
        "target": { "kind": "http", "url": "http://127.0.0.1:1/" },
        "signing": { "keys": [{ "secret": SIGNING_SECRET }] },
    });
    create(&engine, &org, "integration", Some("crm"), spec).await.unwrap();
    (engine, org, ResourceId::new("crm").unwrap(), clock)
}

/// Which of the secrets sign a request that is made now, in their order.
async fn signs(engine: &Engine, org: &OrgId, secrets: &[&SecretString]) -> Vec<bool> {
    let of = TestOf::Saved(ResourceId::new("crm").unwrap());
    let command = engine.integration_curl(org, of, Sample::default()).await.unwrap().command;
    let header = |name: &str| {
        let line = command.lines().find(|line| line.contains(&format!("'{name}: "))).unwrap();
        line.split_once(": ").unwrap().1.split_once('\'').unwrap().0.to_owned()
    };
    let body = command.split_once("--data-raw '").unwrap().1.trim_end_matches('\'');
    let (id, found) = (header("webhook-id"), header("webhook-signature"));
    let message = icp::signing::Message { id: &id, timestamp: engine.now(), body: body.as_bytes() };
    let signature = |secret: &SecretString| {
        let mut headers = axum::http::HeaderMap::new();
        let signer = standard::StandardSigner::new(&KeyRing::single(secret.clone())).unwrap();
        signer.sign(&message, &mut headers).unwrap();
        headers[standard::SIGNATURE].to_str().unwrap().to_owned()
    };
    secrets.iter().map(|secret| found.split(' ').any(|one| one == signature(secret))).collect()
}

async fn the_old_secret_stops_by_itself(backend: Backend) {
    let (engine, org, crm, clock) = signing(&backend).await;
    let old = SecretString::from(SIGNING_SECRET);
    assert_eq!(signs(&engine, &org, &[&old]).await, [true]);
    let hour = Duration::from_secs(3_600);
    let rotation = Rotation::default().overlap(hour);
    let (resources, host) = (engine.resources(), Actor::host());
    let rotated = resources.rotate_secret(&org, &crm, &rotation, Expect::Present, &host).await;
    let new = rotated.unwrap().secret.unwrap();
    let head = backend.store.head().await.unwrap();
    for (advance, expected) in [
        (Duration::ZERO, [true, true]),
        (hour - Duration::from_millis(1), [true, true]),
        (Duration::from_millis(1), [false, true]),
        (hour * 24 * 365, [false, true]),
    ] {
        clock.advance(advance);
        assert_eq!(signs(&engine, &org, &[&old, &new]).await, expected, "{advance:?}");
    }
    assert_eq!(backend.store.head().await.unwrap(), head, "no write is needed for that");
}

async fn of_two_rotations_at_once_one_is_told_of_the_other(backend: Backend) {
    let (engine, org, crm, _) = signing(&backend).await;
    let found = engine.resources().get(&org, "integration", &crm).await.unwrap();
    let Revision(revision) = found.revision;
    let rotate = || async {
        let expect = Expect::Revision(Revision(revision));
        let (rotation, host) = (Rotation::default(), Actor::host());
        engine.resources().rotate_secret(&org, &crm, &rotation, expect, &host).await
    };
    let (one, other) = tokio::join!(rotate(), rotate());
    let (won, lost) = if one.is_ok() { (one, other) } else { (other, one) };
    assert_eq!(lost.unwrap_err().code(), icp::Code::RevisionConflict);
    let new = won.unwrap().secret.unwrap();
    assert_eq!(signs(&engine, &org, &[&new, &SIGNING_SECRET.into()]).await, [true, true]);
}
