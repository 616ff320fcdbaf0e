//! What a failed delivery does to those behind it in order: pure policy.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::delivery::health::LaneRules;
use crate::delivery::{Delivery, EndReason, LaneId, LaneMode, Next};
use crate::error::Violation;
use crate::event::LaneSeed;

/// The most failed tries after which a delivery may be skipped.
pub const MOST_TRIES: u32 = 100;

/// What a failed delivery does to those behind it, for `ordering: by_key`.
///
/// A failed try is one that ended in a failure and counts. One that is given back, because the
/// receiver asked to wait or the node shut down, is none; nor is one whose node died, which the
/// reaper takes over in the same place.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum OnFailure {
    /// It holds them up until it ends: delivered, dead, expired, skipped or called off.
    #[default]
    Block,
    /// With its failed try number `tries` it loses its place: those behind it go on, and it
    /// keeps its own schedule beside them, marked `out_of_order`. It may be delivered after
    /// them.
    SkipAfter {
        /// How many failed tries hold up the others, 1 to 100.
        #[schemars(range(min = 1, max = 100))]
        tries: u32,
    },
    /// With its first failed try it ends as a dead letter, and those behind it go on. It is not
    /// tried again unless it is replayed.
    DeadLetter,
}

impl OnFailure {
    /// Lists what is wrong, with pointers that begin at `at`.
    #[must_use]
    pub fn validate(self, at: &str, ordered: bool) -> Vec<Violation> {
        match self {
            Self::Block => Vec::new(),
            _ if !ordered => {
                let message = "goes only with the ordering `by_key`";
                vec![Violation::new(at, "not_applicable", message)]
            }
            Self::SkipAfter { tries } if !(1..=MOST_TRIES).contains(&tries) => {
                let message = format!("use 1 to {MOST_TRIES}");
                vec![Violation::new(format!("{at}/tries"), "out_of_range", message)]
            }
            Self::SkipAfter { .. } | Self::DeadLetter => Vec::new(),
        }
    }

    /// What becomes of `delivery` after a failed try, where its retry policy decided on `next`.
    ///
    /// `beside` is the lane of the integration that keeps no order; a delivery that is in it
    /// holds nobody up, and stays as it is. Only a retry can be decided otherwise: what ends
    /// makes way by itself, and a try that is given back is no failure.
    #[must_use]
    pub fn after_failure(self, delivery: &Delivery, next: Next, beside: LaneSeed) -> Next {
        let failed = delivery.tries.saturating_sub(delivery.rescues);
        match (self, next) {
            (_, next) if delivery.lane == beside.id => next,
            (Self::SkipAfter { tries }, Next::Retry { due_at, reason }) if failed >= tries => {
                Next::StepAside { due_at, reason, lane: beside }
            }
            (Self::DeadLetter, Next::Retry { reason, .. }) => {
                let message = format!("{}: {}", reason.code, reason.message);
                Next::Dead { reason: EndReason::new("first_failure", message) }
            }
            (_, next) => next,
        }
    }
}

/// The lane of an integration for deliveries that keep no order.
pub(crate) fn unordered(
    delivery: &Delivery,
    max_in_flight: u32,
    weight: u32,
    rules: LaneRules,
) -> LaneSeed {
    LaneSeed {
        id: LaneId::of(&delivery.org, &delivery.integration, None),
        order_key: None,
        mode: LaneMode::Parallel,
        max_in_flight,
        weight,
        rules,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::DeliveryState;
    use crate::id::{DeliveryId, EventId, OrgId, ResourceId};
    use crate::time::Timestamp;

    const LATER: Timestamp = Timestamp::from_millis(9_000);

    fn delivery(tries: u32, rescues: u32, order_key: Option<&str>) -> Delivery {
        let (org, integration) = (OrgId::new("acme").unwrap(), ResourceId::new("crm").unwrap());
        Delivery {
            id: DeliveryId::from_bytes([1; 16]),
            event: EventId::from_bytes([2; 16]),
            lane: LaneId::of(&org, &integration, order_key),
            org,
            integration,
            state: DeliveryState::Leased,
            due_at: Timestamp::EPOCH,
            epoch: tries,
            tries,
            throttles: 0,
            rescues,
            owner: None,
            lease_until: None,
            expires_at: None,
            replay_of: None,
            out_of_order: false,
            round: 0,
            reason: None,
            created_at: Timestamp::EPOCH,
            updated_at: Timestamp::EPOCH,
        }
    }

    fn retry() -> Next {
        Next::Retry { due_at: LATER, reason: EndReason::new("status_500", "no") }
    }

    fn verdict(choice: OnFailure, delivery: &Delivery, next: Next) -> String {
        match choice.after_failure(delivery, next, unordered(delivery, 10, 1, LaneRules::off())) {
            Next::StepAside { due_at, lane, reason } => {
                assert_eq!((due_at, reason.code.as_str()), (LATER, "status_500"));
                assert_eq!((lane.mode, lane.max_in_flight), (LaneMode::Parallel, 10));
                "aside".into()
            }
            Next::Dead { reason } => reason.code,
            Next::Retry { .. } => "retry".into(),
            other => other.state().to_string(),
        }
    }

    #[test]
    fn each_choice_decides_as_documented() {
        let skip = |tries| OnFailure::SkipAfter { tries };
        for (choice, tries, rescues, expected) in [
            (OnFailure::Block, 1, 0, "retry"),
            (OnFailure::Block, 99, 0, "retry"),
            (skip(1), 1, 0, "aside"),
            (skip(3), 2, 0, "retry"),
            (skip(3), 3, 0, "aside"),
            (skip(3), 4, 2, "retry"),
            (skip(3), 5, 2, "aside"),
            (OnFailure::DeadLetter, 1, 0, "first_failure"),
            (OnFailure::DeadLetter, 3, 2, "first_failure"),
        ] {
            let row = delivery(tries, rescues, Some("k"));
            assert_eq!(verdict(choice, &row, retry()), expected, "{choice:?} {tries} {rescues}");
        }
    }

    #[test]
    fn only_a_retry_in_order_is_decided_otherwise() {
        let choices = [OnFailure::SkipAfter { tries: 1 }, OnFailure::DeadLetter];
        for choice in choices {
            let beside = delivery(9, 0, None);
            assert_eq!(verdict(choice, &beside, retry()), "retry");
            let ordered = delivery(9, 0, Some("k"));
            let refund = Next::Refund { due_at: LATER, throttled: true };
            assert_eq!(verdict(choice, &ordered, refund), "ready");
            let exhausted = Next::Dead { reason: EndReason::new("exhausted", "x") };
            assert_eq!(verdict(choice, &ordered, exhausted), "exhausted");
            assert_eq!(verdict(choice, &ordered, Next::Expired), "expired");
        }
    }

    #[test]
    fn rules() {
        let skip = |tries| OnFailure::SkipAfter { tries };
        for (choice, ordered, expected) in [
            (OnFailure::Block, false, None),
            (OnFailure::DeadLetter, true, None),
            (skip(1), true, None),
            (skip(100), true, None),
            (OnFailure::DeadLetter, false, Some("/f")),
            (skip(1), false, Some("/f")),
            (skip(0), true, Some("/f/tries")),
            (skip(101), true, Some("/f/tries")),
        ] {
            let found = choice.validate("/f", ordered);
            let pointers: Vec<_> = found.iter().map(|v| v.pointer.as_str()).collect();
            assert_eq!(pointers, expected.into_iter().collect::<Vec<_>>(), "{choice:?}");
        }
    }
}
