//! What people configure: one mechanism for every kind of resource.

mod audit;
mod document;
mod entry;
#[cfg(test)]
pub(crate) mod fixture;
mod handlers;
mod index;
mod kind;
mod note;
mod search;
mod service;
mod store;
mod validate;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use audit::{
    AuditBreak, AuditCheck, AuditEntry, AuditFault, AuditHead, AuditLink, AuditQuery, verify_audit,
};
pub use document::{Document, Draft};
pub use entry::{Entry, OrgEntry};
pub use handlers::Handlers;
pub use index::Index;
pub use kind::{Admitted, Compiled, Kind, KindRegistry, Resource, Services, Spec, SpecContext};
pub use note::{Note, NoteStore};
pub use search::{Filter, Found, MAX_FILTERS, Position, Search, Sort, SortBy, select};
pub(crate) use service::Editing;
pub use service::{
    AuditDetail, BulkAction, BulkItem, CopiedKey, Difference, Duplicate, How, MAX_BULK, MAX_STEPS,
    OnExisting, Outcome, PlacedUnit, Report, Resources, Shown, Step, StepResult, Task,
};
pub use store::{Change, Effect, Expect, ListQuery, MAX_HANDLE, ResourceStore, Write};
pub(crate) use validate::{Structure, without_value};
pub use validate::{Violations, escape};

use crate::access::Authority;
use crate::id::{OrgId, ResourceId};
use crate::time::Timestamp;

/// The store-wide number of a write that has an audit row; a later write has a larger number.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    Deserialize,
    Eq,
    Hash,
    Ord,
    PartialEq,
    PartialOrd,
    Serialize,
    schemars::JsonSchema,
)]
#[serde(transparent)]
pub struct Revision(pub u64);

impl Revision {
    /// Before every write.
    pub const ZERO: Self = Self(0);
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A resource as stores keep it: metadata, and the spec as JSON with its secrets sealed.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// The organization it belongs to.
    pub org: OrgId,
    /// The name of its kind, as in `integration`.
    pub kind: Arc<str>,
    /// Its id within organization and kind.
    pub id: ResourceId,
    /// A name for people.
    pub name: Option<String>,
    /// Free labels.
    pub labels: BTreeMap<String, String>,
    /// The typed spec, with secrets sealed.
    pub spec: serde_json::Value,
    /// What the engine noted about it; `null` where there is nothing.
    pub status: serde_json::Value,
    /// The number of the write that made this version.
    pub revision: Revision,
    /// 1 for the first version, one more for each write.
    pub version: u64,
    /// When the first version was written.
    pub created_at: Timestamp,
    /// When this version was written.
    pub updated_at: Timestamp,
    /// Whether this version says that the resource is gone.
    pub deleted: bool,
}

/// Who makes a change, for the audit row.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, schemars::JsonSchema)]
pub struct Actor {
    /// Who, as in `key:key_01…`, `host` or `engine`.
    pub name: String,
    /// In whose place it acts, where it does: `name` stays who really acts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acting_as: Option<String>,
    /// The id of the request that caused it.
    pub request_id: Option<String>,
    /// What it may do, and so the most that it may let others do; `None` for who may do all.
    /// Not kept.
    #[serde(skip)]
    #[schemars(skip)]
    pub may: Option<Authority>,
}

impl Actor {
    /// The host's own code.
    #[must_use]
    pub fn host() -> Self {
        Self { name: "host".into(), acting_as: None, request_id: None, may: None }
    }

    /// The engine itself.
    #[must_use]
    pub fn engine() -> Self {
        Self { name: "engine".into(), ..Self::host() }
    }
}
