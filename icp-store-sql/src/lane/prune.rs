//! Lanes of ordering keys go once nothing tells of them any more.
//!
//! Whoever adds a delivery to a lane holds its lock, or makes the lane by the same transaction. So
//! a lane that has no delivery under its lock has none when it goes.

use icp_core::delivery::{DeliveryState, LaneId};
use icp_core::retention::{Prune, Pruned};

use super::lock;
use crate::dialect::Dialect;
use crate::error::Failure;
use crate::link::Conn;
use crate::retention::limit;
use crate::row;
use crate::statement::{padded, statement, text, values};

/// What [`Lane::is_idle`](icp_core::delivery::Lane::is_idle) says of a lane `l`, and that it has
/// no delivery.
fn idle(dialect: Dialect) -> String {
    // MySQL indexes no part of the rows, so its index begins with the states.
    let (index, states) = match dialect {
        Dialect::MySql => {
            let states = DeliveryState::ALL.iter().map(|state| row::state_code(*state).to_string());
            let states = states.collect::<Vec<_>>().join(", ");
            ("icp_delivery_fifo", format!("AND d.state IN ({states})"))
        }
        _ => ("icp_delivery_ordered", String::new()),
    };
    // With a limit, as PostgreSQL would rather hash all there is than ask for each lane.
    format!(
        "l.order_key IS NOT NULL AND l.in_flight = 0 AND l.blocked_until IS NULL \
         AND l.health IS NULL AND (SELECT d.id FROM icp_delivery d INDEXED BY {index} \
         WHERE d.lane = l.id AND d.fifo = 1 {states} LIMIT 1) IS NULL"
    )
}

/// The next lanes of an organization, each with whether it is idle.
pub(crate) fn idle_sql(dialect: Dialect) -> String {
    format!(
        "SELECT l.id, CASE WHEN {} THEN 1 ELSE 0 END FROM icp_lane l INDEXED BY icp_lane_list \
         WHERE l.org = ? AND l.id > ? ORDER BY l.id LIMIT +?",
        idle(dialect)
    )
}

pub(crate) const REMOVE: &str = "DELETE FROM icp_lane AS l WHERE l.id IN (VALUES ";

pub(crate) fn remove_sql(dialect: Dialect) -> String {
    format!(") AND {}", idle(dialect))
}

/// Removes the idle ones of the next lanes.
pub(crate) async fn prune(conn: &mut Conn<'_>, prune: &Prune) -> Result<Pruned, Failure> {
    // No id is empty, so each is greater.
    let after = match &prune.after {
        Some(after) => after.parse::<LaneId>()?.to_bytes().to_vec(),
        None => Vec::new(),
    };
    let dialect = conn.dialect();
    let found = statement(idle_sql(dialect))
        .bind(text(prune.org.as_str()))
        .bind(after)
        .bind(limit(prune))
        .fetch_all(&mut *conn)
        .await?;
    let (mut idle, mut last) = (Vec::new(), None);
    for lane in &found {
        let id: [u8; 16] = row::bytes(lane, 0)?;
        last = Some(LaneId::from_bytes(id).to_string());
        if lane.try_get(1)? {
            idle.push(id);
        }
    }
    lock(conn, idle.iter().copied()).await?;
    let mut lanes = 0;
    for chunk in padded(&idle) {
        let mut query = values(REMOVE, chunk.len(), 1, &remove_sql(dialect));
        for id in chunk {
            query.bind(id.to_vec());
        }
        lanes += query.changes(&mut *conn).await?;
    }
    let next = last.filter(|_| found.len() == prune.limit);
    Ok(Pruned { lanes, next, ..Pruned::default() })
}
