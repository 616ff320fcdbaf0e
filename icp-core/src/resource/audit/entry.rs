use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::hex;
use crate::id::ResourceId;
use crate::resource::{Actor, Change, Note, Record, Revision, Write};
use crate::store::PageQuery;
use crate::time::Timestamp;

/// Which audit rows to list.
#[derive(Clone, Debug, Default)]
pub struct AuditQuery {
    /// Only this kind of resource.
    pub kind: Option<String>,
    /// Only this resource.
    pub id: Option<ResourceId>,
    /// Only what this one did, by the name of the actor.
    pub actor: Option<String>,
    /// Only this action.
    pub action: Option<String>,
    /// Only rows of this moment or later.
    pub since: Option<Timestamp>,
    /// Only rows before this moment.
    pub until: Option<Timestamp>,
    /// Where the page starts and how long it is.
    pub page: PageQuery<Revision>,
}

impl AuditQuery {
    /// Whether the filters take `entry`.
    #[must_use]
    pub fn takes(&self, entry: &AuditEntry) -> bool {
        let is = |wanted: &Option<String>, found: &str| wanted.as_ref().is_none_or(|w| w == found);
        is(&self.kind, &entry.kind)
            && is(&self.actor, &entry.actor.name)
            && is(&self.action, &entry.action)
            && self.id.as_ref().is_none_or(|id| *id == entry.id)
            && self.since.is_none_or(|since| since <= entry.at)
            && self.until.is_none_or(|until| entry.at < until)
    }
}

/// One row of the audit log: who changed what, when.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, schemars::JsonSchema)]
pub struct AuditEntry {
    /// The write's revision.
    pub revision: Revision,
    /// 1 for the organization's first row, one more for each after it.
    pub number: u64,
    /// When.
    pub at: Timestamp,
    /// Who.
    pub actor: Actor,
    /// What was done.
    pub action: String,
    /// To which kind of resource.
    pub kind: String,
    /// To which resource.
    pub id: ResourceId,
    /// Lower-case hex SHA-256 of the spec before; `None` for a creation.
    pub before: Option<String>,
    /// Lower-case hex SHA-256 of the spec after; `None` for a deletion.
    pub after: Option<String>,
    /// What the action does not tell, for people.
    pub note: Option<String>,
    /// Lower-case hex SHA-256 of this row and of the chain of the row before it.
    pub chain: String,
}

impl AuditEntry {
    /// The row of a change that made `record` of `live`, before it is
    /// [appended](super::AuditHead::append).
    #[must_use]
    pub fn of_change(
        write: &Write,
        change: &Change,
        live: Option<&Record>,
        record: &Record,
    ) -> Self {
        Self {
            revision: record.revision,
            number: 0,
            at: write.now,
            actor: kept(&write.actor),
            action: change.action.clone(),
            kind: record.kind.to_string(),
            id: record.id.clone(),
            before: live.map(fingerprint),
            after: (!record.deleted).then(|| fingerprint(record)),
            note: None,
            chain: String::new(),
        }
    }

    /// The row of a note, before it is [appended](super::AuditHead::append).
    #[must_use]
    pub fn of_note(note: &Note, revision: Revision) -> Self {
        Self {
            revision,
            number: 0,
            at: note.now,
            actor: kept(&note.actor),
            action: note.action.clone(),
            kind: note.kind.clone(),
            id: note.id.clone(),
            before: None,
            after: None,
            note: note.note.clone(),
            chain: String::new(),
        }
    }
}

/// What it may do is of the moment, and not of the log.
fn kept(actor: &Actor) -> Actor {
    Actor { may: None, ..actor.clone() }
}

fn fingerprint(record: &Record) -> String {
    hex(&Sha256::digest(record.spec.to_string()))
}
