use std::sync::Arc;

use icp_core::delivery::{
    AttemptOutcome, Delivery, DeliveryState, EndReason, Exchange, Next, Settle, Settlement,
};
use icp_core::erasure::{Erase, Erased, Target};
use icp_core::event::{Event, EventQuery, Ingested};
use icp_core::id::EventId;
use icp_core::letter::{NewNote, Note};

use super::world::{World, at, org, retry, settlement, why};

pub(super) fn of(events: &[EventId]) -> Erase {
    erase(Target::Events(events.to_vec()), 10)
}

fn erase(target: Target, limit: usize) -> Erase {
    Erase { org: org("acme"), target, limit, now: at(40) }
}

/// An outcome whose attempt captured an answer.
fn captured(row: &Delivery, next: Next) -> Settlement {
    let mut ending = settlement(row, next);
    if let Some(attempt) = &mut ending.attempt {
        attempt.outcome = AttemptOutcome::Failed("status_500".into());
        attempt.message = Some("no, ann".into());
        let response_body = "ann is not known".to_owned();
        attempt.exchange = Some(Arc::new(Exchange { response_body, ..Exchange::default() }));
    }
    ending
}

pub(super) async fn settle(world: &World, row: &Delivery, next: Next) {
    let settle = Settle { settlements: [captured(row, next)].into(), now: at(30) };
    world.settle(settle).await.unwrap();
}

pub(super) fn about(world: &World, subject: &str) -> Event {
    let mut event = world.new_event("acme");
    event.subject = Some(subject.into());
    event
}

pub(super) async fn take_in(world: &World, event: &Event) {
    let new = world.to("acme", "hook");
    let done = world.ingest_items(vec![world.item(event, vec![new])], 0).await;
    assert!(matches!(done[..], [Ingested::Accepted { .. }]), "{done:?}");
}

async fn event(world: &World, id: EventId) -> Event {
    world.event(&org("acme"), id).await.unwrap().unwrap()
}

pub(super) async fn assert_bare(world: &World, row: &Delivery) {
    for attempt in world.attempts(&row.org, row.id).await.unwrap() {
        assert_eq!((attempt.exchange, attempt.message), (None, None));
        assert_eq!(attempt.transcript, None);
    }
    let reason = world.read(row).await.reason;
    assert_eq!(reason.map(|reason| reason.message).unwrap_or_default(), "");
}

pub(super) async fn an_event_loses_its_content_and_stays(world: World) {
    let (one, two) = (about(&world, "ann"), about(&world, "bob"));
    take_in(&world, &one).await;
    take_in(&world, &two).await;
    assert_eq!(event(&world, one.id).await, one);
    let mut foreign = of(&[one.id]);
    foreign.org = org("other");
    assert_eq!(world.erase(&foreign).await.unwrap().events, 0);
    let unknown = world.event_id();
    let erased = world.erase(&of(&[one.id, unknown])).await.unwrap();
    assert_eq!((erased.events, erased.cancelled), (1, 1));
    let left = event(&world, one.id).await;
    assert_eq!((left.body.len(), left.subject, left.erased_at), (0, None, Some(at(40))));
    assert_eq!((left.event_type, left.received_at), (one.event_type, one.received_at));
    assert_eq!(event(&world, two.id).await, two);
    let listed = world.events(&org("acme"), &EventQuery::default()).await.unwrap().items;
    assert_eq!(listed.iter().map(|e| e.body_size > 0).collect::<Vec<_>>(), [true, false]);
    assert_eq!(world.erase(&of(&[one.id])).await.unwrap(), Erased::default());
    world.assert_clean().await;
}

pub(super) async fn what_waits_is_called_off_and_its_lane_goes_on(world: World) {
    let session = world.session().await;
    let event = about(&world, "ann");
    let new = world.in_order("acme", "hook", "k");
    let first = new.id;
    world.ingest_items(vec![world.item(&event, vec![new])], 0).await;
    let next = world.in_order("acme", "hook", "k");
    let second = world.put("acme", next).await;
    world.erase(&of(&[event.id])).await.unwrap();
    let gone = world.delivery(&org("acme"), first).await.unwrap().unwrap();
    let reason = gone.reason.map(|reason| reason.code);
    assert_eq!((gone.state, reason.as_deref()), (DeliveryState::Cancelled, Some("erased")));
    assert_eq!(super::world::ids(&world.take_at(session, 5, 50).await), [second]);
    world.assert_clean().await;
}

pub(super) async fn attempts_and_letters_lose_what_they_tell(world: World) {
    let session = world.session().await;
    let event = about(&world, "ann");
    take_in(&world, &event).await;
    let row = world.take_one(session).await;
    let reason = EndReason::new("exhausted", "status_500: no, ann");
    settle(&world, &row, Next::Dead { reason }).await;
    let note = Note { at: at(31), author: "bob".into(), text: "called ann".into() };
    let note = NewNote { org: org("acme"), delivery: row.id, note };
    world.annotate(note).await.unwrap();
    let erased = world.erase(&of(&[event.id])).await.unwrap();
    assert_eq!((erased.events, erased.attempts, erased.cancelled), (1, 1, 0));
    assert_bare(&world, &row).await;
    let letter = world.letters(&org("acme"), &[row.id]).await.unwrap().remove(0);
    assert_eq!((letter.class.as_str(), letter.notes.len()), ("status_500", 0));
    assert!(world.due_letters(at(9_999), 10).await.unwrap().is_empty(), "no round is made");
    world.assert_clean().await;
}

pub(super) async fn what_is_under_way_is_erased_once_it_ends(world: World) {
    let session = world.session().await;
    let events = [about(&world, "ann"), about(&world, "ann"), about(&world, "ann")];
    for event in &events {
        take_in(&world, event).await;
    }
    let rows: Vec<_> = world.take(session, 3).await.into_iter().map(|c| c.delivery).collect();
    let ids = events.each_ref().map(|event| event.id);
    let erased = world.erase(&of(&ids)).await.unwrap();
    assert_eq!((erased.events, erased.under_way, erased.cancelled), (3, 3, 0));
    assert_eq!(world.finish_erasures(10, at(41)).await.unwrap(), 0, "they are under way");
    settle(&world, &rows[0], retry(50)).await;
    settle(&world, &rows[1], Next::Dead { reason: why("exhausted") }).await;
    assert_eq!(world.finish_erasures(10, at(42)).await.unwrap(), 2);
    assert_eq!(world.read(&rows[0]).await.state, DeliveryState::Cancelled);
    assert_eq!(world.read(&rows[1]).await.state, DeliveryState::Dead);
    assert_bare(&world, &rows[0]).await;
    assert_bare(&world, &rows[1]).await;
    assert_eq!(world.take_at(session, 5, 99).await.len(), 0);
    settle(&world, &rows[2], retry(0)).await;
    let again = world.take_at(session, 5, 99).await.remove(0);
    assert_eq!(again.event.erased_at, Some(at(40)), "its worker sees that it is erased");
    world.assert_clean().await;
}

pub(super) async fn the_duty_leaves_one_under_way_alone(world: World) {
    let finish = async || {
        for _ in 0..5 {
            world.finish_erasures(10, at(45)).await.unwrap();
        }
    };
    for _ in 0..20 {
        let event = about(&world, "ann");
        take_in(&world, &event).await;
        let erase = of(&[event.id]);
        let (erased, (), ()) = tokio::join!(world.erase(&erase), finish(), finish());
        let erased = erased.unwrap();
        assert_eq!((erased.events, erased.cancelled), (1, 1), "it counts what it did");
    }
    world.assert_clean().await;
}

pub(super) async fn a_subject_is_erased_batch_by_batch(world: World) {
    let subject: Arc<str> = "ann".into();
    for name in ["ann", "ann", "bob", "ann"] {
        take_in(&world, &about(&world, name)).await;
    }
    let erase = erase(Target::Subject(subject), 2);
    let first = world.erase(&erase).await.unwrap();
    assert_eq!((first.events, first.more), (2, true));
    let second = world.erase(&erase).await.unwrap();
    assert_eq!((second.events, second.more), (1, false));
    assert_eq!(world.erase(&erase).await.unwrap(), Erased::default());
}

pub(super) async fn an_outbox_row_is_erased_before_it_is_relayed(world: World) {
    let (one, two) = (about(&world, "ann"), about(&world, "bob"));
    for event in [&one, &two] {
        world.put_outbox(event).await;
    }
    let mut relayed = world.item(&one, vec![world.to("acme", "hook")]);
    relayed.outbox = Some(one.id);
    let erased = world.erase(&erase(Target::Subject("ann".into()), 10)).await.unwrap();
    assert_eq!((erased.events, erased.cancelled), (1, 0));
    assert_eq!(world.erase(&of(&[two.id])).await.unwrap().events, 1);
    assert_eq!(world.outbox(&[], 10).await.unwrap().len(), 0);
    assert_eq!(world.ingest_items(vec![relayed], 50).await, [Ingested::Gone]);
    for id in [one.id, two.id] {
        let left = event(&world, id).await;
        assert_eq!((left.body.len(), left.erased_at), (0, Some(at(40))));
    }
    world.assert_clean().await;
}
