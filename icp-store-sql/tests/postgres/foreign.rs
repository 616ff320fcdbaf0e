//! Nothing of another organization is read or written, even where the application's own filter is
//! gone.
//!
//! The switch that takes the filter away is an operator: to the connection, the names of the two
//! organizations are equal. The store's statements stay as they are, and so do the policies, which
//! were made with the operator of the server.

use icp_core::delivery::*;
use icp_core::erasure::*;
use icp_core::error::Result;
use icp_core::event::*;
use icp_core::id::*;
use icp_core::letter::{self, Abandon, GroupQuery, LetterStore as _, NewNote};
use icp_core::replay::*;
use icp_core::resource::*;
use icp_core::retention::*;
use icp_core::store::{Page, PageQuery};
use icp_core::time::Timestamp;
use icp_store_sql::postgres::PostgresStore;
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use crate::database::run;
use crate::fixture::{NOW, id, item};
use crate::rows::{self, Walled};

/// The number of the first event of globex.
const N: u128 = 7_000;

const SWITCH: &str = "CREATE SCHEMA switch;
    CREATE FUNCTION switch.alike(a text, b text) RETURNS boolean LANGUAGE sql IMMUTABLE AS $$
        SELECT a OPERATOR(pg_catalog.=) b OR a OPERATOR(pg_catalog.||) b
            OPERATOR(pg_catalog.~) '^(acmeglobex|globexacme)$' $$;
    CREATE OPERATOR switch.= (LEFTARG = text, RIGHTARG = text, FUNCTION = switch.alike);
    GRANT USAGE ON SCHEMA switch TO PUBLIC";

/// `url` without the application's filter.
fn unfiltered(url: &str) -> String {
    format!("{url}?options=-c%20search_path%3Dswitch,public,pg_catalog")
}

fn acme() -> OrgId {
    OrgId::new("acme").unwrap()
}

fn name(text: &str) -> ResourceId {
    ResourceId::new(text).unwrap()
}

fn event_id() -> EventId {
    EventId::from_bytes(id(N))
}

/// Of globex: the dead one, and the ready one.
fn deliveries() -> [DeliveryId; 2] {
    [DeliveryId::from_bytes(id(N)), DeliveryId::from_bytes(id(N + 1))]
}

fn reason() -> EndReason {
    EndReason { code: "test".to_owned(), message: "test".to_owned() }
}

fn filter(reason: Option<EndReason>) -> CancelBatch {
    let filter = DeliveryFilter::default();
    CancelBatch { org: acme(), filter, reason, after: None, limit: 99, now: NOW }
}

fn many<T>(page: &Page<T>) -> u64 {
    page.items.len() as u64
}

fn range() -> EventRange {
    let before = Timestamp::from_millis(NOW.as_millis() - 1);
    EventRange { org: acme(), since: before, until: Timestamp::from_millis(NOW.as_millis() + 1) }
}

/// What each read answers to acme, which has nothing.
async fn reads(store: &PostgresStore) -> Result<Vec<(&'static str, u64)>> {
    let (org, [dead, ready]) = (acme(), deliveries());
    let page = PageQuery::default();
    let integration = Some(name("crm"));
    let all = DeliveryQuery { state: None, event: None, integration: None, page };
    let of_event = DeliveryQuery { event: Some(event_id()), ..all.clone() };
    let of_one = DeliveryQuery { integration: integration.clone(), ..all.clone() };
    let events = EventQuery { page: PageQuery::default(), ..EventQuery::default() };
    let job = ReplayId::from_bytes(id(N));
    let jobs = ReplayQuery { state: None, page: PageQuery::default() };
    let made = ReplayDeliveries { job, page };
    let scan = ReplayScan { range: range(), after: None, limit: 9, bytes: 999 };
    let groups = GroupQuery { integration, limit: 9 };
    let lane = LaneId::from_bytes(id(N));
    let crm = name("crm");
    Ok(vec![
        ("event", u64::from(store.event(&org, event_id()).await?.is_some())),
        ("events", many(&store.events(&org, &events).await?)),
        ("delivery", u64::from(store.delivery(&org, ready).await?.is_some())),
        ("deliveries", many(&store.deliveries(&org, &all).await?)),
        ("deliveries of an event", many(&store.deliveries(&org, &of_event).await?)),
        ("deliveries of an integration", many(&store.deliveries(&org, &of_one).await?)),
        ("attempts", store.attempts(&org, dead).await?.len() as u64),
        ("lanes", many(&store.lanes(&org, PageQuery::default()).await?)),
        ("backlogs", store.backlogs(&org, &[lane]).await?.len() as u64),
        ("meters", store.meters(&org).await?.len() as u64),
        ("cancel_some", store.cancel_some(filter(None)).await?.matched),
        ("letters", store.letters(&org, &[dead]).await?.len() as u64),
        ("letter_groups", store.letter_groups(&org, &groups).await?.groups.len() as u64),
        ("replay_jobs", many(&store.replay_jobs(&org, &jobs).await?)),
        ("replay_deliveries", many(&store.replay_deliveries(&org, &made).await?)),
        ("scan_replay", store.scan_replay(&scan).await?.events.len() as u64),
        ("count_events", store.count_events(&range(), 9).await?),
        ("resource", u64::from(store.resource(&org, "integration", &crm).await?.is_some())),
        ("resources", many(&store.resources(&org, "integration", &ListQuery::default()).await?)),
        ("history", store.history(&org, "integration", &crm, None, 9).await?.len() as u64),
        ("audit_log", many(&store.audit_log(&org, &AuditQuery::default()).await?)),
    ])
}

fn record() -> Record {
    Record {
        org: acme(),
        kind: "integration".into(),
        id: name("crm"),
        name: None,
        labels: Default::default(),
        spec: serde_json::json!({"taken": true}),
        status: serde_json::Value::Null,
        revision: Revision::ZERO,
        version: 0,
        created_at: NOW,
        updated_at: NOW,
        deleted: false,
    }
}

fn prune(what: What) -> Prune {
    let now = Timestamp::from_millis(NOW.as_millis() + 1_000_000);
    Prune { org: acme(), what, after: None, limit: 9, now }
}

/// Every write that names what belongs to globex on behalf of acme. Most are refused; what counts
/// is what becomes of globex's rows.
async fn writes(store: &PostgresStore) {
    let [dead, ready] = deliveries();
    let (actor, before) = (Actor::host(), Timestamp::from_millis(NOW.as_millis() + 9));
    let again = DeliveryId::from_bytes(id(9_999));
    let org = acme();
    let replay = Replay {
        org: acme(),
        delivery: dead,
        id: again,
        expires_at: None,
        actor: Some(actor.clone()),
        now: NOW,
    };
    store.replay(replay).await.ok();
    let cancel =
        Cancel { org: acme(), delivery: ready, reason: reason(), actor: actor.clone(), now: NOW };
    store.cancel(cancel).await.ok();
    store.cancel_some(filter(Some(reason()))).await.ok();
    let note = letter::Note { at: NOW, author: "host".to_owned(), text: "taken".to_owned() };
    store.annotate(NewNote { org: acme(), delivery: dead, note }).await.ok();
    let (deliveries, actor_name) = (vec![dead, ready], "host".to_owned());
    let abandon =
        Abandon { org: acme(), deliveries, actor: actor_name, reason: reason(), now: NOW };
    store.abandon(abandon).await.ok();
    let job = ReplayId::from_bytes(id(N));
    store.change_replay(&org, job, ReplayChange::Cancel, NOW).await.ok();
    for target in [Target::Events(vec![event_id()]), Target::Subject("ada".into())] {
        store.erase(&Erase { org: acme(), target, limit: 9, now: NOW }).await.ok();
    }
    let cutoffs = Cutoffs { events: before, deliveries: before, dead_letters: before };
    for what in [
        What::Records(cutoffs),
        What::Keys,
        What::Audit { before },
        What::History { before },
        What::Replays { before },
    ] {
        store.prune(&prune(what)).await.ok();
    }
    for effect in [
        Effect::Weight { weight: 9 },
        Effect::Pause { integration: None, paused: true },
        Effect::Lanes { integration: name("crm"), max_in_flight: 1, paused: true },
    ] {
        let change = Change {
            record: record(),
            expect: Expect::Any,
            action: "update".to_owned(),
            effects: vec![effect],
        };
        let write = Write { changes: vec![change], actor: actor.clone(), now: NOW };
        store.write(write).await.ok();
    }
    let mut taken = item(N, 1);
    taken.outbox = Some(EventId::from_bytes(id(N + 1)));
    store.ingest(Ingest { items: [taken].into(), direct: None, now: NOW }).await.ok();
}

/// All rows of globex, table by table.
async fn rows_of_globex(conn: &mut PgConnection) -> Vec<(String, String)> {
    let mut all = Vec::new();
    for table in rows::guarded(conn).await {
        let of = rows::of(&table, "globex");
        let sql = format!(
            "SELECT coalesce(string_agg(t::text, E'\\n' ORDER BY t::text), '') \
             FROM {table} t WHERE {of}"
        );
        let rows: String =
            sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(&mut *conn).await.unwrap();
        all.push((table, rows));
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn no_call_reads_or_writes_foreign_rows_without_the_filter() {
    let walled = Walled::database().await;
    let url = &walled.scratch.url;
    rows::write(url, "globex", N).await;
    run(url, SWITCH).await;
    let mut admin = PgConnection::connect(url).await.unwrap();
    let before = rows_of_globex(&mut admin).await;
    let store = PostgresStore::builder(&unfiltered(&walled.url())).schema("public");
    let store = store.row_level_security(true).open().await.unwrap();
    for (call, count) in reads(&store).await.unwrap() {
        assert_eq!(count, 0, "{call}");
    }
    writes(&store).await;
    let after = rows_of_globex(&mut admin).await;
    for (before, after) in before.iter().zip(&after) {
        assert_eq!(before, after);
    }
}

/// The switch is worth something: without the wall nearly every call reaches what is not its own.
#[tokio::test(flavor = "multi_thread")]
async fn without_the_wall_the_switch_lets_every_call_through() {
    let walled = Walled::database().await;
    let url = &walled.scratch.url;
    rows::write(url, "globex", N).await;
    run(url, SWITCH).await;
    let mut admin = PgConnection::connect(url).await.unwrap();
    let before = rows_of_globex(&mut admin).await;
    let store = PostgresStore::builder(&unfiltered(url)).schema("public").open().await.unwrap();
    for (call, count) in reads(&store).await.unwrap() {
        assert!(count > 0, "{call}");
    }
    writes(&store).await;
    let after = rows_of_globex(&mut admin).await;
    let changed = before.iter().zip(&after).filter(|(before, after)| before != after);
    let changed: Vec<&str> = changed.map(|((table, _), _)| table.as_str()).collect();
    for table in ["icp_event", "icp_delivery", "icp_lane", "icp_outbox", "icp_audit"] {
        assert!(changed.contains(&table), "{table} of {changed:?}");
    }
}
