use std::collections::{HashSet, VecDeque};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::time::{Instant, sleep_until};

use super::{LASTS, Live, LiveEnd, Seat};
use crate::analytics::tally::Target;
use crate::delivery::{
    Attempt, AttemptOutcome, Delivery, DeliveryQuery, DeliveryState, Settlement,
};
use crate::engine::core::Core;
use crate::error::{Code, Error, Result};
use crate::id::{DeliveryId, OrgId, ResourceId};
use crate::store::PageQuery;
use crate::time::Timestamp;

/// How often attempts of other nodes are looked for.
const POLL: Duration = Duration::from_secs(2);

/// How far back each look goes, as an attempt is recorded a little after its end.
const OVERLAP: Duration = Duration::from_secs(10);

/// In how many of the newest deliveries each look looks.
const LOOKED_AT: usize = 100;

/// In how many of the newest deliveries it is looked for what a reader missed.
const RESUMED: usize = 1_000;

/// How many attempts are remembered as told.
const REMEMBERED: usize = 4_096;

/// An attempt that was made.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct LiveAttempt {
    /// The integration.
    pub integration: ResourceId,
    /// The delivery.
    pub delivery: DeliveryId,
    /// What tells the attempt from others of its delivery.
    pub epoch: u32,
    /// The number of the try, from 1.
    pub number: u32,
    /// When it began.
    pub started_at: Timestamp,
    /// How long it took, in microseconds.
    pub took_us: u64,
    /// How it went.
    pub outcome: AttemptOutcome,
    /// The HTTP status, where an answer came.
    pub status: Option<u16>,
    /// What went wrong, for people.
    pub message: Option<String>,
    /// Where that left the delivery.
    pub state: DeliveryState,
    /// The organization, which the reader knows.
    #[serde(skip, default = "nobody")]
    #[schemars(skip)]
    pub(crate) org: Option<OrgId>,
}

const fn nobody() -> Option<OrgId> {
    None
}

impl LiveAttempt {
    pub(super) fn of_settlement(target: &Target, settlement: &Settlement) -> Option<Self> {
        let attempt = settlement.attempt.as_ref()?;
        Some(Self::of(&target.0, &target.1, attempt, settlement.next.state()))
    }

    fn of(org: &OrgId, integration: &ResourceId, attempt: &Attempt, state: DeliveryState) -> Self {
        Self {
            integration: integration.clone(),
            delivery: attempt.delivery,
            epoch: attempt.epoch,
            number: attempt.number,
            started_at: attempt.started_at,
            took_us: attempt.timings.total,
            outcome: attempt.outcome.clone(),
            status: attempt.status,
            message: attempt.message.clone(),
            state,
            org: Some(org.clone()),
        }
    }

    /// Where a stream goes on after it.
    #[must_use]
    pub fn cursor(&self) -> AttemptCursor {
        let at = self.started_at + Duration::from_micros(self.took_us);
        AttemptCursor { at, delivery: self.delivery, epoch: self.epoch }
    }
}

/// Where a stream of attempts is: at the end of one of them.
///
/// Its text form is the milliseconds since 1970, the delivery and the epoch, with dots between.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct AttemptCursor {
    /// When the attempt ended.
    pub at: Timestamp,
    /// Its delivery.
    pub delivery: DeliveryId,
    /// Its epoch.
    pub epoch: u32,
}

impl fmt::Display for AttemptCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.at.as_millis(), self.delivery, self.epoch)
    }
}

impl FromStr for AttemptCursor {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let read = || {
            let (at, rest) = text.split_once('.')?;
            let (delivery, epoch) = rest.split_once('.')?;
            let at = Timestamp::from_millis(at.parse().ok()?);
            Some(Self { at, delivery: delivery.parse().ok()?, epoch: epoch.parse().ok()? })
        };
        let message = "is not the id of a live attempt; send one as it came, or none";
        read().ok_or_else(|| Error::new(Code::CursorInvalid, message))
    }
}

/// The attempts of an organization as they are made.
///
/// Those of this node come at once. Those of other nodes are looked for every 2 s among the 100
/// newest deliveries; where more than these may have been tried, [`Live::Gap`] says so. A stream
/// that is resumed begins with what was missed among the 1,000 newest deliveries. An attempt may
/// come again after that: it is told by its delivery and epoch.
#[derive(Debug)]
pub struct LiveAttempts {
    core: Arc<Core>,
    org: OrgId,
    told: Told,
    found: VecDeque<Live<LiveAttempt>>,
    heard: broadcast::Receiver<Arc<LiveAttempt>>,
    /// Attempts that ended before this are not looked for.
    since: Timestamp,
    look_at: Instant,
    until: Instant,
    seat: Seat,
}

/// The latest attempts that were told.
#[derive(Debug, Default)]
struct Told {
    known: HashSet<(DeliveryId, u32)>,
    order: VecDeque<(DeliveryId, u32)>,
}

impl Told {
    /// Notes an attempt; answers whether it was not told before.
    fn is_new(&mut self, delivery: DeliveryId, epoch: u32) -> bool {
        if !self.known.insert((delivery, epoch)) {
            return false;
        }
        self.order.push_back((delivery, epoch));
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        true
    }
}

impl LiveAttempts {
    pub(crate) async fn open(
        core: &Arc<Core>,
        org: &OrgId,
        after: Option<AttemptCursor>,
    ) -> Result<Self> {
        let seat = core.live.admit()?;
        let now = core.clock.now();
        let mut stream = Self {
            core: Arc::clone(core),
            org: org.clone(),
            told: Told::default(),
            found: VecDeque::new(),
            heard: core.live.attempts.subscribe(),
            since: after.map_or(now, |after| after.at),
            look_at: Instant::now() + POLL,
            until: Instant::now() + LASTS,
            seat,
        };
        if let Some(after) = after {
            stream.told.is_new(after.delivery, after.epoch);
            stream.look(RESUMED).await?;
        }
        stream.since = now;
        Ok(stream)
    }

    /// The next attempt; waits for it. Nothing once the stream has ended.
    ///
    /// # Cancellation
    ///
    /// Dropping the call loses no attempt.
    pub async fn next(&mut self) -> Option<Live<LiveAttempt>> {
        if self.seat.ended {
            return None;
        }
        loop {
            if let Some(found) = self.found.pop_front() {
                return Some(found);
            }
            let heard = tokio::select! {
                biased;
                () = self.seat.closing.cancelled() => return self.seat.end(LiveEnd::Shutdown),
                () = sleep_until(self.until) => return self.seat.end(LiveEnd::Age),
                heard = self.heard.recv() => Some(heard),
                () = sleep_until(self.look_at) => None,
            };
            match heard {
                Some(Ok(attempt)) => self.hear(&attempt),
                Some(Err(RecvError::Lagged(_))) => return self.seat.end(LiveEnd::Behind),
                Some(Err(RecvError::Closed)) => return self.seat.end(LiveEnd::Shutdown),
                None => {
                    let now = self.core.clock.now();
                    if let Err(error) = self.look(LOOKED_AT).await {
                        tracing::warn!(
                            icp.error = error.code().as_str(),
                            "a live stream ends, as attempts cannot be read: {error}"
                        );
                        return self.seat.end(LiveEnd::Store);
                    }
                    (self.since, self.look_at) = (now, Instant::now() + POLL);
                }
            }
        }
    }

    fn hear(&mut self, attempt: &LiveAttempt) {
        let own = attempt.org.as_ref() == Some(&self.org);
        if own && self.told.is_new(attempt.delivery, attempt.epoch) {
            self.found.push_back(Live::Item(attempt.clone()));
        }
    }

    /// Looks for attempts that ended since the last look, in the newest `most` deliveries.
    async fn look(&mut self, most: usize) -> Result<()> {
        let since = self.since - OVERLAP;
        let page = PageQuery { after: None, limit: most };
        let query = DeliveryQuery { page, ..DeliveryQuery::default() };
        let newest = self.core.store.deliveries(&self.org, &query).await?;
        let all_changed = newest.items.iter().all(|delivery| delivery.updated_at >= since);
        let mut found = Vec::new();
        let tried = |row: &&Delivery| row.updated_at >= since && row.epoch > 0;
        for row in newest.items.iter().filter(tried) {
            if self.told.known.contains(&(row.id, row.epoch)) {
                continue;
            }
            for attempt in self.core.store.attempts(&self.org, row.id).await? {
                let told = LiveAttempt::of(&self.org, &row.integration, &attempt, row.state);
                if told.cursor().at >= since && self.told.is_new(attempt.delivery, attempt.epoch) {
                    found.push(told);
                }
            }
        }
        found.sort_by_key(LiveAttempt::cursor);
        self.found.extend(found.into_iter().map(Live::Item));
        if newest.more && all_changed {
            self.found.push_back(Live::Gap);
        }
        Ok(())
    }
}
