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
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, Row};

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

fn many<T>(page: Page<T>) -> u64 {
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
    let events =
        EventQuery { event_type: None, since: None, until: None, page: PageQuery::default() };
    let job = ReplayId::from_bytes(id(N));
    let jobs = ReplayQuery { state: None, page: PageQuery::default() };
    let made = ReplayDeliveries { job, page };
    let scan = ReplayScan { range: range(), after: None, limit: 9, bytes: 999 };
    let groups = GroupQuery { integration, limit: 9 };
    let crm = name("crm");
    Ok(vec![
        ("event", u64::from(store.event(&org, event_id()).await?.is_some())),
        ("events", many(store.events(&org, &events).await?)),
        ("delivery", u64::from(store.delivery(&org, ready).await?.is_some())),
        ("deliveries", many(store.deliveries(&org, &all).await?)),
        ("deliveries of an event", many(store.deliveries(&org, &of_event).await?)),
        ("deliveries of an integration", many(store.deliveries(&org, &of_one).await?)),
        ("attempts", store.attempts(&org, dead).await?.len() as u64),
        ("lanes", store.lanes(&org).await?.len() as u64),
        ("backlogs", store.backlogs(&org).await?.len() as u64),
        ("meters", store.meters(&org).await?.len() as u64),
        ("cancel_some", store.cancel_some(filter(None)).await?.matched),
        ("letters", store.letters(&org, &[dead]).await?.len() as u64),
        ("letter_groups", store.letter_groups(&org, &groups).await?.groups.len() as u64),
        ("replay_jobs", many(store.replay_jobs(&org, &jobs).await?)),
        ("replay_deliveries", many(store.replay_deliveries(&org, &made).await?)),
        ("scan_replay", store.scan_replay(&scan).await?.events.len() as u64),
        ("count_events", store.count_events(&range(), 9).await?),
        ("resource", u64::from(store.resource(&org, "integration", &crm).await?.is_some())),
        ("resources", many(store.resources(&org, "integration", &ListQuery::default()).await?)),
        ("history", store.history(&org, "integration", &crm, None, 9).await?.len() as u64),
        ("audit_log", many(store.audit_log(&org, &AuditQuery::default()).await?)),
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
    for what in
        [What::Records(cutoffs), What::Keys, What::Audit { before }, What::History { before }]
    {
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

/// The tables that hold rows of organizations, by what the catalog says.
async fn guarded(conn: &mut PgConnection) -> Vec<String> {
    let sql = "SELECT relname::text FROM pg_class WHERE relkind = 'r' \
               AND relnamespace = 'public'::regnamespace \
               AND relname NOT IN ('icp_head', 'icp_migration', 'icp_session') ORDER BY 1";
    sqlx::query_scalar(sql).fetch_all(conn).await.unwrap()
}

async fn number(conn: &mut PgConnection, sql: String) -> i64 {
    sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(conn).await.unwrap()
}

/// All rows of globex, table by table.
async fn rows_of_globex(conn: &mut PgConnection) -> Vec<(String, String)> {
    let mut all = Vec::new();
    for table in guarded(conn).await {
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

/// Statements that know of no organization at all, on every table.
#[tokio::test(flavor = "multi_thread")]
async fn no_statement_reads_or_writes_foreign_rows() {
    let walled = Walled::database().await;
    let url = &walled.scratch.url;
    rows::write(url, "acme", 1).await;
    rows::write(url, "globex", N).await;
    run(url, "INSERT INTO icp_api_key VALUES ('\\x01', '\\x02', 1)").await;
    let all = "SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public";
    run(url, &format!("GRANT {all} TO {}", walled.role.name)).await;
    let mut admin = PgConnection::connect(url).await.unwrap();
    let mut conn = PgConnection::connect(&walled.url()).await.unwrap();
    let tables = guarded(&mut admin).await;
    assert_eq!(tables.len(), 17);
    for table in &tables {
        let whole = number(&mut admin, format!("SELECT count(*) FROM {table}")).await;
        let acme = rows::of(table, "acme");
        let own = number(&mut admin, format!("SELECT count(*) FROM {table} WHERE {acme}")).await;
        assert!(whole > own && (own > 0 || table == "icp_api_key"), "{table} has rows of both");
        for (set, visible) in [("acme", own), ("*", whole), ("", 0), ("nobody", 0)] {
            assert_eq!(touched(&mut conn, table, set).await, [visible; 3], "{table} for `{set}`");
        }
        let foreign = match table.as_str() {
            "icp_api_key" => "true".to_owned(),
            _ => rows::of(table, "globex"),
        };
        let row = format!("SELECT to_json(t)::text FROM {table} t WHERE {foreign} LIMIT 1");
        let row: String =
            sqlx::query_scalar(AssertSqlSafe(row)).fetch_one(&mut admin).await.unwrap();
        assert_eq!(insert(&mut conn, table, "acme", &row).await, "42501", "{table}");
        let unset = if table == "icp_outbox" { "23505" } else { "42501" };
        assert_eq!(insert(&mut conn, table, "", &row).await, unset, "{table}");
        assert_eq!(insert(&mut conn, table, "*", &row).await, "23505", "{table}: it is there");
    }
}

/// A row of one's own cannot be given to another organization.
#[tokio::test(flavor = "multi_thread")]
async fn no_row_is_moved_to_another_organization() {
    let walled = Walled::database().await;
    rows::write(&walled.scratch.url, "acme", 1).await;
    let mut conn = PgConnection::connect(&walled.url()).await.unwrap();
    for table in ["icp_event", "icp_delivery", "icp_lane", "icp_meter", "icp_resource"] {
        let mut tx = conn.begin().await.unwrap();
        tx.execute("SET LOCAL icp.org = 'acme'").await.unwrap();
        let sql = format!("UPDATE {table} SET org = 'globex'");
        let error = tx.execute(AssertSqlSafe(sql)).await.unwrap_err();
        let state = error.as_database_error().and_then(|error| error.code().map(String::from));
        assert_eq!(state.as_deref(), Some("42501"), "{table}");
        tx.rollback().await.unwrap();
    }
}

/// How many rows are read, changed and deleted by statements that ask for all.
async fn touched(conn: &mut PgConnection, table: &str, set: &str) -> [i64; 3] {
    let column = "SELECT column_name::text FROM information_schema.columns \
                  WHERE table_name = $1 AND is_identity = 'NO' ORDER BY ordinal_position LIMIT 1";
    let column: String =
        sqlx::query_scalar(column).bind(table).fetch_one(&mut *conn).await.unwrap();
    let mut tx = conn.begin().await.unwrap();
    tx.execute(AssertSqlSafe(format!("SET LOCAL icp.org = '{set}'"))).await.unwrap();
    let read = number(&mut tx, format!("SELECT count(*) FROM {table}")).await;
    let mut changes = Vec::new();
    for sql in [format!("UPDATE {table} SET {column} = {column}"), format!("DELETE FROM {table}")] {
        let done = tx.execute(AssertSqlSafe(sql)).await.unwrap();
        changes.push(i64::try_from(done.rows_affected()).unwrap());
    }
    tx.rollback().await.unwrap();
    [read, changes[0], changes[1]]
}

/// Which error ends an attempt to write `row`.
async fn insert(conn: &mut PgConnection, table: &str, set: &str, row: &str) -> String {
    let mut tx = conn.begin().await.unwrap();
    tx.execute(AssertSqlSafe(format!("SET LOCAL icp.org = '{set}'"))).await.unwrap();
    let sql = format!(
        "INSERT INTO {table} OVERRIDING SYSTEM VALUE \
         SELECT * FROM json_populate_record(NULL::{table}, $1::json)"
    );
    let done = sqlx::query(AssertSqlSafe(sql)).bind(row).execute(&mut *tx).await;
    tx.rollback().await.unwrap();
    let error = done.unwrap_err();
    error.as_database_error().and_then(|error| error.code()).unwrap().into_owned()
}

/// As the catalog of a migrated database says, not only the text of the migrations.
#[tokio::test(flavor = "multi_thread")]
async fn every_table_with_an_organization_has_its_policy() {
    let walled = Walled::database().await;
    let mut admin = PgConnection::connect(&walled.scratch.url).await.unwrap();
    let sql = "SELECT c.relname::text, c.relrowsecurity AND c.relforcerowsecurity, \
               (SELECT count(*) FROM pg_policy p WHERE p.polrelid = c.oid), \
               EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'org') \
               FROM pg_class c WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace";
    let tables = admin.fetch_all(sql).await.unwrap();
    let guarded = guarded(&mut admin).await;
    for table in &tables {
        let (name, on, policies, org): (String, bool, i64, bool) =
            (table.get(0), table.get(1), table.get(2), table.get(3));
        assert_eq!(on, guarded.contains(&name), "{name}");
        assert_eq!(policies > 0, on, "{name}");
        assert!(on || !org, "{name}");
    }
    assert_eq!(tables.len(), 20);
}

/// A role without a grant is told so, and not that a row is missing.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_engine_never_does_its_role_may_not() {
    let walled = Walled::database().await;
    let mut conn = PgConnection::connect(&walled.url()).await.unwrap();
    for sql in [
        "UPDATE icp_audit SET actor = 'x'",
        "UPDATE icp_history SET spec = 'x'",
        "DELETE FROM icp_api_key",
        "INSERT INTO icp_migration (version) VALUES (9)",
        "TRUNCATE icp_event",
        "ALTER TABLE icp_event DISABLE ROW LEVEL SECURITY",
    ] {
        let error = conn.execute(sql).await.unwrap_err();
        let state = error.as_database_error().and_then(|error| error.code().map(String::from));
        assert_eq!(state.as_deref(), Some("42501"), "{sql}");
    }
}
