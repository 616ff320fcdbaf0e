//! Removes what is older than it is to be kept. Every `prune`, from organization to organization,
//! in small batches with pauses; however much there is, it goes on until it is through.
//!
//! Several nodes may do so at once: what one has removed, the others do not find.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::engine::core::Core;
use crate::error::{Code, Result};
use crate::id::OrgId;
use crate::retention::{Prune, Retention, What};
use crate::telemetry::Removed;

/// How many records one transaction looks at.
const BATCH: usize = 100;

/// How many lanes one transaction looks at: most have deliveries, which is all that is asked.
const LANES: usize = 1_000;

/// With which walk lanes are looked at: there may be millions of them, and they cost little.
const LANES_EVERY: u64 = 60;

/// How many times `prune` are between two walks at the most, which they come to where one after
/// the other finds nothing.
const SELDOM: u32 = 32;

/// What others may write in between.
const PAUSE: Duration = Duration::from_millis(20);

/// The same, where nothing was removed.
const BREATH: Duration = Duration::from_millis(2);

pub(crate) async fn run(core: Arc<Core>, stop: CancellationToken) {
    let mut walk = Walk::default();
    let mut rounds = 1;
    while core.doze().pause(&stop, core.config.prune * rounds).await {
        let mut found = false;
        loop {
            match step(&core, &mut walk).await {
                Ok(true) => found |= walk.removed,
                Ok(false) => break,
                Err(error) => {
                    core.metrics.store_errors.inc();
                    tracing::warn!(icp.error = error.code().as_str(), "pruning failed: {error}");
                    break;
                }
            }
            let wait = if walk.removed { PAUSE } else { BREATH };
            if !core.doze().pause(&stop, wait).await {
                return;
            }
        }
        rounds = if found { 1 } else { (rounds * 2).min(SELDOM) };
    }
}

/// Where the walk is.
#[derive(Debug, Default)]
pub(crate) struct Walk {
    org: Option<OrgId>,
    kind: usize,
    after: Option<String>,
    /// Whether the batch before removed something.
    removed: bool,
    /// Whether the slots whose time is over are gone.
    swept: bool,
    /// How many walks there were before.
    walks: u64,
}

/// Prunes one batch; answers whether the walk goes on, or is through with every organization.
pub(crate) async fn step(core: &Core, walk: &mut Walk) -> Result<bool> {
    let now = core.clock.now();
    if !walk.swept {
        let swept = core.store.sweep_slots(now, BATCH).await?;
        core.metrics.pruned.get_or_create(&Removed { kind: "slot" }).inc_by(swept);
        (walk.removed, walk.swept) = (swept > 0, swept < BATCH as u64);
        return Ok(true);
    }
    let kinds = if (walk.walks + 1).is_multiple_of(LANES_EVERY) { KINDS } else { KINDS - 1 };
    if walk.org.is_none() || walk.kind >= kinds {
        walk.org = core.store.next_organization(walk.org.as_ref()).await?;
        (walk.kind, walk.after) = (0, None);
    }
    let Some(org) = walk.org.clone() else {
        (walk.walks, walk.swept) = (walk.walks + 1, false);
        return Ok(false);
    };
    let kept = kept(core, &org).await?;
    let what = match walk.kind {
        0 => What::Keys,
        1 => What::Records(kept.cutoffs(now)),
        2 => What::Audit { before: now - kept.audit },
        3 => What::History { before: now - kept.history },
        4 => What::Replays { before: now - kept.replays() },
        5 => What::Rollups(kept.rollups(now)),
        _ => What::Lanes,
    };
    let limit = if what == What::Lanes { LANES } else { BATCH };
    let prune = Prune { org, what, after: walk.after.take(), limit, now };
    let pruned = core.store.prune(&prune).await?;
    walk.removed = pruned.by_kind().iter().any(|(_, count)| *count > 0);
    for (kind, count) in pruned.by_kind() {
        core.metrics.pruned.get_or_create(&Removed { kind }).inc_by(count);
    }
    walk.after = pruned.next;
    if walk.after.is_none() {
        walk.kind += 1;
    }
    Ok(true)
}

const KINDS: usize = 7;

/// How long the organization's records are kept; where it was deleted by the engine's setting, but
/// for sums, of which nothing is left.
async fn kept(core: &Core, org: &OrgId) -> Result<Retention> {
    match core.known_org(org).await {
        Ok(view) => Ok(view.organization.retention.over(&core.config.retention)),
        Err(error) if error.code() == Code::OrganizationUnknown => {
            Ok(Retention { analytics: Duration::ZERO, ..core.config.retention })
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::health::LaneRules;
    use crate::delivery::{
        Claim, DeliveryStore, LaneId, LaneMode, Lease, Next, Settle, Settlement,
    };
    use crate::engine::Engine;
    use crate::event::{Event, EventStore, Ingest, IngestItem, JSON, LaneSeed, NewDelivery};
    use crate::id::{DeliveryId, EventId, ResourceId, SessionId};
    use crate::resource::Revision;
    use crate::slot::{NewSlot, SlotExpect, SlotStore};
    use crate::store::{MemoryStore, PageQuery};
    use crate::time::{Timestamp, TokioClock};

    const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);
    const SESSION: SessionId = SessionId::from_bytes([1; 16]);

    /// A delivery of `key` that has ended.
    async fn deliver(store: &MemoryStore, n: u8, key: &str) {
        let (org, integration) = (OrgId::new("acme").unwrap(), ResourceId::new("crm").unwrap());
        let event = Event::restore(
            EventId::from_bytes([n; 16]),
            org.clone(),
            None,
            "order.paid".parse().unwrap(),
            JSON.into(),
            b"1".as_slice().into(),
            None,
            Some(key.into()),
            NOW,
            None,
            None,
            None,
            Revision::ZERO,
        );
        let lane = LaneSeed {
            id: LaneId::of(&org, &integration, Some(key)),
            order_key: Some(key.into()),
            mode: LaneMode::Fifo,
            max_in_flight: 1,
            weight: 1,
            rules: LaneRules::default(),
        };
        let id = DeliveryId::from_bytes([n; 16]);
        let item = IngestItem {
            event: Arc::new(event),
            body_hash: [0; 32],
            idempotency_window: Duration::ZERO,
            deliveries: vec![NewDelivery { id, integration, lane, due_at: NOW, at_once: true }],
            outbox: None,
        };
        store.ingest(Ingest { items: [item].into(), direct: None, now: NOW }).await.unwrap();
        store.open_session(SESSION, NOW).await.unwrap();
        let (lease_until, without) = (NOW + Duration::from_secs(60), [].into());
        let (session, now) = (SESSION, NOW);
        let claim = Claim { session, now, lease_until, limit: 9, per_lane: 9, without };
        let claimed = store.claim(claim).await.unwrap().deliveries.remove(0).delivery;
        let settlement = Settlement {
            lease: Lease { delivery: claimed.id, epoch: claimed.epoch },
            lane: claimed.lane,
            attempt: None,
            next: Next::Delivered,
            block_lane_until: None,
            notice: None,
        };
        store.settle(Settle { settlements: [settlement].into(), now: NOW }).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn lanes_go_with_a_later_walk_than_their_deliveries() {
        let store = MemoryStore::new();
        for (n, key) in [(1, "a"), (2, "b")] {
            deliver(&store, n, key).await;
        }
        let clock = TokioClock::starting_at(NOW + Duration::from_secs(31 * 86_400));
        for (key, secs) in [("over", 1), ("on", 60 * 86_400)] {
            let expires_at = NOW + Duration::from_secs(secs);
            let slot = NewSlot { key: key.to_owned(), value: String::new(), expires_at };
            assert!(store.put_slot(slot, SlotExpect::Absent, NOW).await.unwrap());
        }
        let engine = Engine::builder(store.clone()).clock(clock).build().unwrap();
        let org = OrgId::new("acme").unwrap();
        let lanes = async || store.lanes(&org, PageQuery::default()).await.unwrap().items.len();
        let mut walk = Walk::default();
        for walks in 0..LANES_EVERY {
            assert_eq!(lanes().await, 2, "{walks}");
            while step(engine.core(), &mut walk).await.unwrap() {}
            assert_eq!(store.counts().await.unwrap(), []);
        }
        assert_eq!(lanes().await, 0);
        let metrics = engine.metrics().render();
        assert!(metrics.contains("icp_rows_pruned_total{kind=\"lane\"} 2"), "{metrics}");
        assert!(metrics.contains("icp_rows_pruned_total{kind=\"slot\"} 1"), "{metrics}");
        assert!(store.slot("on", NOW).await.unwrap().is_some());
    }
}
