use std::fmt::Debug;

use async_trait::async_trait;

use super::{Actor, AuditEntry, AuditHead, AuditQuery, Record, Revision};
use crate::delivery::health::LaneRules;
use crate::error::{Code, Error, Result};
use crate::id::{OrgId, ResourceId};
use crate::store::{Page, PageQuery};
use crate::time::Timestamp;

/// Keeps resources of every kind, with history, audit and a change feed.
#[async_trait]
pub trait ResourceStore: Debug + Send + Sync + 'static {
    /// Makes all changes in one transaction, or none.
    ///
    /// Writes are serialized: each change takes the next store-wide revision, counted on from
    /// those of changes and of [notes](super::NoteStore), and a later
    /// revision is never visible before an earlier one. With each change its history version,
    /// its audit row and its effects are written. The answer has one record for each change, in
    /// order. In each record handed in, `revision`, `version`, `created_at` and `updated_at`
    /// are ignored and set by the store (`updated_at` is `write.now`). A resource made again
    /// after its deletion counts its versions on.
    ///
    /// # Errors
    ///
    /// [`ResourceExists`](crate::Code::ResourceExists) for [`Expect::Absent`],
    /// [`ResourceNotFound`](crate::Code::ResourceNotFound) for a change or deletion of what is
    /// not there, [`RevisionConflict`](crate::Code::RevisionConflict) with the present revision
    /// in the message for [`Expect::Revision`], [`HandleTaken`](crate::Code::HandleTaken) where
    /// another resource holds one of [`Effect::Handles`]. Nothing was written.
    async fn write(&self, write: Write) -> Result<Vec<Record>>;

    /// The present version of a resource; `None` where it is not there or deleted.
    async fn resource(&self, org: &OrgId, kind: &str, id: &ResourceId) -> Result<Option<Record>>;

    /// The present resources of a kind in an organization, ordered by id.
    async fn resources(&self, org: &OrgId, kind: &str, query: &ListQuery) -> Result<Page<Record>>;

    /// The present resources of a kind in all organizations, ordered by organization and id,
    /// after the given position. For operators.
    async fn resources_of_all(
        &self,
        kind: &str,
        after: Option<(OrgId, ResourceId)>,
        limit: usize,
    ) -> Result<Vec<Record>>;

    /// The versions of a resource, deletions included, newest first; those before revision
    /// `before` where it is given.
    async fn history(
        &self,
        org: &OrgId,
        kind: &str,
        id: &ResourceId,
        before: Option<Revision>,
        limit: usize,
    ) -> Result<Vec<Record>>;

    /// The change feed: every version with a revision after `after`, deletions included, in
    /// order of revision.
    async fn changes(&self, after: Revision, limit: usize) -> Result<Vec<Record>>;

    /// The revision of the latest write.
    async fn head(&self) -> Result<Revision>;

    /// Audit rows of an organization, newest first.
    async fn audit_log(&self, org: &OrgId, query: &AuditQuery) -> Result<Page<AuditEntry>>;

    /// Where the chain of an organization's audit rows ends, and from where on rows are kept;
    /// `None` where it never had one.
    ///
    /// Every row, of a change or a [note](super::NoteStore), is [appended](AuditHead::append) to
    /// the chain in the write it tells of. Pruning moves the place from which rows are kept.
    async fn audit_head(&self, org: &OrgId) -> Result<Option<AuditHead>>;
}

/// Changes to be made together.
#[derive(Clone, Debug)]
pub struct Write {
    /// The changes, in order.
    pub changes: Vec<Change>,
    /// Who makes them.
    pub actor: Actor,
    /// The engine's time.
    pub now: Timestamp,
}

/// One change of one resource.
#[derive(Clone, Debug)]
pub struct Change {
    /// The new version; `deleted` makes it a deletion, for which spec and status are kept as
    /// they were.
    pub record: Record,
    /// What must be there before.
    pub expect: Expect,
    /// What the audit row calls it: `create`, `update`, `delete`, or a verb of the kind.
    pub action: String,
    /// What else changes in the same transaction.
    pub effects: Vec<Effect>,
}

/// What a write expects to find.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Expect {
    /// No resource of this id.
    Absent,
    /// The resource at this revision.
    Revision(Revision),
    /// The resource, at any revision.
    Present,
    /// Anything.
    Any,
}

/// What a change of configuration does to records of work, in the same transaction.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Effect {
    /// Sets what every lane of an integration takes from its configuration.
    Lanes {
        /// The integration.
        integration: ResourceId,
        /// How many deliveries of a parallel lane may be leased at once.
        max_in_flight: u32,
        /// Whether the lanes rest, those made later too: what is leased ends, nothing more is
        /// claimed.
        paused: bool,
    },
    /// Lets the lanes of an integration, or of the whole organization, rest or go on: those that
    /// are there, and those that are made later.
    ///
    /// It stands beside [`Lanes`](Self::Lanes): a lane rests as long as its integration is off,
    /// or is paused, or its organization is.
    Pause {
        /// The integration; `None` for the organization.
        integration: Option<ResourceId>,
        /// Whether they rest: what is leased ends, nothing more is claimed.
        paused: bool,
    },
    /// Sets how every lane of an integration treats its receiver. Where that changes, what the
    /// lanes remember is forgotten and their blocks end, as [`Lane::change_rules`] says, and so
    /// is what the integration used of its rate.
    ///
    /// [`Lane::change_rules`]: crate::delivery::Lane::change_rules
    Rules {
        /// The integration.
        integration: ResourceId,
        /// The rules.
        rules: LaneRules,
    },
    /// Sets the share of every lane of the organization, 1 to 100.
    Weight {
        /// The organization's share.
        weight: u32,
    },
    /// Says by which texts the resource of this change is found, in place of those it was found
    /// by: see [`AccessStore::holder`](crate::access::AccessStore::holder).
    ///
    /// Changes are made in order, so one that takes a handle over comes after the one that lets
    /// go of it. A deletion lets go of every handle, whatever its effects say; a change without
    /// this effect leaves them as they are.
    Handles {
        /// The handles, each of 1 to [`MAX_HANDLE`] bytes and unique in the whole store.
        handles: Vec<String>,
    },
}

/// How long a handle may be, in bytes.
pub const MAX_HANDLE: usize = 320;

impl Effect {
    /// What the deletion of a resource leaves of what its last version asked for: nothing rests
    /// for a resource that is gone, or its deliveries would never end.
    #[must_use]
    pub fn of_deletion(self) -> Self {
        match self {
            Self::Lanes { integration, max_in_flight, .. } => {
                Self::Lanes { integration, max_in_flight, paused: false }
            }
            Self::Rules { integration, .. } => Self::Rules { integration, rules: LaneRules::off() },
            Self::Pause { integration, .. } => Self::Pause { integration, paused: false },
            Self::Handles { .. } => Self::Handles { handles: Vec::new() },
            other @ Self::Weight { .. } => other,
        }
    }

    /// Refuses what no store can keep.
    ///
    /// # Errors
    ///
    /// [`ResourceInvalid`](crate::Code::ResourceInvalid) for a handle that is empty or too long.
    pub(crate) fn check(&self) -> Result<()> {
        let Self::Handles { handles } = self else { return Ok(()) };
        if handles.iter().all(|handle| (1..=MAX_HANDLE).contains(&handle.len())) {
            return Ok(());
        }
        let message = format!("use handles of 1 to {MAX_HANDLE} bytes");
        Err(Error::new(Code::ResourceInvalid, message))
    }
}

/// Which resources to list.
#[derive(Clone, Debug, Default)]
pub struct ListQuery {
    /// Only resources that have all these labels with these values.
    pub labels: Vec<(String, String)>,
    /// Where the page starts and how long it is.
    pub page: PageQuery<ResourceId>,
}
