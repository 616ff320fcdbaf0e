use icp_core::delivery::{Audit, DeliveryState};

use crate::error::Failure;
use crate::link::Conn;
use crate::rescue::ASLEEP;
use crate::row;
use crate::statement::statement;

pub(crate) async fn counts(conn: &mut Conn<'_>) -> Result<Vec<(DeliveryState, u64)>, Failure> {
    let sql = "SELECT state, count(*) FROM icp_delivery GROUP BY state ORDER BY state";
    let rows = statement(sql).fetch_all(conn).await?;
    rows.iter()
        .map(|found| {
            let count: i64 = found.try_get(1)?;
            Ok((row::state(found.try_get(0)?)?, count.cast_unsigned()))
        })
        .collect()
}

/// One read, so that all figures are of the same moment.
pub(crate) async fn audit(conn: &mut Conn<'_>) -> Result<Audit, Failure> {
    // It looks at everything there is.
    conn.take_time();
    // Any due delivery counts, so the moment is the far end of time.
    let asleep = ASLEEP.replace('?', "9223372036854775806");
    let sql = format!(
        "SELECT (SELECT count(*) FROM icp_delivery), \
         (SELECT count(*) FROM icp_delivery WHERE (state = 1) != (owner IS NOT NULL) \
            OR (state = 1) != (lease_until IS NOT NULL)), \
         (SELECT count(*) FROM icp_delivery d WHERE d.tries > d.epoch OR EXISTS \
            (SELECT 1 FROM icp_attempt a WHERE a.delivery = d.id AND a.epoch > d.epoch)), \
         (SELECT count(*) FROM icp_attempt a WHERE NOT EXISTS \
            (SELECT 1 FROM icp_delivery d WHERE d.id = a.delivery)), \
         (SELECT count(*) FROM icp_lane l LEFT JOIN (SELECT lane, count(*) AS n FROM \
            icp_delivery WHERE state = 1 GROUP BY lane) q ON q.lane = l.id \
            WHERE l.in_flight != coalesce(q.n, 0)), \
         (SELECT count(*) FROM icp_event e WHERE e.fan_out - e.pruned != (SELECT count(*) FROM icp_delivery \
            d WHERE d.event = e.id AND d.replay_of IS NULL)), \
         (SELECT count(*) FROM icp_delivery WHERE state > 1 AND (owner IS NOT NULL OR \
            lease_until IS NOT NULL)), \
         (SELECT count(*) FROM icp_delivery d WHERE NOT EXISTS (SELECT 1 FROM icp_lane l WHERE \
            l.id = d.lane) OR NOT EXISTS (SELECT 1 FROM icp_event e WHERE e.org = d.org AND e.id = d.event)), \
         (SELECT count(*) FROM icp_lane l WHERE {asleep})"
    );
    let found = statement(sql).fetch_one(conn).await?;
    let count = |at| found.try_get::<i64>(at).map(i64::cast_unsigned);
    Ok(Audit {
        deliveries: count(0)?,
        lease_without_owner: count(1)?,
        epoch_behind: count(2)?,
        attempt_without_delivery: count(3)?,
        in_flight_wrong: count(4)?,
        fan_out_wrong: count(5)?,
        ended_but_open: count(6)?,
        dangling: count(7)?,
        asleep: count(8)?,
    })
}
