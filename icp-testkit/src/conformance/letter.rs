use icp_core::Code;
use icp_core::delivery::{AttemptOutcome, Delivery, DeliveryState, EndReason, Next, Settle};
use icp_core::id::DeliveryId;
use icp_core::letter::{
    Abandon, Abandoned, Category, GroupQuery, Judgement, Letter, LetterStatus, NewNote, Note,
    Verdict,
};

use super::world::{World, at, org, race, res, settlement, why};

/// A delivery to `integration` that died of `class` at `secs`.
pub(super) async fn dead(world: &World, integration: &str, class: &str, secs: u64) -> Delivery {
    let session = world.session().await;
    let new = world.to("acme", integration);
    world.put("acme", new).await;
    let row = world.take_one(session).await;
    die(world, &row, class, secs).await;
    world.read(&row).await
}

async fn die(world: &World, row: &Delivery, class: &str, secs: u64) {
    let reason = EndReason::new("exhausted", format!("{class}: no"));
    let mut ending = settlement(row, Next::Dead { reason });
    if let Some(attempt) = &mut ending.attempt {
        attempt.outcome = AttemptOutcome::Failed(class.to_owned());
    }
    let settle = Settle { settlements: [ending].into(), now: at(secs) };
    world.settle(settle).await.unwrap();
}

async fn letter(world: &World, row: &Delivery) -> Letter {
    world.letters(&row.org, &[row.id]).await.unwrap().remove(0)
}

fn groups(integration: Option<&str>, limit: usize) -> GroupQuery {
    GroupQuery { integration: integration.map(res), limit }
}

fn abandon(deliveries: Vec<DeliveryId>) -> Abandon {
    let (actor, reason) = ("ann".to_owned(), why("abandoned"));
    Abandon { org: org("acme"), deliveries, actor, reason, now: at(50) }
}

fn note(row: &Delivery, secs: u64, text: &str) -> NewNote {
    let note = Note { at: at(secs), author: "ann".into(), text: text.into() };
    NewNote { org: row.org.clone(), delivery: row.id, note }
}

async fn judged(world: &World, row: &Delivery, seen: Option<u64>, verdict: Verdict) -> bool {
    let judgement = Judgement { delivery: row.id, seen: seen.map(at), verdict };
    world.judge(&[judgement], at(60)).await.unwrap()[0]
}

async fn due(world: &World, secs: u64) -> Vec<(DeliveryId, Option<u64>)> {
    let found = world.due_letters(at(secs), 10).await.unwrap();
    let since = |due| icp_core::time::Timestamp::since(due, at(0)).as_secs();
    found.into_iter().map(|letter| (letter.delivery.id, letter.due_at.map(since))).collect()
}

pub(super) async fn a_dead_one_is_a_letter_with_its_class(world: World) {
    let row = dead(&world, "hook", "status_503", 5).await;
    let letter = letter(&world, &row).await;
    assert_eq!((letter.class.as_str(), letter.category), ("status_503", Category::ServerError));
    assert_eq!((letter.status, letter.retry_at), (LetterStatus::Pending, None));
    assert_eq!((letter.abandonment, letter.successor), (None, None));
    assert_eq!((letter.delivery, letter.notes), (row, vec![]));
}

pub(super) async fn only_dead_ones_of_the_organization_are_letters(world: World) {
    let row = dead(&world, "hook", "status_500", 5).await;
    let live = world.fill("acme", "hook", 1).await[0];
    let ids = [live, row.id, world.delivery_id()];
    assert_eq!(world.letters(&row.org, &ids).await.unwrap().len(), 1);
    assert_eq!(world.letters(&org("other"), &ids).await.unwrap(), []);
    let groups = world.letter_groups(&org("other"), &groups(None, 10)).await.unwrap();
    assert!(groups.groups.is_empty() && !groups.more);
    let mut foreign = note(&row, 1, "x");
    foreign.org = org("other");
    assert_eq!(world.annotate(foreign).await.unwrap_err().code(), Code::DeliveryNotFound);
    let mut pending = note(&row, 1, "x");
    pending.delivery = live;
    assert_eq!(world.annotate(pending).await.unwrap_err().code(), Code::DeliveryStateConflict);
}

pub(super) async fn groups_count_by_error(world: World) {
    let first = dead(&world, "a", "status_500", 5).await;
    let last = dead(&world, "a", "status_500", 9).await;
    dead(&world, "a", "dns_failed", 7).await;
    dead(&world, "b", "status_500", 8).await;
    world.abandon(abandon(vec![first.id])).await.unwrap();
    let found = world.letter_groups(&org("acme"), &groups(None, 10)).await.unwrap();
    assert!(!found.more);
    let shape: Vec<_> = found
        .groups
        .iter()
        .map(|g| (g.integration.as_str(), g.class.as_str(), g.count, g.abandoned))
        .collect();
    let expected =
        [("a", "status_500", 2, 1), ("a", "dns_failed", 1, 0), ("b", "status_500", 1, 0)];
    assert_eq!(shape, expected);
    let group = &found.groups[0];
    assert_eq!((group.first_at, group.last_at, group.sample), (at(5), at(9), last.id));
    assert_eq!((group.code.as_str(), group.category), ("exhausted", Category::ServerError));
    let found = world.letter_groups(&org("acme"), &groups(Some("b"), 10)).await.unwrap();
    assert_eq!(found.groups.len(), 1);
}

pub(super) async fn groups_count_the_newest_and_say_that_there_are_more(world: World) {
    for class in ["status_500", "status_501", "status_502"] {
        dead(&world, "hook", class, 5).await;
    }
    for integration in [None, Some("hook")] {
        let found = world.letter_groups(&org("acme"), &groups(integration, 2)).await.unwrap();
        let classes: Vec<_> = found.groups.iter().map(|group| group.class.as_str()).collect();
        assert_eq!((classes, found.more), (vec!["status_501", "status_502"], true));
        let all = world.letter_groups(&org("acme"), &groups(integration, 3)).await.unwrap();
        assert_eq!((all.groups.len(), all.more), (3, false));
    }
}

pub(super) async fn notes_are_kept_once_and_in_order(world: World) {
    let row = dead(&world, "hook", "status_500", 5).await;
    for (secs, text) in [(8, "second"), (7, "first"), (8, "second")] {
        world.annotate(note(&row, secs, text)).await.unwrap();
    }
    let notes = letter(&world, &row).await.notes;
    assert_eq!(notes, [note(&row, 7, "first").note, note(&row, 8, "second").note]);
}

pub(super) async fn abandoning_answers_for_each(world: World) {
    let row = dead(&world, "hook", "status_500", 5).await;
    let live = world.fill("acme", "hook", 1).await[0];
    let ids = vec![row.id, live, world.delivery_id()];
    let answers = world.abandon(abandon(ids.clone())).await.unwrap();
    let ready = Abandoned::NotDead(DeliveryState::Ready);
    assert_eq!(answers, [Abandoned::Done, ready, Abandoned::NotFound]);
    let first = letter(&world, &row).await;
    assert_eq!(first.status, LetterStatus::Abandoned);
    let given_up = first.abandonment.clone().unwrap();
    assert_eq!((given_up.at, given_up.actor.as_str()), (at(50), "ann"));
    assert_eq!(given_up.reason, why("abandoned"));
    let mut again = abandon(ids);
    again.actor = "bob".into();
    assert_eq!(world.abandon(again).await.unwrap()[0], Abandoned::Already);
    assert_eq!(letter(&world, &row).await, first);
    assert_eq!(world.read(&row).await, row);
    world.assert_clean().await;
}

pub(super) async fn what_repeats_it_decides_its_status(world: World) {
    let session = world.session().await;
    let row = dead(&world, "hook", "status_500", 5).await;
    world.abandon(abandon(vec![row.id])).await.unwrap();
    let replay = super::delivery::replay_of(&world, &row);
    let new = world.replay(replay).await.unwrap();
    let again = letter(&world, &row).await;
    assert_eq!((again.status, again.successor), (LetterStatus::Retrying, Some(new.id)));
    let taken = world.take_at(session, 1, 20).await.remove(0).delivery;
    world.finish(&taken, Next::Delivered, 21).await;
    assert_eq!(letter(&world, &row).await.status, LetterStatus::Resolved);
}

pub(super) async fn a_judged_one_is_due_when_its_round_is(world: World) {
    let row = dead(&world, "hook", "status_500", 5).await;
    let left = dead(&world, "hook", "status_500", 5).await;
    assert_eq!(due(&world, 10).await.len(), 2);
    assert!(judged(&world, &row, None, Verdict::Plan { due_at: at(100) }).await);
    assert!(judged(&world, &left, None, Verdict::Leave).await);
    assert!(!judged(&world, &left, None, Verdict::Leave).await, "it was judged before");
    assert_eq!(letter(&world, &row).await.retry_at, Some(at(100)));
    assert_eq!(letter(&world, &left).await.retry_at, None);
    assert_eq!(due(&world, 99).await, []);
    assert_eq!(due(&world, 100).await, [(row.id, Some(100))]);
    assert!(judged(&world, &row, Some(100), Verdict::Plan { due_at: at(160) }).await);
    assert!(!judged(&world, &row, Some(100), Verdict::Leave).await, "it was put off");
    assert_eq!(due(&world, 159).await, []);
    assert_eq!(due(&world, 9_999).await, [(row.id, Some(160))]);
}

pub(super) async fn a_replay_by_hand_takes_the_place_of_a_round(world: World) {
    let session = world.session().await;
    let row = dead(&world, "hook", "status_500", 5).await;
    let carried_on = async || world.due_letters(at(100), 10).await.unwrap().remove(0).carried_on;
    assert!(judged(&world, &row, None, Verdict::Plan { due_at: at(100) }).await);
    let called_off = world.replay(super::delivery::replay_of(&world, &row)).await.unwrap();
    assert!(carried_on().await);
    let call_off = super::world::call_off("acme", called_off.id, 15);
    world.cancel(call_off).await.unwrap();
    assert!(!carried_on().await, "what was called off carries nothing on");

    let replayed = world.replay(super::delivery::replay_of(&world, &row)).await.unwrap();
    let retry = || Verdict::Retry { id: world.delivery_id() };
    let refused = async |why| {
        assert!(carried_on().await, "{why}");
        assert!(!judged(&world, &row, Some(100), retry()).await, "{why}");
    };
    refused("on its way").await;
    let taken = world.take_at(session, 9, 20).await.remove(0).delivery;
    assert_eq!(taken.id, replayed.id);
    refused("under way").await;
    world.finish(&taken, Next::Delivered, 21).await;
    refused("delivered").await;
    assert_eq!(world.take_at(session, 9, 9_999).await.len(), 0, "it is sent once");
    assert!(judged(&world, &row, Some(100), Verdict::Leave).await);
    assert_eq!(due(&world, 9_999).await, []);

    let third = dead(&world, "third", "status_500", 5).await;
    let first = world.replay(super::delivery::replay_of(&world, &third)).await.unwrap();
    world.cancel(super::world::call_off("acme", first.id, 15)).await.unwrap();
    let first = world.read(&first).await;
    let second = world.replay(super::delivery::replay_of(&world, &first)).await.unwrap();
    let found = world.due_letters(at(100), 10).await.unwrap();
    assert!(found[0].carried_on, "by what repeats its repeat: {found:?}");
    assert!(!judged(&world, &third, None, retry()).await);
    world.cancel(super::world::call_off("acme", second.id, 15)).await.unwrap();
    assert!(judged(&world, &third, None, Verdict::Leave).await);

    let other = dead(&world, "hook", "status_500", 5).await;
    world.replay(super::delivery::replay_of(&world, &other)).await.unwrap();
    let died = world.take_at(session, 9, 20).await.remove(0).delivery;
    die(&world, &died, "status_502", 70).await;
    assert!(!judged(&world, &other, None, retry()).await, "the repeat has rounds of its own");
    assert!(judged(&world, &died, None, retry()).await);
    world.assert_clean().await;
}

pub(super) async fn a_round_is_linked_counted_and_claimed(world: World) {
    let session = world.session().await;
    let row = dead(&world, "hook", "status_500", 5).await;
    let id = world.delivery_id();
    assert!(judged(&world, &row, None, Verdict::Retry { id }).await);
    let again = letter(&world, &row).await;
    assert_eq!((again.status, again.successor), (LetterStatus::Retrying, Some(id)));
    assert_eq!(due(&world, 9_999).await, []);
    let new = world.take_at(session, 5, 60).await.remove(0).delivery;
    assert_eq!((new.id, new.round, new.replay_of), (id, 1, Some(row.id)));
    assert_eq!((new.event, new.lane, new.tries), (row.event, row.lane, 1));
    die(&world, &new, "status_502", 70).await;
    assert_eq!(letter(&world, &row).await.status, LetterStatus::Superseded);
    assert_eq!(due(&world, 80).await, [(id, None)]);
    let reason = why("rounds_exhausted");
    assert!(judged(&world, &new, None, Verdict::Abandon { reason: reason.clone() }).await);
    let spent = letter(&world, &new).await;
    assert_eq!(spent.status, LetterStatus::Abandoned);
    assert_eq!(spent.abandonment.map(|a| (a.actor, a.reason)), Some(("engine".into(), reason)));
    assert_eq!(due(&world, 9_999).await, []);
    world.assert_clean().await;
}

pub(super) async fn a_round_keeps_the_expiry(world: World) {
    let session = world.session().await;
    let mut event = world.new_event("acme");
    event.expires_at = Some(at(500));
    let new = world.to("acme", "hook");
    world.ingest_items(vec![world.item(&event, vec![new])], 0).await;
    let row = world.take_one(session).await;
    die(&world, &row, "status_500", 5).await;
    let id = world.delivery_id();
    assert!(judged(&world, &row, None, Verdict::Retry { id }).await);
    let made = world.delivery(&row.org, id).await.unwrap().unwrap();
    assert_eq!((made.state, made.expires_at), (DeliveryState::Ready, Some(at(500))));
}

pub(super) async fn an_abandoned_one_gets_no_round(world: World) {
    let row = dead(&world, "hook", "status_500", 5).await;
    judged(&world, &row, None, Verdict::Plan { due_at: at(100) }).await;
    world.abandon(abandon(vec![row.id])).await.unwrap();
    assert_eq!(due(&world, 9_999).await, []);
    let id = world.delivery_id();
    assert!(!judged(&world, &row, Some(100), Verdict::Retry { id }).await);
    assert_eq!(letter(&world, &row).await.retry_at, None);
    assert_eq!(world.delivery(&row.org, id).await.unwrap(), None);
}

pub(super) async fn a_round_makes_one_delivery_under_contention(world: World) {
    let row = dead(&world, "hook", "status_500", 5).await;
    let nodes = (0..8).map(|_| {
        let (store, delivery, id) = (world.store(), row.id, world.delivery_id());
        async move {
            let judgement = Judgement { delivery, seen: None, verdict: Verdict::Retry { id } };
            store.judge(&[judgement], at(60)).await.unwrap()[0]
        }
    });
    let won = race(nodes).await.into_iter().filter(|won| *won).count();
    assert_eq!(won, 1);
    let query = icp_core::delivery::DeliveryQuery::default();
    let all = world.deliveries(&row.org, &query).await.unwrap().items;
    assert_eq!(all.iter().filter(|new| new.replay_of == Some(row.id)).count(), 1);
    world.assert_clean().await;
}
