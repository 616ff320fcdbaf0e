use std::fmt::Debug;

use async_trait::async_trait;

use crate::analytics::Grain;
use crate::error::Result;
use crate::id::OrgId;
use crate::time::Timestamp;

/// Removes what is older than it is to be kept, a little at a time.
#[async_trait]
pub trait RetentionStore: Debug + Send + Sync + 'static {
    /// The first organization after `after` that has events, idempotency keys, audit rows,
    /// replays, lanes or sums of outcomes, deleted organizations included.
    async fn next_organization(&self, after: Option<&OrgId>) -> Result<Option<OrgId>>;

    /// Looks at up to `limit` records of one organization, from where `after` says, and removes
    /// those that are too old, all in one short transaction.
    ///
    /// With [`What::Records`] the records looked at are events in order of id, each with all its
    /// deliveries:
    /// - A delivery that ended before its cutoff is removed with its attempts and with what was
    ///   noted on it. One that is ready or leased never is.
    /// - An event that was received before its cutoff is removed once it has no delivery left,
    ///   unless a live idempotency key answers with it.
    ///
    /// With [`What::Replays`] the records looked at are jobs, and links to the deliveries they
    /// made: the links of a job go first, and it goes once it has none. The deliveries stay.
    ///
    /// With [`What::History`] a version is removed where the next one was made before the cutoff;
    /// the latest version of each resource stays.
    ///
    /// With [`What::Lanes`] the records looked at are lanes. One that keeps the order of a key is
    /// removed once nothing tells of it: it has no delivery in any state, leases nothing, is in
    /// good health and not blocked. Whoever makes a delivery for such a key meanwhile keeps the
    /// lane, or makes it anew; a delivery without a lane is never left behind. Lanes that keep no
    /// order stay, as there is one for each integration.
    async fn prune(&self, prune: &Prune) -> Result<Pruned>;
}

/// What to look at, and how old it may be.
#[derive(Clone, Debug)]
pub struct Prune {
    /// The organization.
    pub org: OrgId,
    /// The kind of record.
    pub what: What,
    /// The answer's `next` of the call before; nothing for the first.
    pub after: Option<String>,
    /// How many records are looked at, at least one. An event may have any number of deliveries: no
    /// more than [`deliveries`](Self::deliveries) of them go at once, and the rest is asked for
    /// again.
    pub limit: usize,
    /// The engine's time.
    pub now: Timestamp,
}

impl Prune {
    /// How many deliveries are removed by one call at the most: ten for each event.
    #[must_use]
    pub const fn deliveries(&self) -> usize {
        self.limit.saturating_mul(10)
    }
}

/// A kind of record and its cutoff.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum What {
    /// Events and deliveries with all that belongs to them.
    Records(Cutoffs),
    /// Idempotency keys whose time is over.
    Keys,
    /// Audit rows before a moment.
    Audit {
        /// The moment.
        before: Timestamp,
    },
    /// Versions of resources that were replaced before a moment.
    History {
        /// The moment.
        before: Timestamp,
    },
    /// Replays that ended before a moment, with which deliveries they made.
    Replays {
        /// The moment.
        before: Timestamp,
    },
    /// Lanes of ordering keys that have no delivery any more.
    Lanes,
    /// Sums of outcomes by hour and by day.
    Rollups(RollupCutoffs),
}

/// The moments before which sums of outcomes are removed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct RollupCutoffs {
    /// Hours that began before this.
    pub hours: Timestamp,
    /// Days that began before this.
    pub days: Timestamp,
}

impl RollupCutoffs {
    /// The moment for hours or days.
    #[must_use]
    pub const fn before(&self, grain: Grain) -> Timestamp {
        match grain {
            Grain::Hour => self.hours,
            Grain::Day => self.days,
        }
    }
}

/// The moments before which records are removed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Cutoffs {
    /// Events received before this.
    pub events: Timestamp,
    /// Deliveries that ended before this, but for dead ones.
    pub deliveries: Timestamp,
    /// Dead deliveries that ended before this.
    pub dead_letters: Timestamp,
}

impl Cutoffs {
    /// No event received at or after this has anything to remove.
    #[must_use]
    pub fn latest(&self) -> Timestamp {
        self.events.max(self.deliveries).max(self.dead_letters)
    }
}

/// What was removed.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Pruned {
    /// Events.
    pub events: u64,
    /// Deliveries, dead ones left out.
    pub deliveries: u64,
    /// Dead deliveries.
    pub dead_letters: u64,
    /// Idempotency keys.
    pub keys: u64,
    /// Audit rows.
    pub audit: u64,
    /// Versions of resources.
    pub history: u64,
    /// Replays, their links not counted.
    pub replays: u64,
    /// Lanes of ordering keys.
    pub lanes: u64,
    /// Sums of outcomes, by integration and hour or day.
    pub rollups: u64,
    /// Where to go on, in a form that only the store reads; nothing at the end.
    pub next: Option<String>,
}

impl Pruned {
    /// What was removed, by the name of its kind.
    #[must_use]
    pub const fn by_kind(&self) -> [(&'static str, u64); 9] {
        [
            ("event", self.events),
            ("delivery", self.deliveries),
            ("dead_letter", self.dead_letters),
            ("idempotency_key", self.keys),
            ("audit", self.audit),
            ("history", self.history),
            ("replay", self.replays),
            ("lane", self.lanes),
            ("rollup", self.rollups),
        ]
    }
}
