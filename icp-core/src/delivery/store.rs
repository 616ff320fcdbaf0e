use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::{Attempt, Delivery, DeliveryState, EndReason, Lane, LaneId, Lease, Next};
use crate::error::Result;
use crate::event::Event;
use crate::id::{DeliveryId, EventId, OrgId, ResourceId, SessionId};
use crate::resource::{Actor, Note};
use crate::store::{Page, PageQuery};
use crate::time::Timestamp;

/// Keeps deliveries, lanes, attempts and the sessions that lease them.
///
/// The invariants every implementation keeps, checked by [`audit`](DeliveryStore::audit):
/// a leased delivery has one owner and a lease; nothing leaves `leased` without its epoch; an
/// epoch never falls; one attempt for each delivery and epoch; a lane's `in_flight` is the
/// number of its leased deliveries; an event has exactly the deliveries it was fanned out to; an
/// ended delivery changes no more.
#[async_trait]
pub trait DeliveryStore: Debug + Send + Sync + 'static {
    /// Makes `session` known with beat 0, so that it may claim.
    async fn open_session(&self, session: SessionId, now: Timestamp) -> Result<()>;

    /// Counts the session's beat up.
    ///
    /// # Errors
    ///
    /// [`LeaseLost`](crate::Code::LeaseLost) where the session is not known any more: its
    /// leases are being rescued, and it must not start another send.
    async fn beat(&self, session: SessionId, now: Timestamp) -> Result<()>;

    /// All known sessions.
    async fn sessions(&self) -> Result<Vec<SessionBeat>>;

    /// Forgets a session that holds no leases any more; one that does stays, so that the reaper
    /// finds it, and unknown ones are ignored.
    async fn close_session(&self, session: SessionId) -> Result<()>;

    /// Leases due deliveries of runnable lanes to `claim.session`, lanes of lowest pass first.
    ///
    /// First turns on lanes whose `next_due` or `blocked_until` has passed. A lane is eligible
    /// while it is runnable, not paused, not blocked, and has room by [`Lane::room`]; a lane whose
    /// integration's rate is used up is blocked until there is some. Of each lane at most
    /// `claim.per_lane` are taken, in order of `due_at` and id; of a fifo lane only the oldest
    /// delivery by id that has not ended, and only if it is due. Each claimed delivery gets
    /// epoch + 1, tries + 1, owner and lease; its lane `in_flight` + 1 and
    /// `pass` + [`Lane::stride`]. A lane stays runnable if it may hold more due deliveries, else
    /// `next_due` is set to its earliest ready one.
    ///
    /// One that cannot be read keeps no other from being claimed: it ends dead with the reason
    /// `unreadable`, where its event cannot be read with `event_lost`.
    ///
    /// # Errors
    ///
    /// [`LeaseLost`](crate::Code::LeaseLost) where the session is not known. Nothing was
    /// claimed, or the leases end on their own.
    async fn claim(&self, claim: Claim) -> Result<Claimed>;

    /// Extends leases; answers those that are lost.
    async fn renew(&self, renew: Renew) -> Result<Vec<Lease>>;

    /// Records outcomes in one transaction, each guarded by its epoch and by being leased.
    ///
    /// A settlement whose lease is gone is [`Settled::Stale`] and changes nothing, its attempt
    /// is not kept either. For the others the attempt is written, the delivery changes as
    /// [`Next`] says, and its lane gets `in_flight` - 1, is woken for a retry (`runnable`
    /// when due, else `next_due`), and is blocked where `block_lane_until` says so (the later of
    /// two blocks holds). The attempt is taken into the lane's health by [`Lane::observe`], and
    /// deliveries that end into its pace. A [`Next::Refund`] takes one off `tries`; the epoch stays. Repeating a
    /// call answers `Stale` and harms nothing.
    async fn settle(&self, settle: Settle) -> Result<Vec<Settled>>;

    /// Takes leases away from a dead session, or from leases that are over.
    ///
    /// A rescued delivery gets rescues + 1 and is ready at once; with `max_rescues` reached it
    /// ends `dead` with the reason `poison`. With [`RescueOf::Session`] the session is forgotten
    /// first, in the same transaction, so that it can claim no more; the caller repeats until
    /// fewer than `limit` come back.
    async fn rescue(&self, rescue: Rescue) -> Result<Vec<Rescued>>;

    /// Ends ready deliveries whose time is over, and wakes lanes that sleep on due deliveries.
    async fn sweep(&self, sweep: Sweep) -> Result<Swept>;

    /// Makes a new delivery of the same event and integration as an ended one, linked to it.
    /// Repeated with the same new id it answers the delivery that was made, and writes no second
    /// audit row.
    ///
    /// # Errors
    ///
    /// [`DeliveryNotFound`](crate::Code::DeliveryNotFound);
    /// [`DeliveryStateConflict`](crate::Code::DeliveryStateConflict) where it has not ended.
    async fn replay(&self, replay: Replay) -> Result<Delivery>;

    /// Calls off a ready delivery, with an audit row. A leased one is not touched.
    ///
    /// # Errors
    ///
    /// As [`replay`](DeliveryStore::replay), the other way round.
    async fn cancel(&self, cancel: Cancel) -> Result<Delivery>;

    /// One delivery of an organization.
    async fn delivery(&self, org: &OrgId, id: DeliveryId) -> Result<Option<Delivery>>;

    /// Deliveries of an organization, newest first.
    async fn deliveries(&self, org: &OrgId, query: &DeliveryQuery) -> Result<Page<Delivery>>;

    /// The attempts of a delivery of the organization, oldest first.
    async fn attempts(&self, org: &OrgId, delivery: DeliveryId) -> Result<Vec<Attempt>>;

    /// Lanes of an organization, ordered by id.
    async fn lanes(&self, org: &OrgId, page: PageQuery<LaneId>) -> Result<Page<Lane>>;

    /// How many deliveries are in each state, over all organizations; states without deliveries may
    /// be left out. Open ones are counted at one moment of the call, so that one that changes hands
    /// is not missed, and ended ones then or later in it: one that ends meanwhile may be counted as
    /// both. For metrics and ledgers.
    async fn counts(&self) -> Result<Vec<(DeliveryState, u64)>>;

    /// Checks the invariants on what is stored; read-only, and may take long.
    async fn audit(&self) -> Result<Audit>;
}

/// A session as the reaper sees it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SessionBeat {
    /// The session.
    pub session: SessionId,
    /// How often it has beaten.
    pub beat: u64,
}

/// What to claim.
#[derive(Clone, Debug)]
pub struct Claim {
    /// Who claims.
    pub session: SessionId,
    /// The engine's time.
    pub now: Timestamp,
    /// When the leases end.
    pub lease_until: Timestamp,
    /// How many deliveries at the most.
    pub limit: usize,
    /// How many of one lane at the most.
    pub per_lane: usize,
    /// Organizations of which none are wanted.
    pub without: Arc<[OrgId]>,
}

/// What was claimed.
#[derive(Clone, Debug, Default)]
pub struct Claimed {
    /// The deliveries with their events.
    pub deliveries: Vec<ClaimedDelivery>,
    /// When the next lane wakes, where nothing more is due now.
    pub next_due: Option<Timestamp>,
    /// How many of the deliveries probe a receiver for a half-open breaker.
    pub probes: u64,
    /// How many lanes were blocked because the rate of their integration is used up.
    pub throttled: u64,
    /// How many deliveries were met that cannot be read. They ended as dead letters, which leaves
    /// the others of their lanes to go on.
    pub unreadable: u64,
}

/// A leased delivery and its event.
#[derive(Clone, Debug)]
pub struct ClaimedDelivery {
    /// The delivery, as it is after the claim.
    pub delivery: Delivery,
    /// Its event; shared where several deliveries carry it.
    pub event: Arc<Event>,
}

/// Which leases to extend.
#[derive(Clone, Debug)]
pub struct Renew {
    /// The leases.
    pub leases: Vec<Lease>,
    /// Their new end.
    pub until: Timestamp,
}

/// Outcomes to record together.
#[derive(Clone, Debug)]
pub struct Settle {
    /// The outcomes.
    pub settlements: Arc<[Settlement]>,
    /// The engine's time.
    pub now: Timestamp,
}

impl Settle {
    /// Ends leases whose events are not there or cannot be read, as dead for `event_lost`: nothing
    /// else can come of them, and they would be claimed again and again.
    #[must_use]
    pub fn event_lost(lost: &[Delivery], now: Timestamp) -> Self {
        let settlements = lost.iter().map(|delivery| Settlement {
            lease: Lease { delivery: delivery.id, epoch: delivery.epoch },
            lane: delivery.lane,
            attempt: None,
            next: Next::Dead {
                reason: EndReason::new("event_lost", "its event is not there or cannot be read"),
            },
            block_lane_until: None,
            notice: None,
        });
        Self { settlements: settlements.collect(), now }
    }

    /// The settlements that may hold: of each delivery the first of its latest lease. A batch that
    /// waited for long may hold a lease that was taken away beside the one that followed it.
    #[must_use]
    pub fn latest(&self) -> Vec<&Settlement> {
        let mut latest: HashMap<DeliveryId, u32> = HashMap::with_capacity(self.settlements.len());
        for Settlement { lease, .. } in &*self.settlements {
            let epoch = latest.entry(lease.delivery).or_insert(lease.epoch);
            *epoch = lease.epoch.max(*epoch);
        }
        let mut is_first = |lease: &Lease| {
            let first = latest.get(&lease.delivery) == Some(&lease.epoch);
            if first {
                latest.remove(&lease.delivery);
            }
            first
        };
        self.settlements.iter().filter(|settlement| is_first(&settlement.lease)).collect()
    }
}

/// The outcome of one lease.
#[derive(Clone, Debug)]
pub struct Settlement {
    /// The lease.
    pub lease: Lease,
    /// The lane of the delivery.
    pub lane: LaneId,
    /// What was tried; `None` where nothing was.
    pub attempt: Option<Attempt>,
    /// What becomes of the delivery.
    pub next: Next,
    /// Until when the receiver asked the whole lane to wait.
    pub block_lane_until: Option<Timestamp>,
    /// An operational event that is put into the outbox where this outcome is recorded.
    pub notice: Option<Arc<Event>>,
}

/// Whether an outcome was recorded.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Settled {
    /// It was.
    Recorded,
    /// The lease was gone; nothing changed.
    Stale,
}

/// Whose leases to take away.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RescueOf {
    /// Those of a session that is dead.
    Session(SessionId),
    /// Those that ended before this moment and whose owner is no known session.
    Orphans {
        /// The moment.
        before: Timestamp,
    },
}

/// Which leases to take away.
#[derive(Clone, Copy, Debug)]
pub struct Rescue {
    /// Whose.
    pub of: RescueOf,
    /// The engine's time.
    pub now: Timestamp,
    /// How many at the most.
    pub limit: usize,
    /// With how many rescues a delivery is poison.
    pub max_rescues: u32,
}

/// A delivery whose lease was taken away.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Rescued {
    /// The delivery.
    pub delivery: DeliveryId,
    /// Its organization.
    pub org: OrgId,
    /// Its state now: ready, or dead as poison.
    pub state: DeliveryState,
}

/// What a sweep looks for.
#[derive(Clone, Copy, Debug)]
pub struct Sweep {
    /// The engine's time.
    pub now: Timestamp,
    /// How many deliveries and lanes at the most.
    pub limit: usize,
}

/// What a sweep found.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Swept {
    /// Deliveries that ended as expired.
    pub expired: u64,
    /// Lanes that slept on due deliveries; a defect where it is not zero.
    pub woken: u64,
}

/// Which delivery to repeat.
#[derive(Clone, Debug)]
pub struct Replay {
    /// The organization.
    pub org: OrgId,
    /// The ended delivery.
    pub delivery: DeliveryId,
    /// The id of the new one.
    pub id: DeliveryId,
    /// When the new one ends as expired.
    pub expires_at: Option<Timestamp>,
    /// Who asks for it, for the audit row; `None` where the caller writes one row for many.
    pub actor: Option<Actor>,
    /// The engine's time; the new one is due at once.
    pub now: Timestamp,
}

/// Which delivery to call off.
#[derive(Clone, Debug)]
pub struct Cancel {
    /// The organization.
    pub org: OrgId,
    /// The delivery.
    pub delivery: DeliveryId,
    /// Why.
    pub reason: EndReason,
    /// Who asks for it, for the audit row.
    pub actor: Actor,
    /// The engine's time.
    pub now: Timestamp,
}

impl Replay {
    /// The audit row, where one is asked for.
    ///
    /// # Errors
    ///
    /// Within: never for an id of a delivery, which always makes a name.
    pub fn note(&self) -> Option<Result<Note>> {
        let actor = self.actor.clone()?;
        let text = format!("as {}", self.id);
        Some(noted(&self.org, self.delivery, "replay", actor, text, self.now))
    }
}

impl Cancel {
    /// The audit row.
    ///
    /// # Errors
    ///
    /// Never for an id of a delivery, which always makes a name.
    pub fn note(&self) -> Result<Note> {
        let actor = self.actor.clone();
        noted(&self.org, self.delivery, "cancel", actor, self.reason.message.clone(), self.now)
    }
}

fn noted(
    org: &OrgId,
    delivery: DeliveryId,
    action: &str,
    actor: Actor,
    note: String,
    now: Timestamp,
) -> Result<Note> {
    Ok(Note {
        org: org.clone(),
        actor,
        action: action.to_owned(),
        kind: "delivery".to_owned(),
        id: ResourceId::new(delivery.to_string())?,
        note: Some(note),
        now,
    })
}

/// Which deliveries to list.
#[derive(Clone, Debug, Default)]
pub struct DeliveryQuery {
    /// Only those in this state.
    pub state: Option<DeliveryState>,
    /// Only those of this event.
    pub event: Option<EventId>,
    /// Only those of this integration.
    pub integration: Option<ResourceId>,
    /// Where the page starts and how long it is.
    pub page: PageQuery<DeliveryId>,
}

/// The result of checking the invariants: how many deliveries or lanes break each.
#[derive(
    Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize, schemars::JsonSchema,
)]
pub struct Audit {
    /// Deliveries that were looked at.
    pub deliveries: u64,
    /// I1: leased without owner or lease, or not leased with one.
    pub lease_without_owner: u64,
    /// I2 and I3: an attempt with a higher epoch than its delivery, or more tries than epochs.
    pub epoch_behind: u64,
    /// I4: an attempt without a delivery; two of one epoch cannot be stored.
    pub attempt_without_delivery: u64,
    /// I5: lanes whose `in_flight` is not the number of leased deliveries.
    pub in_flight_wrong: u64,
    /// I6: events that have another number of deliveries than they were fanned out to.
    pub fan_out_wrong: u64,
    /// I7: ended deliveries that would be claimed or settled again.
    pub ended_but_open: u64,
    /// Deliveries without their lane or event.
    pub dangling: u64,
    /// Due deliveries on a lane that would never look.
    pub asleep: u64,
}

impl Audit {
    /// Whether nothing is broken.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        *self == Self { deliveries: self.deliveries, ..Self::default() }
    }
}
