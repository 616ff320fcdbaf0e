//! Lanes that rest, and why: for those that are there, and for those yet to be made.

use std::collections::HashSet;

use icp_core::id::{OrgId, ResourceId};

use crate::error::Failure;
use crate::lane::{self, FLOOR};
use crate::link::Conn;
use crate::statement::{padded, statement, text, values};

/// Why lanes rest.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Why<'a> {
    /// Their integration is off.
    Off(&'a ResourceId),
    /// Their integration is paused.
    Paused(&'a ResourceId),
    /// Their organization is paused.
    Organization,
}

impl Why<'_> {
    /// The part of `paused` that tells of it.
    fn bit(self) -> i64 {
        match self {
            Self::Off(_) => 1,
            Self::Paused(_) => 2,
            Self::Organization => 4,
        }
    }

    /// The integration whose lanes rest.
    fn of(&self) -> Option<&ResourceId> {
        match self {
            Self::Off(integration) | Self::Paused(integration) => Some(integration),
            Self::Organization => None,
        }
    }

    fn integration(self) -> &'static str {
        match self {
            Self::Off(_) | Self::Paused(_) => "AND l.integration = ?4",
            Self::Organization => "",
        }
    }

    /// The integration, or the empty name that stands for all.
    fn name(self) -> String {
        match self {
            Self::Off(integration) | Self::Paused(integration) => integration.as_str().to_owned(),
            Self::Organization => String::new(),
        }
    }
}

pub(crate) const NOTE: &str =
    "INSERT INTO icp_rest (org, integration, why) VALUES (?, ?, ?) ON CONFLICT DO NOTHING";
pub(crate) const FORGET: &str =
    "DELETE FROM icp_rest WHERE org = ? AND integration = ? AND why = ?";

/// A lane that goes on looks for what waited, and starts no earlier than those that run.
fn change_sql(why: Why<'_>) -> String {
    let goes_on = "l.paused != 0 AND (l.paused & ~?1 | ?2) = 0";
    format!(
        "UPDATE icp_lane AS l SET \
         runnable = CASE WHEN {goes_on} AND EXISTS (SELECT 1 FROM icp_delivery d \
            WHERE d.lane = l.id AND d.state = 0) THEN 1 ELSE l.runnable END, \
         pass = CASE WHEN {goes_on} THEN MAX(l.pass, coalesce({FLOOR}, l.pass)) ELSE l.pass END, \
         paused = l.paused & ~?1 | ?2 WHERE l.org = ?3 {}",
        why.integration()
    )
}

/// The statement for the lanes of an integration.
#[cfg(test)]
pub(crate) fn change_one_sql(integration: &ResourceId) -> String {
    change_sql(Why::Paused(integration))
}

/// The statement for the lanes of an organization.
#[cfg(test)]
pub(crate) fn change_all_sql() -> String {
    change_sql(Why::Organization)
}

/// Keeps what rests as it is until this transaction ends, so that a lane it makes is not missed
/// by a pause that happens at the same time.
pub(crate) async fn hold(conn: &mut Conn<'_>) -> Result<(), Failure> {
    if conn.dialect().is_shared() {
        let sql = format!("SELECT id FROM icp_head{}", conn.dialect().for_share());
        statement(sql).fetch_all(conn).await?;
    }
    Ok(())
}

/// Lets lanes rest, or go on where nothing else keeps them at rest.
pub(crate) async fn set(
    conn: &mut Conn<'_>,
    org: &OrgId,
    why: Why<'_>,
    paused: bool,
) -> Result<(), Failure> {
    lane::lock_of(conn, org, why.of()).await?;
    statement(if paused { NOTE } else { FORGET })
        .bind(text(org.as_str()))
        .bind(why.name())
        .bind(why.bit())
        .execute(&mut *conn)
        .await?;
    statement(change_sql(why))
        .bind(why.bit())
        .bind(if paused { why.bit() } else { 0 })
        .bind(text(org.as_str()))
        .bind(why.name())
        .execute(conn)
        .await?;
    Ok(())
}

pub(crate) const RESTING: (&str, &str) = (
    "WITH v (org, integration) AS (VALUES ",
    ") SELECT DISTINCT v.org, v.integration FROM v CROSS JOIN icp_rest r \
     ON r.org = v.org AND r.integration IN (v.integration, '')",
);

/// Which of the integrations rest.
pub(crate) async fn resting(
    conn: &mut Conn<'_>,
    wanted: &[(&OrgId, &ResourceId)],
) -> Result<HashSet<(String, String)>, Failure> {
    let mut resting = HashSet::new();
    for chunk in padded(wanted) {
        let mut query = values(RESTING.0, chunk.len(), 2, RESTING.1);
        for (org, integration) in chunk {
            query.bind(org.shared()).bind(integration.shared());
        }
        for found in query.fetch_all(&mut *conn).await? {
            resting.insert((found.try_get(0)?, found.try_get(1)?));
        }
    }
    Ok(resting)
}
