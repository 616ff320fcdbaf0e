use super::*;
use crate::engine::Engine;
use crate::id::{DeliveryId, OrgId, ResourceId};
use crate::resource::Actor;
use crate::store::MemoryStore;
use crate::time::Timestamp;
use proptest::prelude::*;

fn acme() -> OrgId {
    OrgId::new("acme").unwrap()
}

fn engine() -> Engine {
    Engine::builder(MemoryStore::new()).build().unwrap()
}

fn attempt(org: &str, n: u8) -> Arc<LiveAttempt> {
    Arc::new(LiveAttempt {
        integration: ResourceId::new("crm").unwrap(),
        delivery: DeliveryId::from_bytes([n; 16]),
        epoch: 1,
        number: 1,
        started_at: Timestamp::from_millis(1_000),
        took_us: 5_000,
        outcome: crate::delivery::AttemptOutcome::Delivered,
        status: Some(200),
        message: None,
        state: crate::delivery::DeliveryState::Delivered,
        org: Some(OrgId::new(org).unwrap()),
    })
}

#[tokio::test(start_paused = true)]
async fn a_reader_sees_its_own_organization_and_each_attempt_once() {
    let engine = engine();
    let mut stream = engine.live_attempts(&acme(), None).await.unwrap();
    let hub = &engine.core().live.attempts;
    for attempt in [attempt("other", 1), attempt("acme", 2), attempt("acme", 2), attempt("acme", 3)]
    {
        hub.send(attempt).unwrap();
    }
    for n in [2, 3] {
        let Some(Live::Item(found)) = stream.next().await else { panic!("an attempt is missing") };
        assert_eq!(found.delivery, DeliveryId::from_bytes([n; 16]));
    }
    engine.close_streams();
    assert!(matches!(stream.next().await, Some(Live::End(LiveEnd::Shutdown))));
    assert!(stream.next().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn who_falls_behind_is_told_and_ended() {
    let engine = engine();
    let mut stream = engine.live_attempts(&acme(), None).await.unwrap();
    for _ in 0..=BEHIND {
        engine.core().live.attempts.send(attempt("acme", 1)).unwrap();
    }
    assert!(matches!(stream.next().await, Some(Live::End(LiveEnd::Behind))));
}

#[tokio::test(start_paused = true)]
async fn streams_end_by_age_and_their_number_is_bounded() {
    let engine = engine();
    let mut open = Vec::new();
    for _ in 0..MOST_STREAMS {
        open.push(engine.live_changes(&acme(), None).await.unwrap());
    }
    let refused = engine.live_attempts(&acme(), None).await.unwrap_err();
    assert_eq!(refused.code(), Code::Overloaded);
    let mut last = open.pop().unwrap();
    open.clear();
    engine.live_attempts(&acme(), None).await.unwrap();
    // Time moves on by itself while nothing else happens.
    assert!(matches!(last.next().await, Some(Live::End(LiveEnd::Age))));
}

#[tokio::test(start_paused = true)]
async fn changes_are_resumed_without_loss() {
    let engine = engine();
    let resources = engine.resources();
    let create = async |org: &str| {
        let draft: crate::resource::Draft =
            serde_json::from_value(serde_json::json!({"id": org, "spec": {}})).unwrap();
        let org = OrgId::new(org).unwrap();
        resources.create(&org, "organization", draft, &Actor::host()).await.unwrap()
    };
    create("acme").await;
    let mut stream =
        engine.live_changes(&acme(), Some(crate::resource::Revision(0))).await.unwrap();
    let Some(Live::Item(first)) = stream.next().await else { panic!("a change is missing") };
    assert_eq!((first.id.as_str(), first.version, first.deleted), ("acme", 1, false));
    drop(stream);
    create("other").await;
    let mut resumed = engine.live_changes(&acme(), Some(first.revision)).await.unwrap();
    engine.close_streams();
    assert!(matches!(resumed.next().await, Some(Live::End(LiveEnd::Shutdown))));
}

proptest! {
    #[test]
    fn cursors_round_trip(millis in 0_i64..253_402_300_799_999, id: [u8; 16], epoch: u32) {
        let delivery = DeliveryId::from_bytes(id);
        let cursor = AttemptCursor { at: Timestamp::from_millis(millis), delivery, epoch };
        prop_assert_eq!(cursor.to_string().parse::<AttemptCursor>().unwrap(), cursor);
    }

    #[test]
    fn what_is_no_cursor_is_refused(text in "[0-9a-z._]{0,40}") {
        if let Err(error) = text.parse::<AttemptCursor>() {
            prop_assert_eq!(error.code(), Code::CursorInvalid);
        }
    }
}
