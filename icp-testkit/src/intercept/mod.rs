//! A store with something around each of its calls: what counts, delays, breaks or ends them.

use std::fmt::Debug;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use async_trait::async_trait;
use icp_core::Result;
use icp_core::access::{AccessStore, Holder};
use icp_core::analytics::*;
use icp_core::delivery::*;
use icp_core::erasure::*;
use icp_core::event::*;
use icp_core::id::{DeliveryId, EventId, OrgId, ReplayId, ResourceId, SessionId};
use icp_core::letter::*;
use icp_core::replay::*;
use icp_core::resource::*;
use icp_core::retention::*;
use icp_core::slot::*;
use icp_core::store::{Page, PageQuery, Store, StoreInfo};
use icp_core::time::Timestamp;

/// A call of a store that is about to be made; nothing happens before it is awaited.
pub type Call<'a, T> = Pin<Box<dyn Future<Output = Result<T>> + Send + 'a>>;

/// What stands around the calls of a store.
pub trait Intercept: Debug + Send + Sync + 'static {
    /// Makes `call`, or does not, and answers what the caller of `operation` is to see. The
    /// operation is named as its method is, as in `ingest` or `step_replay`.
    fn around<'a, T: Send + 'a>(
        &'a self,
        operation: &'static str,
        call: Call<'a, T>,
    ) -> impl Future<Output = Result<T>> + Send + 'a;
}

/// A store all of whose calls go through an [`Intercept`]; [`info`](Store::info) and
/// [`wakeup`](Store::wakeup) do not.
#[derive(Debug)]
pub struct Intercepted<I> {
    store: Arc<dyn Store>,
    intercept: I,
}

impl<I: Intercept> Intercepted<I> {
    /// Puts `intercept` around `store`.
    pub fn new(store: Arc<dyn Store>, intercept: I) -> Self {
        Self { store, intercept }
    }

    /// What stands around the store.
    pub fn intercept(&self) -> &I {
        &self.intercept
    }
}

macro_rules! through {
    ($($noun:ident { $($name:ident($($given:ident: $type:ty),*) -> $answer:ty;)+ })+) => {
        $(#[async_trait]
        impl<I: Intercept> $noun for Intercepted<I> {
            $(async fn $name(&self, $($given: $type),*) -> Result<$answer> {
                self.intercept.around(stringify!($name), self.store.$name($($given),*)).await
            })+
        })+
    };
}

through! {
    ResourceStore {
        write(write: Write) -> Vec<Record>;
        resource(org: &OrgId, kind: &str, id: &ResourceId) -> Option<Record>;
        resources(org: &OrgId, kind: &str, query: &ListQuery) -> Page<Record>;
        resources_of_all(
            kind: &str,
            after: Option<(OrgId, ResourceId)>,
            limit: usize
        ) -> Vec<Record>;
        history(
            org: &OrgId,
            kind: &str,
            id: &ResourceId,
            before: Option<Revision>,
            limit: usize
        ) -> Vec<Record>;
        changes(after: Revision, limit: usize) -> Vec<Record>;
        head() -> Revision;
        audit_log(org: &OrgId, query: &AuditQuery) -> Page<AuditEntry>;
        audit_head(org: &OrgId) -> Option<AuditHead>;
    }
    NoteStore {
        note(note: icp_core::resource::Note) -> Revision;
    }
    EventStore {
        ingest(batch: Ingest) -> Vec<Ingested>;
        event(org: &OrgId, id: EventId) -> Option<Event>;
        events(org: &OrgId, query: &EventQuery) -> Page<EventSummary>;
        outbox(without: &[OrgId], limit: usize) -> Vec<OutboxEntry>;
    }
    DeliveryStore {
        open_session(session: SessionId, now: Timestamp) -> ();
        beat(session: SessionId, now: Timestamp) -> ();
        sessions() -> Vec<SessionBeat>;
        close_session(session: SessionId) -> ();
        claim(claim: Claim) -> Claimed;
        renew(renew: Renew) -> Vec<Lease>;
        settle(settle: Settle) -> Vec<Settled>;
        rescue(rescue: Rescue) -> Vec<Rescued>;
        sweep(sweep: Sweep) -> Swept;
        replay(replay: Replay) -> Delivery;
        cancel(cancel: Cancel) -> Delivery;
        delivery(org: &OrgId, id: DeliveryId) -> Option<Delivery>;
        deliveries(org: &OrgId, query: &DeliveryQuery) -> Page<Delivery>;
        attempts(org: &OrgId, delivery: DeliveryId) -> Vec<Attempt>;
        lanes(org: &OrgId, page: PageQuery<LaneId>) -> Page<Lane>;
        counts() -> Vec<(DeliveryState, u64)>;
        audit() -> Audit;
    }
    LaneStore {
        backlogs(org: &OrgId, lanes: &[LaneId]) -> Vec<LaneBacklog>;
        meters(org: &OrgId) -> Vec<(ResourceId, health::Meter)>;
        lane_totals(now: Timestamp) -> LaneTotals;
    }
    CancelStore {
        cancel_some(batch: CancelBatch) -> CancelledSome;
        leased(org: &OrgId, filter: &DeliveryFilter) -> u64;
    }
    ReplayStore {
        create_replay(job: ReplayJob) -> ReplayJob;
        replay_job(org: &OrgId, id: ReplayId) -> Option<ReplayJob>;
        replay_jobs(org: &OrgId, query: &ReplayQuery) -> Page<ReplayJob>;
        change_replay(
            org: &OrgId,
            id: ReplayId,
            change: ReplayChange,
            now: Timestamp
        ) -> ReplayJob;
        claim_replay(claim: ReplayClaim) -> ReplayClaimed;
        step_replay(step: &ReplayStep) -> ReplayJob;
        release_replays(session: SessionId, now: Timestamp) -> ();
        scan_replay(scan: &ReplayScan) -> ReplayScanned;
        count_events(range: &EventRange, most: u64) -> u64;
        replay_deliveries(org: &OrgId, query: &ReplayDeliveries) -> Page<Delivery>;
    }
    LetterStore {
        letters(org: &OrgId, ids: &[DeliveryId]) -> Vec<Letter>;
        letter_groups(org: &OrgId, query: &GroupQuery) -> LetterGroups;
        annotate(note: NewNote) -> ();
        abandon(abandon: Abandon) -> Vec<Abandoned>;
        due_letters(now: Timestamp, limit: usize) -> Vec<DueLetter>;
        judge(judgements: &[Judgement], now: Timestamp) -> Vec<bool>;
    }
    RetentionStore {
        next_organization(after: Option<&OrgId>) -> Option<OrgId>;
        prune(prune: &Prune) -> Pruned;
    }
    ErasureStore {
        erase(erase: &Erase) -> Erased;
        finish_erasures(limit: usize, now: Timestamp) -> u64;
    }
    AnalyticsStore {
        add_rollups(batch: &RollupBatch) -> ();
        rollups(org: &OrgId, query: &RollupQuery) -> Vec<Rollup>;
        rolled_failures(org: &OrgId, query: &RollupQuery, limit: usize) -> Vec<FailureCount>;
    }
    AccessStore {
        holder(handle: &str) -> Option<Holder>;
    }
    SlotStore {
        slot(key: &str, now: Timestamp) -> Option<Slot>;
        put_slot(slot: NewSlot, expect: SlotExpect, now: Timestamp) -> bool;
        remove_slot(key: &str, expect: Option<u64>) -> bool;
        sweep_slots(now: Timestamp, limit: usize) -> u64;
    }
}

#[async_trait]
impl<I: Intercept> Store for Intercepted<I> {
    fn info(&self) -> StoreInfo {
        self.store.info()
    }

    async fn ping(&self) -> Result<()> {
        self.intercept.around("ping", self.store.ping()).await
    }

    async fn wakeup(&self) {
        self.store.wakeup().await;
    }

    fn hears(&self) -> bool {
        self.store.hears()
    }

    async fn hint_others(&self) -> Result<()> {
        self.store.hint_others().await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use icp_core::store::MemoryStore;
    use icp_core::{Code, Error};

    use super::*;

    /// Notes every call and ends no session.
    #[derive(Debug, Default)]
    struct NoEnd(Mutex<Vec<&'static str>>);

    impl Intercept for NoEnd {
        async fn around<'a, T: Send + 'a>(
            &'a self,
            operation: &'static str,
            call: Call<'a, T>,
        ) -> Result<T> {
            self.0.lock().unwrap().push(operation);
            if operation == "close_session" {
                return Err(Error::new(Code::StoreUnavailable, "not today"));
            }
            call.await
        }
    }

    #[tokio::test]
    async fn each_call_goes_through_and_may_be_kept_from_the_store() {
        let memory = MemoryStore::new();
        let store = Intercepted::new(Arc::new(memory.clone()), NoEnd::default());
        let session = SessionId::from_bytes([1; 16]);
        let now = Timestamp::from_millis(0);
        store.open_session(session, now).await.unwrap();
        store.close_session(session).await.unwrap_err();
        store.ping().await.unwrap();
        assert_eq!(memory.sessions().await.unwrap().len(), 1);
        let calls = store.intercept().0.lock().unwrap().clone();
        assert_eq!(calls, ["open_session", "close_session", "ping"]);
        assert_eq!(store.info(), memory.info());
    }
}
