//! What this node counts between two writes.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::{AnalyticsStore, Counted, Grain, RollupBatch};
use crate::delivery::{AttemptOutcome, Next, Settled, Settlement};
use crate::error::Result;
use crate::id::{OrgId, ResourceId, SessionId};
use crate::time::Timestamp;

/// How many integrations and hours are counted between two writes.
const MOST: usize = 50_000;

/// How many classes of failures are told apart for each.
const CLASSES: usize = 32;

/// The class of failures beyond [`CLASSES`], and of those whose class is no name.
const OTHER: &str = "other";

/// Whose delivery an outcome is of.
pub(crate) type Target = (OrgId, ResourceId);

type Open = HashMap<(OrgId, ResourceId, Timestamp), Counted>;

/// Counts outcomes in memory and writes the sums now and then.
///
/// Its memory is bounded: what is beyond is left out and counted by [`Tally::dropped`].
#[derive(Debug)]
pub(crate) struct Tally {
    session: SessionId,
    open: Mutex<Open>,
    sending: tokio::sync::Mutex<Sending>,
    dropped: AtomicU64,
}

/// The batch that is on its way, kept until the store has it.
#[derive(Debug, Default)]
struct Sending {
    sequence: u64,
    batch: Option<RollupBatch>,
}

impl Tally {
    pub(crate) fn new(session: SessionId) -> Self {
        let (open, sending) = (Mutex::default(), tokio::sync::Mutex::default());
        Self { session, open, sending, dropped: AtomicU64::new(0) }
    }

    /// Counts outcomes that were recorded; for some it is not known whose they are.
    pub(crate) fn count(
        &self,
        targets: &[Option<Target>],
        settlements: &[Settlement],
        settled: &[Settled],
        now: Timestamp,
    ) {
        let hour = Grain::Hour.floor(now);
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        for ((target, settlement), settled) in targets.iter().zip(settlements).zip(settled) {
            let Some((org, integration)) = target else { continue };
            if *settled == Settled::Stale {
                continue;
            }
            let key = (org.clone(), integration.clone(), hour);
            let full = open.len() >= MOST;
            match open.get_mut(&key) {
                Some(counted) => observe(counted, settlement),
                None if full => {
                    self.dropped.fetch_add(1, Ordering::Relaxed);
                }
                None => observe(open.entry(key).or_default(), settlement),
            }
        }
    }

    /// How many outcomes were left out since the last call.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.swap(0, Ordering::Relaxed)
    }

    /// Writes what was counted. What the store refuses is kept and written by the next call, under
    /// the same sequence.
    pub(crate) async fn flush(&self, store: &dyn AnalyticsStore, now: Timestamp) -> Result<()> {
        let mut sending = self.sending.lock().await;
        loop {
            let Sending { sequence, batch } = &mut *sending;
            let batch = match batch {
                Some(batch) => batch,
                None => {
                    let open = std::mem::take(
                        &mut *self.open.lock().unwrap_or_else(PoisonError::into_inner),
                    );
                    if open.is_empty() {
                        return Ok(());
                    }
                    *sequence += 1;
                    let counted = open.into_iter().collect();
                    let (session, sequence) = (self.session, *sequence);
                    batch.insert(RollupBatch { session, sequence, counted, now })
                }
            };
            store.add_rollups(batch).await?;
            sending.batch = None;
        }
    }
}

fn observe(counted: &mut Counted, settlement: &Settlement) {
    let Counted { counts, failures } = counted;
    if let Some(attempt) = &settlement.attempt {
        match &attempt.outcome {
            AttemptOutcome::Skipped => {}
            AttemptOutcome::Delivered => counts.attempts += 1,
            AttemptOutcome::Failed(class) => {
                counts.attempts += 1;
                counts.failed += 1;
                fail(failures, class);
            }
        }
        // What was not sent took no time.
        if attempt.timings.total > 0 {
            counts.latency.observe(attempt.timings.total);
        }
    }
    match &settlement.next {
        Next::Delivered => counts.delivered += 1,
        Next::Dead { .. } => counts.dead += 1,
        Next::Skipped { .. } => counts.skipped += 1,
        Next::Retry { .. } | Next::StepAside { .. } => counts.retried += 1,
        Next::Refund { throttled, .. } => counts.throttled += u64::from(*throttled),
        Next::Cancelled { .. } | Next::Expired => {}
    }
}

fn fail(failures: &mut std::collections::BTreeMap<Arc<str>, u64>, class: &str) {
    if let Some(count) = failures.get_mut(class) {
        *count += 1;
        return;
    }
    let is_name = !class.is_empty()
        && class.len() <= 64
        && class.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    let class = if is_name && failures.len() < CLASSES { class } else { OTHER };
    *failures.entry(class.into()).or_default() += 1;
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::delivery::{Attempt, AttemptTimings, EndReason, LaneId, Lease};
    use crate::id::DeliveryId;
    use crate::store::MemoryStore;

    const NOW: Timestamp = Timestamp::from_millis(1_795_232_700_000);

    fn target(integration: &str) -> Target {
        (OrgId::new("acme").unwrap(), ResourceId::new(integration).unwrap())
    }

    fn settlement(outcome: AttemptOutcome, next: Next) -> Settlement {
        let delivery = DeliveryId::from_bytes([1; 16]);
        let (org, integration) = target("crm");
        Settlement {
            lease: Lease { delivery, epoch: 1 },
            lane: LaneId::of(&org, &integration, None),
            attempt: Some(Attempt {
                delivery,
                epoch: 1,
                number: 1,
                started_at: NOW,
                outcome,
                status: None,
                timings: AttemptTimings { total: 4_000, ..AttemptTimings::default() },
                exchange: None,
                message: None,
                transcript: None,
            }),
            next,
            block_lane_until: None,
            notice: None,
        }
    }

    fn failed(class: &str) -> Settlement {
        let reason = EndReason::new("exhausted", "");
        settlement(AttemptOutcome::Failed(class.into()), Next::Dead { reason })
    }

    async fn taken(tally: &Tally) -> Counted {
        let open = tally.open.lock().unwrap();
        let mut sum = Counted::default();
        open.values().for_each(|counted| sum.add(counted));
        sum
    }

    #[tokio::test]
    async fn what_was_recorded_counts_and_what_is_stale_does_not() {
        let tally = Tally::new(SessionId::from_bytes([1; 16]));
        let settlements = [
            settlement(AttemptOutcome::Delivered, Next::Delivered),
            failed("status_500"),
            settlement(
                AttemptOutcome::Failed("status_429".into()),
                Next::Refund { due_at: NOW, throttled: true },
            ),
            failed("status_500"),
        ];
        let targets = vec![Some(target("crm")); 4];
        let settled = [Settled::Recorded, Settled::Recorded, Settled::Recorded, Settled::Stale];
        tally.count(&targets, &settlements, &settled, NOW);
        tally.count(&[None], &settlements[..1], &settled[..1], NOW);
        let Counted { counts, failures } = taken(&tally).await;
        assert_eq!((counts.attempts, counts.delivered, counts.failed), (3, 1, 2));
        assert_eq!((counts.dead, counts.retried, counts.throttled), (1, 0, 1));
        assert_eq!(counts.latency.count(), 3);
        assert_eq!(failures.values().sum::<u64>(), counts.failed);
        assert_eq!(failures["status_500"], 1);
    }

    #[tokio::test]
    async fn classes_are_names_and_bounded() {
        let tally = Tally::new(SessionId::from_bytes([1; 16]));
        let many: Vec<_> = (0..CLASSES + 9).map(|n| failed(&format!("class_{n}"))).collect();
        let odd = [failed("Not a name"), failed(""), failed(&"x".repeat(65))];
        for some in [&many[..], &odd[..]] {
            let targets = vec![Some(target("crm")); some.len()];
            tally.count(&targets, some, &vec![Settled::Recorded; some.len()], NOW);
        }
        let Counted { failures, .. } = taken(&tally).await;
        assert_eq!((failures.len(), failures[OTHER]), (CLASSES + 1, 12));
    }

    #[tokio::test]
    async fn memory_is_bounded_and_what_is_left_out_is_counted() {
        let tally = Tally::new(SessionId::from_bytes([1; 16]));
        let one = [settlement(AttemptOutcome::Delivered, Next::Delivered)];
        for n in 0..=MOST {
            let targets = [Some(target(&format!("hook-{n}")))];
            tally.count(&targets, &one, &[Settled::Recorded], NOW);
        }
        assert_eq!((tally.dropped(), tally.dropped()), (1, 0));
        tally.flush(&MemoryStore::new(), NOW).await.unwrap();
        tally.count(&[Some(target("more"))], &one, &[Settled::Recorded], NOW);
        assert_eq!((tally.dropped(), taken(&tally).await.counts.delivered), (0, 1));
    }

    #[tokio::test]
    async fn the_hours_of_a_day_are_one_row_of_days() {
        let mut batch = RollupBatch {
            session: SessionId::from_bytes([1; 16]),
            sequence: 1,
            counted: std::collections::BTreeMap::new(),
            now: NOW,
        };
        let day = Grain::Day.floor(NOW);
        let mut counted = Counted::default();
        counted.counts.delivered = 2;
        let (org, crm) = target("crm");
        for hours in [1, 2] {
            let at = day + Duration::from_secs(3_600) * hours;
            batch.counted.insert((org.clone(), crm.clone(), at), counted.clone());
        }
        let rows = batch.rows();
        let of = |grain| {
            let found = rows.iter().filter(move |(key, _)| key.grain == grain);
            found.map(|(_, counted)| counted.counts.delivered).collect::<Vec<_>>()
        };
        assert_eq!((of(Grain::Hour), of(Grain::Day)), (vec![2, 2], vec![4]));
    }
}
