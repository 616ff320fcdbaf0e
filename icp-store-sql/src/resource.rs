use async_trait::async_trait;
use icp_core::error::{Code, Error, Result};
use icp_core::id::{OrgId, ResourceId};
use icp_core::resource::{
    Actor, AuditEntry, AuditHead, AuditLink, AuditQuery, Change, Effect, Expect, ListQuery, Record,
    ResourceStore, Revision, Write,
};
use icp_core::store::Page;
use icp_core::time::Timestamp;
use sqlx::Database;

use crate::dialect::Dialect;
use crate::error::Failure;
use crate::lane::{self, FLOOR};
use crate::link::{Conn, Row};
use crate::rest::{self, Why};
use crate::row::{self, more_than};
use crate::scope::Scope;
use crate::statement::{Statement, statement};
use crate::store::{SqlStore, commit, read};
use crate::{handle, meter, note};

const RECORD: &str = "SELECT h.org, h.kind, h.id, h.name, h.labels, h.spec, h.status, h.revision, \
     h.version, h.created_at, h.updated_at, h.deleted FROM ";
const PRESENT: &str = "icp_resource r CROSS JOIN icp_history h ON h.revision = r.revision WHERE ";

#[async_trait]
impl<D: Database> ResourceStore for SqlStore<D> {
    async fn write(&self, write: Write) -> Result<Vec<Record>> {
        commit!(self, Scope::Written(&write), "write resources", |tx| write_all(tx, &write).await)
    }

    async fn resource(&self, org: &OrgId, kind: &str, id: &ResourceId) -> Result<Option<Record>> {
        let found =
            read!(self, Scope::Of(org), "read a resource", |conn| one(conn, org, kind, id).await)?;
        Ok(found.filter(|record| !record.deleted))
    }

    async fn resources(&self, org: &OrgId, kind: &str, query: &ListQuery) -> Result<Page<Record>> {
        let items = read!(self, Scope::Of(org), "list resources", |conn| {
            let sql = list_sql(conn.dialect(), org, kind, query);
            records(conn, sql).await
        })?;
        Ok(Page::cut(items, query.page.limit))
    }

    async fn resources_of_all(
        &self,
        kind: &str,
        after: Option<(OrgId, ResourceId)>,
        limit: usize,
    ) -> Result<Vec<Record>> {
        let sql = of_all_sql(kind, after, limit);
        read!(self, Scope::Node, "list resources", |conn| records(conn, sql).await)
    }

    async fn history(
        &self,
        org: &OrgId,
        kind: &str,
        id: &ResourceId,
        before: Option<Revision>,
        limit: usize,
    ) -> Result<Vec<Record>> {
        let sql = history_sql(org, kind, id, before, limit);
        read!(self, Scope::Of(org), "read the history", |conn| records(conn, sql).await)
    }

    async fn changes(&self, after: Revision, limit: usize) -> Result<Vec<Record>> {
        let sql = changes_sql(after, limit);
        read!(self, Scope::Node, "read changes", |conn| records(conn, sql).await)
    }

    async fn head(&self) -> Result<Revision> {
        read!(self, Scope::Node, "read the head", |conn| head(conn).await)
    }

    async fn audit_log(&self, org: &OrgId, query: &AuditQuery) -> Result<Page<AuditEntry>> {
        read!(self, Scope::Of(org), "read the audit log", |conn| audit_log(conn, org, query).await)
    }

    async fn audit_head(&self, org: &OrgId) -> Result<Option<AuditHead>> {
        read!(self, Scope::Of(org), "read the audit log", |conn| note::head(conn, org).await)
    }
}

pub(crate) fn list_sql(dialect: Dialect, org: &OrgId, kind: &str, query: &ListQuery) -> Statement {
    let mut sql = select(PRESENT);
    sql.push("r.kind = ").push_bind(kind.to_owned());
    sql.push(" AND r.org = ").push_bind(org.as_str().to_owned()).push(" AND r.deleted = 0");
    if let Some(after) = &query.page.after {
        sql.push(" AND r.id > ").push_bind(after.as_str().to_owned());
    }
    for (key, value) in &query.labels {
        sql.push(match dialect {
            Dialect::Sqlite => " AND EXISTS (SELECT 1 FROM json_each(h.labels) j WHERE j.key = ",
            Dialect::Postgres => " AND h.labels::json ->> (",
            Dialect::MySql => " AND JSON_UNQUOTE(JSON_EXTRACT(h.labels, CONCAT('$.\"', ",
        });
        sql.push_bind(key.clone());
        sql.push(match dialect {
            Dialect::Sqlite => " AND j.value = ",
            Dialect::Postgres => ") = (",
            Dialect::MySql => ", '\"'))) = (",
        });
        sql.push_bind(value.clone()).push(")");
    }
    sql.push(" ORDER BY r.id LIMIT +").push_bind(more_than(query.page.limit));
    sql
}

pub(crate) fn of_all_sql(
    kind: &str,
    after: Option<(OrgId, ResourceId)>,
    limit: usize,
) -> Statement {
    let mut sql = select(PRESENT);
    sql.push("r.kind = ").push_bind(kind.to_owned()).push(" AND r.deleted = 0");
    if let Some((org, id)) = after {
        sql.push(" AND (r.org, r.id) > (").push_bind(org.as_str().to_owned());
        sql.push(", ").push_bind(id.as_str().to_owned()).push(")");
    }
    sql.push(" ORDER BY r.org, r.id LIMIT +").push_bind(more_than(limit) - 1);
    sql
}

pub(crate) fn history_sql(
    org: &OrgId,
    kind: &str,
    id: &ResourceId,
    before: Option<Revision>,
    limit: usize,
) -> Statement {
    let mut sql = select("icp_history h WHERE h.org = ");
    sql.push_bind(org.as_str().to_owned());
    sql.push(" AND h.kind = ").push_bind(kind.to_owned());
    sql.push(" AND h.id = ").push_bind(id.as_str().to_owned());
    if let Some(before) = before {
        sql.push(" AND h.revision < ").push_bind(before.0.cast_signed());
    }
    sql.push(" ORDER BY h.revision DESC LIMIT +").push_bind(more_than(limit) - 1);
    sql
}

pub(crate) fn changes_sql(after: Revision, limit: usize) -> Statement {
    let mut sql = select("icp_history h WHERE h.revision > ");
    sql.push_bind(after.0.cast_signed());
    sql.push(" ORDER BY h.revision LIMIT +").push_bind(more_than(limit) - 1);
    sql
}

fn select(from: &str) -> Statement {
    let mut sql = statement(RECORD);
    sql.push(from);
    sql
}

async fn records(conn: &mut Conn<'_>, sql: Statement) -> Result<Vec<Record>, Failure> {
    sql.fetch_all(conn).await?.iter().map(record).collect()
}

fn record(found: &Row) -> Result<Record, Failure> {
    Ok(Record {
        org: row::org(found, 0)?,
        kind: found.try_get::<&str>(1)?.into(),
        id: row::resource_id(found, 2)?,
        name: found.try_get(3)?,
        labels: serde_json::from_str(found.try_get(4)?)?,
        spec: serde_json::from_str(found.try_get(5)?)?,
        status: serde_json::from_str(found.try_get(6)?)?,
        revision: Revision(found.try_get::<i64>(7)?.cast_unsigned()),
        version: found.try_get::<i64>(8)?.cast_unsigned(),
        created_at: row::time(found, 9)?,
        updated_at: row::time(found, 10)?,
        deleted: found.try_get(11)?,
    })
}

/// The latest version, a deletion included.
async fn one(
    conn: &mut Conn<'_>,
    org: &OrgId,
    kind: &str,
    id: &ResourceId,
) -> Result<Option<Record>, Failure> {
    let mut sql = select(PRESENT);
    sql.push("r.kind = ").push_bind(kind.to_owned());
    sql.push(" AND r.org = ").push_bind(org.as_str().to_owned());
    sql.push(" AND r.id = ").push_bind(id.as_str().to_owned());
    Ok(records(conn, sql).await?.pop())
}

pub(crate) const HEAD: &str = "SELECT coalesce(max(revision), 0) FROM icp_history";

async fn head(conn: &mut Conn<'_>) -> Result<Revision, Failure> {
    let revision: i64 = statement(HEAD).fetch_one(conn).await?.try_get(0)?;
    Ok(Revision(revision.cast_unsigned()))
}

pub(crate) const LAST_REVISION: &str = "SELECT MAX(\
     coalesce((SELECT max(revision) FROM icp_history), 0), \
     coalesce((SELECT max(revision) FROM icp_audit_head), 0))";

/// Waits for its turn to change what is configured, so that no revision is seen before an earlier
/// one. Taken before the lock of any lane.
pub(crate) async fn lock(conn: &mut Conn<'_>) -> Result<(), Failure> {
    if conn.dialect().is_shared() {
        statement("SELECT id FROM icp_head FOR UPDATE").fetch_all(conn).await?;
    }
    Ok(())
}

/// The last number given to a change or to a note.
pub(crate) async fn last_revision(conn: &mut Conn<'_>) -> Result<u64, Failure> {
    let revision: i64 = statement(LAST_REVISION).fetch_one(conn).await?.try_get(0)?;
    Ok(revision.cast_unsigned())
}

async fn write_all(conn: &mut Conn<'_>, write: &Write) -> Result<Vec<Record>, Failure> {
    lock(conn).await?;
    let mut revision = last_revision(conn).await?;
    let mut written = Vec::with_capacity(write.changes.len());
    for change in &write.changes {
        revision += 1;
        let handed = &change.record;
        let before = one(conn, &handed.org, &handed.kind, &handed.id).await?;
        let record = next(change, before.as_ref(), Revision(revision), write.now)?;
        keep(conn, &record).await?;
        let before = before.filter(|before| !before.deleted);
        let row = AuditEntry::of_change(write, change, before.as_ref(), &record);
        note::keep(conn, &record.org, row).await?;
        if record.deleted {
            handle::set(conn, &record, &[]).await?;
        }
        for effect in &change.effects {
            take_effect(conn, &record, effect).await?;
        }
        written.push(record);
    }
    Ok(written)
}

/// The version that `change` makes of what was there before.
fn next(
    change: &Change,
    before: Option<&Record>,
    revision: Revision,
    now: Timestamp,
) -> Result<Record> {
    let handed = &change.record;
    let (kind, id) = (&handed.kind, &handed.id);
    let present = before.filter(|before| !before.deleted);
    let missing = || {
        let message = format!("there is no {kind} `{id}`; check the id");
        Error::new(Code::ResourceNotFound, message)
    };
    match (change.expect, present) {
        (Expect::Absent, Some(_)) => {
            let message = format!("{kind} `{id}` exists already; change it, or use another id");
            return Err(Error::new(Code::ResourceExists, message));
        }
        (Expect::Revision(_) | Expect::Present, None) => return Err(missing()),
        (Expect::Any | Expect::Absent, None) if handed.deleted => return Err(missing()),
        (Expect::Revision(wanted), Some(found)) if found.revision != wanted => {
            let found = found.revision;
            let message = format!(
                "{kind} `{id}` is at revision {found}, not {wanted}; read it again and repeat"
            );
            return Err(Error::new(Code::RevisionConflict, message));
        }
        _ => {}
    }
    let mut record = handed.clone();
    if let Some(present) = present.filter(|_| handed.deleted) {
        record.spec = present.spec.clone();
        record.status = present.status.clone();
    }
    record.revision = revision;
    record.version = before.map_or(1, |before| before.version + 1);
    record.created_at = before.map_or(now, |before| before.created_at);
    record.updated_at = now;
    Ok(record)
}

async fn keep(conn: &mut Conn<'_>, record: &Record) -> Result<(), Failure> {
    statement(
        "INSERT INTO icp_history (revision, org, kind, id, name, labels, spec, status, version, \
         created_at, updated_at, deleted) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(record.revision.0.cast_signed())
    .bind(record.org.as_str().to_owned())
    .bind(record.kind.to_string())
    .bind(record.id.as_str().to_owned())
    .bind(record.name.clone())
    .bind(serde_json::to_string(&record.labels)?)
    .bind(record.spec.to_string())
    .bind(record.status.to_string())
    .bind(record.version.cast_signed())
    .bind(record.created_at.as_millis())
    .bind(record.updated_at.as_millis())
    .bind(record.deleted)
    .execute(&mut *conn)
    .await?;
    statement(
        "INSERT INTO icp_resource (kind, org, id, revision, deleted) VALUES (?, ?, ?, ?, ?) \
         ON CONFLICT (kind, org, id) DO UPDATE SET revision = excluded.revision, \
         deleted = excluded.deleted",
    )
    .bind(record.kind.to_string())
    .bind(record.org.as_str().to_owned())
    .bind(record.id.as_str().to_owned())
    .bind(record.revision.0.cast_signed())
    .bind(record.deleted)
    .execute(conn)
    .await?;
    Ok(())
}

async fn take_effect(conn: &mut Conn<'_>, record: &Record, effect: &Effect) -> Result<(), Failure> {
    let org = &record.org;
    match effect {
        Effect::Lanes { integration, max_in_flight, paused } => {
            lane::widen(conn, org, integration, *max_in_flight).await?;
            rest::set(conn, org, Why::Off(integration), *paused).await?;
        }
        Effect::Pause { integration, paused } => {
            let why = integration.as_ref().map_or(Why::Organization, Why::Paused);
            rest::set(conn, org, why, *paused).await?;
        }
        Effect::Rules { integration, rules } => {
            lane::lock_of(conn, org, Some(integration)).await?;
            let changed = statement(format!(
                "UPDATE icp_lane SET rules = ?1, health = NULL, \
                 pass = CASE WHEN blocked_until IS NULL THEN pass \
                    ELSE MAX(pass, coalesce({FLOOR}, pass)) END, blocked_until = NULL, \
                 allowed = CASE WHEN fifo = 1 THEN 1 ELSE max_in_flight END \
                 WHERE org = ?2 AND integration = ?3 AND rules IS DISTINCT FROM ?1",
            ))
            .bind(row::rules_text(rules)?)
            .bind(org.as_str().to_owned())
            .bind(integration.as_str().to_owned())
            .execute(&mut *conn)
            .await?;
            if changed > 0 {
                meter::forget(conn, org, integration).await?;
            }
        }
        Effect::Weight { weight } => {
            lane::lock_of(conn, org, None).await?;
            statement("UPDATE icp_lane SET weight = ? WHERE org = ?")
                .bind(*weight)
                .bind(org.as_str().to_owned())
                .execute(conn)
                .await?;
        }
        Effect::Handles { .. } if record.deleted => {}
        Effect::Handles { handles } => handle::set(conn, record, handles).await?,
        _ => {
            let message = "this store does not know the effect; use a newer one";
            return Err(Error::new(Code::Unsupported, message).into());
        }
    }
    Ok(())
}

async fn audit_log(
    conn: &mut Conn<'_>,
    org: &OrgId,
    query: &AuditQuery,
) -> Result<Page<AuditEntry>, Failure> {
    let mut sql = statement(
        "SELECT revision, number, chain, at, actor, acting_as, request_id, action, kind, id, \
         spec_before, spec_after, note FROM icp_audit WHERE org = ",
    );
    sql.push_bind(org.as_str().to_owned());
    if let Some(kind) = &query.kind {
        sql.push(" AND kind = ").push_bind(kind.clone());
    }
    if let Some(id) = &query.id {
        sql.push(" AND id = ").push_bind(id.as_str().to_owned());
    }
    for (column, wanted) in [("actor", &query.actor), ("action", &query.action)] {
        if let Some(wanted) = wanted {
            sql.push(&format!(" AND {column} = ")).push_bind(wanted.clone());
        }
    }
    if let Some(since) = query.since {
        sql.push(" AND at >= ").push_bind(since.as_millis());
    }
    if let Some(until) = query.until {
        sql.push(" AND at < ").push_bind(until.as_millis());
    }
    if let Some(Revision(after)) = query.page.after {
        let after = after.min(i64::MAX.unsigned_abs());
        sql.push(" AND revision < ").push_bind(after.cast_signed());
    }
    sql.push(" ORDER BY revision DESC LIMIT +").push_bind(more_than(query.page.limit));
    let rows = sql.fetch_all(conn).await?;
    let items = rows.iter().map(entry).collect::<Result<_, _>>()?;
    Ok(Page::cut(items, query.page.limit))
}

fn entry(found: &Row) -> Result<AuditEntry, Failure> {
    let AuditLink { revision, number, chain } = note::link(found, 0)?;
    Ok(AuditEntry {
        revision,
        number,
        at: row::time(found, 3)?,
        actor: Actor {
            name: found.try_get(4)?,
            acting_as: found.try_get(5)?,
            request_id: found.try_get(6)?,
            may: None,
        },
        action: found.try_get(7)?,
        kind: found.try_get(8)?,
        id: row::resource_id(found, 9)?,
        before: found.try_get(10)?,
        after: found.try_get(11)?,
        note: found.try_get(12)?,
        chain,
    })
}
