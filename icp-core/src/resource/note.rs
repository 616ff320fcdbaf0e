use std::fmt::Debug;

use async_trait::async_trait;

use super::{Actor, Revision};
use crate::error::Result;
use crate::id::{OrgId, ResourceId};
use crate::time::Timestamp;

/// Keeps audit rows of what changes no configuration.
///
/// They stand in one log with those of configuration, and take their numbers from the same count.
/// The change feed does not show them: to it, their numbers are left out.
#[async_trait]
pub trait NoteStore: Debug + Send + Sync + 'static {
    /// Writes one audit row; not idempotent, so that a repeated call shows as a second row.
    async fn note(&self, note: Note) -> Result<Revision>;
}

/// What somebody did to records of work.
#[derive(Clone, Debug)]
pub struct Note {
    /// The organization.
    pub org: OrgId,
    /// Who.
    pub actor: Actor,
    /// What was done.
    pub action: String,
    /// To which kind of thing, as in `delivery` or `integration`.
    pub kind: String,
    /// To which one.
    pub id: ResourceId,
    /// What the action does not tell, for people; without secrets.
    pub note: Option<String>,
    /// The engine's time.
    pub now: Timestamp,
}
