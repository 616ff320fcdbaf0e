//! How SQLite goes about the statements: through an index, never over a whole table.

use icp_core::delivery::{DeliveryQuery, DeliveryState};
use icp_core::event::EventQuery;
use icp_core::id::{DeliveryId, EventId, OrgId, ResourceId};
use icp_core::resource::{ListQuery, Revision};
use icp_core::store::PageQuery;
use sqlx::{AssertSqlSafe, Connection, QueryBuilder, Row, Sqlite, SqliteConnection};

use super::statement::rows;
use super::{
    claim, delivery, erasure, event, ingest, lane, letter, migrate, outbox, rescue, resource,
    retention, settle,
};

/// What may be walked: the rows handed in, steps from owner to owner or lane to lane, the lanes
/// of the eligible index up to the limit, and the outbox from its oldest row.
const WALKED: [&str; 8] = [
    "SCAN v",
    "SCAN o",
    "SCAN p",
    "SCAN icp_lane USING INDEX icp_lane_eligible",
    "SCAN icp_lane USING COVERING INDEX icp_lane_eligible",
    "SCAN CONSTANT ROW",
    "SCAN 4-ROW VALUES CLAUSE",
    "SCAN 4 CONSTANT ROWS",
];

fn statements() -> Vec<String> {
    let many = |(head, tail): (&str, &str), columns| rows(head, 4, columns, tail);
    let mut all = vec![
        claim::SLEEPERS.to_owned(),
        claim::UNBLOCK.to_owned(),
        claim::WAKE.to_owned(),
        claim::eligible_sql(),
        many((claim::HEADS, &claim::heads_sql(claim::PARALLEL)), 1),
        many((claim::HEADS, &claim::heads_sql(claim::FIFO)), 1),
        many(claim::LEASE, 1),
        many((claim::EVENTS, &claim::events_sql()), 2),
        claim::next_due_sql(),
        many((ingest::PRESENT, ingest::EVENTS_PRESENT), 2),
        many((ingest::PRESENT, ingest::OUTBOX_PRESENT), 2),
        many(ingest::KEYS, 2),
        many(ingest::PUT_KEYS, 5),
        many(ingest::PUT, 9),
        many((ingest::FORGET_OUTBOX, ")"), 1),
        many((lane::LOOK_UP, &lane::look_up_sql()), 2),
        many(lane::CHARGE, 6),
        many(lane::PUT, 13),
        many(lane::APPLY, 5),
        many(settle::HELD, 3),
        many(settle::DELIVERED, 3),
        many(settle::SETTLE, 9),
        many(settle::RECORD, 12),
        many(settle::RENEW, 3),
        rescue::FORGET.to_owned(),
        rescue::OWNED.to_owned(),
        rescue::ORPHANS.to_owned(),
        rescue::RELEASE.to_owned(),
        rescue::EXPIRE.to_owned(),
        rescue::asleep_sql(),
        delivery::one_sql(),
        delivery::ATTEMPTS.to_owned(),
        delivery::CLOSE.to_owned(),
        event::one_sql(),
        letter::one_sql(),
        letter::groups_sql(false),
        letter::groups_sql(true),
        letter::MARK.to_owned(),
        letter::due_sql(true),
        letter::due_sql(false),
        letter::JUDGE.to_owned(),
        format!("{} AND v.id = ?2", erasure::TAKE_OUT),
        erasure::OF_SUBJECT.to_owned(),
        erasure::EVENT.to_owned(),
        erasure::DELIVERIES.to_owned(),
        erasure::REMEMBER.to_owned(),
        erasure::CALL_OFF.to_owned(),
        erasure::ATTEMPTS.to_owned(),
        erasure::REASON.to_owned(),
        erasure::NOTES.to_owned(),
        erasure::ABANDONMENT.to_owned(),
        erasure::ROUND.to_owned(),
        erasure::ENDED.to_owned(),
        erasure::DONE.to_owned(),
        retention::NEXT_ORG.to_owned(),
        retention::OLDEST.to_owned(),
        many(retention::DELIVERIES, 1),
        many(retention::COUNT, 2),
        many(retention::EVENTS, 1),
        retention::KEYS.to_owned(),
        retention::FORGET_KEY.to_owned(),
        retention::AUDIT.to_owned(),
        retention::VERSIONS.to_owned(),
        retention::FORGET_VERSION.to_owned(),
    ];
    all.extend(retention::FORGET.map(|head| many((head, ")"), 1)));
    all.extend(queries().iter().map(delivery::list_sql));
    all.extend(resources().iter_mut().map(|sql| sql.sql().as_str().to_owned()));
    all
}

/// Lists of events and resources, from the start and onwards.
fn resources() -> Vec<QueryBuilder<Sqlite>> {
    let (org, id) = (OrgId::new("acme").unwrap(), ResourceId::new("crm").unwrap());
    let event = EventId::from_bytes([1; 16]);
    let mut all = vec![QueryBuilder::new(resource::HEAD)];
    for further in [false, true] {
        let after = further.then_some(event);
        let page = PageQuery { after, limit: 50 };
        all.push(event::list_sql(&org, &EventQuery { page, ..EventQuery::default() }));
        let page = PageQuery { after: further.then(|| id.clone()), limit: 50 };
        let query = ListQuery { page, ..ListQuery::default() };
        all.push(resource::list_sql(&org, "integration", &query));
        let after = further.then(|| (org.clone(), id.clone()));
        all.push(resource::of_all_sql("integration", after, 50));
        let before = further.then_some(Revision(9));
        all.push(resource::history_sql(&org, "integration", &id, before, 50));
        all.push(resource::changes_sql(Revision(u64::from(further)), 50));
    }
    all
}

/// Every combination of filters.
fn queries() -> Vec<DeliveryQuery> {
    let (id, event) = (DeliveryId::from_bytes([1; 16]), EventId::from_bytes([1; 16]));
    let mut all = Vec::new();
    for state in [None, Some(DeliveryState::Dead), Some(DeliveryState::Ready)] {
        for event in [None, Some(event)] {
            for integration in [None, ResourceId::new("crm").ok()] {
                for after in [None, Some(id)] {
                    let page = PageQuery { after, limit: 50 };
                    let integration = integration.clone();
                    all.push(DeliveryQuery { state, event, integration, page });
                }
            }
        }
    }
    all
}

async fn plan(conn: &mut SqliteConnection, sql: &str) -> Vec<String> {
    let sql = AssertSqlSafe(format!("EXPLAIN QUERY PLAN {sql}"));
    let rows = sqlx::query(sql).fetch_all(conn).await.unwrap();
    rows.iter().map(|row| row.try_get(3).unwrap()).collect()
}

#[tokio::test]
async fn no_statement_walks_a_table() {
    let mut conn = SqliteConnection::connect("sqlite::memory:").await.unwrap();
    migrate::run(&mut conn).await.unwrap();
    let mut walks = Vec::new();
    for sql in statements() {
        let steps = plan(&mut conn, &sql).await;
        let walk = |step: &String| step.starts_with("SCAN") && !WALKED.contains(&&**step);
        walks.extend(steps.into_iter().filter(walk).map(|step| format!("{step}: {sql}")));
    }
    assert!(walks.is_empty(), "{walks:#?}");
    let oldest = plan(&mut conn, &outbox::list_sql()).await;
    assert_eq!(oldest, ["SCAN e"], "in order of its key, without sorting");
}
