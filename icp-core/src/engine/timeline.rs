//! What happened to an event, moment by moment.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Engine;
use crate::delivery::{Attempt, AttemptOutcome, Delivery, DeliveryState, EndReason};
use crate::error::Result;
use crate::id::{DeliveryId, EventId, OrgId, ResourceId};
use crate::integration::MatchReason;
use crate::time::Timestamp;

/// How many deliveries are told of.
const MOST: usize = 100;

/// What happened to an event, in order of time.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Timeline {
    /// The event.
    pub event: EventId,
    /// What happened, oldest first.
    pub moments: Vec<Moment>,
    /// The integrations that it did not go to, by the configuration it was published under.
    pub skipped: Vec<Passed>,
    /// Whether it has more than the 100 deliveries that are told of, which are its newest.
    pub more: bool,
}

/// An integration that an event did not go to.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct Passed {
    /// The integration.
    pub integration: ResourceId,
    /// Why not.
    #[serde(flatten)]
    pub reason: MatchReason,
}

/// Something that happened.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct Moment {
    /// When.
    pub at: Timestamp,
    /// How many milliseconds after what happened before.
    pub gap_ms: u64,
    /// What.
    #[serde(flatten)]
    pub what: Happened,
}

/// What happened.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "happened")]
#[non_exhaustive]
pub enum Happened {
    /// The event was received.
    Received,
    /// A delivery was made.
    Made {
        /// The delivery.
        delivery: DeliveryId,
        /// Where it goes.
        integration: ResourceId,
        /// The ended delivery it repeats.
        replay_of: Option<DeliveryId>,
    },
    /// An attempt began.
    Attempted {
        /// The delivery.
        delivery: DeliveryId,
        /// Where it went.
        integration: ResourceId,
        /// The number of the try, from 1.
        number: u32,
        /// What tells it from another of the same number.
        epoch: u32,
        /// How long it took, in microseconds.
        took_us: u64,
        /// How it went.
        outcome: AttemptOutcome,
        /// The HTTP status, where an answer came.
        status: Option<u16>,
    },
    /// A delivery ended.
    Ended {
        /// The delivery.
        delivery: DeliveryId,
        /// Where it went.
        integration: ResourceId,
        /// How.
        state: DeliveryState,
        /// Why.
        reason: Option<EndReason>,
    },
}

impl Engine {
    /// What happened to an event: when it was received, delivered, attempted and ended, and why it
    /// did not go to other integrations.
    ///
    /// # Errors
    ///
    /// [`Code::EventNotFound`](crate::Code::EventNotFound), and those of the store.
    pub async fn timeline(&self, org: &OrgId, id: EventId) -> Result<Timeline> {
        let event = self.event(org, id).await?;
        let explained = self.explain(org, id).await?;
        let mut deliveries = self.of_event(org, id).await?;
        let more = deliveries.len() > MOST;
        deliveries.truncate(MOST);
        let mut all = vec![(event.received_at, Happened::Received)];
        for delivery in &deliveries {
            let attempts = self.core.store.attempts(org, delivery.id).await?;
            tell(delivery, attempts, &mut all);
        }
        let passed = explained.integrations.into_iter().filter(|one| !one.reason.is_match());
        let skipped =
            passed.map(|one| Passed { integration: one.integration, reason: one.reason }).collect();
        Ok(Timeline { event: id, moments: ordered(all), skipped, more })
    }
}

fn tell(delivery: &Delivery, attempts: Vec<Attempt>, all: &mut Vec<(Timestamp, Happened)>) {
    let (id, integration) = (delivery.id, &delivery.integration);
    let made = Happened::Made {
        delivery: id,
        integration: integration.clone(),
        replay_of: delivery.replay_of,
    };
    all.push((delivery.created_at, made));
    all.extend(attempts.into_iter().map(|attempt| {
        let what = Happened::Attempted {
            delivery: id,
            integration: integration.clone(),
            number: attempt.number,
            epoch: attempt.epoch,
            took_us: attempt.timings.total,
            outcome: attempt.outcome,
            status: attempt.status,
        };
        (attempt.started_at, what)
    }));
    if delivery.state.is_final() {
        let ended = Happened::Ended {
            delivery: id,
            integration: integration.clone(),
            state: delivery.state,
            reason: delivery.reason.clone(),
        };
        all.push((delivery.updated_at, ended));
    }
}

/// In order of time; what happened at the same moment stays in the order it is told in.
fn ordered(mut all: Vec<(Timestamp, Happened)>) -> Vec<Moment> {
    all.sort_by_key(|(at, _)| *at);
    let mut before = all.first().map_or(Timestamp::EPOCH, |(at, _)| *at);
    let moment = |(at, what): (Timestamp, Happened)| {
        let gap = at.since(before).as_millis();
        before = at;
        Moment { at, gap_ms: u64::try_from(gap).unwrap_or(u64::MAX), what }
    };
    all.into_iter().map(moment).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_are_from_one_moment_to_the_next() {
        let at = Timestamp::from_millis;
        let made = |n| Happened::Made {
            delivery: DeliveryId::from_bytes([n; 16]),
            integration: ResourceId::new("crm").unwrap(),
            replay_of: None,
        };
        let moments =
            ordered(vec![(at(900), made(2)), (at(100), Happened::Received), (at(100), made(1))]);
        let gaps: Vec<_> = moments.iter().map(|moment| moment.gap_ms).collect();
        assert_eq!(gaps, [0, 0, 800]);
        assert_eq!((&moments[0].what, &moments[2].what), (&Happened::Received, &made(2)));
        assert_eq!(ordered(Vec::new()), []);
    }
}
