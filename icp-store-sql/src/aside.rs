//! Deliveries that lose their place in order and go over to a lane without one.

use std::collections::BTreeMap;

use icp_core::delivery::{Next, Settlement};
use icp_core::time::Timestamp;

use crate::statement::{Script, exact, padded, text};

/// Makes the lanes that are missing, at rest where the ordered lane is. A lane that is there
/// counts as changed too, so that the script's count of rows is known.
pub(crate) const BESIDE: (&str, &str) = (
    "WITH v (id, ordered, max_in_flight, weight) AS (VALUES ",
    ") INSERT INTO icp_lane (id, org, integration, order_key, fifo, weight, pass, runnable, \
     next_due, in_flight, max_in_flight, blocked_until, paused, allowed, rules) \
     SELECT v.id, l.org, l.integration, NULL, 0, v.weight, 0, 0, NULL, 0, v.max_in_flight, NULL, \
     l.paused, v.max_in_flight, l.rules FROM v CROSS JOIN icp_lane l ON l.id = v.ordered WHERE true \
     ON CONFLICT (id) DO UPDATE SET weight = icp_lane.weight",
);

pub(crate) const MOVE: (&str, &str) = (
    "WITH v (id, epoch, lane, beside, due_at, code, message) AS (VALUES ",
    ") UPDATE OR FAIL icp_delivery AS d SET state = 0, lane = v.beside, fifo = 2, \
     due_at = v.due_at, reason_code = v.code, reason_message = v.message, owner = NULL, \
     lease_until = NULL, updated_at = ? \
     FROM v WHERE d.id = v.id AND d.epoch = v.epoch AND d.state = 1 AND d.lane = v.lane",
);

/// Adds to `script` what moves deliveries aside; what it means to the lanes is for the caller.
pub(crate) fn write(script: &mut Script, settlements: &[&Settlement], now: Timestamp) {
    let mut moves = Vec::with_capacity(settlements.len());
    for settlement in settlements {
        if let Next::StepAside { due_at, reason, lane } = &settlement.next {
            moves.push((*settlement, *due_at, reason, lane));
        }
    }
    // Each once, as one statement must not write a row twice.
    let lanes: BTreeMap<[u8; 16], _> =
        moves.iter().map(|(from, _, _, lane)| (lane.id.to_bytes(), (from, lane))).collect();
    let lanes: Vec<_> = lanes.into_values().collect();
    for chunk in exact(&lanes) {
        script.rows(BESIDE.0, chunk.len(), 4, BESIDE.1);
        for (settlement, beside) in chunk {
            script
                .bind(beside.id.to_bytes().to_vec())
                .bind(settlement.lane.to_bytes().to_vec())
                .bind(beside.max_in_flight)
                .bind(beside.weight);
        }
        script.expect(chunk.len());
    }
    for chunk in padded(&moves) {
        script.rows(MOVE.0, chunk.len(), 7, MOVE.1);
        for (settlement, due_at, reason, beside) in chunk {
            script
                .bind(settlement.lease.delivery.to_bytes().to_vec())
                .bind(settlement.lease.epoch)
                .bind(settlement.lane.to_bytes().to_vec())
                .bind(beside.id.to_bytes().to_vec())
                .bind(due_at.as_millis())
                .bind(text(&reason.code))
                .bind(text(&reason.message));
        }
        script.bind(now.as_millis());
    }
}
