//! How often an operation asks the allocator, on its own thread, where all of it is done.

use icp_micro::{Operation, Round};

use crate::BOUND;
use crate::bound::{self, Figures};

/// What is known or pooled after the first rounds is not counted.
const WARM: u32 = 20;
const ROUNDS: u32 = 100;

#[test]
fn operations_allocate_no_more_than_before() {
    let figures: Figures = BOUND.into_iter().map(|name| (name, of(name))).collect();
    bound::hold("allocations.json", &figures, 5, Some(5));
}

fn of(name: &str) -> u64 {
    mean(Operation::named(name).unwrap().prepare(WARM + ROUNDS)).0
}

/// Allocations and bytes for a round.
pub(crate) fn mean(mut round: Round) -> (u64, u64) {
    (0..WARM).for_each(|_| round());
    let counted = allocation_counter::measure(|| (0..ROUNDS).for_each(|_| round()));
    let of = |sum: u64| (sum + u64::from(ROUNDS) / 2) / u64::from(ROUNDS);
    (of(counted.count_total), of(counted.bytes_total))
}
