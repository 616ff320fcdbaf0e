use std::sync::Arc;

use icp_core::resource::{
    Actor, AuditCheck, AuditEntry, AuditHead, AuditLink, AuditQuery, Expect, Note, Revision, Write,
    verify_audit,
};
use icp_core::retention::{Prune, What};
use icp_core::store::Store;

use super::world::{World, at, call_off, change, deletion, org, race, res, write};

fn note(org_name: &str, secs: u64) -> Note {
    Note {
        org: org(org_name),
        actor: Actor { acting_as: Some("user:bob".into()), ..Actor::host() },
        action: "look".into(),
        kind: "integration".into(),
        id: res("hook"),
        note: Some("ü".into()),
        now: at(secs),
    }
}

async fn put(world: &World, org: &str, id: &str, secs: u64) {
    world.write(write(vec![change(org, id, Expect::Any)], secs)).await.unwrap();
}

/// The rows, oldest first.
async fn rows(store: &dyn Store, org_name: &str) -> Vec<AuditEntry> {
    let query = AuditQuery::default();
    let mut rows = store.audit_log(&org(org_name), &query).await.unwrap().items;
    rows.reverse();
    rows
}

async fn whole(store: &dyn Store, org_name: &str) -> AuditCheck {
    let found = verify_audit(store, &org(org_name)).await.unwrap();
    assert_eq!(found.broken, None, "{found:?}");
    found
}

async fn prune(world: &World, before: u64, limit: usize) -> u64 {
    let mut gone = 0;
    loop {
        let what = What::Audit { before: at(before) };
        let prune = Prune { org: org("acme"), what, after: None, limit, now: at(99) };
        let pruned = world.prune(&prune).await.unwrap();
        gone += pruned.audit;
        if pruned.next.is_none() {
            return gone;
        }
    }
}

pub(super) async fn rows_of_changes_and_notes_hang_together(world: World) {
    assert_eq!(world.audit_head(&org("acme")).await.unwrap(), None);
    assert_eq!(whole(&*world, "acme").await.entries, 0);
    let changes = ["a", "b"].map(|id| change("acme", id, Expect::Absent));
    world.write(write(changes.into(), 1)).await.unwrap();
    world.note(note("acme", 2)).await.unwrap();
    world.write(write(vec![deletion("acme", "a", Expect::Any)], 3)).await.unwrap();
    let log = rows(&*world, "acme").await;
    assert_eq!(log.iter().map(|row| row.number).collect::<Vec<_>>(), [1, 2, 3, 4]);
    // As every store must have it, computed once more.
    let mut head = AuditHead::default();
    for row in &log {
        let mut again = AuditEntry { number: 0, chain: String::new(), ..row.clone() };
        head.append(&org("acme"), &mut again);
        assert_eq!(again, *row);
    }
    assert_eq!(world.audit_head(&org("acme")).await.unwrap(), Some(head.clone()));
    let found = whole(&*world, "acme").await;
    assert_eq!((found.entries, found.newest), (4, head.newest));
}

pub(super) async fn each_organization_has_its_own(world: World) {
    let both = ["acme", "beta"].map(|org| change(org, "a", Expect::Absent));
    world.write(write(both.into(), 1)).await.unwrap();
    put(&world, "beta", "b", 2).await;
    put(&world, "acme", "b", 3).await;
    for name in ["acme", "beta"] {
        let numbers: Vec<_> = rows(&*world, name).await.iter().map(|row| row.number).collect();
        assert_eq!(numbers, [1, 2], "{name}");
        assert_eq!(whole(&*world, name).await.entries, 2);
    }
}

pub(super) async fn a_refused_write_leaves_it_as_it_was(world: World) {
    put(&world, "acme", "a", 1).await;
    let before = world.audit_head(&org("acme")).await.unwrap();
    let changes = vec![change("acme", "b", Expect::Any), change("acme", "c", Expect::Present)];
    world.write(write(changes, 2)).await.unwrap_err();
    assert_eq!(world.audit_head(&org("acme")).await.unwrap(), before);
    put(&world, "acme", "b", 3).await;
    assert_eq!(whole(&*world, "acme").await.entries, 2);
}

pub(super) async fn racing_writers_make_one(world: World) {
    let deliveries = world.fill("acme", "hook", 6).await;
    let store = world.store();
    let writers = (0..18_usize).map(|n| {
        let (store, delivery) = (Arc::clone(&store), deliveries[n / 3]);
        async move {
            match n % 3 {
                0 => drop(store.cancel(call_off("acme", delivery, 1)).await.unwrap()),
                1 => drop(store.note(note("acme", 1)).await.unwrap()),
                _ => {
                    let change = change("acme", &format!("r-{n}"), Expect::Absent);
                    store.write(write(vec![change], 1)).await.unwrap();
                }
            }
        }
    });
    race(writers).await;
    // Notes that a change of a delivery leaves may be written a little later.
    world.sweep(icp_core::delivery::Sweep { now: at(2), limit: 100 }).await.unwrap();
    assert_eq!(whole(&*world, "acme").await.entries, 18);
    let numbers: Vec<_> = rows(&*world, "acme").await.iter().map(|row| row.number).collect();
    assert_eq!(numbers, (1..=18).collect::<Vec<_>>());
}

pub(super) async fn a_look_meanwhile_finds_it_whole(world: World) {
    put(&world, "acme", "a", 1).await;
    let store = world.store();
    let tasks = (0..12_u64).map(|n| {
        let store = Arc::clone(&store);
        async move {
            for round in 0..4 {
                if n % 2 == 0 {
                    whole(&*store, "acme").await;
                } else if n == 1 {
                    let what = What::Audit { before: at(2 + round) };
                    let (org, now) = (org("acme"), at(99));
                    let prune = Prune { org, what, after: None, limit: 3, now };
                    store.prune(&prune).await.unwrap();
                } else {
                    store.note(note("acme", 1 + round)).await.unwrap();
                }
            }
        }
    });
    race(tasks).await;
    whole(&*world, "acme").await;
}

pub(super) async fn what_is_kept_after_pruning_hangs_together(world: World) {
    for (secs, id) in [(1, "a"), (2, "b"), (3, "c"), (4, "d"), (5, "e")] {
        put(&world, "acme", id, secs).await;
    }
    let log = rows(&*world, "acme").await;
    assert_eq!(prune(&world, 4, 2).await, 3);
    let found = whole(&*world, "acme").await;
    assert_eq!((found.entries, found.pruned), (2, AuditLink::of(&log[2])));
    assert_eq!(prune(&world, 99, 2).await, 2);
    assert_eq!(whole(&*world, "acme").await.entries, 0);
    let revision = world.note(note("acme", 6)).await.unwrap();
    assert!(revision > log[4].revision, "numbers are given once");
    let found = whole(&*world, "acme").await;
    assert_eq!((found.entries, found.newest.number), (1, 6));
}

pub(super) async fn a_younger_row_that_tells_an_older_time_waits(world: World) {
    for (secs, id) in [(1, "a"), (9, "b"), (2, "c"), (9, "d")] {
        put(&world, "acme", id, secs).await;
    }
    assert_eq!(prune(&world, 5, 10).await, 1);
    assert_eq!(whole(&*world, "acme").await.entries, 3);
}

pub(super) async fn rows_are_found_by_who_what_and_when(world: World) {
    for (secs, name) in [(1, "user:ada"), (2, "user:bob"), (3, "user:ada")] {
        let actor = Actor { name: name.into(), ..Actor::host() };
        let changes = vec![change("acme", "a", Expect::Any)];
        world.write(Write { changes, actor, now: at(secs) }).await.unwrap();
    }
    world.note(note("acme", 4)).await.unwrap();
    let numbers = async |query: AuditQuery| {
        let found = world.audit_log(&org("acme"), &query).await.unwrap().items;
        found.iter().map(|row| row.number).collect::<Vec<_>>()
    };
    let all = AuditQuery::default;
    let ada = || Some("user:ada".to_owned());
    assert_eq!(numbers(AuditQuery { actor: ada(), ..all() }).await, [3, 1]);
    assert_eq!(numbers(AuditQuery { action: Some("look".into()), ..all() }).await, [4]);
    assert_eq!(numbers(AuditQuery { since: Some(at(3)), ..all() }).await, [4, 3]);
    assert_eq!(numbers(AuditQuery { until: Some(at(3)), ..all() }).await, [2, 1]);
    let several = AuditQuery { actor: ada(), since: Some(at(2)), until: Some(at(4)), ..all() };
    assert_eq!(numbers(several).await, [3]);
    let mut beyond = all();
    beyond.page.after = Some(Revision(u64::MAX));
    assert_eq!(numbers(beyond).await, [4, 3, 2, 1]);
}
