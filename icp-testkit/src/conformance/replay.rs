use icp_core::Code;
use icp_core::delivery::{Delivery, DeliveryState, Next};
use icp_core::error::Result;
use icp_core::event::{Event, NewDelivery};
use icp_core::id::{DeliveryId, SessionId};
use icp_core::letter::{Judgement, Verdict};
use icp_core::replay::{
    EventRange, NewReplay, ReplayChange, ReplayClaim, ReplayDeliveries, ReplayJob, ReplayNext,
    ReplayProgress, ReplayQuery, ReplayRequest, ReplayScan, ReplayState, ReplayStep, Standing,
};
use icp_core::resource::Actor;
use icp_core::store::PageQuery;

use super::world::{World, at, ids, org, race, retry, why};

pub(super) fn job(world: &World, org_name: &str, secs: u64) -> ReplayJob {
    ReplayJob {
        id: world.replay_id(),
        org: org(org_name),
        request: ReplayRequest::since(at(0)).until(at(1_000)).reason("ü"),
        actor: Actor::host(),
        state: ReplayState::Pending,
        progress: ReplayProgress { total: Some(9), ..ReplayProgress::default() },
        cursor: None,
        fence: 0,
        owner: None,
        lease_until: None,
        next_at: at(secs),
        error: None,
        created_at: at(secs),
        started_at: None,
        ended_at: None,
        updated_at: at(secs),
    }
}

fn claim(session: SessionId, secs: u64) -> ReplayClaim {
    ReplayClaim { session, now: at(secs), lease_until: at(secs + 60) }
}

/// A step of a claimed job that makes `items` at 10 seconds and goes on at 20.
pub(super) fn step(job: &ReplayJob, items: Vec<NewReplay>) -> ReplayStep {
    ReplayStep {
        job: job.id,
        fence: job.fence,
        from: job.cursor,
        to: items.last().map(|item| item.event).or(job.cursor),
        examined: items.len() as u64,
        skipped: 1,
        items,
        error: None,
        next: ReplayNext::At { next_at: at(20), lease_until: at(80) },
        now: at(10),
    }
}

pub(super) fn again(old: &Delivery, new: NewDelivery) -> NewReplay {
    NewReplay { event: old.event, replay_of: Some(old.id), new }
}

/// A job that a session has claimed.
pub(super) async fn claimed(world: &World) -> (SessionId, ReplayJob) {
    let session = world.session_id();
    world.create_replay(job(world, "acme", 0)).await.unwrap();
    (session, world.claim_replay(claim(session, 0)).await.unwrap().job.unwrap())
}

/// A delivery to `hook` that ended dead.
pub(super) async fn dead(world: &World) -> Delivery {
    let session = world.session().await;
    world.fill("acme", "hook", 1).await;
    let row = world.take_one(session).await;
    world.finish(&row, Next::Dead { reason: why("exhausted") }, 5).await;
    world.read(&row).await
}

pub(super) async fn made(world: &World, job: &ReplayJob) -> Vec<DeliveryId> {
    let query = ReplayDeliveries { job: job.id, page: PageQuery::default() };
    let page = world.replay_deliveries(&job.org, &query).await.unwrap();
    page.items.into_iter().map(|row| row.id).collect()
}

async fn reread(world: &World, job: &ReplayJob) -> ReplayJob {
    world.replay_job(&job.org, job.id).await.unwrap().unwrap()
}

fn assert_refused(answer: Result<ReplayJob>) {
    assert_eq!(answer.unwrap_err().code(), Code::LeaseLost);
}

pub(super) async fn a_job_is_read_back_whole(world: World) {
    let job = job(&world, "acme", 3);
    assert_eq!(world.create_replay(job.clone()).await.unwrap(), job);
    let mut other = job.clone();
    other.state = ReplayState::Done;
    assert_eq!(world.create_replay(other).await.unwrap(), job);
    assert_eq!(reread(&world, &job).await, job);
    assert_eq!(world.replay_job(&org("other"), job.id).await.unwrap(), None);
    let refused = world.change_replay(&org("other"), job.id, ReplayChange::Pause, at(4)).await;
    assert_eq!(refused.unwrap_err().code(), Code::ReplayNotFound);
    let query = ReplayDeliveries { job: job.id, page: PageQuery::default() };
    assert_eq!(world.replay_deliveries(&org("other"), &query).await.unwrap().items, []);
}

pub(super) async fn lists_are_newest_first_and_paged(world: World) {
    let mut jobs = Vec::new();
    for secs in 0..5 {
        jobs.push(world.create_replay(job(&world, "acme", secs)).await.unwrap());
    }
    world.create_replay(job(&world, "other", 0)).await.unwrap();
    let paused =
        world.change_replay(&org("acme"), jobs[1].id, ReplayChange::Pause, at(9)).await.unwrap();
    jobs[1] = paused.clone();
    jobs.reverse();
    let mut query = ReplayQuery::default();
    query.page.limit = 3;
    let first = world.replay_jobs(&org("acme"), &query).await.unwrap();
    assert_eq!((&first.items[..], first.more), (&jobs[..3], true));
    query.page.after = Some(jobs[2].id);
    let second = world.replay_jobs(&org("acme"), &query).await.unwrap();
    assert_eq!((&second.items[..], second.more), (&jobs[3..], false));
    query = ReplayQuery { state: Some(ReplayState::Paused), ..ReplayQuery::default() };
    assert_eq!(world.replay_jobs(&org("acme"), &query).await.unwrap().items, [paused]);
}

pub(super) async fn a_claim_takes_what_has_waited_longest(world: World) {
    let (one, two) = (world.session_id(), world.session_id());
    let late = world.create_replay(job(&world, "acme", 8)).await.unwrap();
    let early = world.create_replay(job(&world, "other", 5)).await.unwrap();
    let none = world.claim_replay(claim(one, 4)).await.unwrap();
    assert_eq!((none.job, none.next_at), (None, Some(at(5))));
    let taken = world.claim_replay(claim(one, 8)).await.unwrap().job.unwrap();
    assert_eq!((taken.id, taken.state, taken.fence), (early.id, ReplayState::Running, 1));
    assert_eq!((taken.owner, taken.lease_until), (Some(one), Some(at(68))));
    assert_eq!((taken.started_at, reread(&world, &early).await), (Some(at(8)), taken));
    assert_eq!(world.claim_replay(claim(two, 9)).await.unwrap().job.unwrap().id, late.id);
    let nothing = world.claim_replay(claim(world.session_id(), 10)).await.unwrap();
    assert_eq!((nothing.job, nothing.next_at), (None, None));
}

pub(super) async fn its_owner_claims_again_and_others_after_the_lease(world: World) {
    let (session, job) = claimed(&world).await;
    let other = world.session_id();
    assert!(world.claim_replay(claim(other, 59)).await.unwrap().job.is_none());
    let again = world.claim_replay(claim(session, 30)).await.unwrap().job.unwrap();
    assert_eq!((again.id, again.fence, again.started_at), (job.id, 2, Some(at(0))));
    assert!(world.claim_replay(claim(other, 89)).await.unwrap().job.is_none());
    let over = world.claim_replay(claim(other, 90)).await.unwrap().job.unwrap();
    assert_eq!((over.owner, over.fence), (Some(other), 3));
}

pub(super) async fn a_released_job_is_free_at_once(world: World) {
    let (session, job) = claimed(&world).await;
    world.release_replays(world.session_id(), at(1)).await.unwrap();
    assert_eq!(reread(&world, &job).await.owner, Some(session));
    world.release_replays(session, at(1)).await.unwrap();
    let taken = world.claim_replay(claim(world.session_id(), 1)).await.unwrap().job.unwrap();
    assert_eq!((taken.id, taken.fence), (job.id, 2));
    assert_refused(world.step_replay(&step(&job, vec![])).await);
}

pub(super) async fn one_of_racing_claims_wins(world: World) {
    let job = world.create_replay(job(&world, "acme", 0)).await.unwrap();
    let claims = (0..8).map(|_| {
        let (store, claim) = (world.store(), claim(world.session_id(), 1));
        async move { store.claim_replay(claim).await.unwrap() }
    });
    let won: Vec<_> = race(claims).await.into_iter().filter_map(|taken| taken.job).collect();
    assert_eq!((won.len(), won[0].id, won[0].fence), (1, job.id, 1));
}

pub(super) async fn a_step_writes_deliveries_and_its_place(world: World) {
    let old = dead(&world).await;
    let (_, job) = claimed(&world).await;
    let new = world.to("acme", "hook");
    let batch = step(&job, vec![again(&old, new.clone())]);
    let after = world.step_replay(&batch).await.unwrap();
    assert_eq!(after, reread(&world, &job).await);
    let progress = ReplayProgress { examined: 1, created: 1, skipped: 1, total: Some(9) };
    assert_eq!((after.progress, after.cursor), (progress, Some(old.event)));
    assert_eq!((after.next_at, after.lease_until), (at(20), Some(at(80))));
    assert_eq!(made(&world, &job).await, [new.id]);
    let row = world.delivery(&old.org, new.id).await.unwrap().unwrap();
    assert_eq!((row.replay_of, row.event, row.lane), (Some(old.id), old.event, old.lane));
    assert_eq!((row.state, row.tries, row.epoch), (DeliveryState::Ready, 0, 0));
    assert_eq!((row.created_at, row.due_at, row.expires_at), (at(10), new.due_at, None));
    let taken = world.take_at(world.session().await, 5, 10).await;
    assert_eq!(ids(&taken), [new.id]);
    world.assert_clean().await;
}

pub(super) async fn a_step_is_written_once(world: World) {
    let old = dead(&world).await;
    let (_, job) = claimed(&world).await;
    let batch = step(&job, vec![again(&old, world.to("acme", "hook"))]);
    let after = world.step_replay(&batch).await.unwrap();
    assert_refused(world.step_replay(&batch).await);
    let mut other = step(&job, vec![again(&old, world.to("acme", "hook"))]);
    assert_refused(world.step_replay(&other).await);
    assert_eq!(reread(&world, &job).await, after);
    assert_eq!(made(&world, &job).await.len(), 1);
    // From its own place, a batch that names what is made already makes nothing.
    other.from = after.cursor;
    let after = world.step_replay(&other).await.unwrap();
    assert_eq!((after.progress.created, after.progress.skipped), (1, 3));
    assert_eq!(made(&world, &job).await.len(), 1);
}

pub(super) async fn a_stale_fence_writes_nothing(world: World) {
    let old = dead(&world).await;
    let (_, stale) = claimed(&world).await;
    let fresh = world.claim_replay(claim(world.session_id(), 60)).await.unwrap().job.unwrap();
    assert_eq!(fresh.fence, 2);
    let late = step(&stale, vec![again(&old, world.to("acme", "hook"))]);
    assert_refused(world.step_replay(&late).await);
    assert_eq!(reread(&world, &stale).await, fresh);
    assert!(made(&world, &stale).await.is_empty());
    let new = world.to("acme", "hook");
    world.step_replay(&step(&fresh, vec![again(&old, new.clone())])).await.unwrap();
    assert_eq!(made(&world, &stale).await, [new.id]);
    world.assert_clean().await;
}

pub(super) async fn racing_steps_write_one_batch(world: World) {
    let old = dead(&world).await;
    let (_, job) = claimed(&world).await;
    let steps = (0..8).map(|_| {
        let (store, step) =
            (world.store(), step(&job, vec![again(&old, world.to("acme", "hook"))]));
        async move { store.step_replay(&step).await }
    });
    let done = race(steps).await;
    assert_eq!(done.iter().filter(|answer| answer.is_ok()).count(), 1);
    assert_eq!(made(&world, &job).await.len(), 1);
    world.assert_clean().await;
}

/// Jobs that sessions of their own have claimed.
async fn several(world: &World) -> Vec<ReplayJob> {
    let mut jobs = Vec::new();
    for _ in 0..6 {
        jobs.push(claimed(world).await.1);
    }
    jobs
}

pub(super) async fn racing_jobs_make_one_of_each(world: World) {
    let mut old = dead(&world).await;
    for round in 0..3 {
        let further = format!("further_{round}");
        let jobs = several(&world).await;
        let steps = jobs.iter().map(|job| {
            let fresh = world.to("acme", &further);
            let fresh = NewReplay { event: old.event, replay_of: None, new: fresh };
            let step = step(job, vec![again(&old, world.to("acme", "hook")), fresh]);
            let store = world.store();
            async move { store.step_replay(&step).await.unwrap() }
        });
        let after = race(steps).await;
        assert_eq!(after.iter().map(|job| job.progress.created).sum::<u64>(), 2);
        assert!(after.iter().all(|job| job.progress.created + job.progress.skipped == 3));
        let mut listed = Vec::new();
        for job in &after {
            assert_eq!(reread(&world, job).await, *job);
            listed.extend(made(&world, job).await);
        }
        assert_eq!(listed.len(), 2);
        let all = world.deliveries(&old.org, &Default::default()).await.unwrap().items;
        assert_eq!(all.len(), 3 + 2 * round);
        let events = world.events(&old.org, &Default::default()).await.unwrap();
        assert_eq!(events.items[0].fan_out, 2 + u32::try_from(round).unwrap());
        world.assert_clean().await;
        // What was made may be repeated in turn.
        let session = world.session().await;
        for claimed in world.take_at(session, 2, 10).await {
            let row = claimed.delivery;
            world.finish(&row, Next::Dead { reason: why("exhausted") }, 11).await;
            if row.replay_of == Some(old.id) {
                old = world.read(&row).await;
            }
        }
    }
}

pub(super) async fn a_job_and_a_round_make_one(world: World) {
    let old = dead(&world).await;
    one_is_made(&world, &old, &old).await;
    let all = world.deliveries(&old.org, &Default::default()).await.unwrap().items;
    assert_eq!(all.iter().filter(|row| row.replay_of == Some(old.id)).count(), 1);
}

pub(super) async fn a_job_and_a_round_make_one_after_a_repeat_was_called_off(world: World) {
    let old = dead(&world).await;
    let repeat = world.replay(super::delivery::replay_of(&world, &old)).await.unwrap();
    world.cancel(super::world::call_off("acme", repeat.id, 5)).await.unwrap();
    // The round repeats the letter, and the job what was called off.
    let repeat = world.read(&repeat).await;
    one_is_made(&world, &old, &repeat).await;
}

/// Lets jobs that repeat `newest` race rounds of `letter`.
async fn one_is_made(world: &World, letter: &Delivery, newest: &Delivery) {
    let before = world.deliveries(&letter.org, &Default::default()).await.unwrap().items.len();
    let jobs = several(world).await;
    let racers = jobs.iter().enumerate().map(|(turn, job)| {
        let (store, delivery, id) = (world.store(), letter.id, world.delivery_id());
        let step = step(job, vec![again(newest, world.to("acme", "hook"))]);
        let judgement = Judgement { delivery, seen: None, verdict: Verdict::Retry { id } };
        async move {
            if turn % 2 == 0 {
                store.judge(&[judgement], at(10)).await.unwrap();
            } else {
                store.step_replay(&step).await.unwrap();
            }
        }
    });
    race(racers).await;
    let all = world.deliveries(&letter.org, &Default::default()).await.unwrap().items;
    assert_eq!(all.len(), before + 1);
    let taken = world.take_at(world.session().await, 5, 10).await;
    assert_eq!(taken.len(), 1);
    world.assert_clean().await;
}

pub(super) async fn a_resting_or_cancelled_job_takes_no_step(world: World) {
    let old = dead(&world).await;
    let (session, job) = claimed(&world).await;
    let item = || again(&old, world.to("acme", "hook"));
    let change = |change, secs| world.change_replay(&job.org, job.id, change, at(secs));
    let paused = change(ReplayChange::Pause, 2).await.unwrap();
    assert_eq!((paused.state, paused.owner), (ReplayState::Paused, None));
    assert_eq!(change(ReplayChange::Pause, 3).await.unwrap(), paused);
    assert_refused(world.step_replay(&step(&job, vec![item()])).await);
    assert!(world.claim_replay(claim(session, 99)).await.unwrap().job.is_none());

    assert_eq!(change(ReplayChange::Resume, 4).await.unwrap().state, ReplayState::Pending);
    let job = world.claim_replay(claim(session, 5)).await.unwrap().job.unwrap();
    assert_eq!((job.state, job.fence), (ReplayState::Running, 2));
    world.step_replay(&step(&job, vec![item()])).await.unwrap();
    let cancelled = change(ReplayChange::Cancel, 6).await.unwrap();
    assert_eq!((cancelled.state, cancelled.ended_at), (ReplayState::Cancelled, Some(at(6))));
    assert_refused(world.step_replay(&step(&cancelled, vec![item()])).await);
    assert_eq!(change(ReplayChange::Cancel, 7).await.unwrap(), cancelled);
    assert_eq!(made(&world, &job).await.len(), 1);
}

pub(super) async fn an_ended_job_changes_no_more(world: World) {
    for (next, end) in
        [(ReplayNext::Done, ReplayState::Done), (ReplayNext::Failed, ReplayState::Failed)]
    {
        let (session, job) = claimed(&world).await;
        let error = (end == ReplayState::Failed).then(|| why("organization_unknown"));
        let last = ReplayStep { next, error: error.clone(), ..step(&job, vec![]) };
        let ended = world.step_replay(&last).await.unwrap();
        assert_eq!((ended.state, ended.ended_at, &ended.error), (end, Some(at(10)), &error));
        for change in [ReplayChange::Pause, ReplayChange::Resume, ReplayChange::Cancel] {
            let refused = world.change_replay(&job.org, job.id, change, at(11)).await;
            assert_eq!(refused.unwrap_err().code(), Code::ReplayStateConflict);
        }
        assert!(world.claim_replay(claim(session, 99)).await.unwrap().job.is_none());
        assert_refused(world.step_replay(&step(&ended, vec![])).await);
        assert_eq!(reread(&world, &job).await, ended);
    }
}

pub(super) async fn what_was_replayed_meanwhile_is_left_out(world: World) {
    let old = dead(&world).await;
    world.replay(super::delivery::replay_of(&world, &old)).await.unwrap();
    let (_, job) = claimed(&world).await;
    let items = vec![again(&old, world.to("acme", "hook")), again(&old, world.to("acme", "new"))];
    let after = world.step_replay(&step(&job, items)).await.unwrap();
    assert_eq!((after.progress.created, after.progress.skipped), (0, 3));
    assert!(made(&world, &job).await.is_empty());
    world.assert_clean().await;
}

pub(super) async fn a_further_integration_counts_as_fan_out(world: World) {
    let old = dead(&world).await;
    let (_, job) = claimed(&world).await;
    let fresh = |new| NewReplay { event: old.event, replay_of: None, new };
    let items = vec![fresh(world.to("acme", "a")), fresh(world.to("acme", "b"))];
    let after = world.step_replay(&step(&job, items)).await.unwrap();
    assert_eq!(after.progress.created, 2);
    let events = world.events(&old.org, &Default::default()).await.unwrap();
    assert_eq!(events.items[0].fan_out, 3);
    assert_eq!(world.lanes(&old.org).await.unwrap().len(), 3);
    world.assert_clean().await;
}

pub(super) async fn order_holds_in_a_fifo_lane(world: World) {
    let session = world.session().await;
    let mut old = Vec::new();
    for _ in 0..2 {
        world.put("acme", world.in_order("acme", "hook", "k")).await;
        let row = world.take_one(session).await;
        world.finish(&row, Next::Dead { reason: why("exhausted") }, 5).await;
        old.push(row);
    }
    let waiting = world.put("acme", world.in_order("acme", "hook", "k")).await;
    let row = world.take_one(session).await;
    world.finish(&row, retry(30), 6).await;
    let (_, job) = claimed(&world).await;
    let items: Vec<_> =
        old.iter().map(|old| again(old, world.in_order("acme", "hook", "k"))).collect();
    let expected = [waiting, items[0].new.id, items[1].new.id];
    world.step_replay(&step(&job, items)).await.unwrap();
    let later = world.put("acme", world.in_order("acme", "hook", "k")).await;
    assert!(world.take_at(session, 5, 29).await.is_empty(), "nothing overtakes the retry");
    for id in expected.into_iter().chain([later]) {
        let taken = world.take_at(session, 5, 30).await;
        assert_eq!(ids(&taken), [id]);
        world.finish(&taken[0].delivery, Next::Delivered, 30).await;
    }
    world.assert_clean().await;
}

pub(super) async fn due_times_are_kept(world: World) {
    let old = dead(&world).await;
    let (_, job) = claimed(&world).await;
    let mut new = world.to("acme", "hook");
    new.due_at = at(50);
    world.step_replay(&step(&job, vec![again(&old, new.clone())])).await.unwrap();
    let session = world.session().await;
    assert!(world.take_at(session, 5, 49).await.is_empty());
    assert_eq!(ids(&world.take_at(session, 5, 50).await), [new.id]);
}

/// Takes in an event received at `secs`, with these deliveries.
async fn event_at(world: &World, secs: u64, deliveries: Vec<NewDelivery>) -> Event {
    let mut event = world.new_event("acme");
    event.received_at = at(secs);
    let item = world.item(&event, deliveries);
    world.ingest_items(vec![item], secs).await;
    event
}

pub(super) async fn a_scan_walks_its_range_in_order(world: World) {
    let mut events = Vec::new();
    for secs in 0..8 {
        let deliveries = vec![world.to("acme", "a"), world.to("acme", "b")];
        let standings: Vec<Standing> = deliveries
            .iter()
            .map(|new| Standing {
                delivery: new.id,
                integration: new.integration.clone(),
                state: DeliveryState::Ready,
            })
            .collect();
        events.push((event_at(&world, secs, deliveries).await, standings));
    }
    world.fill("other", "a", 2).await;
    let range = EventRange { org: org("acme"), since: at(1), until: at(7) };
    let mut scan = ReplayScan { range, after: None, limit: 4, bytes: usize::MAX };
    for (expected, more) in [(&events[1..5], true), (&events[5..7], false), (&[], false)] {
        let scanned = world.scan_replay(&scan).await.unwrap();
        assert_eq!(scanned.more, more);
        let found: Vec<_> = scanned
            .events
            .into_iter()
            .map(|mut scanned| {
                scanned.deliveries.sort_by_key(|standing| standing.delivery);
                ((*scanned.event).clone(), scanned.deliveries)
            })
            .collect();
        assert_eq!(found, expected);
        scan.after = found.last().map(|(event, _)| event.id).or(scan.after);
    }
    // At least one event comes, however large.
    scan = ReplayScan { after: None, bytes: 13, ..scan };
    let scanned = world.scan_replay(&scan).await.unwrap();
    assert_eq!((scanned.events.len(), scanned.more), (2, true));
    scan.bytes = 0;
    assert_eq!(world.scan_replay(&scan).await.unwrap().events.len(), 1);
}

pub(super) async fn counts_are_bounded(world: World) {
    for secs in 0..6 {
        event_at(&world, secs, vec![]).await;
    }
    for (since, until, most, expected) in
        [(0, 6, 100, 6), (1, 5, 100, 4), (0, 6, 3, 3), (6, 9, 9, 0), (3, 3, 9, 0)]
    {
        let range = EventRange { org: org("acme"), since: at(since), until: at(until) };
        assert_eq!(world.count_events(&range, most).await.unwrap(), expected);
    }
    let range = EventRange { org: org("other"), since: at(0), until: at(9) };
    assert_eq!(world.count_events(&range, 9).await.unwrap(), 0);
}
