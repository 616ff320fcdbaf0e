//! Does operations one after the other, for callgrind around it.
//!
//! `icp-rounds <rounds> <operation>..`; `deliver/sqlite@<file>` claims and settles on that file.
//! [`boundary`] is called before the rounds of each and after them, so that a profile that is written
//! at each call has what lies between: everything else is in the profiles in between.
#![forbid(unsafe_code)]

use std::hint::black_box;
use std::path::Path;
use std::process::ExitCode;

use icp_micro::{Operation, Round, queue};

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let Some(rounds) = arguments.next().and_then(|text| text.parse().ok()) else {
        return ExitCode::FAILURE;
    };
    for name in arguments {
        let Some(mut round) = prepared(&name, rounds) else { return ExitCode::FAILURE };
        // What is made when it is first needed is no part of an operation.
        round();
        boundary();
        for _ in 0..rounds {
            round();
        }
        boundary();
    }
    ExitCode::SUCCESS
}

fn prepared(name: &str, rounds: u32) -> Option<Round> {
    let all = rounds + 1;
    match name.split_once('@') {
        Some((_, file)) => Some(queue::delivers_on(Path::new(file), all)),
        None => Some(Operation::named(name)?.prepare(all)),
    }
}

#[inline(never)]
fn boundary() {
    black_box(());
}
