//! The events of what was leased.

use std::collections::HashMap;
use std::sync::Arc;

use icp_core::delivery::{Claimed, Delivery};
use icp_core::event::Event;
use icp_core::id::{EventId, OrgId};

use super::Leased;
use crate::error::Failure;
use crate::link::Conn;
use crate::row::{self, EVENT, EventRow};
use crate::statement::{padded, values};

/// Reads the events of what was leased. Nothing locks them, so that others claim meanwhile: a
/// leased delivery keeps its event, and one erased in between is seen to be.
pub(crate) async fn complete(
    conn: &mut Conn<'_>,
    leased: Leased,
) -> Result<(Claimed, Vec<Delivery>), Failure> {
    let found = match events(conn, &leased.deliveries).await {
        Err(failure) if failure.is_corrupt() => readable(conn, &leased.deliveries).await?,
        found => found?,
    };
    Ok(leased.with(&found))
}

/// The events that can be read, one by one.
async fn readable(
    conn: &mut Conn<'_>,
    deliveries: &[Delivery],
) -> Result<HashMap<EventId, Arc<Event>>, Failure> {
    let mut readable = HashMap::new();
    for delivery in deliveries {
        match events(conn, std::slice::from_ref(delivery)).await {
            Err(failure) if failure.is_corrupt() => {}
            found => readable.extend(found?),
        }
    }
    Ok(readable)
}

pub(crate) const EVENTS: &str = "WITH v (org, id) AS (VALUES ";

/// Both aggregates see the rows in the same order, so the bodies can be told apart by length.
pub(crate) fn events_sql() -> String {
    format!(
        ") SELECT json_group_array({EVENT}), CAST(group_concat(e.body, '') AS BLOB) \
         FROM (SELECT DISTINCT org, id FROM v) AS v \
         CROSS JOIN icp_event e ON e.org = v.org AND e.id = v.id"
    )
}

fn event_rows_sql() -> String {
    format!(
        ") SELECT {EVENT}, e.body FROM (SELECT DISTINCT org, id FROM v) AS v \
         CROSS JOIN icp_event e ON e.org = v.org AND e.id = v.id"
    )
}

async fn events(
    conn: &mut Conn<'_>,
    deliveries: &[Delivery],
) -> Result<HashMap<EventId, Arc<Event>>, Failure> {
    let mut ids: Vec<(&OrgId, EventId)> = deliveries.iter().map(|d| (&d.org, d.event)).collect();
    ids.sort_unstable();
    ids.dedup();
    let mut events = HashMap::with_capacity(ids.len());
    // A row costs SQLite's driver more than its columns do, so that few large values are cheaper;
    // servers send rows as they are, and MySQL would cut such a value off.
    let apart = conn.dialect().is_shared();
    let (tail, most) = if apart { (event_rows_sql(), 256) } else { (events_sql(), 16) };
    for chunk in ids.chunks(most).flat_map(padded) {
        let mut query = values(EVENTS, chunk.len(), 2, &tail);
        for (org, id) in chunk {
            query.bind(org.shared()).bind(id.to_bytes().to_vec());
        }
        if apart {
            for found in query.fetch_all(&mut *conn).await? {
                let event = row::event(&found)?;
                events.insert(event.id, Arc::new(event));
            }
            continue;
        }
        let found = query.fetch_one(&mut *conn).await?;
        let mut bodies: &[u8] = found.try_get(1)?;
        for event in row::array::<EventRow<'_>>(&found, 0)? {
            let event = event.read(&mut bodies)?;
            events.insert(event.id, Arc::new(event));
        }
    }
    Ok(events)
}
