use async_trait::async_trait;
use icp_core::error::Result;
use icp_core::resource::{Note, NoteStore, Revision};
use sqlx::Database;

use crate::error::Failure;
use crate::link::Conn;
use crate::resource;
use crate::scope::Scope;
use crate::statement::statement;
use crate::store::{SqlStore, commit};

#[async_trait]
impl<D: Database> NoteStore for SqlStore<D> {
    async fn note(&self, note: Note) -> Result<Revision> {
        commit!(self, Scope::Of(&note.org), "write an audit row", |tx| write(tx, &note).await)
    }
}

pub(crate) const PUT: &str = "INSERT INTO icp_audit (revision, at, actor, request_id, action, \
     org, kind, id, note) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)";

/// Writes an audit row beside what else the transaction does.
pub(crate) async fn write(conn: &mut Conn<'_>, note: &Note) -> Result<Revision, Failure> {
    resource::lock(conn).await?;
    let revision = Revision(resource::last_revision(conn).await? + 1);
    statement(PUT)
        .bind(revision.0.cast_signed())
        .bind(note.now.as_millis())
        .bind(note.actor.name.clone())
        .bind(note.actor.request_id.clone())
        .bind(note.action.clone())
        .bind(note.org.as_str().to_owned())
        .bind(note.kind.clone())
        .bind(note.id.as_str().to_owned())
        .bind(note.note.clone())
        .execute(conn)
        .await?;
    Ok(revision)
}
