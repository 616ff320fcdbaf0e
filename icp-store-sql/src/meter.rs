use std::collections::{BTreeMap, BTreeSet};

use icp_core::delivery::Lane;
use icp_core::delivery::health::{LaneRules, Meter};
use icp_core::id::{OrgId, ResourceId};
use icp_core::time::Timestamp;

use crate::error::Failure;
use crate::link::Conn;
use crate::row;
use crate::statement::{Script, exact, padded, statement, values};

/// What the limited integrations among some lanes have used of their rates. Empty, and at no
/// cost, where none has a limit.
#[derive(Debug, Default)]
pub(crate) struct Meters {
    all: BTreeMap<(OrgId, ResourceId), Meter>,
    used: BTreeSet<(OrgId, ResourceId)>,
}

pub(crate) const METERS: (&str, &str) = (
    "WITH v (org, integration) AS (VALUES ",
    ") SELECT m.org, m.integration, m.used FROM v CROSS JOIN icp_meter m \
     ON m.org = v.org AND m.integration = v.integration",
);

/// As [`METERS`], and keeps them from others until the transaction ends: the lanes that an
/// integration's rate is shared by are locked one by one, by whoever works on them.
pub(crate) const LOCK_METERS: (&str, &str) = (
    "SELECT org, integration, used FROM icp_meter WHERE (org, integration) IN (VALUES ",
    ") ORDER BY org, integration",
);

/// Meters that have used nothing, so that there is something to lock.
pub(crate) const NEW_METERS: (&str, &str) = (
    "INSERT INTO icp_meter (org, integration, used) VALUES ",
    " ON CONFLICT (org, integration) DO NOTHING",
);

pub(crate) const PUT_METERS: (&str, &str) = (
    "INSERT INTO icp_meter (org, integration, used) VALUES ",
    " ON CONFLICT (org, integration) DO UPDATE SET used = excluded.used",
);

impl Meters {
    pub(crate) async fn load(
        conn: &mut Conn<'_>,
        lanes: impl Iterator<Item = &Lane>,
    ) -> Result<Self, Failure> {
        Self::of(conn, lanes.map(|lane| (&lane.org, &lane.integration, &lane.rules))).await
    }

    pub(crate) async fn of<'a>(
        conn: &mut Conn<'_>,
        integrations: impl Iterator<Item = (&'a OrgId, &'a ResourceId, &'a LaneRules)>,
    ) -> Result<Self, Failure> {
        let limited = integrations.filter(|(_, _, rules)| rules.rate_limit.is_some());
        let limited: BTreeSet<_> = limited.map(|(org, id, _)| (org.clone(), id.clone())).collect();
        let limited: Vec<_> = limited.into_iter().collect();
        let mut meters = Self::default();
        meters.read(conn, &limited).await?;
        if meters.all.len() < limited.len() && conn.dialect().is_shared() {
            make(conn, &limited).await?;
            meters.read(conn, &limited).await?;
        }
        Ok(meters)
    }

    async fn read(
        &mut self,
        conn: &mut Conn<'_>,
        limited: &[(OrgId, ResourceId)],
    ) -> Result<(), Failure> {
        let (head, tail) = if conn.dialect().is_shared() { LOCK_METERS } else { METERS };
        let tail = format!("{tail}{}", conn.dialect().for_update());
        for chunk in padded(limited) {
            let mut query = values(head, chunk.len(), 2, &tail);
            for (org, integration) in chunk {
                query.bind(org.shared()).bind(integration.shared());
            }
            for found in query.fetch_all(&mut *conn).await? {
                let key = (row::org(&found, 0)?, row::resource_id(&found, 1)?);
                self.all.insert(key, Meter::from_micros(found.try_get(2)?));
            }
        }
        Ok(())
    }

    fn meter(&self, lane: &Lane) -> Meter {
        let key = (lane.org.clone(), lane.integration.clone());
        self.all.get(&key).copied().unwrap_or_default()
    }

    /// How many deliveries of the lane its integration's rate has room for.
    pub(crate) fn room(&self, lane: &Lane, now: Timestamp) -> usize {
        let Some(limit) = &lane.rules.rate_limit else { return usize::MAX };
        usize::try_from(self.meter(lane).room(limit, now)).unwrap_or(usize::MAX)
    }

    /// Counts leases against the rate, and blocks the lane where nothing of it is left.
    pub(crate) fn spend(&mut self, lane: &mut Lane, count: usize, now: Timestamp) {
        let Some(limit) = lane.rules.rate_limit else { return };
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        let meter = self.meter(lane).used(&limit, count, now);
        if count > 0 {
            let key = (lane.org.clone(), lane.integration.clone());
            self.used.insert(key.clone());
            self.all.insert(key, meter);
        }
        lane.blocked_until = lane.blocked_until.max(meter.blocks_until(&limit, now));
    }

    /// Adds to `script` what was used.
    pub(crate) fn write(&self, script: &mut Script) {
        let used: Vec<_> = self.used.iter().filter_map(|key| self.all.get_key_value(key)).collect();
        for chunk in exact(&used) {
            script.rows(PUT_METERS.0, chunk.len(), 3, PUT_METERS.1);
            for ((org, integration), meter) in chunk {
                script.bind(org.shared()).bind(integration.shared()).bind(meter.as_micros());
            }
        }
        script.expect(used.len());
    }
}

async fn make(conn: &mut Conn<'_>, limited: &[(OrgId, ResourceId)]) -> Result<(), Failure> {
    let mut script = Script::default();
    for chunk in exact(limited) {
        script.rows(NEW_METERS.0, chunk.len(), 3, NEW_METERS.1);
        for (org, integration) in chunk {
            let unused = Meter::default().as_micros();
            script.bind(org.shared()).bind(integration.shared()).bind(unused);
        }
    }
    script.changes(conn).await?;
    Ok(())
}

pub(crate) const FORGET: &str = "DELETE FROM icp_meter WHERE org = ? AND integration = ?";

/// Lets an integration start with its whole rate.
pub(crate) async fn forget(
    conn: &mut Conn<'_>,
    org: &OrgId,
    integration: &ResourceId,
) -> Result<(), Failure> {
    statement(FORGET)
        .bind(org.as_str().to_owned())
        .bind(integration.as_str().to_owned())
        .execute(conn)
        .await?;
    Ok(())
}
