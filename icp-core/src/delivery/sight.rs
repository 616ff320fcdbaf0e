use std::time::Duration;

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::health::{BreakerState, Meter, RateStatus};
use super::{Lane, LaneId, LaneMode};
use crate::error::Result;
use crate::id::{OrgId, ResourceId};
use crate::time::Timestamp;

/// Tells how lanes are doing; what claims and settles do to them is in
/// [`DeliveryStore`](super::DeliveryStore).
#[async_trait]
pub trait LaneStore: std::fmt::Debug + Send + Sync + 'static {
    /// What waits in these lanes of an organization, up to 1,000, each named once; lanes in which
    /// nothing waits, and those of others, are left out.
    async fn backlogs(&self, org: &OrgId, lanes: &[LaneId]) -> Result<Vec<LaneBacklog>>;

    /// What the organization's integrations have used of their rates; those that have used
    /// nothing may be left out.
    async fn meters(&self, org: &OrgId) -> Result<Vec<(ResourceId, Meter)>>;

    /// Sums over the lanes of all organizations, for metrics.
    async fn lane_totals(&self, now: Timestamp) -> Result<LaneTotals>;
}

/// What waits in a lane.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct LaneBacklog {
    /// The lane.
    pub lane: LaneId,
    /// How many deliveries wait, those included that are not due.
    pub waiting: u64,
    /// When the first of them is or was due.
    pub first_due: Timestamp,
}

/// Sums over all lanes.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct LaneTotals {
    /// Lanes whose breaker is open.
    pub open: u64,
    /// Lanes whose breaker is half-open.
    pub half_open: u64,
    /// Lanes that are narrowed.
    pub narrowed: u64,
    /// Lanes that wait, for whatever reason.
    pub blocked: u64,
    /// When the first of all waiting deliveries is or was due.
    pub first_due: Option<Timestamp>,
}

impl LaneTotals {
    /// Counts a lane that has a health or a block.
    pub fn count(&mut self, lane: &Lane, now: Timestamp) {
        match lane.health.breaker.state(now) {
            BreakerState::Open => self.open += 1,
            BreakerState::HalfOpen => self.half_open += 1,
            BreakerState::Closed => {}
        }
        self.narrowed += u64::from(lane.health.narrowed.is_some());
        self.blocked += u64::from(lane.blocked_until.is_some_and(|until| until > now));
    }
}

/// What a lane does, by what counts most.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum LaneState {
    /// It rests: its integration is off or paused, or its organization is paused.
    Paused,
    /// Its breaker is open: nothing goes.
    Open,
    /// Its breaker is half-open: one delivery is the probe.
    HalfOpen,
    /// The integration's rate is used up.
    Throttled,
    /// The receiver asked to wait.
    Blocked,
    /// As many deliveries are under way as may be.
    Full,
    /// Deliveries are due or under way.
    Active,
    /// Deliveries wait for their time.
    Waiting,
    /// There is nothing to do.
    Idle,
}

/// How a lane is doing.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct LaneStatus {
    /// The lane.
    pub lane: Lane,
    /// What it does.
    pub state: LaneState,
    /// Where its breaker stands.
    pub breaker: BreakerState,
    /// What is left of the integration's rate; none where it has no limit.
    pub rate: Option<RateStatus>,
    /// How many deliveries wait, those included that are not due.
    pub waiting: u64,
    /// For how long the first of the waiting deliveries has been due; none where none is.
    pub oldest_wait: Option<Duration>,
    /// How long it takes until nothing waits any more: the time until the lane may go on, then
    /// what waits at the pace at which deliveries ended in this minute and the one before. None
    /// where none ended in them, or the lane rests.
    pub drained_in: Option<Duration>,
    /// When something of it can be claimed next; now where that is so already, none where nothing
    /// waits or the lane rests.
    pub next_at: Option<Timestamp>,
}

impl LaneStatus {
    /// Judges a lane by what waits in it and what is left of its integration's rate.
    #[must_use]
    pub fn of(lane: Lane, backlog: Option<LaneBacklog>, meter: Meter, now: Timestamp) -> Self {
        let waiting = backlog.map_or(0, |backlog| backlog.waiting);
        let first_due = backlog.map(|backlog| backlog.first_due);
        let throttled = lane.rules.rate_limit.and_then(|limit| meter.blocks_until(&limit, now));
        let blocked = lane.blocked_until.filter(|until| *until > now);
        let resumes = blocked.max(throttled).unwrap_or(now);
        let turn = first_due.map(|due| head_due(&lane).unwrap_or(due));
        let next_at = turn.filter(|_| !lane.paused).map(|due| due.max(resumes));
        let wait = next_at.unwrap_or(now).since(now);
        let drained_in = match waiting {
            0 => Some(Duration::ZERO),
            _ if lane.paused => None,
            count => lane.pace.time_for(count, now).map(|time| time + wait),
        };
        Self {
            state: state(&lane, throttled, turn, now),
            breaker: lane.health.breaker.state(now),
            rate: lane.rules.rate_limit.map(|limit| meter.status(&limit, now)),
            waiting,
            oldest_wait: first_due.filter(|due| *due <= now).map(|due| now.since(due)),
            drained_in,
            next_at,
            lane,
        }
    }

    /// Whether nothing of it is claimed at the moment, whatever waits: it is paused, its breaker is
    /// open, its rate is used up, or the receiver asked to wait.
    #[must_use]
    pub fn rests(&self) -> bool {
        use LaneState::{Blocked, Open, Paused, Throttled};
        matches!(self.state, Paused | Open | Throttled | Blocked)
    }
}

/// When the head of a fifo lane is due that holds up those behind it.
fn head_due(lane: &Lane) -> Option<Timestamp> {
    lane.next_due.filter(|_| lane.mode == LaneMode::Fifo && !lane.runnable)
}

fn state(
    lane: &Lane,
    throttled: Option<Timestamp>,
    turn: Option<Timestamp>,
    now: Timestamp,
) -> LaneState {
    if lane.paused {
        return LaneState::Paused;
    }
    match lane.health.breaker.state(now) {
        BreakerState::Open => return LaneState::Open,
        BreakerState::HalfOpen => return LaneState::HalfOpen,
        BreakerState::Closed => {}
    }
    let blocked = lane.blocked_until.filter(|until| *until > now);
    if blocked.is_some() && blocked > throttled {
        return LaneState::Blocked;
    }
    match turn {
        Some(_) if throttled.is_some() => LaneState::Throttled,
        Some(due) if due <= now && lane.room() == 0 => LaneState::Full,
        Some(due) if due <= now => LaneState::Active,
        _ if lane.in_flight > 0 => LaneState::Active,
        Some(_) => LaneState::Waiting,
        None => LaneState::Idle,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::LaneMode;
    use crate::delivery::health::{LaneHealth, LaneRules, Pace};

    const NOW: Timestamp = Timestamp::from_millis(1_000_000);

    fn lane(mode: LaneMode, next_due: Option<Timestamp>) -> Lane {
        let (org, integration) = (OrgId::new("acme").unwrap(), ResourceId::new("hook").unwrap());
        Lane {
            id: LaneId::of(&org, &integration, None),
            org,
            integration,
            order_key: None,
            mode,
            weight: 1,
            pass: 0,
            runnable: next_due.is_none(),
            next_due,
            in_flight: 0,
            max_in_flight: 10,
            blocked_until: None,
            paused: false,
            rules: LaneRules::off(),
            health: LaneHealth::default(),
            pace: Pace::default(),
        }
    }

    #[test]
    fn a_fifo_lane_waits_for_its_head() {
        let minute = Duration::from_secs(60);
        let later = NOW + minute;
        for (mode, next_due, state, next_at) in [
            (LaneMode::Fifo, Some(later), LaneState::Waiting, later),
            (LaneMode::Fifo, None, LaneState::Active, NOW),
            (LaneMode::Parallel, Some(later), LaneState::Active, NOW),
        ] {
            let lane = lane(mode, next_due);
            let backlog = LaneBacklog { lane: lane.id, waiting: 3, first_due: NOW - minute };
            let status = LaneStatus::of(lane, Some(backlog), Meter::default(), NOW);
            assert_eq!((status.state, status.waiting), (state, 3), "{mode:?} {next_due:?}");
            assert_eq!(status.next_at.map(|at| at.max(NOW)), Some(next_at));
            assert_eq!(status.oldest_wait, Some(minute), "those behind it wait all the same");
        }
    }
}
