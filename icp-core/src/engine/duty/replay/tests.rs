mod support;

use std::collections::BTreeSet;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::delivery::{DeliveryState, Next};
use crate::error::ErrorKind;
use crate::id::{DeliveryId, EventId};
use crate::replay::{ReplayChange, ReplayMode, ReplayRequest, ReplayState};
use crate::resource::{Actor, AuditEntry, AuditQuery};
use support::{Stage, res, states};

#[tokio::test]
async fn deliveries_become_due_at_the_rate() {
    let stage = Stage::with(&["crm"]).await;
    stage.publish("order.paid", 25).await;
    stage.end_all(|_| states::dead()).await;
    let job = stage.start(stage.all().rate(10)).await;
    assert_eq!((job.state, job.progress.total), (ReplayState::Pending, Some(25)));
    let begun = stage.engine.now();
    for (expected, percent) in [(10, 40), (20, 80), (25, 100)] {
        while once(stage.core()).await.unwrap().is_zero() {}
        let job = stage.job(&job).await;
        assert_eq!((job.progress.created, job.percent()), (expected, Some(percent)));
        assert!(once(stage.core()).await.unwrap() > Duration::ZERO, "not before its time");
        assert_eq!(job.eta(stage.engine.now()).is_some(), percent < 100);
        stage.clock.pass(Duration::from_secs(1));
    }
    let done = stage.job(&job).await;
    assert_eq!((done.state, done.ended_at.is_some()), (ReplayState::Done, true));
    let mut made = stage.made(&job).await;
    made.reverse();
    let due: Vec<_> = made.iter().map(|row| row.due_at.since(begun).as_millis()).collect();
    assert_eq!(due, (0..25).map(|n| n * 100).collect::<Vec<_>>());
    assert!(made.windows(2).all(|pair| pair[0].event < pair[1].event), "in the order of events");
    stage.assert_clean().await;
}

#[tokio::test]
async fn a_job_rests_goes_on_and_is_called_off() {
    let stage = Stage::with(&["crm"]).await;
    stage.publish("order.paid", 30).await;
    stage.end_all(|_| states::dead()).await;
    let job = stage.start(stage.all().rate(10)).await;
    once(stage.core()).await.unwrap();
    let ann = Actor { name: "key:ann".into(), ..Actor::host() };
    let change = |change| stage.engine.change_replay(&stage.org, job.id, change, &ann);
    for _ in 0..2 {
        assert_eq!(change(ReplayChange::Pause).await.unwrap().state, ReplayState::Paused);
    }
    stage.run().await;
    assert_eq!(stage.job(&job).await.progress.created, 10);
    assert_eq!(change(ReplayChange::Resume).await.unwrap().state, ReplayState::Pending);
    stage.clock.pass(Duration::from_secs(1));
    once(stage.core()).await.unwrap();
    assert_eq!(stage.job(&job).await.progress.created, 20);
    assert_eq!(change(ReplayChange::Cancel).await.unwrap().state, ReplayState::Cancelled);
    stage.run().await;
    assert_eq!(stage.made(&job).await.len(), 20);
    let refused = change(ReplayChange::Resume).await.unwrap_err();
    assert_eq!(refused.code(), Code::ReplayStateConflict);
    let log = stage.engine.resources().audit_log(&stage.org, &AuditQuery::default()).await.unwrap();
    let of_job = |row: &&AuditEntry| row.note.as_deref() == Some(job.id.to_string().as_str());
    let told: Vec<_> = log.items.iter().filter(of_job).collect();
    let told: Vec<_> = told.iter().rev().map(|row| (&*row.action, &*row.actor.name)).collect();
    let by_ann = ["pause_replay", "resume_replay", "cancel_replay"].map(|act| (act, "key:ann"));
    assert_eq!(told, [&[("start_replay", "host")][..], &by_ann].concat());
}

#[tokio::test]
async fn missing_finds_what_was_added_or_broken() {
    let stage = Stage::with(&["crm"]).await;
    stage.publish("order.paid", 6).await;
    stage.publish("user.made", 1).await;
    stage.end_all(|_| states::delivered()).await;
    stage.integrate("late", json!({ "events": ["order.*"] })).await;
    let missing = || stage.all().mode(ReplayMode::Missing).rate(1_000);

    let first = stage.replay(missing()).await;
    assert_eq!((first.progress.created, first.progress.skipped), (6, 0));
    let made = stage.made(&first).await;
    assert!(made.iter().all(|row| row.integration == res("late") && row.replay_of.is_none()));
    let under_way = stage.replay(missing()).await;
    assert_eq!((under_way.progress.created, under_way.progress.skipped), (0, 6));

    stage.end_all(|place| if place < 4 { states::delivered() } else { states::dead() }).await;
    let again = stage.replay(missing()).await;
    assert_eq!((again.progress.created, again.progress.skipped), (2, 0));
    let old: BTreeSet<_> = made.iter().map(|row| row.id).collect();
    assert!(stage.made(&again).await.iter().all(|row| old.contains(&row.replay_of.unwrap())));
    stage.end_all(|_| states::delivered()).await;
    assert_eq!(stage.replay(missing()).await.progress.created, 0);
    stage.assert_clean().await;
}

#[tokio::test]
async fn the_mode_says_which_bindings_count() {
    let stage = Stage::with(&["old", "new"]).await;
    stage.patch("new", json!({ "enabled": false })).await;
    stage.publish("order.paid", 3).await;
    stage.end_all(|_| states::dead()).await;
    stage.patch("old", json!({ "events": ["nothing"] })).await;
    stage.patch("new", json!({ "enabled": true })).await;
    for (mode, expected) in
        [(ReplayMode::Original, "old"), (ReplayMode::Current, "new"), (ReplayMode::Missing, "new")]
    {
        let preview = stage.preview(stage.all().mode(mode)).await;
        let shares: Vec<_> =
            preview.integrations.iter().map(|s| (s.integration.as_str(), s.deliveries)).collect();
        assert_eq!(shares, [(expected, 3)], "{mode:?}");
    }
    stage.delete("old").await;
    let gone = stage.replay(stage.all()).await;
    assert_eq!((gone.progress.created, gone.progress.skipped), (0, 3));
}

#[tokio::test]
async fn filters_narrow_the_range() {
    let stage = Stage::with(&["a", "b"]).await;
    stage.publish("order.paid", 2).await;
    stage.clock.pass(Duration::from_secs(10));
    let middle = stage.engine.now();
    stage.publish("order.sent", 3).await;
    stage.end_all(|place| if place == 0 { states::dead() } else { states::delivered() }).await;
    stage.clock.pass(Duration::from_secs(10));
    let all = || stage.all();
    for (request, expected) in [
        (all(), 10),
        (all().until(middle), 4),
        (ReplayRequest::since(middle), 6),
        (all().event_type("*.paid".parse().unwrap()), 4),
        (all().integrations([res("b")]), 5),
        (all().states([DeliveryState::Dead]), 1),
        (all().states([DeliveryState::Dead, DeliveryState::Delivered]), 10),
        (all().states([DeliveryState::Expired]), 0),
    ] {
        let preview = stage.preview(request.clone()).await;
        assert_eq!((preview.deliveries, preview.exact), (expected, true), "{request:?}");
    }
}

#[tokio::test]
async fn what_cannot_be_replayed_is_refused() {
    let stage = Stage::with(&["crm"]).await;
    stage.clock.pass(Duration::from_secs(1));
    let wrong = stage.all().integrations([res("nobody")]).rate(0);
    let refused = stage.engine.preview_replay(&stage.org, wrong.clone()).await.unwrap_err();
    let pointers: Vec<_> = refused.list().iter().map(|v| v.pointer.as_str()).collect();
    assert_eq!((refused.code(), pointers), (Code::ReplayInvalid, vec!["/rate", "/integrations/0"]));
    let start = |request| stage.engine.start_replay(&stage.org, request, Actor::host());
    assert_eq!(start(wrong).await.unwrap_err().code(), Code::ReplayInvalid);
    let nobody = crate::id::OrgId::new("nobody").unwrap();
    let refused = stage.engine.preview_replay(&nobody, stage.all()).await.unwrap_err();
    assert_eq!((refused.code(), refused.kind()), (Code::OrganizationUnknown, ErrorKind::NotFound));
    stage.suspend(true).await;
    assert_eq!(start(stage.all()).await.unwrap_err().code(), Code::OrganizationSuspended);
}

#[tokio::test]
async fn a_suspended_organization_is_waited_for() {
    let stage = Stage::with(&["crm"]).await;
    stage.publish("order.paid", 5).await;
    stage.end_all(|_| states::dead()).await;
    let job = stage.start(stage.all()).await;
    stage.suspend(true).await;
    stage.run().await;
    let waiting = stage.job(&job).await;
    assert_eq!((waiting.state, waiting.progress.examined), (ReplayState::Running, 0));
    assert_eq!(waiting.error.unwrap().code, "organization_suspended");
    stage.suspend(false).await;
    stage.run().await;
    let done = stage.job(&job).await;
    assert_eq!((done.state, done.progress.created), (ReplayState::Done, 5));
}

#[tokio::test]
async fn a_job_of_a_deleted_organization_fails() {
    let stage = Stage::with(&[]).await;
    let job = stage.start(stage.all()).await;
    stage.delete_organization().await;
    stage.run().await;
    let failed = stage.job(&job).await;
    assert_eq!(failed.state, ReplayState::Failed);
    assert_eq!(failed.error.unwrap().code, "organization_unknown");
}

#[tokio::test]
async fn a_node_that_stops_gives_its_jobs_back() {
    let stage = Stage::with(&["crm"]).await;
    stage.publish("order.paid", 30).await;
    stage.end_all(|_| states::dead()).await;
    let job = stage.start(stage.all()).await;
    once(stage.core()).await.unwrap();
    assert!(stage.job(&job).await.owner.is_some());
    let stop = CancellationToken::new();
    stop.cancel();
    run(Arc::clone(stage.core()), stop).await;
    assert_eq!(stage.job(&job).await.owner, None);
    stage.clock.pass(Duration::from_secs(1));
    let other = stage.another();
    once(other.core()).await.unwrap();
    assert_eq!(stage.job(&job).await.progress.created, 20);
}

/// What happens next, where two nodes work on one job.
#[derive(Clone, Copy, Debug)]
enum Happening {
    Works(usize),
    /// The node takes the job and is never heard of again for this batch.
    Freezes(usize),
    /// It wakes up and writes the batch it froze with.
    Wakes(usize),
    Pass(u64),
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        4 => (0..2usize).prop_map(Happening::Works),
        2 => (0..2usize).prop_map(Happening::Freezes),
        2 => (0..2usize).prop_map(Happening::Wakes),
        3 => (1..90u64).prop_map(Happening::Pass),
    ]
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

async fn two_nodes(happenings: Vec<Happening>) {
    let stage = Stage::with(&["a", "b"]).await;
    stage.publish("order.paid", 40).await;
    stage.end_all(|_| states::dead()).await;
    let other = stage.another();
    let nodes = [stage.core(), other.core()];
    let job = stage.start(stage.all().rate(7)).await;
    let mut frozen: [Option<crate::replay::ReplayJob>; 2] = [None, None];
    for happening in happenings {
        match happening {
            Happening::Works(node) => drop(once(nodes[node]).await),
            Happening::Freezes(node) => frozen[node] = stage.claim(nodes[node]).await,
            Happening::Wakes(node) => {
                if let Some(job) = frozen[node].take() {
                    drop(work::step(nodes[node], &job).await);
                }
            }
            Happening::Pass(secs) => stage.clock.pass(Duration::from_secs(secs)),
        }
    }
    stage.clock.pass(Duration::from_secs(600));
    stage.run().await;
    let done = stage.job(&job).await;
    assert_eq!((done.state, done.progress.examined), (ReplayState::Done, 40));
    let made = stage.made(&job).await;
    let once_each: BTreeSet<_> =
        made.iter().map(|row| (row.event, row.integration.clone())).collect();
    assert_eq!((made.len(), once_each.len(), done.progress.created), (80, 80, 80));
    let repeated: BTreeSet<Option<DeliveryId>> = made.iter().map(|row| row.replay_of).collect();
    assert_eq!(repeated.len(), 80);
    stage.assert_clean().await;
}

/// Events of two types, how each delivery ends, and what is asked for.
async fn counted_ahead(ends: Vec<(bool, u8)>, request: ReplayRequest, late: bool) {
    let stage = Stage::with(&["a", "b"]).await;
    let mut events: Vec<EventId> = Vec::new();
    for (paid, _) in &ends {
        let event_type = if *paid { "order.paid" } else { "user.made" };
        events.extend(stage.publish(event_type, 1).await);
    }
    if late {
        stage.integrate("late", json!({ "events": ["order.*"] })).await;
    }
    stage
        .settle(|row| {
            let place = events.iter().position(|event| *event == row.event).unwrap();
            match ends[place].1 {
                0 => None,
                1 => Some(Next::Delivered),
                2 => Some(states::dead()),
                _ => Some(states::skipped()),
            }
        })
        .await;
    let preview = stage.preview(request.clone()).await;
    let done = stage.replay(request).await;
    assert!(preview.exact);
    assert_eq!(
        (preview.events, preview.deliveries),
        (done.progress.examined, done.progress.created)
    );
    assert_eq!(preview.skipped, done.progress.skipped);
    let made = stage.made(&done).await;
    for share in preview.integrations {
        let count = made.iter().filter(|row| row.integration == share.integration).count();
        assert_eq!(count as u64, share.deliveries, "{}", share.integration);
    }
    assert_eq!(made.len() as u64, preview.deliveries);
    stage.assert_clean().await;
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn two_nodes_make_each_delivery_once(happenings in prop::collection::vec(happening(), 0..40)) {
        runtime().block_on(two_nodes(happenings));
    }

    #[test]
    fn a_preview_counts_what_is_made(
        ends in prop::collection::vec((any::<bool>(), 0..4u8), 0..30),
        mode in 0..3usize,
        pattern in 0..3usize,
        state in 0..3usize,
        only in any::<bool>(),
        late in any::<bool>(),
        rate in 1..200u32,
    ) {
        let mode = [ReplayMode::Original, ReplayMode::Current, ReplayMode::Missing][mode];
        let mut request = ReplayRequest::since(support::START).mode(mode).rate(rate);
        if pattern > 0 {
            request = request.event_type(["", "order.*", "*.made"][pattern].parse().unwrap());
        }
        if state > 0 && mode != ReplayMode::Missing {
            let states = [DeliveryState::Dead, DeliveryState::Delivered];
            request = request.states(states[..state].iter().copied());
        }
        if only {
            request = request.integrations([res("b")]);
        }
        runtime().block_on(counted_ahead(ends, request, late));
    }
}
