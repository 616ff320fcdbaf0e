use async_trait::async_trait;
use icp_core::error::Result;
use icp_core::id::OrgId;
use icp_core::resource::{AuditEntry, AuditHead, AuditLink, Note, NoteStore, Revision};
use sqlx::Database;

use crate::error::Failure;
use crate::link::{Conn, Row};
use crate::resource;
use crate::scope::Scope;
use crate::statement::{statement, text};
use crate::store::{SqlStore, commit};

#[async_trait]
impl<D: Database> NoteStore for SqlStore<D> {
    async fn note(&self, note: Note) -> Result<Revision> {
        commit!(self, Scope::Of(&note.org), "write an audit row", |tx| write(tx, &note).await)
    }
}

pub(crate) const PUT: &str = "INSERT INTO icp_audit (revision, at, actor, acting_as, request_id, \
     action, org, kind, id, spec_before, spec_after, note, number, chain) \
     VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
pub(crate) const HEAD: &str = "SELECT revision, number, chain, pruned_revision, pruned_number, \
     pruned_chain FROM icp_audit_head WHERE org = ?";
pub(crate) const PUT_HEAD: &str = "INSERT INTO icp_audit_head (org, revision, number, chain, \
     pruned_revision, pruned_number, pruned_chain) VALUES (?, ?, ?, ?, 0, 0, '') \
     ON CONFLICT (org) DO UPDATE SET revision = excluded.revision, number = excluded.number, \
     chain = excluded.chain";
pub(crate) const PRUNED: &str = "UPDATE icp_audit_head SET pruned_revision = ?, \
     pruned_number = ?, pruned_chain = ? WHERE org = ?";

/// Writes an audit row beside what else the transaction does.
pub(crate) async fn write(conn: &mut Conn<'_>, note: &Note) -> Result<Revision, Failure> {
    resource::lock(conn).await?;
    let revision = Revision(resource::last_revision(conn).await? + 1);
    keep(conn, &note.org, AuditEntry::of_note(note, revision)).await?;
    Ok(revision)
}

/// Makes `entry` the newest row of the organization. Called under the lock of configuration.
pub(crate) async fn keep(
    conn: &mut Conn<'_>,
    org: &OrgId,
    mut entry: AuditEntry,
) -> Result<(), Failure> {
    let mut head = head(conn, org).await?.unwrap_or_default();
    head.append(org, &mut entry);
    statement(PUT)
        .bind(entry.revision.0.cast_signed())
        .bind(entry.at.as_millis())
        .bind(entry.actor.name)
        .bind(entry.actor.acting_as)
        .bind(entry.actor.request_id)
        .bind(entry.action)
        .bind(text(org.as_str()))
        .bind(entry.kind)
        .bind(text(entry.id.as_str()))
        .bind(entry.before)
        .bind(entry.after)
        .bind(entry.note)
        .bind(entry.number.cast_signed())
        .bind(entry.chain)
        .execute(&mut *conn)
        .await?;
    statement(PUT_HEAD)
        .bind(text(org.as_str()))
        .bind(head.newest.revision.0.cast_signed())
        .bind(head.newest.number.cast_signed())
        .bind(head.newest.chain)
        .execute(conn)
        .await?;
    Ok(())
}

pub(crate) async fn head(conn: &mut Conn<'_>, org: &OrgId) -> Result<Option<AuditHead>, Failure> {
    let found = statement(HEAD).bind(text(org.as_str())).fetch_optional(conn).await?;
    let head = found.map(|found| {
        Ok::<_, Failure>(AuditHead { newest: link(&found, 0)?, pruned: link(&found, 3)? })
    });
    head.transpose()
}

/// The link in the three columns from `at` on.
pub(crate) fn link(found: &Row, at: usize) -> Result<AuditLink, Failure> {
    Ok(AuditLink {
        revision: Revision(found.try_get::<i64>(at)?.cast_unsigned()),
        number: found.try_get::<i64>(at + 1)?.cast_unsigned(),
        chain: found.try_get(at + 2)?,
    })
}

/// Notes that the organization's rows up to this one are removed.
pub(crate) async fn pruned(
    conn: &mut Conn<'_>,
    org: &OrgId,
    last: AuditLink,
) -> Result<(), Failure> {
    statement(PRUNED)
        .bind(last.revision.0.cast_signed())
        .bind(last.number.cast_signed())
        .bind(last.chain)
        .bind(text(org.as_str()))
        .execute(conn)
        .await?;
    Ok(())
}
