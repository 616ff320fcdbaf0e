//! How SQLite goes about the statements: through an index, never over a whole table.

use std::sync::Arc;

use icp_core::delivery::{DeliveryFilter, DeliveryQuery, DeliveryState};
use icp_core::event::EventQuery;
use icp_core::id::{DeliveryId, EventId, OrgId, ReplayId, ResourceId};
use icp_core::replay::{ReplayDeliveries, ReplayQuery, ReplayState};
use icp_core::resource::{ListQuery, Revision};
use icp_core::store::PageQuery;
use sqlx::{AssertSqlSafe, Connection, Row, SqliteConnection};
use tokio::sync::Mutex;

use super::migrate;
use crate::claim::{eligible, heads, unreadable, wake};
use crate::dialect::Dialect;
use crate::migrate::prepare;
use crate::statement::{self, Statement, rows};
use crate::{
    aside, cancel, claim, delivery, erasure, event, handle, health, ingest, lane, letter, meter,
    note, outbox, replay, rescue, resource, rest, retention, session, settle, sight, slot,
};

/// What may be walked: the rows handed in, the first of a lane, steps from owner to owner or lane to
/// lane, the lanes of the eligible index up to the limit, the lanes in bad health, and the outbox
/// from its oldest row.
const WALKED: [&str; 10] = [
    "SCAN l USING INDEX icp_lane_ill",
    "SCAN v",
    "SCAN h",
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
        wake::SLEEPERS.to_owned(),
        [wake::UNBLOCK.0, wake::UNBLOCK.1].concat(),
        [wake::WAKE.0, wake::WAKE.1].concat(),
        eligible::eligible_sql(""),
        eligible::eligible_sql(" AND org NOT IN (?, ?)"),
        many((heads::HEADS, &heads::heads_sql(heads::PARALLEL)), 1),
        many((heads::HEADS, &heads::heads_sql(heads::FIFO)), 1),
        many((heads::WHOLE, &heads::whole_sql()), 1),
        many((unreadable::ROWS, &unreadable::rows_sql()), 1),
        unreadable::END.to_owned(),
        unreadable::END_LEASED.to_owned(),
        many(claim::LEASE, 1),
        many((claim::events::EVENTS, &claim::events::events_sql()), 2),
        wake::next_due_sql(Dialect::Sqlite),
        wake::look_sql(Dialect::Sqlite),
        many((ingest::PRESENT, ingest::EVENTS_PRESENT), 2),
        many((ingest::PRESENT, ingest::OUTBOX_PRESENT), 2),
        many(ingest::KEYS, 2),
        many(ingest::PUT_KEYS, 5),
        many(ingest::PUT, 9),
        many((ingest::FORGET_OUTBOX, ")"), 1),
        many((lane::LOOK_UP, &lane::look_up_sql()), 2),
        many(lane::CHARGE, 6),
        many(lane::PUT, 14),
        rest::NOTE.to_owned(),
        rest::FORGET.to_owned(),
        many(rest::RESTING, 2),
        rest::change_one_sql(&ResourceId::new("crm").unwrap()),
        rest::change_all_sql(),
        resource::LAST_REVISION.to_owned(),
        many(lane::APPLY, 8),
        many(meter::METERS, 2),
        many(meter::PUT_METERS, 3),
        meter::FORGET.to_owned(),
        many(health::HEALTH, 4),
        many((health::LANES, &health::lanes_sql()), 1),
        many(sight::BACKLOGS, 1),
        sight::METERS.to_owned(),
        sight::noted_sql(),
        sight::first_due_sql(),
        many(settle::HELD, 3),
        many(settle::DELIVERED, 3),
        many(settle::SETTLE, 9),
        many(aside::BESIDE, 4),
        many(aside::MOVE, 7),
        many(settle::RECORD, 13),
        many(settle::RENEW, 3),
        many(settle::KEPT, 2),
        rescue::FORGET.to_owned(),
        rescue::OWNED.to_owned(),
        rescue::ORPHANS.to_owned(),
        rescue::RELEASE.to_owned(),
        rescue::OVER.to_owned(),
        many(rescue::EXPIRE, 1),
        rescue::asleep_sql(),
        delivery::one_sql(),
        delivery::lanes_sql(),
        delivery::ATTEMPTS.to_owned(),
        session::CLOSE.to_owned(),
        event::one_sql(),
        replay::ONE.to_owned(),
        replay::SAVE.to_owned(),
        replay::DUE.to_owned(),
        replay::NEXT.to_owned(),
        replay::OWNED.to_owned(),
        replay::scan_sql(),
        many(replay::STANDINGS, 1),
        many(replay::step::PUT, 7),
        many(replay::step::LINK, 2),
        many(replay::step::FAN_OUT, 2),
        note::PUT.to_owned(),
        note::HEAD.to_owned(),
        note::PUT_HEAD.to_owned(),
        note::PRUNED.to_owned(),
        handle::HOLDER.to_owned(),
        handle::FORGET.to_owned(),
        slot::ONE.to_owned(),
        slot::NEW.to_owned(),
        slot::ANEW.to_owned(),
        slot::NEXT.to_owned(),
        slot::OVER.to_owned(),
        many(slot::SWEEP, 1),
        many(cancel::CANCEL, 1),
        cancel::ready_sql(),
        cancel::leased_sql(),
        letter::one_sql(),
        letter::groups_sql(false),
        letter::groups_sql(true),
        letter::NOTES.to_owned(),
        letter::SUCCESSORS.to_owned(),
        letter::MARK.to_owned(),
        letter::due_sql(true),
        letter::due_sql(false),
        letter::JUDGE.to_owned(),
        letter::carried_on_sql(),
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
        lane::prune::idle_sql(Dialect::Sqlite),
        many((lane::prune::REMOVE, &lane::prune::remove_sql(Dialect::Sqlite)), 1),
        retention::KEYS.to_owned(),
        retention::FORGET_KEY.to_owned(),
        retention::AUDIT.to_owned(),
        many((retention::FORGET_AUDIT, ")"), 1),
        retention::VERSIONS.to_owned(),
        retention::FORGET_VERSION.to_owned(),
        retention::REPLAYS.to_owned(),
        retention::LINKS.to_owned(),
        retention::FORGET_LINKS.to_owned(),
        retention::FORGET_REPLAY.to_owned(),
    ];
    all.extend(replays());
    all.extend(filters().iter().map(|filter| cancel::lanes_sql(filter, &org())));
    all.extend(retention::FORGET.map(|head| many((head, ")"), 1)));
    all.extend(queries().iter().map(|query| delivery::list_sql(Dialect::Sqlite, query)));
    all.extend(resources().iter().map(|sql| sql.sql().to_owned()));
    all
}

/// Lists of replays and of what they made, from the start and onwards.
fn replays() -> Vec<String> {
    let (job, delivery) = (ReplayId::from_bytes([1; 16]), DeliveryId::from_bytes([1; 16]));
    let mut all = Vec::new();
    for further in [false, true] {
        let page = PageQuery { after: further.then_some(delivery), limit: 50 };
        all.push(replay::made_sql(&ReplayDeliveries { job, page }));
        for state in [None, Some(ReplayState::Done)] {
            let page = PageQuery { after: further.then_some(job), limit: 50 };
            all.push(replay::list_sql(&ReplayQuery { state, page }));
        }
    }
    all
}

/// Lists of events and resources, from the start and onwards.
fn resources() -> Vec<Statement> {
    let (org, id) = (OrgId::new("acme").unwrap(), ResourceId::new("crm").unwrap());
    let event = EventId::from_bytes([1; 16]);
    let mut all = vec![statement::statement(resource::HEAD)];
    for further in [false, true] {
        let after = further.then_some(event);
        let page = PageQuery { after, limit: 50 };
        let idempotency_key = Some("order-17".to_owned());
        let keyed = EventQuery { idempotency_key, page, ..EventQuery::default() };
        all.push(event::list_sql(&org, &keyed));
        all.push(event::list_sql(&org, &EventQuery { page, ..EventQuery::default() }));
        let page = PageQuery { after: further.then(|| id.clone()), limit: 50 };
        let query = ListQuery { page, ..ListQuery::default() };
        all.push(resource::list_sql(Dialect::Sqlite, &org, "integration", &query));
        let after = further.then(|| (org.clone(), id.clone()));
        all.push(resource::of_all_sql("integration", after, 50));
        let before = further.then_some(Revision(9));
        all.push(resource::history_sql(&org, "integration", &id, before, 50));
        all.push(resource::changes_sql(Revision(u64::from(further)), 50));
    }
    all
}

fn org() -> OrgId {
    OrgId::new("acme").unwrap()
}

/// All lanes, those of an integration, and one.
fn filters() -> [DeliveryFilter; 3] {
    let integration = ResourceId::new("crm").ok();
    let ordering_key = Some("k".to_owned());
    let one = DeliveryFilter { integration: integration.clone(), ..DeliveryFilter::default() };
    [
        DeliveryFilter::default(),
        one.clone(),
        DeliveryFilter { integration, ordering_key, ..DeliveryFilter::default() },
    ]
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
    let conn = SqliteConnection::connect("sqlite::memory:").await.unwrap();
    let conn = Arc::new(Mutex::new(conn));
    prepare(&migrate::File::new(&conn), true).await.unwrap();
    let mut conn = conn.lock().await;
    let mut walks = Vec::new();
    for sql in statements() {
        let steps = plan(&mut conn, &sql).await;
        let walk = |step: &String| step.starts_with("SCAN") && !WALKED.contains(&&**step);
        walks.extend(steps.into_iter().filter(walk).map(|step| format!("{step}: {sql}")));
    }
    assert!(walks.is_empty(), "{walks:#?}");
    let counted = plan(&mut conn, &replay::count_sql()).await;
    assert!(counted.iter().any(|step| step.starts_with("SEARCH e USING INDEX")), "{counted:?}");
    let oldest = plan(&mut conn, &outbox::list_sql(0)).await;
    assert_eq!(oldest, ["SCAN e"], "in order of its key, without sorting");
}
