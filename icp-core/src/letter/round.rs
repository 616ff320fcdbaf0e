use std::time::Duration;

use super::{AutoRetry, DueLetter, Verdict};
use crate::delivery::health::BreakerState;
use crate::delivery::{EndReason, Lane};
use crate::id::DeliveryId;
use crate::time::Timestamp;

/// How long a due letter waits before its lane is looked at again.
pub(crate) const CLOSED: Duration = Duration::from_secs(60);

/// Deaths that another round cannot undo, or that could do harm: the receiver is gone, the payload
/// does not fit, the delivery took workers down, or it or its event is damaged.
const FINAL: [&str; 5] = ["gone", "impossible", "poison", "unreadable", "event_lost"];

/// What else is known where a letter is judged.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Known<'a> {
    /// The policy of its integration; none where that is gone or cannot be used.
    pub(crate) policy: Option<&'a AutoRetry>,
    /// The id of the delivery that a round would make.
    pub(crate) id: DeliveryId,
    pub(crate) now: Timestamp,
}

/// Whether a lane takes the deliveries of rounds now: what would only wait behind a closed door
/// is better not made. Where its breaker is half-open, the round is what is tried.
fn takes_rounds(lane: &Lane, now: Timestamp) -> bool {
    !lane.paused
        && lane.blocked_until.is_none_or(|until| until <= now + rate_wait(lane))
        && lane.health.breaker.state(now) != BreakerState::Open
}

/// How long a lane may wait for its rate alone. Where there is much to send it does so again and
/// again, and a round would never find it open; its delivery takes its turn like all others.
fn rate_wait(lane: &Lane) -> Duration {
    lane.rules.rate_limit.map_or(Duration::ZERO, |limit| limit.longest_wait())
}

/// What becomes of a letter that was not judged yet, or whose round is due.
pub(crate) fn judge(letter: &DueLetter, known: &Known<'_>) -> Verdict {
    let delivery = &letter.delivery;
    if letter.carried_on {
        return Verdict::Leave;
    }
    let code = delivery.reason.as_ref().map_or("", |reason| reason.code.as_str());
    let policy = known.policy.filter(|_| !FINAL.contains(&code));
    let Some(policy) = policy.filter(|policy| **policy != AutoRetry::Off) else {
        return Verdict::Leave;
    };
    let seed = u128::from_be_bytes(delivery.id.to_bytes()) & u128::from(u64::MAX);
    let seed = u64::try_from(seed).unwrap_or_default();
    let Some(delay) = policy.delay(delivery.round, seed) else {
        let message = format!("{} automatic rounds did not deliver it", delivery.round);
        return Verdict::Abandon { reason: EndReason::new("rounds_exhausted", message) };
    };
    let due_at = letter.due_at.unwrap_or(delivery.updated_at + delay);
    if delivery.expires_at.is_some_and(|expires| expires <= due_at.max(known.now)) {
        return Verdict::Leave;
    }
    if due_at > known.now {
        return Verdict::Plan { due_at };
    }
    if letter.lane.as_ref().is_some_and(|lane| takes_rounds(lane, known.now)) {
        Verdict::Retry { id: known.id }
    } else {
        Verdict::Plan { due_at: known.now + CLOSED }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::health::{LaneHealth, LaneRules, Pace, RateLimit};
    use crate::delivery::{Delivery, DeliveryState, LaneId, LaneMode};
    use crate::id::{EventId, OrgId, ResourceId};

    const NOW: Timestamp = Timestamp::from_millis(1_000_000_000);

    fn letter() -> DueLetter {
        let (org, integration) = (OrgId::new("acme").unwrap(), ResourceId::new("hook").unwrap());
        let lane = LaneId::of(&org, &integration, None);
        let delivery = Delivery {
            id: DeliveryId::from_bytes([7; 16]),
            org: org.clone(),
            event: EventId::from_bytes([1; 16]),
            integration: integration.clone(),
            lane,
            state: DeliveryState::Dead,
            due_at: NOW,
            epoch: 3,
            tries: 3,
            throttles: 0,
            rescues: 0,
            owner: None,
            lease_until: None,
            expires_at: None,
            replay_of: None,
            out_of_order: false,
            round: 0,
            reason: Some(EndReason::new("exhausted", "status_500: no")),
            created_at: NOW,
            updated_at: NOW,
        };
        let lane = Lane {
            id: lane,
            org,
            integration,
            order_key: None,
            mode: LaneMode::Parallel,
            weight: 1,
            pass: 0,
            runnable: false,
            next_due: None,
            in_flight: 0,
            max_in_flight: 10,
            blocked_until: None,
            paused: false,
            rules: LaneRules::off(),
            health: LaneHealth::default(),
            pace: Pace::default(),
        };
        DueLetter { delivery, lane: Some(lane), due_at: None, carried_on: false }
    }

    fn judged(letter: &DueLetter, policy: &AutoRetry) -> Verdict {
        let id = DeliveryId::from_bytes([9; 16]);
        judge(letter, &Known { policy: Some(policy), id, now: NOW })
    }

    #[test]
    fn a_letter_is_planned_then_retried_and_at_last_given_up() {
        let policy = AutoRetry::Fixed { rounds: 2 };
        let mut one = letter();
        let Verdict::Plan { due_at } = judged(&one, &policy) else { panic!("it waits first") };
        assert!(due_at >= NOW + Duration::from_secs(480));
        one.due_at = Some(NOW);
        assert!(matches!(judged(&one, &policy), Verdict::Retry { .. }));
        one.delivery.round = 1;
        assert!(matches!(judged(&one, &policy), Verdict::Retry { .. }));
        one.delivery.round = 2;
        let Verdict::Abandon { reason } = judged(&one, &policy) else { panic!("two are spent") };
        assert_eq!(reason.code, "rounds_exhausted");
    }

    #[test]
    fn what_cannot_or_must_not_succeed_is_left_to_people() {
        let policy = AutoRetry::Fixed { rounds: 2 };
        for code in FINAL {
            let mut one = letter();
            one.delivery.reason = Some(EndReason::new(code, "x"));
            assert_eq!(judged(&one, &policy), Verdict::Leave, "{code}");
        }
        assert_eq!(judged(&letter(), &AutoRetry::Off), Verdict::Leave);
        let id = DeliveryId::from_bytes([9; 16]);
        let nobody = Known { policy: None, id, now: NOW };
        assert_eq!(judge(&letter(), &nobody), Verdict::Leave);
        let mut repeated = letter();
        repeated.carried_on = true;
        for due_at in [None, Some(NOW)] {
            repeated.due_at = due_at;
            assert_eq!(judged(&repeated, &policy), Verdict::Leave, "repeated by hand");
        }
        let mut late = letter();
        late.delivery.expires_at = Some(NOW + Duration::from_secs(60));
        assert_eq!(judged(&late, &policy), Verdict::Leave);
    }

    #[test]
    fn a_wait_for_the_rate_puts_no_round_off() {
        let policy = AutoRetry::Fixed { rounds: 2 };
        let mut one = letter();
        one.due_at = Some(NOW);
        let lane = one.lane.as_mut().unwrap();
        lane.rules.rate_limit = Some(RateLimit { requests: 1, per_seconds: 10, burst: 1 });
        lane.blocked_until = Some(NOW + Duration::from_secs(10));
        assert!(matches!(judged(&one, &policy), Verdict::Retry { .. }));
        one.lane.as_mut().unwrap().blocked_until = Some(NOW + Duration::from_secs(11));
        assert_eq!(judged(&one, &policy), Verdict::Plan { due_at: NOW + CLOSED });
    }

    #[test]
    fn a_closed_lane_puts_the_round_off() {
        let policy = AutoRetry::Fixed { rounds: 2 };
        let closed: [fn(&mut DueLetter); 3] = [
            |letter| letter.lane.as_mut().unwrap().paused = true,
            |letter| letter.lane.as_mut().unwrap().blocked_until = Some(Timestamp::MAX),
            |letter| letter.lane = None,
        ];
        for close in closed {
            let mut one = letter();
            one.due_at = Some(NOW);
            close(&mut one);
            assert_eq!(judged(&one, &policy), Verdict::Plan { due_at: NOW + CLOSED });
        }
    }
}
