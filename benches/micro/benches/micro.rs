//! Times every operation: `make bench-micro`, `make bench-micro ARGS=match`.
#![forbid(unsafe_code)]

use std::cell::RefCell;

use divan::Bencher;
use divan::counter::ItemsCount;
use icp_micro::{Lasts, OPERATIONS, Operation, Round};

/// For how many rounds is prepared at once what rounds use up.
const ROUNDS: u32 = 100;

fn main() {
    divan::main();
}

#[divan::bench(args = of(Lasts::Forever))]
fn one(bencher: Bencher<'_, '_>, operation: &Operation) {
    bencher.bench_local(operation.prepare(1));
}

// What is not in the sample is prepared between samples, so that a sample is one round.
#[divan::bench(args = of(Lasts::ForRounds), sample_count = 300, sample_size = 1)]
fn batch(bencher: Bencher<'_, '_>, operation: &Operation) {
    let prepared: RefCell<(u32, Option<Round>)> = RefCell::default();
    bencher
        .counter(ItemsCount::new(operation.each))
        .with_inputs(|| {
            let (left, round) = &mut *prepared.borrow_mut();
            if *left == 0 {
                (*left, *round) = (ROUNDS, Some(operation.prepare(ROUNDS)));
            }
            *left -= 1;
        })
        .bench_local_values(|()| {
            if let Some(round) = &mut prepared.borrow_mut().1 {
                round();
            }
        });
}

fn of(lasts: Lasts) -> impl Iterator<Item = &'static Operation> {
    OPERATIONS.iter().filter(move |operation| operation.lasts == lasts)
}
