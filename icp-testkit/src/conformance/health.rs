use icp_core::delivery::health::{BreakerSpec, BreakerState, LaneRules, RateLimit};
use icp_core::delivery::{
    AttemptOutcome, Claim, Delivery, DeliveryState, Lane, LaneStatus, Next, Rescue, RescueOf,
    Settle, Settlement,
};
use icp_core::id::SessionId;
use icp_core::resource::Effect;
use icp_core::time::Timestamp;

use super::world::{World, at, claim, ids, org, race, refund, res, retry, settlement};

/// What became of a delivery that was sent at `secs` and answered with `status` at once.
fn answered(row: &Delivery, status: u16, secs: u64) -> Settlement {
    let next = if status < 300 { Next::Delivered } else { retry(secs + 100_000) };
    let mut outcome = settlement(row, next);
    if let Some(attempt) = &mut outcome.attempt {
        attempt.started_at = at(secs);
        attempt.status = Some(status);
        if status >= 300 {
            attempt.outcome = AttemptOutcome::Failed(format!("status_{status}"));
        }
    }
    outcome
}

async fn answer(world: &World, row: &Delivery, status: u16, secs: u64) {
    let settlements = [answered(row, status, secs)].into();
    world.settle(Settle { settlements, now: at(secs) }).await.unwrap();
}

/// Claims and answers one delivery after the other, one in each second from `secs` on.
async fn work(world: &World, session: SessionId, secs: u64, statuses: &[u16]) {
    for (secs, status) in (secs..).zip(statuses) {
        let taken = world.take_at(session, 1, secs).await;
        assert_eq!(taken.len(), 1, "a delivery goes at {secs} s");
        answer(world, &taken[0].delivery, *status, secs).await;
    }
}

async fn lane(world: &World, integration: &str) -> Lane {
    let lanes = world.lanes(&org("acme")).await.unwrap();
    lanes.into_iter().find(|lane| lane.integration == res(integration)).unwrap()
}

fn secs(moment: Timestamp) -> u64 {
    moment.since(at(0)).as_millis().div_ceil(1_000).try_into().unwrap()
}

/// A lane with a backlog whose breaker opened at 4 s; answers the whole second of its probe.
async fn opened(world: &World, session: SessionId) -> u64 {
    world.fill("acme", "hook", 30).await;
    work(world, session, 0, &[500; 5]).await;
    let lane = lane(world, "hook").await;
    assert_eq!(lane.health.breaker.state(at(5)), BreakerState::Open);
    secs(lane.blocked_until.unwrap())
}

pub(super) async fn a_failing_lane_opens_and_gives_nothing(world: World) {
    let session = world.session().await;
    let probe = opened(&world, session).await;
    assert!((28..=34).contains(&probe), "{probe}");
    for secs in [4, 10, probe - 1] {
        let claimed = world.claim(claim(session, 9, secs)).await.unwrap();
        assert_eq!(claimed.deliveries.len(), 0, "at {secs} s");
        assert_eq!(claimed.next_due, lane(&world, "hook").await.blocked_until);
    }
    assert_eq!(world.hand_over(session, 9, vec![world.to("acme", "hook")]).await, []);
    let rows = world.deliveries(&org("acme"), &Default::default()).await.unwrap().items;
    assert_eq!(rows.iter().map(|row| row.tries).sum::<u32>(), 5, "no try is burned");
    world.assert_clean().await;
}

pub(super) async fn refusals_open_nothing(world: World) {
    let session = world.session().await;
    world.fill("acme", "hook", 40).await;
    work(&world, session, 0, &[404; 30]).await;
    let lane = lane(&world, "hook").await;
    assert!(lane.health.is_well());
    assert_eq!((lane.blocked_until, lane.room()), (None, 10_000));
}

pub(super) async fn a_success_between_failures_keeps_it_closed(world: World) {
    let session = world.session().await;
    world.fill("acme", "hook", 40).await;
    work(&world, session, 0, &[500, 500, 500, 500, 200, 500, 500, 500, 500, 200]).await;
    assert_eq!(lane(&world, "hook").await.health.breaker.state(at(10)), BreakerState::Closed);
    work(&world, session, 61, &[200]).await;
    assert!(lane(&world, "hook").await.health.is_well(), "its window is over");
}

pub(super) async fn a_recovery_is_seen_between_those_of_others(world: World) {
    let session = world.session().await;
    world.fill("acme", "hook", 20).await;
    work(&world, session, 0, &[500, 500, 500, 500]).await;
    let row = world.take_at(session, 1, 4).await.remove(0).delivery;
    world.fill("beta", "well", 2).await;
    let well = world.take_at(session, 20, 4).await;
    for claimed in well.iter().filter(|claimed| claimed.delivery.org == org("beta")) {
        answer(&world, &claimed.delivery, 200, 5).await;
    }
    answer(&world, &row, 200, 5).await;
    assert_eq!(lane(&world, "hook").await.health.breaker.failures, 0);
    for claimed in well.iter().filter(|claimed| claimed.delivery.org == org("acme")).take(4) {
        answer(&world, &claimed.delivery, 500, 6).await;
    }
    assert_eq!(lane(&world, "hook").await.health.breaker.state(at(6)), BreakerState::Closed);
    world.assert_clean().await;
}

pub(super) async fn one_probe_goes_and_its_success_closes(world: World) {
    let session = world.session().await;
    let probe = opened(&world, session).await;
    let taken = world.take_at(session, 9, probe).await;
    assert_eq!(taken.len(), 1);
    assert_eq!(world.take_at(session, 9, probe + 20).await.len(), 0, "while it is under way");
    assert_eq!(lane(&world, "hook").await.health.breaker.state(at(probe)), BreakerState::HalfOpen);
    answer(&world, &taken[0].delivery, 200, probe + 21).await;
    assert!(lane(&world, "hook").await.health.is_well());
    assert_eq!(world.take_at(session, 9, probe + 22).await.len(), 9);
    world.assert_clean().await;
}

pub(super) async fn one_of_racing_nodes_gets_the_probe(world: World) {
    let nodes = [world.session().await, world.session().await, world.session().await];
    let mut probe = opened(&world, nodes[0]).await;
    for _ in 0..3 {
        let store = world.store();
        let claims = nodes.into_iter().cycle().take(9).map(|session| {
            let store = store.clone();
            async move { store.claim(claim(session, 5, probe)).await.unwrap().deliveries }
        });
        let taken: Vec<_> = race(claims).await.into_iter().flatten().collect();
        assert_eq!(taken.len(), 1, "at {probe} s");
        answer(&world, &taken[0].delivery, 500, probe).await;
        probe = secs(lane(&world, "hook").await.blocked_until.unwrap());
    }
    world.assert_clean().await;
}

pub(super) async fn a_probe_may_be_handed_over_once(world: World) {
    let session = world.session().await;
    world.fill("acme", "hook", 5).await;
    let taken = world.take_at(session, 9, 0).await;
    for claimed in &taken {
        answer(&world, &claimed.delivery, 500, 1).await;
    }
    let probe = secs(lane(&world, "hook").await.blocked_until.unwrap());
    let ingest = |secs| {
        let mut items = Vec::new();
        for _ in 0..3 {
            let mut new = world.to("acme", "hook");
            new.due_at = at(secs);
            items.push(world.item(&world.new_event("acme"), vec![new]));
        }
        let direct = icp_core::event::Direct { session, budget: 9, lease_until: at(secs + 60) };
        icp_core::event::Ingest { items: items.into(), direct: Some(direct), now: at(secs) }
    };
    let leased = |answers: Vec<icp_core::event::Ingested>| {
        let each = answers.into_iter().map(|answer| match answer {
            icp_core::event::Ingested::Accepted { leased } => leased.len(),
            _ => 0,
        });
        each.sum::<usize>()
    };
    assert_eq!(leased(world.ingest(ingest(probe)).await.unwrap()), 1);
    assert_eq!(world.take_at(session, 9, probe).await.len(), 0);
    world.assert_clean().await;
}

pub(super) async fn a_failed_probe_doubles_the_wait(world: World) {
    let session = world.session().await;
    let mut probe = opened(&world, session).await;
    for (trip, most) in [(2, 60), (3, 120), (4, 240)] {
        let taken = world.take_at(session, 9, probe).await;
        answer(&world, &taken[0].delivery, 503, probe).await;
        let lane = lane(&world, "hook").await;
        assert_eq!(lane.health.breaker.trips(), trip);
        let next = secs(lane.blocked_until.unwrap());
        assert!((most * 4 / 5..=most + 1).contains(&(next - probe)), "{}", next - probe);
        assert_eq!(world.take_at(session, 9, next - 1).await.len(), 0);
        probe = next;
    }
}

pub(super) async fn a_lost_probe_is_sent_again(world: World) {
    let (lost, session) = (world.session().await, world.session().await);
    let probe = opened(&world, session).await;
    let sent = ids(&world.take_at(lost, 9, probe).await);
    let of = RescueOf::Session(lost);
    world.rescue(Rescue { of, now: at(probe + 9), limit: 9, max_rescues: 3 }).await.unwrap();
    let again = world.take_at(session, 9, probe + 9).await;
    assert_eq!((sent.len(), again.len()), (1, 1));
    let mut back = settlement(&again[0].delivery, refund(probe + 9, false));
    back.attempt = None;
    world.settle(Settle { settlements: [back].into(), now: at(probe + 9) }).await.unwrap();
    assert_eq!(world.take_at(session, 9, probe + 9).await.len(), 1, "nor does one given back");
    world.assert_clean().await;
}

pub(super) async fn what_was_under_way_decides_nothing(world: World) {
    let session = world.session().await;
    world.fill("acme", "hook", 30).await;
    let taken = world.take_at(session, 8, 0).await;
    for claimed in &taken[..5] {
        answer(&world, &claimed.delivery, 500, 0).await;
    }
    let open = lane(&world, "hook").await;
    let probe = secs(open.blocked_until.unwrap());
    for (claimed, status) in taken[5..7].iter().zip([200, 500]) {
        let mut late = answered(&claimed.delivery, status, 0);
        late.next = Next::Delivered;
        world.settle(Settle { settlements: [late].into(), now: at(9) }).await.unwrap();
    }
    assert_eq!(lane(&world, "hook").await.health, open.health);
    assert_eq!(world.take_at(session, 9, probe).await.len(), 0, "one is still under way");
    answer(&world, &taken[7].delivery, 500, 0).await;
    assert_eq!(world.take_at(session, 9, probe).await.len(), 1);
}

pub(super) async fn a_later_block_outlasts_the_breaker(world: World) {
    let session = world.session().await;
    world.fill("acme", "hook", 30).await;
    work(&world, session, 0, &[429; 4]).await;
    let row = world.take_at(session, 1, 4).await.remove(0).delivery;
    let mut wait = answered(&row, 429, 4);
    wait.block_lane_until = Some(at(500));
    world.settle(Settle { settlements: [wait].into(), now: at(4) }).await.unwrap();
    let lane = lane(&world, "hook").await;
    assert_eq!((lane.blocked_until, lane.allowed()), (Some(at(500)), 1));
    assert_eq!(world.take_at(session, 9, 499).await.len(), 0);
    assert_eq!(world.take_at(session, 9, 500).await.len(), 1);
}

pub(super) async fn fifo_lanes_have_breakers_of_their_own(world: World) {
    let session = world.session().await;
    for key in ["a", "b"] {
        for _ in 0..9 {
            world.put("acme", world.in_order("acme", "hook", key)).await;
        }
    }
    let mut probes = 0;
    for secs in 0..5 {
        for claimed in world.take_at(session, 9, secs).await {
            let lanes = world.lanes(&org("acme")).await.unwrap();
            let lane = lanes.into_iter().find(|lane| lane.id == claimed.delivery.lane).unwrap();
            let failing = lane.order_key.as_deref() == Some("a");
            let mut outcome = answered(&claimed.delivery, if failing { 500 } else { 200 }, secs);
            if failing {
                outcome.next = retry(secs + 1);
                probes += 1;
            }
            world.settle(Settle { settlements: [outcome].into(), now: at(secs) }).await.unwrap();
        }
    }
    assert_eq!(probes, 5);
    let taken = world.take_at(session, 9, 10).await;
    assert_eq!(taken.len(), 1, "only the other key");
    world.assert_clean().await;
}

pub(super) async fn an_open_lane_takes_no_share(world: World) {
    let session = world.session().await;
    opened(&world, session).await;
    world.fill("acme", "well", 60).await;
    for _ in 0..60 {
        let mut heavy = world.to("beta", "hook");
        heavy.lane.weight = 4;
        world.put("beta", heavy).await;
    }
    let mut heavy = 0;
    for _ in 0..50 {
        let taken = world.take_at(session, 1, 5).await;
        assert_eq!(taken.len(), 1);
        heavy += u32::from(taken[0].delivery.org == org("beta"));
    }
    assert!((39..=41).contains(&heavy), "{heavy} of 50");
}

pub(super) async fn an_overloaded_lane_is_narrowed_and_widens(world: World) {
    let session = world.session().await;
    for _ in 0..60 {
        let mut new = world.to("acme", "hook");
        new.lane.max_in_flight = 8;
        world.put("acme", new).await;
    }
    let taken = world.take_at(session, 20, 0).await;
    assert_eq!(taken.len(), 8);
    let settlements: Vec<_> = taken[..2].iter().map(|c| answered(&c.delivery, 429, 0)).collect();
    world.settle(Settle { settlements: settlements.into(), now: at(1) }).await.unwrap();
    assert_eq!(lane(&world, "hook").await.allowed(), 4, "halved once for both");
    for claimed in &taken[2..] {
        answer(&world, &claimed.delivery, 404, 2).await;
    }
    let mut widths = Vec::new();
    for secs in 3..9 {
        let taken = world.take_at(session, 20, secs).await;
        widths.push(taken.len());
        for claimed in &taken {
            answer(&world, &claimed.delivery, 200, secs).await;
        }
    }
    assert_eq!(widths, [4, 5, 6, 7, 8, 8]);
    world.assert_clean().await;
}

pub(super) async fn effects_keep_to_what_a_narrowed_lane_may(world: World) {
    let session = world.session().await;
    for _ in 0..60 {
        let mut new = world.to("acme", "hook");
        new.lane.max_in_flight = 8;
        world.put("acme", new).await;
    }
    work(&world, session, 0, &[503]).await;
    let room = |max_in_flight, secs| {
        let world = &world;
        async move {
            world.pause(false, max_in_flight, secs).await;
            let taken = world.take_at(session, 50, secs).await;
            for claimed in &taken {
                let mut back = settlement(&claimed.delivery, refund(secs, false));
                back.attempt = None;
                let settle = Settle { settlements: [back].into(), now: at(secs) };
                world.settle(settle).await.unwrap();
            }
            (taken.len(), lane(world, "hook").await.allowed())
        }
    };
    assert_eq!(room(2, 1).await, (2, 2));
    assert_eq!(room(30, 2).await, (4, 4));
}

pub(super) async fn a_batch_over_many_lanes_hits_those_it_should(world: World) {
    let session = world.session().await;
    for integration in ["bad", "good", "hook"] {
        world.fill("acme", integration, 6).await;
    }
    let taken = world.take_at(session, 18, 0).await;
    assert_eq!(taken.len(), 18);
    let outcomes = taken.iter().map(|claimed| {
        let bad = claimed.delivery.integration == res("bad");
        answered(&claimed.delivery, if bad { 500 } else { 200 }, 1)
    });
    let mut outcomes: Vec<_> = outcomes.collect();
    let stale = outcomes.iter().position(|outcome| outcome.next == Next::Delivered).unwrap();
    outcomes[stale].lease.epoch += 1;
    let settled = world.settle(Settle { settlements: outcomes.into(), now: at(1) }).await.unwrap();
    let recorded = settled.iter().filter(|s| **s == icp_core::delivery::Settled::Recorded);
    assert_eq!(recorded.count(), 17);
    let state = |lane: &Lane| lane.health.breaker.state(at(2));
    assert_eq!(state(&lane(&world, "bad").await), BreakerState::Open);
    assert!(lane(&world, "good").await.health.is_well());
    assert!(lane(&world, "hook").await.health.is_well());
    world.assert_clean().await;
}

async fn rule(world: &World, rules: LaneRules, secs: u64) {
    world.effect("acme", Effect::Rules { integration: res("hook"), rules }, secs).await;
}

pub(super) async fn changed_rules_begin_afresh(world: World) {
    let session = world.session().await;
    opened(&world, session).await;
    rule(&world, LaneRules::default(), 5).await;
    assert_eq!(world.take_at(session, 9, 5).await.len(), 0, "nothing was changed");
    let strict = BreakerSpec { failures: 2, ..BreakerSpec::default() };
    rule(&world, LaneRules { breaker: strict, ..LaneRules::default() }, 6).await;
    work(&world, session, 6, &[500, 500]).await;
    assert_eq!(world.take_at(session, 9, 8).await.len(), 0);
    rule(&world, LaneRules::off(), 9).await;
    work(&world, session, 9, &[500; 9]).await;
    let lane = lane(&world, "hook").await;
    assert_eq!((lane.rules, lane.health.is_well()), (LaneRules::off(), true));
    world.assert_clean().await;
}

pub(super) async fn changed_rules_are_no_credit(world: World) {
    let session = world.session().await;
    opened(&world, session).await;
    world.fill("beta", "hook", 200).await;
    assert_eq!(world.take_at(session, 100, 5).await.len(), 100, "all of the other");
    rule(&world, LaneRules::off(), 6).await;
    let mut free = 0;
    for _ in 0..20 {
        let taken = world.take_at(session, 1, 6).await;
        free += taken.iter().filter(|claimed| claimed.delivery.org == org("acme")).count();
    }
    assert!((9..=11).contains(&free), "{free} of 20");
}

fn limited(requests: u32, per_seconds: u32, burst: u32) -> LaneRules {
    let rate_limit = Some(RateLimit { requests, per_seconds, burst });
    LaneRules { rate_limit, ..LaneRules::default() }
}

pub(super) async fn a_rate_holds_over_claims_and_lanes(world: World) {
    let session = world.session().await;
    for key in ["a", "b", "c", "d"] {
        for _ in 0..4 {
            let mut new = world.in_order("acme", "hook", key);
            new.lane.rules = limited(6, 60, 2);
            world.put("acme", new).await;
        }
    }
    for _ in 0..9 {
        let mut new = world.to("acme", "hook");
        new.lane.rules = limited(6, 60, 2);
        world.put("acme", new).await;
    }
    world.fill("acme", "other", 1).await;
    let taken = world.take_at(session, 20, 0).await;
    assert_eq!(taken.len(), 3, "two of the limited one, and the other");
    let mut went = vec![0, 0];
    for secs in 1..=60 {
        let taken = world.take_at(session, 20, secs).await;
        went.extend(taken.iter().map(|_| secs));
        for claimed in &taken {
            answer(&world, &claimed.delivery, 200, secs).await;
        }
    }
    assert_eq!(went, [0, 0, 10, 20, 30, 40, 50, 60]);
    world.assert_clean().await;
}

pub(super) async fn a_rate_holds_over_racing_nodes(world: World) {
    let nodes = [world.session().await, world.session().await, world.session().await];
    for _ in 0..30 {
        let mut new = world.to("acme", "hook");
        new.lane.rules = limited(30, 60, 4);
        world.put("acme", new).await;
    }
    for (secs, expected) in [(0, 4), (1, 0), (2, 1), (8, 3)] {
        let store = world.store();
        let claims = nodes.map(|session| {
            let store = store.clone();
            async move { store.claim(claim(session, 5, secs)).await.unwrap().deliveries.len() }
        });
        assert_eq!(race(claims).await.into_iter().sum::<usize>(), expected, "at {secs} s");
    }
}

pub(super) async fn a_wait_for_the_rate_costs_no_try(world: World) {
    let session = world.session().await;
    for _ in 0..3 {
        let mut new = world.to("acme", "hook");
        new.lane.rules = limited(1, 10, 1);
        world.put("acme", new).await;
    }
    let first = world.take_at(session, 9, 0).await;
    assert_eq!(first.len(), 1);
    let claimed = world.claim(claim(session, 9, 1)).await.unwrap();
    assert_eq!((claimed.deliveries.len(), claimed.next_due), (0, Some(at(10))));
    let meters = world.meters(&org("acme")).await.unwrap();
    let (limit, meter) = (limited(1, 10, 1).rate_limit.unwrap(), meters[0].1);
    assert_eq!((meters.len(), &meters[0].0), (1, &res("hook")));
    let status = meter.status(&limit, at(1));
    assert_eq!((status.limit, status.remaining, status.reset), (1, 0, at(10)));
    let rows = world.deliveries(&org("acme"), &Default::default()).await.unwrap().items;
    let ready: Vec<_> = rows.iter().filter(|row| row.state == DeliveryState::Ready).collect();
    assert!(ready.len() == 2 && ready.iter().all(|row| (row.tries, row.epoch) == (0, 0)));
    rule(&world, limited(100, 1, 100), 2).await;
    assert_eq!(world.take_at(session, 9, 2).await.len(), 2, "another rate begins afresh");
}

pub(super) async fn hand_over_keeps_to_the_rate(world: World) {
    let session = world.session().await;
    let mut news = Vec::new();
    for _ in 0..2 {
        let mut new = world.to("acme", "hook");
        new.lane.rules = limited(1, 10, 1);
        news.push(new);
    }
    let second = news.remove(1);
    assert_eq!(world.hand_over(session, 9, news).await.len(), 1);
    assert_eq!(world.hand_over(session, 9, vec![second]).await.len(), 0);
    assert_eq!(world.take_at(session, 9, 9).await.len(), 0);
    assert_eq!(world.take_at(session, 9, 10).await.len(), 1);
    world.assert_clean().await;
}

pub(super) async fn backlogs_and_totals_are_told(world: World) {
    let session = world.session().await;
    assert_eq!(world.lane_totals(at(0)).await.unwrap(), Default::default());
    let probe = opened(&world, session).await;
    let mut later = world.to("acme", "later");
    later.due_at = at(70);
    world.put("acme", later).await;
    world.fill("beta", "hook", 1).await;
    let all: Vec<_> = world.lanes(&org("acme")).await.unwrap().iter().map(|l| l.id).collect();
    let foreign = world.lanes(&org("beta")).await.unwrap()[0].id;
    let asked = [all[0], foreign];
    let some = world.backlogs(&org("acme"), &asked).await.unwrap();
    assert_eq!(some.iter().map(|backlog| backlog.lane).collect::<Vec<_>>(), [all[0]]);
    assert_eq!(world.backlogs(&org("acme"), &[]).await.unwrap(), []);
    let backlogs = world.backlogs(&org("acme"), &all).await.unwrap();
    assert_eq!(backlogs.len(), 2);
    let status = |lane: Lane| {
        let backlog = backlogs.iter().find(|backlog| backlog.lane == lane.id).copied();
        LaneStatus::of(lane, backlog, Default::default(), at(10))
    };
    let open = status(lane(&world, "hook").await);
    assert_eq!((open.waiting, open.oldest_wait), (30, Some(at(10).since(at(0)))));
    assert_eq!(open.next_at.map(secs), Some(probe));
    let later = status(lane(&world, "later").await);
    assert_eq!((later.waiting, later.oldest_wait, later.next_at), (1, None, Some(at(70))));
    let totals = world.lane_totals(at(10)).await.unwrap();
    assert_eq!((totals.open, totals.half_open, totals.narrowed, totals.blocked), (1, 0, 0, 1));
    assert_eq!(totals.first_due, Some(at(0)));
    let totals = world.lane_totals(at(probe)).await.unwrap();
    assert_eq!((totals.open, totals.half_open, totals.blocked), (0, 1, 0));
}

pub(super) async fn the_pace_is_counted(world: World) {
    let session = world.session().await;
    world.fill("acme", "hook", 20).await;
    let taken = world.claim(Claim { per_lane: 20, ..claim(session, 20, 0) }).await.unwrap();
    let finish = |from: usize, to: usize, secs| {
        let rows = taken.deliveries[from..to].iter();
        let settlements: Vec<_> = rows.map(|c| settlement(&c.delivery, Next::Delivered)).collect();
        world.settle(Settle { settlements: settlements.into(), now: at(secs) })
    };
    finish(0, 6, 0).await.unwrap();
    let first = lane(&world, "hook").await.pace;
    finish(6, 8, 1).await.unwrap();
    world.finish(&taken.deliveries[8].delivery, retry(60), 2).await;
    finish(9, 12, 60).await.unwrap();
    let pace = lane(&world, "hook").await.pace;
    assert_eq!((first.ended, pace.before, pace.ended), (6, 8, 3));
    assert_eq!(pace.minute, first.minute + 1);
    finish(12, 13, 400).await.unwrap();
    let pace = lane(&world, "hook").await.pace;
    assert_eq!((pace.before, pace.ended), (0, 1));
}
