//! A store whose reads of configuration can be held back after they were made.

use async_trait::async_trait;
use tokio::sync::watch;

use crate::access::{AccessStore, Holder};
use crate::analytics::{AnalyticsStore, FailureCount, Rollup, RollupBatch, RollupQuery};
use crate::delivery::health::Meter;
use crate::delivery::*;
use crate::erasure::{Erase, Erased, ErasureStore};
use crate::error::Result;
use crate::event::{Event, EventQuery, EventStore, EventSummary, Ingest, Ingested, OutboxEntry};
use crate::id::{DeliveryId, EventId, OrgId, ReplayId, ResourceId, SessionId};
use crate::letter::*;
use crate::replay::*;
use crate::resource::{
    AuditEntry, AuditHead, AuditQuery, ListQuery, Note, NoteStore, Record, ResourceStore, Revision,
    Write,
};
use crate::retention::{Prune, Pruned, RetentionStore};
use crate::slot::{NewSlot, Slot, SlotExpect, SlotStore};
use crate::store::{MemoryStore, Page, PageQuery, Store, StoreInfo};
use crate::time::Timestamp;

/// Delegates to a [`MemoryStore`]; while it is shut, pages of resources are read and counted at
/// once, and handed out when it opens.
#[derive(Clone, Debug)]
pub(super) struct GatedStore {
    inner: MemoryStore,
    open: watch::Sender<bool>,
    reads: watch::Sender<usize>,
}

impl GatedStore {
    pub(super) fn new() -> Self {
        Self {
            inner: MemoryStore::new(),
            open: watch::Sender::new(true),
            reads: watch::Sender::new(0),
        }
    }

    pub(super) fn shut(&self) {
        self.reads.send_replace(0);
        self.open.send_replace(false);
    }

    pub(super) fn open(&self) {
        self.open.send_replace(true);
    }

    /// How many pages were read since it was last shut.
    pub(super) fn reads(&self) -> usize {
        *self.reads.borrow()
    }

    /// Waits until a page was read that is held back.
    pub(super) async fn reached(&self) {
        self.reads.subscribe().wait_for(|reads| *reads > 0).await.unwrap();
    }
}

#[async_trait]
impl Store for GatedStore {
    fn info(&self) -> StoreInfo {
        self.inner.info()
    }

    async fn ping(&self) -> Result<()> {
        self.inner.ping().await
    }

    async fn wakeup(&self) {
        self.inner.wakeup().await;
    }
}

#[async_trait]
impl ResourceStore for GatedStore {
    async fn write(&self, write: Write) -> Result<Vec<Record>> {
        self.inner.write(write).await
    }

    async fn resource(&self, org: &OrgId, kind: &str, id: &ResourceId) -> Result<Option<Record>> {
        self.inner.resource(org, kind, id).await
    }

    async fn resources(&self, org: &OrgId, kind: &str, query: &ListQuery) -> Result<Page<Record>> {
        let found = self.inner.resources(org, kind, query).await;
        self.reads.send_modify(|reads| *reads += 1);
        let mut open = self.open.subscribe();
        open.wait_for(|open| *open).await.unwrap();
        found
    }

    async fn resources_of_all(
        &self,
        kind: &str,
        after: Option<(OrgId, ResourceId)>,
        limit: usize,
    ) -> Result<Vec<Record>> {
        self.inner.resources_of_all(kind, after, limit).await
    }

    async fn history(
        &self,
        org: &OrgId,
        kind: &str,
        id: &ResourceId,
        before: Option<Revision>,
        limit: usize,
    ) -> Result<Vec<Record>> {
        self.inner.history(org, kind, id, before, limit).await
    }

    async fn changes(&self, after: Revision, limit: usize) -> Result<Vec<Record>> {
        self.inner.changes(after, limit).await
    }

    async fn head(&self) -> Result<Revision> {
        self.inner.head().await
    }

    async fn audit_log(&self, org: &OrgId, query: &AuditQuery) -> Result<Page<AuditEntry>> {
        self.inner.audit_log(org, query).await
    }

    async fn audit_head(&self, org: &OrgId) -> Result<Option<AuditHead>> {
        self.inner.audit_head(org).await
    }
}

#[async_trait]
impl EventStore for GatedStore {
    async fn ingest(&self, batch: Ingest) -> Result<Vec<Ingested>> {
        self.inner.ingest(batch).await
    }

    async fn event(&self, org: &OrgId, id: EventId) -> Result<Option<Event>> {
        self.inner.event(org, id).await
    }

    async fn events(&self, org: &OrgId, query: &EventQuery) -> Result<Page<EventSummary>> {
        self.inner.events(org, query).await
    }

    async fn outbox(&self, without: &[OrgId], limit: usize) -> Result<Vec<OutboxEntry>> {
        self.inner.outbox(without, limit).await
    }
}

#[async_trait]
impl LaneStore for GatedStore {
    async fn backlogs(&self, org: &OrgId, lanes: &[LaneId]) -> Result<Vec<LaneBacklog>> {
        self.inner.backlogs(org, lanes).await
    }

    async fn meters(&self, org: &OrgId) -> Result<Vec<(ResourceId, Meter)>> {
        self.inner.meters(org).await
    }

    async fn lane_totals(&self, now: Timestamp) -> Result<LaneTotals> {
        self.inner.lane_totals(now).await
    }
}

#[async_trait]
impl DeliveryStore for GatedStore {
    async fn open_session(&self, session: SessionId, now: Timestamp) -> Result<()> {
        self.inner.open_session(session, now).await
    }

    async fn beat(&self, session: SessionId, now: Timestamp) -> Result<()> {
        self.inner.beat(session, now).await
    }

    async fn sessions(&self) -> Result<Vec<SessionBeat>> {
        self.inner.sessions().await
    }

    async fn close_session(&self, session: SessionId) -> Result<()> {
        self.inner.close_session(session).await
    }

    async fn claim(&self, claim: Claim) -> Result<Claimed> {
        self.inner.claim(claim).await
    }

    async fn renew(&self, renew: Renew) -> Result<Vec<Lease>> {
        self.inner.renew(renew).await
    }

    async fn settle(&self, settle: Settle) -> Result<Vec<Settled>> {
        self.inner.settle(settle).await
    }

    async fn rescue(&self, rescue: Rescue) -> Result<Vec<Rescued>> {
        self.inner.rescue(rescue).await
    }

    async fn sweep(&self, sweep: Sweep) -> Result<Swept> {
        self.inner.sweep(sweep).await
    }

    async fn replay(&self, replay: Replay) -> Result<Delivery> {
        self.inner.replay(replay).await
    }

    async fn cancel(&self, cancel: Cancel) -> Result<Delivery> {
        self.inner.cancel(cancel).await
    }

    async fn delivery(&self, org: &OrgId, id: DeliveryId) -> Result<Option<Delivery>> {
        self.inner.delivery(org, id).await
    }

    async fn deliveries(&self, org: &OrgId, query: &DeliveryQuery) -> Result<Page<Delivery>> {
        self.inner.deliveries(org, query).await
    }

    async fn attempts(&self, org: &OrgId, delivery: DeliveryId) -> Result<Vec<Attempt>> {
        self.inner.attempts(org, delivery).await
    }

    async fn lanes(&self, org: &OrgId, page: PageQuery<LaneId>) -> Result<Page<Lane>> {
        self.inner.lanes(org, page).await
    }

    async fn counts(&self) -> Result<Vec<(DeliveryState, u64)>> {
        self.inner.counts().await
    }

    async fn audit(&self) -> Result<Audit> {
        self.inner.audit().await
    }
}

#[async_trait]
impl ReplayStore for GatedStore {
    async fn create_replay(&self, job: ReplayJob) -> Result<ReplayJob> {
        self.inner.create_replay(job).await
    }

    async fn replay_job(&self, org: &OrgId, id: ReplayId) -> Result<Option<ReplayJob>> {
        self.inner.replay_job(org, id).await
    }

    async fn replay_jobs(&self, org: &OrgId, query: &ReplayQuery) -> Result<Page<ReplayJob>> {
        self.inner.replay_jobs(org, query).await
    }

    async fn change_replay(
        &self,
        org: &OrgId,
        id: ReplayId,
        change: ReplayChange,
        now: Timestamp,
    ) -> Result<ReplayJob> {
        self.inner.change_replay(org, id, change, now).await
    }

    async fn claim_replay(&self, claim: ReplayClaim) -> Result<ReplayClaimed> {
        self.inner.claim_replay(claim).await
    }

    async fn step_replay(&self, step: &ReplayStep) -> Result<ReplayJob> {
        self.inner.step_replay(step).await
    }

    async fn release_replays(&self, session: SessionId, now: Timestamp) -> Result<()> {
        self.inner.release_replays(session, now).await
    }

    async fn scan_replay(&self, scan: &ReplayScan) -> Result<ReplayScanned> {
        self.inner.scan_replay(scan).await
    }

    async fn count_events(&self, range: &EventRange, most: u64) -> Result<u64> {
        self.inner.count_events(range, most).await
    }

    async fn replay_deliveries(
        &self,
        org: &OrgId,
        query: &ReplayDeliveries,
    ) -> Result<Page<Delivery>> {
        self.inner.replay_deliveries(org, query).await
    }
}

#[async_trait]
impl LetterStore for GatedStore {
    async fn letters(&self, org: &OrgId, ids: &[DeliveryId]) -> Result<Vec<Letter>> {
        self.inner.letters(org, ids).await
    }

    async fn letter_groups(&self, org: &OrgId, query: &GroupQuery) -> Result<LetterGroups> {
        self.inner.letter_groups(org, query).await
    }

    async fn annotate(&self, note: NewNote) -> Result<()> {
        self.inner.annotate(note).await
    }

    async fn abandon(&self, abandon: Abandon) -> Result<Vec<Abandoned>> {
        self.inner.abandon(abandon).await
    }

    async fn due_letters(&self, now: Timestamp, limit: usize) -> Result<Vec<DueLetter>> {
        self.inner.due_letters(now, limit).await
    }

    async fn judge(&self, judgements: &[Judgement], now: Timestamp) -> Result<Vec<bool>> {
        self.inner.judge(judgements, now).await
    }
}

#[async_trait]
impl RetentionStore for GatedStore {
    async fn next_organization(&self, after: Option<&OrgId>) -> Result<Option<OrgId>> {
        self.inner.next_organization(after).await
    }

    async fn prune(&self, prune: &Prune) -> Result<Pruned> {
        self.inner.prune(prune).await
    }
}

#[async_trait]
impl ErasureStore for GatedStore {
    async fn erase(&self, erase: &Erase) -> Result<Erased> {
        self.inner.erase(erase).await
    }

    async fn finish_erasures(&self, limit: usize, now: Timestamp) -> Result<u64> {
        self.inner.finish_erasures(limit, now).await
    }
}

#[async_trait]
impl AccessStore for GatedStore {
    async fn holder(&self, handle: &str) -> Result<Option<Holder>> {
        self.inner.holder(handle).await
    }
}

#[async_trait]
impl NoteStore for GatedStore {
    async fn note(&self, note: Note) -> Result<Revision> {
        self.inner.note(note).await
    }
}

#[async_trait]
impl CancelStore for GatedStore {
    async fn cancel_some(&self, batch: CancelBatch) -> Result<CancelledSome> {
        self.inner.cancel_some(batch).await
    }

    async fn leased(&self, org: &OrgId, filter: &DeliveryFilter) -> Result<u64> {
        self.inner.leased(org, filter).await
    }
}

#[async_trait]
impl SlotStore for GatedStore {
    async fn slot(&self, key: &str, now: Timestamp) -> Result<Option<Slot>> {
        self.inner.slot(key, now).await
    }

    async fn put_slot(&self, slot: NewSlot, expect: SlotExpect, now: Timestamp) -> Result<bool> {
        self.inner.put_slot(slot, expect, now).await
    }

    async fn remove_slot(&self, key: &str, expect: Option<u64>) -> Result<bool> {
        self.inner.remove_slot(key, expect).await
    }

    async fn sweep_slots(&self, now: Timestamp, limit: usize) -> Result<u64> {
        self.inner.sweep_slots(now, limit).await
    }
}

#[async_trait]
impl AnalyticsStore for GatedStore {
    async fn add_rollups(&self, batch: &RollupBatch) -> Result<()> {
        self.inner.add_rollups(batch).await
    }

    async fn rollups(&self, org: &OrgId, query: &RollupQuery) -> Result<Vec<Rollup>> {
        self.inner.rollups(org, query).await
    }

    async fn rolled_failures(
        &self,
        org: &OrgId,
        query: &RollupQuery,
        limit: usize,
    ) -> Result<Vec<FailureCount>> {
        self.inner.rolled_failures(org, query, limit).await
    }
}
