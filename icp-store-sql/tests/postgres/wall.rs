//! Row-level security: which roles are refused, what a connection keeps, hosts, and what it costs.

use std::task::Poll;

use icp_core::Code;
use icp_core::delivery::*;
use icp_core::event::*;
use icp_core::id::*;
use icp_core::resource::*;
use icp_core::store::PageQuery;
use icp_store_sql::postgres::{PostgresStore, publish_in};
use sqlx::postgres::PgPoolOptions;
use sqlx::{AssertSqlSafe, Connection, PgConnection, PgPool};

use crate::database::run;
use crate::fixture::{NOW, batch, claim, event, item, settle};
use crate::role::Role;
use crate::rows::Walled;

async fn refused(walled: &Walled, told: &str) {
    let error = walled.builder().open().await.unwrap_err();
    assert_eq!(error.code(), Code::StoreUnguarded, "{error}");
    assert!(error.to_string().contains(told), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn roles_that_get_past_the_policies_are_refused() {
    let walled = Walled::database().await;
    let (url, role) = (&walled.scratch.url, &walled.role.name);
    walled.builder().open().await.unwrap();
    let superuser = PostgresStore::builder(url).row_level_security(true).open().await;
    let error = superuser.unwrap_err();
    assert_eq!(error.code(), Code::StoreUnguarded);
    assert!(error.to_string().contains("superuser"), "{error}");
    for (spoil, mend, told) in [
        ("ALTER ROLE {} BYPASSRLS", "ALTER ROLE {} NOBYPASSRLS", "BYPASSRLS"),
        ("ALTER TABLE icp_lane OWNER TO {}", "ALTER TABLE icp_lane OWNER TO icp", "owns the table"),
        ("GRANT icp TO {}", "REVOKE icp FROM {}", "owns the table"),
        (
            "REVOKE EXECUTE ON FUNCTION icp_floor FROM {}",
            "GRANT EXECUTE ON FUNCTION icp_floor TO {}",
            "functions",
        ),
        ("GRANT TRUNCATE ON icp_event TO {}", "REVOKE TRUNCATE ON icp_event FROM {}", "TRUNCATE"),
    ] {
        run(url, &spoil.replace("{}", role)).await;
        refused(&walled, told).await;
        run(url, &mend.replace("{}", role)).await;
    }
    PostgresStore::builder(url).row_security().unwrap().apply(role).await.unwrap();
    walled.builder().open().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn policies_that_are_missing_or_not_ours_are_refused() {
    let walled = Walled::database().await;
    let url = &walled.scratch.url;
    let security = PostgresStore::builder(url).row_security().unwrap();
    for spoil in [
        "DROP POLICY organization ON icp_delivery",
        "ALTER TABLE icp_attempt NO FORCE ROW LEVEL SECURITY",
        "ALTER TABLE icp_audit DISABLE ROW LEVEL SECURITY",
        "CREATE POLICY open ON icp_event USING (true)",
        "COMMENT ON POLICY organization ON icp_lane IS 'of an older version'",
    ] {
        run(url, spoil).await;
        refused(&walled, "policies").await;
        run(url, "DROP POLICY IF EXISTS open ON icp_event").await;
        security.apply(&walled.role.name).await.unwrap();
        walled.builder().open().await.unwrap();
    }
    security.remove().await.unwrap();
    refused(&walled, "policies").await;
    PostgresStore::builder(&walled.url()).migrate(false).open().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_owner_sets_it_up_and_only_after_the_migrations() {
    let walled = Walled::database().await;
    let role = &walled.role.name;
    let engine = PostgresStore::builder(&walled.url()).row_security().unwrap();
    assert_eq!(engine.apply(role).await.unwrap_err().code(), Code::StoreDenied);
    let early = PostgresStore::builder(&walled.scratch.url).schema("later");
    let error = early.row_security().unwrap().apply(role).await.unwrap_err();
    assert_eq!(error.code(), Code::StoreOutdated);
    assert_eq!(error.operation(), "set up row-level security");
    let store = walled.builder().schema("later").open().await;
    assert_eq!(store.unwrap_err().code(), Code::StoreOutdated, "the engine migrates nothing");
}

async fn seen(pool: &PgPool) -> (Option<String>, i64) {
    let sql = "SELECT current_setting('icp.org', true), (SELECT count(*) FROM icp_event)";
    let (set, count): (Option<String>, i64) = sqlx::query_as(sql).fetch_one(pool).await.unwrap();
    (set.filter(|set| !set.is_empty()), count)
}

/// A pool of one connection, so that each call finds what the one before left.
#[tokio::test(flavor = "multi_thread")]
async fn a_pooled_connection_keeps_nothing_however_a_call_ends() {
    let walled = Walled::database().await;
    let pool = PgPoolOptions::new().max_connections(1).connect(&walled.url()).await.unwrap();
    let store = PostgresStore::builder_with_pool(pool.clone()).row_level_security(true);
    let store = store.open().await.unwrap();
    let org = OrgId::new("acme").unwrap();
    store.ingest(batch(0..3)).await.unwrap();
    assert_eq!(seen(&pool).await, (None, 0));
    assert!(store.event(&org, event(1).id).await.unwrap().is_some());
    assert_eq!(seen(&pool).await, (None, 0));
    let missing = DeliveryId::from_bytes([9; 16]);
    let replay =
        Replay { org, delivery: missing, id: missing, expires_at: None, actor: None, now: NOW };
    assert_eq!(store.replay(replay).await.unwrap_err().code(), Code::DeliveryNotFound);
    assert_eq!(seen(&pool).await, (None, 0));
    for polls in 0..40 {
        cut_short(polls, store.event(&event(1).org, event(1).id)).await;
        assert_eq!(seen(&pool).await, (None, 0), "a read after {polls} polls");
        cut_short(polls, store.ingest(batch(10..12))).await;
        assert_eq!(seen(&pool).await, (None, 0), "a write after {polls} polls");
    }
    assert!(store.audit().await.unwrap().is_clean());
}

/// Polls `call` as often as that, each time once something happened, and drops it.
async fn cut_short(polls: usize, call: impl Future) {
    let mut call = std::pin::pin!(call);
    let mut left = polls;
    std::future::poll_fn(|context| {
        if left == 0 || call.as_mut().poll(context).is_ready() {
            return Poll::Ready(());
        }
        left -= 1;
        Poll::Pending
    })
    .await;
}

/// A host whose role may insert into the outbox and nothing else.
#[tokio::test(flavor = "multi_thread")]
async fn a_host_publishes_in_its_own_transaction_and_sees_nothing() {
    // Goes after the database, in which it is granted something.
    let host = Role::create().await;
    let walled = Walled::database().await;
    let store = walled.builder().open().await.unwrap();
    let security = PostgresStore::builder(&walled.scratch.url).row_security().unwrap();
    let mut conn = PgConnection::connect(&host.log_in(&walled.scratch.url)).await.unwrap();
    let denied = publish_in(&mut conn, &event(1)).await.unwrap_err();
    assert_eq!(denied.code(), Code::StoreDenied);
    security.allow_publishing(&host.name).await.unwrap();
    let mut tx = conn.begin().await.unwrap();
    store.publish_in(&mut tx, &event(1)).await.unwrap();
    store.publish_in(&mut tx, &event(1)).await.unwrap();
    tx.commit().await.unwrap();
    let mut tx = conn.begin().await.unwrap();
    store.publish_in(&mut tx, &event(2)).await.unwrap();
    tx.rollback().await.unwrap();
    let found = store.outbox(&[], 10).await.unwrap();
    assert_eq!(found.iter().map(|entry| &entry.event).collect::<Vec<_>>(), [&event(1)]);
    for table in ["icp_outbox", "icp_event"] {
        let read = sqlx::query(AssertSqlSafe(format!("SELECT * FROM {table}")));
        assert!(read.fetch_all(&mut conn).await.is_err(), "{table}");
    }
}

/// A host that says which organization its transaction is about is held to it.
#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_names_an_organization_publishes_for_that_one_only() {
    let walled = Walled::database().await;
    let mut conn = PgConnection::connect(&walled.url()).await.unwrap();
    for (org, allowed) in [("acme", true), ("globex", false), ("globex,acme", true)] {
        let mut tx = conn.begin().await.unwrap();
        let set = format!("SET LOCAL icp.org = '{org}'");
        sqlx::query(AssertSqlSafe(set)).execute(&mut *tx).await.unwrap();
        assert_eq!(publish_in(&mut tx, &event(1)).await.is_ok(), allowed, "{org}");
        tx.rollback().await.unwrap();
    }
}

/// Lanes of one organization start no earlier than those of others, though they are not seen.
#[tokio::test(flavor = "multi_thread")]
async fn what_an_operation_has_to_know_of_all_organizations_it_is_told() {
    let walled = Walled::database().await;
    crate::rows::write(&walled.scratch.url, "globex", 7_000).await;
    let store = walled.builder().open().await.unwrap();
    store.ingest(batch(0..1)).await.unwrap();
    let lane = store.lanes(&event(0).org, PageQuery::default()).await.unwrap().items.remove(0);
    assert_eq!(lane.pass, 7_000, "the pass of globex's lane");
    let note = Note {
        org: event(0).org.clone(),
        actor: Actor::host(),
        action: "test".to_owned(),
        kind: "delivery".to_owned(),
        id: ResourceId::new("x").unwrap(),
        note: None,
        now: NOW,
    };
    assert_eq!(store.note(note).await.unwrap(), Revision(7_001));
}

/// A batch may be of several organizations, and is about those alone.
#[tokio::test(flavor = "multi_thread")]
async fn a_batch_of_several_organizations_is_written_as_one() {
    let walled = Walled::database().await;
    let store = walled.builder().open().await.unwrap();
    let mut other = item(1, 1_000);
    let mut renamed = (*other.event).clone();
    renamed.org = OrgId::new("globex").unwrap();
    other.deliveries[0].lane.id = LaneId::of(&renamed.org, &other.deliveries[0].integration, None);
    other.event = std::sync::Arc::new(renamed);
    let both = Ingest { items: [item(0, 1_000), other].into(), direct: None, now: NOW };
    let taken = store.ingest(both).await.unwrap();
    assert!(taken.iter().all(|taken| matches!(taken, Ingested::Accepted { .. })));
    for (n, org) in [(0, "acme"), (1, "globex")] {
        let org = OrgId::new(org).unwrap();
        assert!(store.event(&org, event(n).id).await.unwrap().is_some());
        assert!(store.event(&org, event(1 - n).id).await.unwrap().is_none());
    }
}

/// What is run for a batch that is published, claimed and settled, and for a read.
async fn statements(store: &PostgresStore) -> (u64, u64) {
    let session = SessionId::from_bytes([1; 16]);
    store.open_session(session, NOW).await.unwrap();
    let before = store.statements();
    store.ingest(batch(0..64)).await.unwrap();
    let claimed = store.claim(claim(session)).await.unwrap();
    assert_eq!(claimed.deliveries.len(), 64);
    store.settle(settle(&claimed)).await.unwrap();
    let between = store.statements();
    store.event(&event(0).org, event(0).id).await.unwrap();
    (between - before, store.statements() - between)
}

/// One statement more for each transaction, three for each read, none where it is off.
#[tokio::test(flavor = "multi_thread")]
async fn the_wall_costs_one_statement_for_each_transaction() {
    let walled = Walled::database().await;
    let plain = crate::scratch::Scratch::database().await;
    let plain = PostgresStore::connect(&plain.url).await.unwrap();
    let (without, read) = statements(&plain).await;
    assert_eq!(read, 1);
    let behind = statements(&walled.builder().open().await.unwrap()).await;
    let (transactions, a_read) = (3, 3);
    assert_eq!(
        behind,
        (without + transactions + a_read, read + a_read),
        "a claim reads its events"
    );
}
