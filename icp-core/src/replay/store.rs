use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;

use super::job::ReplayJob;
use super::state::{ReplayChange, ReplayState};
use crate::delivery::{Delivery, DeliveryState, EndReason};
use crate::error::Result;
use crate::event::{Event, NewDelivery};
use crate::id::{DeliveryId, EventId, OrgId, ReplayId, ResourceId, SessionId};
use crate::store::{Page, PageQuery};
use crate::time::Timestamp;

/// Keeps replay jobs, and writes what they make.
#[async_trait]
pub trait ReplayStore: Debug + Send + Sync + 'static {
    /// Keeps a new job; one with this id that is there already is left as it is and answered.
    async fn create_replay(&self, job: ReplayJob) -> Result<ReplayJob>;

    /// One job of an organization.
    async fn replay_job(&self, org: &OrgId, id: ReplayId) -> Result<Option<ReplayJob>>;

    /// Jobs of an organization, newest first.
    async fn replay_jobs(&self, org: &OrgId, query: &ReplayQuery) -> Result<Page<ReplayJob>>;

    /// Changes a job as [`ReplayJob::change`] says.
    ///
    /// # Errors
    ///
    /// [`ReplayNotFound`](crate::Code::ReplayNotFound);
    /// [`ReplayStateConflict`](crate::Code::ReplayStateConflict).
    async fn change_replay(
        &self,
        org: &OrgId,
        id: ReplayId,
        change: ReplayChange,
        now: Timestamp,
    ) -> Result<ReplayJob>;

    /// Takes the job that is claimable ([`ReplayJob::is_claimable`]) and has waited longest, as
    /// [`ReplayJob::claim`] says. Two nodes never hold one job at the same fence.
    async fn claim_replay(&self, claim: ReplayClaim) -> Result<ReplayClaimed>;

    /// Writes a batch in one transaction: the new deliveries with their lanes, their link to the
    /// job, and the job itself as [`ReplayJob::advance`] says.
    ///
    /// An item is left out where the newest delivery of its event to its integration is not
    /// [`replay_of`](NewReplay::replay_of) any more: somebody else has replayed it meanwhile. An
    /// item that replays nothing raises the count of deliveries the event was fanned out to. Lanes
    /// are made and woken as [`EventStore::ingest`](crate::event::EventStore::ingest) does.
    ///
    /// # Errors
    ///
    /// [`LeaseLost`](crate::Code::LeaseLost) where [`ReplayJob::admit`] refuses the step; nothing
    /// was written. A step that was written is refused when it is repeated.
    async fn step_replay(&self, step: &ReplayStep) -> Result<ReplayJob>;

    /// Gives back the open jobs that the session owns.
    async fn release_replays(&self, session: SessionId, now: Timestamp) -> Result<()>;

    /// Events of a range after a place, in the order of their ids, each with all its deliveries.
    async fn scan_replay(&self, scan: &ReplayScan) -> Result<ReplayScanned>;

    /// How many events a range has, counted up to `most`.
    async fn count_events(&self, range: &EventRange, most: u64) -> Result<u64>;

    /// The deliveries a job has made, newest first.
    async fn replay_deliveries(
        &self,
        org: &OrgId,
        query: &ReplayDeliveries,
    ) -> Result<Page<Delivery>>;
}

/// The events of an organization that were received in a range of time.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct EventRange {
    /// The organization.
    pub org: OrgId,
    /// Received at or after this moment.
    pub since: Timestamp,
    /// Received before this moment.
    pub until: Timestamp,
}

impl EventRange {
    /// How far the moment in an event's id may be from when it was received: ids never go back
    /// where a clock does. 1 day, in milliseconds.
    const SLACK: i64 = 86_400_000;

    /// The ids between which the events of the range are, both exclusive.
    #[must_use]
    pub fn ids(&self) -> (EventId, EventId) {
        let bound = |millis: i64| {
            let millis = Timestamp::from_millis(millis).as_millis().unsigned_abs();
            EventId::from_bytes((u128::from(millis) << 80).to_be_bytes())
        };
        let (since, until) = (self.since.as_millis(), self.until.as_millis());
        (bound(since - Self::SLACK), bound(until.saturating_add(Self::SLACK)))
    }

    /// Whether the event is of the range.
    #[must_use]
    pub fn takes(&self, event: &Event) -> bool {
        event.org == self.org && (self.since..self.until).contains(&event.received_at)
    }
}

/// Which jobs to list.
#[derive(Clone, Debug, Default)]
pub struct ReplayQuery {
    /// Only those in this state.
    pub state: Option<ReplayState>,
    /// Where the page starts and how long it is.
    pub page: PageQuery<ReplayId>,
}

/// Which deliveries of a job to list.
#[derive(Clone, Copy, Debug)]
pub struct ReplayDeliveries {
    /// The job.
    pub job: ReplayId,
    /// Where the page starts and how long it is.
    pub page: PageQuery<DeliveryId>,
}

/// Who asks for work.
#[derive(Clone, Copy, Debug)]
pub struct ReplayClaim {
    /// The node.
    pub session: SessionId,
    /// The engine's time.
    pub now: Timestamp,
    /// When the lease ends.
    pub lease_until: Timestamp,
}

/// The job that was taken.
#[derive(Clone, Debug, Default)]
pub struct ReplayClaimed {
    /// The job, as it is after the claim.
    pub job: Option<ReplayJob>,
    /// When the next open job gets due, where none was taken.
    pub next_at: Option<Timestamp>,
}

/// A batch of a job.
#[derive(Clone, Debug)]
pub struct ReplayStep {
    /// The job.
    pub job: ReplayId,
    /// The fence it was claimed with.
    pub fence: u64,
    /// The last event that was looked at before.
    pub from: Option<EventId>,
    /// The last event that was looked at now.
    pub to: Option<EventId>,
    /// How many events were looked at.
    pub examined: u64,
    /// How many deliveries were not planned though they were wanted.
    pub skipped: u64,
    /// The deliveries to make, in order.
    pub items: Vec<NewReplay>,
    /// What went wrong.
    pub error: Option<EndReason>,
    /// How the job goes on.
    pub next: ReplayNext,
    /// The engine's time.
    pub now: Timestamp,
}

/// How a job goes on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ReplayNext {
    /// With another batch.
    At {
        /// When.
        next_at: Timestamp,
        /// Until when the node keeps it.
        lease_until: Timestamp,
    },
    /// It is through.
    Done,
    /// It cannot go on; the step's error says why.
    Failed,
}

/// A delivery that a job makes.
#[derive(Clone, Debug)]
pub struct NewReplay {
    /// The event.
    pub event: EventId,
    /// The newest delivery of the event to the integration, which has ended.
    pub replay_of: Option<DeliveryId>,
    /// The delivery.
    pub new: NewDelivery,
}

/// Which events to look at.
#[derive(Clone, Debug)]
pub struct ReplayScan {
    /// The range.
    pub range: EventRange,
    /// The last event that was looked at.
    pub after: Option<EventId>,
    /// How many events at the most.
    pub limit: usize,
    /// After how many bytes of bodies to stop.
    pub bytes: usize,
}

/// What a look found.
#[derive(Clone, Debug, Default)]
pub struct ReplayScanned {
    /// The events, in the order of their ids.
    pub events: Vec<ScannedEvent>,
    /// Whether more may follow.
    pub more: bool,
}

/// An event and how its deliveries stand.
#[derive(Clone, Debug)]
pub struct ScannedEvent {
    /// The event.
    pub event: Arc<Event>,
    /// Its deliveries.
    pub deliveries: Vec<Standing>,
}

/// How a delivery stands.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Standing {
    /// The delivery.
    pub delivery: DeliveryId,
    /// The integration it goes to.
    pub integration: ResourceId,
    /// Its state.
    pub state: DeliveryState,
}
