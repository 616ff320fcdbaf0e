//! What waits at the front of lanes.

use std::collections::HashMap;

use icp_core::delivery::{Delivery, Lane, LaneMode};
use icp_core::id::DeliveryId;
use icp_core::time::Timestamp;

use super::most;
use crate::dialect::Dialect;
use crate::error::Failure;
use crate::link::Conn;
use crate::row::{self, DELIVERY, DeliveryRow, Hex};
use crate::statement::{padded, statement, values};

/// What is known of a ready delivery by the index of its lane alone.
#[derive(Clone, Copy, Debug)]
pub(super) struct Head {
    pub(super) due_at: Timestamp,
    pub(super) id: DeliveryId,
}

/// Which of a lane's ready deliveries go, and in which order.
pub(crate) const PARALLEL: (&str, &str) = ("", "q.due_at, q.id");
pub(crate) const FIFO: (&str, &str) = ("AND q.fifo = 1", "q.id");

pub(crate) const HEADS: &str = "WITH v (id) AS (VALUES ";

pub(crate) fn heads_sql((only, order): (&str, &str)) -> String {
    format!(
        ") SELECT v.id, (SELECT json_group_array(json_array(hex(h.id), h.due_at)) FROM (\
           SELECT q.id, q.due_at FROM icp_delivery q WHERE q.lane = v.id AND q.state = 0 {only} \
           ORDER BY {order} LIMIT +?) h) FROM (SELECT DISTINCT id FROM v) AS v"
    )
}

/// The first `depth` ready deliveries of each lane, in the order in which they go.
pub(super) async fn heads(
    conn: &mut Conn<'_>,
    lanes: &[(Lane, u32)],
    depth: usize,
) -> Result<HashMap<[u8; 16], Vec<Head>>, Failure> {
    let mut heads = HashMap::with_capacity(lanes.len());
    for (mode, order) in [(LaneMode::Parallel, PARALLEL), (LaneMode::Fifo, FIFO)] {
        let lanes: Vec<&Lane> = lanes.iter().map(|(l, _)| l).filter(|l| l.mode == mode).collect();
        if conn.dialect() == Dialect::MySql {
            queues(conn, &lanes, order, most(depth), &mut heads).await?;
        } else {
            waiting(conn, &lanes, order, most(depth), &mut heads).await?;
        }
        for lane in lanes {
            let Some(queue) = heads.get_mut(&lane.id.to_bytes()) else { continue };
            match mode {
                LaneMode::Parallel => queue.sort_unstable_by_key(|head| (head.due_at, head.id)),
                LaneMode::Fifo => queue.sort_unstable_by_key(|head| head.id),
            }
        }
    }
    Ok(heads)
}

/// Adds the first `depth` ready deliveries of each lane.
async fn waiting(
    conn: &mut Conn<'_>,
    lanes: &[&Lane],
    order: (&str, &str),
    depth: i64,
    heads: &mut HashMap<[u8; 16], Vec<Head>>,
) -> Result<(), Failure> {
    let tail = heads_sql(order);
    for chunk in padded(lanes) {
        let mut query = values(HEADS, chunk.len(), 1, &tail);
        for lane in chunk {
            query.bind(lane.id.to_bytes().to_vec());
        }
        query.bind(depth);
        for found in query.fetch_all(&mut *conn).await? {
            let queue = row::array::<(Hex, i64)>(&found, 1)?.into_iter().map(|(id, due_at)| {
                let id = DeliveryId::from_bytes(id.some()?);
                Ok(Head { due_at: Timestamp::from_millis(due_at), id })
            });
            heads.insert(row::bytes(&found, 0)?, queue.collect::<Result<_, Failure>>()?);
        }
    }
    Ok(())
}

/// As [`waiting`], where a table within a statement knows nothing of the rows around it.
async fn queues(
    conn: &mut Conn<'_>,
    lanes: &[&Lane],
    (only, order): (&str, &str),
    depth: i64,
    heads: &mut HashMap<[u8; 16], Vec<Head>>,
) -> Result<(), Failure> {
    if lanes.is_empty() {
        return Ok(());
    }
    let queue = format!(
        "SELECT d.lane, d.id, d.due_at FROM (SELECT q.lane, q.id, q.due_at FROM icp_delivery q \
         WHERE q.lane = ? AND q.state = 0 {only} ORDER BY {order} LIMIT ?) d"
    );
    let mut query = statement(vec![queue; lanes.len()].join(" UNION ALL "));
    for lane in lanes {
        query = query.bind(lane.id.to_bytes()).bind(depth);
    }
    for found in query.fetch_all(conn).await? {
        let id = DeliveryId::from_bytes(row::bytes(&found, 1)?);
        let head = Head { due_at: row::time(&found, 2)?, id };
        heads.entry(row::bytes(&found, 0)?).or_default().push(head);
    }
    Ok(())
}

pub(crate) const WHOLE: &str = "WITH v (id) AS (VALUES ";

pub(crate) fn whole_sql() -> String {
    format!(
        ") SELECT json_group_array({DELIVERY}) FROM (SELECT DISTINCT id FROM v) AS v \
         CROSS JOIN icp_delivery d ON d.id = v.id"
    )
}

/// All there is to the deliveries of `heads`, in their order.
pub(super) async fn whole(conn: &mut Conn<'_>, heads: &[Head]) -> Result<Vec<Delivery>, Failure> {
    let mut found = HashMap::with_capacity(heads.len());
    for chunk in padded(heads) {
        let mut query = values(WHOLE, chunk.len(), 1, &whole_sql());
        for head in chunk {
            query.bind(head.id.to_bytes().to_vec());
        }
        let rows = query.fetch_one(&mut *conn).await?;
        for delivery in row::array::<DeliveryRow<'_>>(&rows, 0)? {
            let delivery = delivery.read()?;
            found.insert(delivery.id, delivery);
        }
    }
    Ok(heads.iter().filter_map(|head| found.remove(&head.id)).collect())
}
