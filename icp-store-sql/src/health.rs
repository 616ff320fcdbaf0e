use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use icp_core::delivery::{Lane, Settle, Settlement};
use icp_core::time::Timestamp;

use crate::error::Failure;
use crate::link::Conn;
use crate::row::{self, LANE, LaneRow};
use crate::statement::{Script, padded, values};

/// How a settle goes about the health of lanes.
///
/// Nearly always all attempts went well and all lanes are, so nothing has to be read or written:
/// that is assumed, and where it does not hold the settle finds fewer lanes than it changes and
/// is repeated with a look at them.
#[derive(Debug)]
pub(crate) struct Health<'a> {
    assumed: bool,
    /// Whether lanes in bad health were met of late.
    ill: &'a AtomicBool,
}

impl<'a> Health<'a> {
    /// The assumption, where it is worth trying.
    pub(crate) fn assume(settle: &Settle, ill: &'a AtomicBool) -> Option<Self> {
        let troubled =
            |settlement: &Settlement| settlement.attempt.as_ref().is_some_and(Lane::is_troubled_by);
        let fine = !ill.load(Ordering::Relaxed) && !settle.settlements.iter().any(troubled);
        fine.then_some(Self { assumed: true, ill })
    }

    pub(crate) fn looked_at(ill: &'a AtomicBool) -> Self {
        Self { assumed: false, ill }
    }

    pub(crate) fn is_assumed(&self) -> bool {
        self.assumed
    }

    /// Adds to `script` what the attempts change of the health of their lanes.
    pub(crate) async fn write(
        &self,
        conn: &mut Conn<'_>,
        script: &mut Script,
        settlements: &[&Settlement],
        now: Timestamp,
    ) -> Result<(), Failure> {
        if self.assumed {
            return Ok(());
        }
        let mut lanes = lanes(conn, settlements).await?;
        let before: Vec<_> = lanes.values().map(|lane| lane.health).collect();
        for settlement in settlements {
            let lane = lanes.get_mut(&settlement.lane.to_bytes());
            if let (Some(lane), Some(attempt)) = (lane, &settlement.attempt) {
                lane.observe(attempt, now);
            }
        }
        self.ill.store(lanes.values().any(|lane| !lane.health.is_well()), Ordering::Relaxed);
        let changed = lanes.values().zip(before).filter(|(lane, before)| lane.health != *before);
        let changed: Vec<&Lane> = changed.map(|(lane, _)| lane).collect();
        for chunk in padded(&changed) {
            script.rows(HEALTH.0, chunk.len(), 4, HEALTH.1);
            for lane in chunk {
                script
                    .bind(lane.id.to_bytes().to_vec())
                    .bind(row::health_text(&lane.health)?)
                    .bind(lane.allowed())
                    .bind(lane.blocked_until.map(Timestamp::as_millis));
            }
        }
        script.expect(changed.len());
        Ok(())
    }
}

pub(crate) const HEALTH: (&str, &str) = (
    "UPDATE icp_lane AS l SET health = v.column2, allowed = v.column3, \
     blocked_until = MAX(coalesce(l.blocked_until, v.column4), coalesce(v.column4, l.blocked_until)) \
     FROM (VALUES ",
    ") AS v WHERE l.id = v.column1",
);

pub(crate) const LANES: &str = "WITH v (id) AS (VALUES ";

pub(crate) fn lanes_sql() -> String {
    format!(") SELECT json_group_array({LANE}) FROM v CROSS JOIN icp_lane l ON l.id = v.id")
}

/// The lanes of the attempts.
async fn lanes(
    conn: &mut Conn<'_>,
    settlements: &[&Settlement],
) -> Result<BTreeMap<[u8; 16], Lane>, Failure> {
    let tried = settlements.iter().filter(|settlement| settlement.attempt.is_some());
    let mut ids: Vec<_> = tried.map(|settlement| settlement.lane.to_bytes()).collect();
    ids.sort_unstable();
    ids.dedup();
    let mut lanes = BTreeMap::new();
    for chunk in padded(&ids) {
        let mut query = values(LANES, chunk.len(), 1, &lanes_sql());
        for id in chunk {
            query.bind(id.to_vec());
        }
        let found = query.fetch_one(&mut *conn).await?;
        for lane in row::array::<LaneRow<'_>>(&found, 0)? {
            let lane = lane.read()?;
            lanes.insert(lane.id.to_bytes(), lane);
        }
    }
    Ok(lanes)
}
