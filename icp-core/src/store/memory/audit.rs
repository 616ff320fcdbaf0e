use std::collections::BTreeMap;

use super::State;
use super::delivery::Deliveries;
use crate::delivery::{Audit, Delivery, DeliveryState, LaneId};
use crate::id::EventId;

/// Recomputes every invariant from the rows alone, without trusting an index.
pub(super) fn audit(state: &State) -> Audit {
    let rows = &state.deliveries;
    let mut audit = Audit::default();
    let mut leased: BTreeMap<LaneId, u32> = BTreeMap::new();
    let mut made: BTreeMap<EventId, u32> = BTreeMap::new();
    for delivery in rows.rows.values() {
        audit.deliveries += 1;
        let is_leased = delivery.state == DeliveryState::Leased;
        let (owner, lease) = (delivery.owner.is_some(), delivery.lease_until.is_some());
        audit.lease_without_owner += u64::from(owner != is_leased || lease != is_leased);
        audit.epoch_behind += u64::from(epoch_behind(rows, delivery));
        audit.ended_but_open += u64::from(delivery.state.is_final() && is_open(rows, delivery));
        audit.dangling += u64::from(
            rows.lanes.get(&delivery.lane).is_none() || state.events.get(delivery.event).is_none(),
        );
        if is_leased {
            *leased.entry(delivery.lane).or_default() += 1;
        }
        if delivery.replay_of.is_none() {
            *made.entry(delivery.event).or_default() += 1;
        }
    }
    audit.attempt_without_delivery =
        rows.attempts.keys().filter(|(id, _)| !rows.rows.contains_key(id)).count() as u64;
    for lane in rows.lanes.iter() {
        let count = leased.get(&lane.id).copied().unwrap_or_default();
        audit.in_flight_wrong += u64::from(lane.in_flight != count);
        audit.asleep += rows.asleep(lane);
    }
    audit.fan_out_wrong = state
        .events
        .fan_outs()
        .filter(|(id, expected)| made.get(id).copied().unwrap_or_default() != *expected)
        .count() as u64;
    audit
}

fn epoch_behind(rows: &Deliveries, delivery: &Delivery) -> bool {
    let last = rows.attempts.range((delivery.id, 0)..=(delivery.id, u32::MAX)).next_back();
    delivery.tries > delivery.epoch || last.is_some_and(|((_, epoch), _)| *epoch > delivery.epoch)
}

fn is_open(rows: &Deliveries, delivery: &Delivery) -> bool {
    rows.open.contains(&(delivery.lane, delivery.id))
        || rows.ready.contains(&(delivery.lane, delivery.due_at, delivery.id))
}
