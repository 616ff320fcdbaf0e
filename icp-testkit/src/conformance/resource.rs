use std::sync::Arc;

use icp_core::Code;
use icp_core::delivery::Replay;
use icp_core::id::ResourceId;
use icp_core::resource::{Actor, AuditQuery, Expect, ListQuery, Note, Record, Revision, Write};
use icp_core::store::PageQuery;

use super::world::{World, at, call_off, change, deletion, org, race, res, write};

const KIND: &str = "integration";

async fn make(world: &World, org: &str, id: &str, secs: u64) -> Record {
    let change = change(org, id, Expect::Absent);
    world.write(write(vec![change], secs)).await.unwrap().remove(0)
}

async fn refused(world: &World, write: Write) -> Code {
    let head = world.head().await.unwrap();
    let code = world.write(write).await.unwrap_err().code();
    assert_eq!(world.head().await.unwrap(), head, "nothing was written");
    code
}

pub(super) async fn is_read_back_whole(world: World) {
    let asked = change("acme", "hook", Expect::Absent).record;
    let made = make(&world, "acme", "hook", 5).await;
    let expected = Record {
        revision: made.revision,
        version: 1,
        created_at: at(5),
        updated_at: at(5),
        ..asked
    };
    assert_eq!(made, expected);
    assert!(made.revision > Revision::ZERO);
    let read = world.resource(&org("acme"), KIND, &res("hook")).await.unwrap();
    assert_eq!(read, Some(made));
}

pub(super) async fn belongs_to_its_organization_and_kind(world: World) {
    make(&world, "acme", "hook", 1).await;
    let hook = res("hook");
    let (acme, beta) = (org("acme"), org("beta"));
    assert_eq!(world.resource(&beta, KIND, &hook).await.unwrap(), None);
    assert_eq!(world.resource(&acme, "schedule", &hook).await.unwrap(), None);
    let query = ListQuery::default();
    assert_eq!(world.resources(&beta, KIND, &query).await.unwrap().items, []);
    assert_eq!(world.resources(&acme, "schedule", &query).await.unwrap().items, []);
    assert_eq!(world.history(&beta, KIND, &hook, None, 9).await.unwrap(), []);
    assert_eq!(world.audit_log(&beta, &AuditQuery::default()).await.unwrap().items, []);
}

pub(super) async fn versions_and_revisions_count_up(world: World) {
    let first = make(&world, "acme", "hook", 1).await;
    let update = change("acme", "hook", Expect::Revision(first.revision));
    let second = world.write(write(vec![update], 2)).await.unwrap().remove(0);
    assert_eq!((second.version, second.created_at, second.updated_at), (2, at(1), at(2)));
    assert!(second.revision > first.revision);
    assert_eq!(world.head().await.unwrap(), second.revision);
}

pub(super) async fn expectations_are_checked(world: World) {
    let missing = |expect| write(vec![change("acme", "none", expect)], 1);
    let revision = Expect::Revision(Revision(1));
    assert_eq!(refused(&world, missing(Expect::Present)).await, Code::ResourceNotFound);
    assert_eq!(refused(&world, missing(revision)).await, Code::ResourceNotFound);
    let made = make(&world, "acme", "hook", 1).await;
    let present = |expect| write(vec![change("acme", "hook", expect)], 1);
    assert_eq!(refused(&world, present(Expect::Absent)).await, Code::ResourceExists);
    let stale = Expect::Revision(Revision(made.revision.0 + 7));
    let error = world.write(present(stale)).await.unwrap_err();
    assert_eq!(error.code(), Code::RevisionConflict);
    assert!(error.message().contains(&made.revision.to_string()), "{}", error.message());
    for fine in [Expect::Revision(made.revision), Expect::Present, Expect::Any] {
        world.write(present(fine)).await.unwrap();
    }
    world.write(missing(Expect::Any)).await.unwrap();
}

pub(super) async fn a_write_is_all_or_nothing(world: World) {
    let changes = vec![
        change("acme", "a", Expect::Absent),
        change("acme", "b", Expect::Absent),
        change("acme", "c", Expect::Present),
    ];
    assert_eq!(refused(&world, write(changes, 1)).await, Code::ResourceNotFound);
    assert_eq!(world.changes(Revision::ZERO, 9).await.unwrap(), []);
    assert_eq!(world.audit_log(&org("acme"), &AuditQuery::default()).await.unwrap().items, []);
}

pub(super) async fn later_changes_see_earlier_ones(world: World) {
    let changes = vec![change("acme", "a", Expect::Absent), change("acme", "a", Expect::Present)];
    let records = world.write(write(changes, 1)).await.unwrap();
    assert_eq!(records.iter().map(|r| r.version).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(records[1].revision.0, records[0].revision.0 + 1);
}

pub(super) async fn a_deletion_leaves_a_tombstone(world: World) {
    let made = make(&world, "acme", "hook", 1).await;
    let mut gone = deletion("acme", "hook", Expect::Present);
    gone.record.spec = serde_json::json!({ "ignored": true });
    let gone = world.write(write(vec![gone], 2)).await.unwrap().remove(0);
    assert!(gone.deleted);
    assert_eq!((gone.version, &gone.spec), (2, &made.spec));
    assert_eq!(world.resource(&org("acme"), KIND, &res("hook")).await.unwrap(), None);
    let page = world.resources(&org("acme"), KIND, &ListQuery::default()).await.unwrap();
    assert_eq!(page.items, []);
    let again = write(vec![deletion("acme", "hook", Expect::Present)], 3);
    assert_eq!(refused(&world, again).await, Code::ResourceNotFound);
    assert_eq!(world.changes(made.revision, 9).await.unwrap(), [gone]);
}

pub(super) async fn made_again_counts_its_versions_on(world: World) {
    make(&world, "acme", "hook", 1).await;
    world.write(write(vec![deletion("acme", "hook", Expect::Any)], 2)).await.unwrap();
    let again = make(&world, "acme", "hook", 3).await;
    assert_eq!((again.version, again.deleted), (3, false));
}

pub(super) async fn history_is_newest_first(world: World) {
    for secs in 1..=4 {
        let change = change("acme", "hook", Expect::Any);
        world.write(write(vec![change], secs)).await.unwrap();
    }
    world.write(write(vec![deletion("acme", "hook", Expect::Any)], 5)).await.unwrap();
    let read = async |before, limit| {
        world.history(&org("acme"), KIND, &res("hook"), before, limit).await.unwrap()
    };
    let all = read(None, 9).await;
    assert_eq!(all.iter().map(|r| r.version).collect::<Vec<_>>(), [5, 4, 3, 2, 1]);
    assert!(all[0].deleted);
    assert_eq!(read(Some(all[2].revision), 1).await, [all[3].clone()]);
}

pub(super) async fn the_feed_is_in_order_of_revision(world: World) {
    make(&world, "beta", "b", 1).await;
    make(&world, "acme", "a", 2).await;
    world.write(write(vec![deletion("beta", "b", Expect::Any)], 3)).await.unwrap();
    let all = world.changes(Revision::ZERO, 9).await.unwrap();
    assert_eq!(all.len(), 3);
    assert!(all.is_sorted_by(|a, b| a.revision < b.revision));
    assert_eq!(world.changes(all[0].revision, 1).await.unwrap(), [all[1].clone()]);
    assert_eq!(world.changes(all[2].revision, 9).await.unwrap(), []);
}

pub(super) async fn lists_are_ordered_and_paged(world: World) {
    for id in ["c", "A", "b", "-x", "_y"] {
        make(&world, "acme", id, 1).await;
    }
    let mut query = ListQuery { page: PageQuery { after: None, limit: 2 }, labels: vec![] };
    let mut seen: Vec<ResourceId> = Vec::new();
    loop {
        let page = world.resources(&org("acme"), KIND, &query).await.unwrap();
        seen.extend(page.items.into_iter().map(|record| record.id));
        query.page.after = seen.last().cloned();
        if !page.more {
            break;
        }
    }
    assert_eq!(
        seen.iter().map(ResourceId::as_str).collect::<Vec<_>>(),
        ["-x", "A", "_y", "b", "c"]
    );
}

pub(super) async fn lists_filter_by_every_label(world: World) {
    make(&world, "acme", "plain", 1).await;
    let mut labelled = change("acme", "labelled", Expect::Absent);
    labelled.record.labels.insert("team".into(), "ž'\"%".into());
    world.write(write(vec![labelled], 1)).await.unwrap();
    let list = async |labels: &[(&str, &str)]| {
        let labels = labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let query = ListQuery { labels, ..ListQuery::default() };
        let page = world.resources(&org("acme"), KIND, &query).await.unwrap();
        page.items.into_iter().map(|r| r.id.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(list(&[("env", "prod")]).await, ["labelled", "plain"]);
    assert_eq!(list(&[("env", "prod"), ("team", "ž'\"%")]).await, ["labelled"]);
    assert_eq!(list(&[("env", "test")]).await, Vec::<String>::new());
}

pub(super) async fn operators_list_all_organizations(world: World) {
    for (org, id) in [("beta", "a"), ("acme", "b"), ("acme", "a")] {
        make(&world, org, id, 1).await;
    }
    let read = async |after, limit| {
        let all = world.resources_of_all(KIND, after, limit).await.unwrap();
        all.into_iter().map(|r| format!("{}/{}", r.org, r.id)).collect::<Vec<_>>()
    };
    assert_eq!(read(None, 9).await, ["acme/a", "acme/b", "beta/a"]);
    assert_eq!(read(Some((org("acme"), res("a"))), 1).await, ["acme/b"]);
}

pub(super) async fn every_write_has_its_audit_row(world: World) {
    let made = make(&world, "acme", "hook", 1).await;
    let actor = Actor {
        name: "user:ada".into(),
        acting_as: Some("user:bob".into()),
        request_id: Some("req-1".into()),
        may: None,
    };
    let mut update = change("acme", "hook", Expect::Any);
    update.record.spec = serde_json::json!({ "url": "https://example.net/" });
    let update = Write { changes: vec![update], actor: actor.clone(), now: at(2) };
    world.write(update).await.unwrap();
    world.write(write(vec![deletion("acme", "hook", Expect::Any)], 3)).await.unwrap();
    let log = world.audit_log(&org("acme"), &AuditQuery::default()).await.unwrap().items;
    let [gone, changed, first] = &log[..] else { panic!("{log:?}") };
    assert_eq!((first.revision, first.at, &first.actor), (made.revision, at(1), &Actor::host()));
    assert_eq!((changed.at, &changed.actor, &*changed.action), (at(2), &actor, "update"));
    assert_eq!((&*gone.action, &*gone.kind, &gone.id), ("delete", KIND, &res("hook")));
    assert_eq!((&first.before, &gone.after), (&None, &None));
    assert_eq!((&changed.before, &gone.before), (&first.after, &changed.after));
    assert_ne!(changed.before, changed.after);
    assert_eq!(first.after.as_ref().map(String::len), Some(64));
}

pub(super) async fn the_audit_log_is_filtered_and_paged(world: World) {
    for id in ["a", "b", "a"] {
        world.write(write(vec![change("acme", id, Expect::Any)], 1)).await.unwrap();
    }
    let of_a = AuditQuery { id: Some(res("a")), ..AuditQuery::default() };
    assert_eq!(world.audit_log(&org("acme"), &of_a).await.unwrap().items.len(), 2);
    let other = AuditQuery { kind: Some("schedule".into()), ..AuditQuery::default() };
    assert_eq!(world.audit_log(&org("acme"), &other).await.unwrap().items, []);
    let mut query =
        AuditQuery { page: PageQuery { after: None, limit: 2 }, ..AuditQuery::default() };
    let first = world.audit_log(&org("acme"), &query).await.unwrap();
    assert_eq!((first.items.len(), first.more), (2, true));
    query.page.after = Some(first.items[1].revision);
    let second = world.audit_log(&org("acme"), &query).await.unwrap();
    assert_eq!((second.items.len(), second.more), (1, false));
    assert!(second.items[0].revision < first.items[1].revision);
}

pub(super) async fn concurrent_writes_get_distinct_revisions(world: World) {
    let store = world.store();
    let mut revisions = race((0..20).map(|n| {
        let store = Arc::clone(&store);
        async move {
            let change = change("acme", &format!("r{n}"), Expect::Absent);
            let made = store.write(write(vec![change], 1)).await.unwrap().remove(0);
            let seen = store.changes(Revision::ZERO, 99).await.unwrap();
            assert!(seen.iter().any(|record| record.revision == made.revision));
            // An earlier revision that shows up later would be missing between two neighbours.
            assert!(seen.windows(2).all(|pair| pair[1].revision.0 == pair[0].revision.0 + 1));
            made.revision
        }
    }))
    .await;
    revisions.sort_unstable();
    revisions.dedup();
    assert_eq!(revisions.len(), 20);
}

pub(super) async fn one_of_two_writers_at_a_revision_wins(world: World) {
    let made = make(&world, "acme", "hook", 1).await;
    let store = world.store();
    let done = race((0..8).map(|_| {
        let store = Arc::clone(&store);
        let change = change("acme", "hook", Expect::Revision(made.revision));
        async move { store.write(write(vec![change], 2)).await.map_err(|error| error.code()) }
    }))
    .await;
    assert_eq!(done.iter().filter(|done| done.is_ok()).count(), 1);
    assert!(done.iter().filter_map(|d| d.as_ref().err()).all(|c| *c == Code::RevisionConflict));
}

pub(super) async fn notes_stand_in_the_log_and_not_in_the_feed(world: World) {
    let made = make(&world, "acme", "hook", 1).await;
    let note = Note {
        org: org("acme"),
        actor: Actor { request_id: Some("req-1".into()), ..Actor::host() },
        action: "cancel_deliveries".into(),
        kind: KIND.into(),
        id: res("hook"),
        note: Some("5 called off".into()),
        now: at(2),
    };
    let noted = world.note(note.clone()).await.unwrap();
    let again = world.note(note.clone()).await.unwrap();
    assert!(made.revision < noted && noted < again);
    let other = make(&world, "acme", "other", 3).await;
    assert!(other.revision > again, "numbers are given once");
    let feed = world.changes(Revision::ZERO, 9).await.unwrap();
    assert_eq!(
        feed.iter().map(|r| r.revision).collect::<Vec<_>>(),
        [made.revision, other.revision]
    );
    assert_eq!(world.head().await.unwrap(), other.revision);
    let log = world.audit_log(&org("acme"), &AuditQuery::default()).await.unwrap().items;
    let revisions: Vec<_> = log.iter().map(|entry| entry.revision).collect();
    assert_eq!(revisions, [other.revision, again, noted, made.revision]);
    let entry = &log[2];
    assert_eq!((&entry.actor, &entry.action, &entry.note), (&note.actor, &note.action, &note.note));
    assert_eq!((entry.at, entry.kind.as_str(), &entry.id), (at(2), KIND, &res("hook")));
    assert_eq!((&entry.before, &entry.after), (&None, &None));
    assert_eq!((&log[0].note, log[0].after.is_some()), (&None, true));
}

pub(super) async fn replays_and_cancellations_leave_a_note(world: World) {
    let id = world.fill("acme", "hook", 1).await[0];
    let off = world.cancel(call_off("acme", id, 1)).await.unwrap();
    world.cancel(call_off("acme", id, 2)).await.unwrap_err();
    let replay = super::delivery::replay_of(&world, &off);
    let new = world.replay(replay.clone()).await.unwrap();
    world.replay(replay.clone()).await.unwrap();
    let silent = Replay { actor: None, id: world.delivery_id(), ..replay };
    world.replay(silent).await.unwrap();
    let query = AuditQuery {
        kind: Some("delivery".into()),
        id: ResourceId::new(id.to_string()).ok(),
        ..AuditQuery::default()
    };
    let log = world.audit_log(&org("acme"), &query).await.unwrap().items;
    let rows: Vec<_> = log.iter().map(|e| (e.action.as_str(), e.note.as_deref())).collect();
    let made = format!("as {}", new.id);
    assert_eq!(rows, [("replay", Some(made.as_str())), ("cancel", Some("for the test"))]);
    assert_eq!((&log[1].actor, log[1].at), (&Actor::host(), at(1)));
}
