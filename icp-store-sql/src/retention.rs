use std::collections::BTreeMap;

use async_trait::async_trait;
use icp_core::delivery::DeliveryState;
use icp_core::error::{Code, Error, Result};
use icp_core::id::{EventId, OrgId};
use icp_core::retention::{Cutoffs, Prune, Pruned, RetentionStore, What};
use icp_core::time::Timestamp;
use sqlx::Database;

use crate::analytics;
use crate::error::Failure;
use crate::link::Conn;
use crate::scope::Scope;
use crate::statement::{Script, exact, padded, statement, text, values};
use crate::store::{SqlStore, commit, read};
use crate::{lane, note, row};

#[async_trait]
impl<D: Database> RetentionStore for SqlStore<D> {
    async fn next_organization(&self, after: Option<&OrgId>) -> Result<Option<OrgId>> {
        read!(self, Scope::Node, "look for organizations", |conn| next_org(conn, after).await)
    }

    async fn prune(&self, prune: &Prune) -> Result<Pruned> {
        commit!(self, Scope::Of(&prune.org), "prune", |tx| one_batch(tx, prune).await)
    }
}

/// One step through the front of each index.
pub(crate) const NEXT_ORG: &str = "SELECT min(org) FROM (\
     SELECT min(org) AS org FROM icp_event WHERE org > ?1 \
     UNION ALL SELECT min(org) FROM icp_idempotency WHERE org > ?1 \
     UNION ALL SELECT min(org) FROM icp_audit WHERE org > ?1 \
     UNION ALL SELECT min(org) FROM icp_replay WHERE org > ?1 \
     UNION ALL SELECT min(org) FROM icp_lane WHERE org > ?1 \
     UNION ALL SELECT min(org) FROM icp_rollup WHERE org > ?1) v";

async fn next_org(conn: &mut Conn<'_>, after: Option<&OrgId>) -> Result<Option<OrgId>, Failure> {
    // No id is empty, so each is greater.
    let after = after.map_or("", OrgId::as_str);
    let found = statement(NEXT_ORG).bind(text(after)).fetch_one(conn).await?;
    match found.try_get::<Option<&str>>(0)? {
        Some(_) => row::org(&found, 0).map(Some),
        None => Ok(None),
    }
}

async fn one_batch(conn: &mut Conn<'_>, prune: &Prune) -> Result<Pruned, Failure> {
    match prune.what {
        What::Records(cutoffs) => records(conn, prune, &cutoffs).await,
        What::Keys => keys(conn, prune).await,
        What::Audit { before } => audit(conn, prune, before).await,
        What::History { before } => history(conn, prune, before).await,
        What::Replays { before } => replays(conn, prune, before).await,
        What::Lanes => lane::prune::prune(conn, prune).await,
        What::Rollups(cutoffs) => analytics::prune(conn, prune, &cutoffs).await,
        _ => {
            Err(Error::new(Code::Unsupported, "this store cannot prune that; use a newer one")
                .into())
        }
    }
}

pub(crate) fn limit(prune: &Prune) -> i64 {
    i64::try_from(prune.limit).unwrap_or(i64::MAX)
}

pub(crate) const OLDEST: &str = "SELECT id, received_at FROM icp_event \
     WHERE org = ? AND id > ? ORDER BY id LIMIT +?";

async fn records(conn: &mut Conn<'_>, prune: &Prune, cutoffs: &Cutoffs) -> Result<Pruned, Failure> {
    let after = match &prune.after {
        Some(after) => after.parse::<EventId>()?.to_bytes().to_vec(),
        None => Vec::new(),
    };
    let found = statement(format!("{OLDEST}{}", conn.dialect().for_update()))
        .bind(text(prune.org.as_str()))
        .bind(after)
        .bind(limit(prune))
        .fetch_all(&mut *conn)
        .await?;
    let mut old = Vec::with_capacity(found.len());
    for event in &found {
        if row::time(event, 1)? >= cutoffs.latest() {
            break;
        }
        old.push(row::bytes(event, 0)?);
    }
    let more = old.len() == prune.limit;
    let mut pruned = Pruned {
        next: old.last().filter(|_| more).map(|id| EventId::from_bytes(*id).to_string()),
        ..Pruned::default()
    };
    if deliveries(conn, prune, cutoffs, &old, &mut pruned).await? {
        // The same events once more, until nothing of theirs is left that has to go.
        let again = || EventId::from_bytes([0; 16]).to_string();
        pruned.next = Some(prune.after.clone().unwrap_or_else(again));
    }
    pruned.events = events(conn, prune, cutoffs, &old).await?;
    Ok(pruned)
}

/// Its last parameters are the organization, the cutoffs of dead ones and of others, and the limit.
pub(crate) const DELIVERIES: (&str, &str) = (
    "SELECT d.id, d.event, d.state, CASE WHEN d.replay_of IS NULL THEN 1 ELSE 0 END \
     FROM icp_delivery d INDEXED BY icp_delivery_event WHERE d.event IN (VALUES ",
    ") AND d.org = ? AND d.state > 1 AND d.updated_at < CASE WHEN d.state = 3 THEN ? ELSE ? END \
     LIMIT +?",
);

/// Answers whether there may be more.
async fn deliveries(
    conn: &mut Conn<'_>,
    prune: &Prune,
    cutoffs: &Cutoffs,
    events: &[[u8; 16]],
    pruned: &mut Pruned,
) -> Result<bool, Failure> {
    let most = prune.deliveries();
    let mut gone = Vec::new();
    let mut of_event: BTreeMap<[u8; 16], i64> = BTreeMap::new();
    for chunk in padded(events) {
        let tail = format!("{}{}", DELIVERIES.1, conn.dialect().for_update());
        let mut query = values(DELIVERIES.0, chunk.len(), 1, &tail);
        chunk.into_iter().for_each(|id| {
            query.bind(id.to_vec());
        });
        query
            .bind(prune.org.shared())
            .bind(cutoffs.dead_letters.as_millis())
            .bind(cutoffs.deliveries.as_millis())
            .bind(i64::try_from(most - gone.len()).unwrap_or(i64::MAX));
        for found in query.fetch_all(&mut *conn).await? {
            gone.push(row::bytes(&found, 0)?);
            let dead = row::state(found.try_get(2)?)? == DeliveryState::Dead;
            pruned.dead_letters += u64::from(dead);
            pruned.deliveries += u64::from(!dead);
            if found.try_get(3)? {
                *of_event.entry(row::bytes(&found, 1)?).or_default() += 1;
            }
        }
    }
    let mut script = Script::default();
    forget(&mut script, &gone);
    let counts: Vec<_> = of_event.into_iter().collect();
    for chunk in exact(&counts) {
        script.rows(COUNT.0, chunk.len(), 2, COUNT.1);
        for (event, count) in chunk {
            script.bind(event.to_vec()).bind(*count);
        }
        script.bind(prune.org.shared());
    }
    script.execute(conn).await?;
    Ok(gone.len() >= most)
}

pub(crate) const COUNT: (&str, &str) = (
    "WITH v (id, gone) AS (VALUES ",
    ") UPDATE icp_event AS e SET pruned = e.pruned + v.gone FROM v WHERE e.org = ? AND e.id = v.id",
);

/// The delivery last: it may be what tells whose the others are.
pub(crate) const FORGET: [&str; 4] = [
    "DELETE FROM icp_attempt WHERE delivery IN (VALUES ",
    "DELETE FROM icp_letter WHERE delivery IN (VALUES ",
    "DELETE FROM icp_letter_note WHERE delivery IN (VALUES ",
    "DELETE FROM icp_delivery WHERE id IN (VALUES ",
];

/// Adds to `script` the end of what belongs to deliveries that are gone.
fn forget(script: &mut Script, deliveries: &[[u8; 16]]) {
    for head in FORGET {
        for chunk in padded(deliveries) {
            script.rows(head, chunk.len(), 1, ")");
            for id in chunk {
                script.bind(id.to_vec());
            }
        }
    }
}

/// Its last parameters are the organization, the cutoff and the moment.
pub(crate) const EVENTS: (&str, &str) = (
    "DELETE FROM icp_event AS e WHERE e.id IN (VALUES ",
    ") AND e.org = ? AND e.received_at < ? \
     AND NOT EXISTS (SELECT 1 FROM icp_delivery d INDEXED BY icp_delivery_event \
        WHERE d.event = e.id) \
     AND NOT EXISTS (SELECT 1 FROM icp_idempotency i WHERE i.org = e.org \
        AND i.key = e.idempotency_key AND i.event = e.id AND i.expires_at > ?)",
);

async fn events(
    conn: &mut Conn<'_>,
    prune: &Prune,
    cutoffs: &Cutoffs,
    old: &[[u8; 16]],
) -> Result<u64, Failure> {
    let mut gone = 0;
    for chunk in padded(old) {
        let mut query = values(EVENTS.0, chunk.len(), 1, EVENTS.1);
        chunk.into_iter().for_each(|id| {
            query.bind(id.to_vec());
        });
        query.bind(prune.org.shared()).bind(cutoffs.events.as_millis()).bind(prune.now.as_millis());
        gone += query.changes(&mut *conn).await?;
    }
    Ok(gone)
}

pub(crate) const KEYS: &str = "SELECT key, expires_at <= ? FROM icp_idempotency \
     WHERE org = ? AND key > ? ORDER BY key LIMIT +?";
pub(crate) const FORGET_KEY: &str = "DELETE FROM icp_idempotency WHERE org = ? AND key = ?";

async fn keys(conn: &mut Conn<'_>, prune: &Prune) -> Result<Pruned, Failure> {
    let found = statement(KEYS)
        .bind(prune.now.as_millis())
        .bind(text(prune.org.as_str()))
        .bind(text(prune.after.as_deref().unwrap_or_default()))
        .bind(limit(prune))
        .fetch_all(&mut *conn)
        .await?;
    let mut pruned = Pruned::default();
    for key in &found {
        if key.try_get(1)? {
            statement(FORGET_KEY)
                .bind(text(prune.org.as_str()))
                .bind(key.try_get::<String>(0)?)
                .execute(&mut *conn)
                .await?;
            pruned.keys += 1;
        }
    }
    let last = found.last().filter(|_| found.len() == prune.limit);
    pruned.next = last.map(|key| key.try_get(0)).transpose()?;
    Ok(pruned)
}

/// The oldest rows only: they are in the order of their moments.
pub(crate) const AUDIT: &str =
    "SELECT revision, number, chain, at FROM icp_audit WHERE org = ? ORDER BY revision LIMIT +?";
pub(crate) const FORGET_AUDIT: &str = "DELETE FROM icp_audit WHERE revision IN (VALUES ";

async fn audit(conn: &mut Conn<'_>, prune: &Prune, before: Timestamp) -> Result<Pruned, Failure> {
    let found = statement(AUDIT)
        .bind(text(prune.org.as_str()))
        .bind(limit(prune))
        .fetch_all(&mut *conn)
        .await?;
    let mut old: Vec<i64> = Vec::with_capacity(found.len());
    // From the oldest on without a gap, so that the rest still hangs together.
    for row in &found {
        if row::time(row, 3)? >= before {
            break;
        }
        old.push(row.try_get(0)?);
    }
    if let Some(last) = old.len().checked_sub(1).and_then(|last| found.get(last)) {
        note::pruned(conn, &prune.org, note::link(last, 0)?).await?;
    }
    let mut pruned = Pruned::default();
    for chunk in padded(&old) {
        let mut query = values(FORGET_AUDIT, chunk.len(), 1, ")");
        for revision in chunk {
            query.bind(*revision);
        }
        pruned.audit += query.changes(&mut *conn).await?;
    }
    pruned.next = (old.len() == prune.limit).then(String::new);
    Ok(pruned)
}

/// Versions in the order of their index, each with whether the next one was made in time.
pub(crate) const VERSIONS: &str = "SELECT h.kind, h.id, h.revision, \
     CASE WHEN (SELECT n.updated_at FROM icp_history n WHERE n.org = h.org AND n.kind = h.kind \
        AND n.id = h.id AND n.revision > h.revision ORDER BY n.revision LIMIT 1) < ? THEN 1 ELSE 0 END \
     FROM icp_history h WHERE h.org = ? AND (h.kind, h.id, h.revision) > (?, ?, ?) \
     ORDER BY h.kind, h.id, h.revision LIMIT +?";
pub(crate) const FORGET_VERSION: &str = "DELETE FROM icp_history WHERE revision = ?";

async fn history(conn: &mut Conn<'_>, prune: &Prune, before: Timestamp) -> Result<Pruned, Failure> {
    let after = prune.after.as_deref().map(serde_json::from_str::<(String, String, i64)>);
    let (kind, id, revision) = after.transpose()?.unwrap_or_default();
    let found = statement(VERSIONS)
        .bind(before.as_millis())
        .bind(text(prune.org.as_str()))
        .bind(kind)
        .bind(id)
        .bind(revision)
        .bind(limit(prune))
        .fetch_all(&mut *conn)
        .await?;
    let mut pruned = Pruned::default();
    for version in &found {
        if version.try_get(3)? {
            let revision: i64 = version.try_get(2)?;
            statement(FORGET_VERSION).bind(revision).execute(&mut *conn).await?;
            pruned.history += 1;
        }
    }
    if let Some(last) = found.last().filter(|_| found.len() == prune.limit) {
        let (kind, id): (&str, &str) = (last.try_get(0)?, last.try_get(1)?);
        pruned.next = Some(serde_json::to_string(&(kind, id, last.try_get::<i64>(2)?))?);
    }
    Ok(pruned)
}

pub(crate) const REPLAYS: &str =
    "SELECT id FROM icp_replay WHERE org = ? AND ended_at < ? ORDER BY ended_at LIMIT +?";
pub(crate) const LINKS: &str =
    "SELECT delivery FROM icp_replay_delivery WHERE job = ? ORDER BY delivery LIMIT +?";
pub(crate) const FORGET_LINKS: &str =
    "DELETE FROM icp_replay_delivery WHERE job = ? AND delivery <= ?";
pub(crate) const FORGET_REPLAY: &str = "DELETE FROM icp_replay WHERE id = ?";

/// The links first: the job is what tells whose they are.
async fn replays(conn: &mut Conn<'_>, prune: &Prune, before: Timestamp) -> Result<Pruned, Failure> {
    let found = statement(REPLAYS)
        .bind(text(prune.org.as_str()))
        .bind(before.as_millis())
        .bind(limit(prune))
        .fetch_all(&mut *conn)
        .await?;
    let mut pruned = Pruned::default();
    let mut room = limit(prune);
    for job in &found {
        let job = row::bytes(job, 0)?.to_vec();
        let links = statement(LINKS).bind(job.clone()).bind(room).fetch_all(&mut *conn).await?;
        if let Some(last) = links.last() {
            let last = row::bytes(last, 0)?.to_vec();
            statement(FORGET_LINKS).bind(job.clone()).bind(last).execute(&mut *conn).await?;
        }
        room -= i64::try_from(links.len()).unwrap_or(room);
        if room > 0 {
            pruned.replays += statement(FORGET_REPLAY).bind(job).execute(&mut *conn).await?;
            room -= 1;
        }
        if room == 0 {
            pruned.next = Some(String::new());
            break;
        }
    }
    Ok(pruned)
}
