use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use icp_core::analytics::{
    Counted, Counts, FailureCount, Grain, Rollup, RollupBatch, RollupBy, RollupQuery,
};
use icp_core::id::SessionId;
use icp_core::retention::{Prune, RollupCutoffs, What};
use icp_core::time::Timestamp;

use super::world::{World, at, org, race, res};

/// The first hour of the day that is `days` after the start of every behaviour.
fn day(days: u64) -> Timestamp {
    Grain::Day.floor(at(0)) + Duration::from_secs(86_400) * u32::try_from(days).unwrap()
}

fn hour(hours: u64) -> Timestamp {
    day(0) + Duration::from_secs(3_600) * u32::try_from(hours).unwrap()
}

/// Counts in which each number differs, and `failures` of a class.
fn counted(delivered: u64, failures: &[(&str, u64)]) -> Counted {
    let mut numbers = [0; Counts::LEN];
    for (at, number) in numbers.iter_mut().enumerate() {
        *number = delivered * 100 + at as u64;
    }
    let failures = failures.iter().map(|(class, count)| (Arc::from(*class), *count)).collect();
    Counted { counts: Counts { delivered, ..Counts::of_numbers(&numbers) }, failures }
}

type Row<'a> = (&'a str, &'a str, Timestamp, Counted);

fn batch(session: SessionId, sequence: u64, rows: Vec<Row<'_>>) -> RollupBatch {
    let counted: BTreeMap<_, _> = rows
        .into_iter()
        .map(|(of, integration, at, counted)| ((org(of), res(integration), at), counted))
        .collect();
    RollupBatch { session, sequence, counted, now: at(0) }
}

fn query(grain: Grain, by: RollupBy) -> RollupQuery {
    RollupQuery { grain, since: day(0), until: day(9), integration: None, by }
}

/// The sums by what they are told by, `delivered` of each.
async fn delivered(world: &World, org_name: &str, query: &RollupQuery) -> Vec<u64> {
    let found = world.rollups(&org(org_name), query).await.unwrap();
    found.iter().map(|rollup| rollup.counts.delivered).collect()
}

pub(super) async fn sums_are_told_by_hour_day_and_integration(world: World) {
    let rows = vec![
        ("acme", "crm", hour(1), counted(1, &[])),
        ("acme", "erp", hour(1), counted(2, &[])),
        ("acme", "crm", hour(2), counted(4, &[])),
        ("acme", "crm", hour(25), counted(8, &[])),
    ];
    world.add_rollups(&batch(world.session_id(), 1, rows)).await.unwrap();
    let by_hour = query(Grain::Hour, RollupBy::Time);
    let found = world.rollups(&org("acme"), &by_hour).await.unwrap();
    let mut sum = counted(1, &[]).counts;
    sum.add(&counted(2, &[]).counts);
    let first = Rollup { begins: Some(hour(1)), integration: None, counts: sum };
    assert_eq!((found.len(), &found[0]), (3, &first), "every number is kept and added");
    assert_eq!(delivered(&world, "acme", &by_hour).await, [3, 4, 8]);
    assert_eq!(delivered(&world, "acme", &query(Grain::Day, RollupBy::Time)).await, [7, 8]);
    let by_integration = query(Grain::Day, RollupBy::Integration);
    let found = world.rollups(&org("acme"), &by_integration).await.unwrap();
    let names: Vec<_> = found.iter().filter_map(|rollup| rollup.integration.clone()).collect();
    assert_eq!(names, [res("crm"), res("erp")]);
    assert_eq!(delivered(&world, "acme", &by_integration).await, [13, 2]);
    let one = RollupQuery { integration: Some(res("erp")), ..by_hour.clone() };
    assert_eq!(delivered(&world, "acme", &one).await, [2]);
    let some = RollupQuery { since: hour(2), until: hour(25), ..by_hour };
    assert_eq!(delivered(&world, "acme", &some).await, [4], "the end is not included");
}

pub(super) async fn a_repeated_batch_counts_once(world: World) {
    let (one, other) = (world.session_id(), world.session_id());
    let of = |session, sequence, n| {
        let failures = [("status_500", n)];
        batch(session, sequence, vec![("acme", "crm", hour(1), counted(n, &failures))])
    };
    for again in [of(one, 1, 1), of(one, 1, 1), of(other, 1, 2), of(one, 2, 4), of(one, 1, 1)] {
        world.add_rollups(&again).await.unwrap();
    }
    world.add_rollups(&of(one, 2, 4)).await.unwrap();
    for grain in Grain::ALL {
        let query = query(grain, RollupBy::Time);
        assert_eq!(delivered(&world, "acme", &query).await, [7]);
        let failures = world.rolled_failures(&org("acme"), &query, 9).await.unwrap();
        assert_eq!(failures[0].count, 7);
    }
}

pub(super) async fn racing_nodes_add_up(world: World) {
    let store = world.store();
    let nodes: Vec<_> = (0..4).map(|_| world.session_id()).collect();
    // Each batch twice, as where a node does not know whether its first try went through.
    let calls = nodes.into_iter().flat_map(|session| [session; 2]).map(|session| {
        let store = Arc::clone(&store);
        async move {
            for sequence in 1..=5 {
                let rows = ["a", "b", "c"]
                    .map(|name| ("acme", name, hour(1), counted(1, &[("dns_failed", 1)])));
                let batch = batch(session, sequence, rows.to_vec());
                store.add_rollups(&batch).await.unwrap();
            }
        }
    });
    race(calls).await;
    let by_integration = query(Grain::Day, RollupBy::Integration);
    assert_eq!(delivered(&world, "acme", &by_integration).await, [20, 20, 20]);
    let failures = world.rolled_failures(&org("acme"), &by_integration, 9).await.unwrap();
    assert!(failures.iter().all(|failure| failure.count == 20), "{failures:?}");
}

pub(super) async fn failures_are_grouped_and_bounded(world: World) {
    let rows = vec![
        ("acme", "crm", hour(1), counted(1, &[("status_500", 5), ("dns_failed", 1)])),
        ("acme", "crm", hour(2), counted(1, &[("status_500", 2), ("timeout_connect", 1)])),
        ("acme", "erp", hour(2), counted(1, &[("status_500", 9)])),
    ];
    world.add_rollups(&batch(world.session_id(), 1, rows)).await.unwrap();
    let query = query(Grain::Day, RollupBy::Time);
    let found = world.rolled_failures(&org("acme"), &query, 3).await.unwrap();
    let failure = |integration, class: &str, count| FailureCount {
        integration: res(integration),
        class: class.to_owned(),
        count,
    };
    let expected = [
        failure("erp", "status_500", 9),
        failure("crm", "status_500", 7),
        failure("crm", "dns_failed", 1),
    ];
    assert_eq!(found, expected);
    let crm = RollupQuery { integration: Some(res("crm")), ..query };
    assert_eq!(world.rolled_failures(&org("acme"), &crm, 9).await.unwrap().len(), 3);
}

pub(super) async fn another_organization_sees_nothing(world: World) {
    let rows = vec![
        ("acme", "crm", hour(1), counted(1, &[("status_500", 1)])),
        ("other", "crm", hour(1), counted(5, &[])),
    ];
    world.add_rollups(&batch(world.session_id(), 1, rows)).await.unwrap();
    let query = query(Grain::Hour, RollupBy::Time);
    assert_eq!(delivered(&world, "other", &query).await, [5]);
    assert_eq!(world.rolled_failures(&org("other"), &query, 9).await.unwrap(), []);
    assert_eq!(delivered(&world, "third", &query).await, Vec::<u64>::new());
}

async fn prune(world: &World, org_name: &str, cutoffs: RollupCutoffs) -> u64 {
    let (mut rollups, mut after) = (0, None);
    for _ in 0..100 {
        let what = What::Rollups(cutoffs);
        let prune = Prune { org: org(org_name), what, after, limit: 2, now: at(99) };
        let pruned = world.prune(&prune).await.unwrap();
        rollups += pruned.rollups;
        after = pruned.next;
        if after.is_none() {
            return rollups;
        }
    }
    panic!("pruning comes to no end");
}

pub(super) async fn hours_and_days_go_by_age(world: World) {
    let failures = [("status_500", 1), ("dns_failed", 1), ("status_503", 1)];
    let rows: Vec<_> = (0..4)
        .flat_map(|days| [("acme", days), ("other", days)])
        .map(|(of, days)| (of, "crm", day(days), counted(1, &failures)))
        .collect();
    world.add_rollups(&batch(world.session_id(), 1, rows)).await.unwrap();
    let cutoffs = RollupCutoffs { hours: day(3), days: day(1) };
    assert_eq!(prune(&world, "acme", cutoffs).await, 4, "three hours and a day");
    let (hours, days) = (query(Grain::Hour, RollupBy::Time), query(Grain::Day, RollupBy::Time));
    assert_eq!(delivered(&world, "acme", &hours).await, [1]);
    assert_eq!(delivered(&world, "acme", &days).await, [1, 1, 1]);
    assert_eq!(delivered(&world, "other", &hours).await, [1; 4]);
    let left = world.rolled_failures(&org("acme"), &hours, 9).await.unwrap();
    assert_eq!(left.iter().map(|failure| failure.count).collect::<Vec<_>>(), [1; 3]);
    let all = RollupCutoffs { hours: day(9), days: day(9) };
    assert_eq!(prune(&world, "acme", all).await, 4);
    assert_eq!(world.rolled_failures(&org("acme"), &days, 9).await.unwrap(), []);
    assert_eq!(prune(&world, "acme", all).await, 0);
}

pub(super) async fn an_organization_with_sums_alone_is_come_by(world: World) {
    let rows = vec![("acme", "crm", hour(1), counted(1, &[]))];
    world.add_rollups(&batch(world.session_id(), 1, rows)).await.unwrap();
    assert_eq!(world.next_organization(None).await.unwrap(), Some(org("acme")));
    assert_eq!(world.next_organization(Some(&org("acme"))).await.unwrap(), None);
}
