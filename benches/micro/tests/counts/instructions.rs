//! How many instructions operations take, all threads of the process together.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::BOUND;
use crate::bound::{self, Figures};
use crate::growth::same;

#[test]
fn operations_take_no_more_instructions_than_before() {
    let figures: Figures = BOUND.into_iter().zip(rounds(&BOUND, 5)).collect();
    same(figures["match/1"], figures["match/10000"]);
    // Another processor, or another libc, runs other code for the same, so that less is no reason.
    bound::hold("instructions.json", &figures, 10, None);
}

/// Instructions for a round of each operation, the mean of so many, counted in one process.
pub(crate) fn rounds(operations: &[&str], rounds: u32) -> Vec<u64> {
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--dump-before=icp_rounds::boundary*"])
        .arg(format!("--callgrind-out-file={}", folder.path().join("part").display()))
        .args([env!("CARGO_BIN_EXE_icp-rounds"), &rounds.to_string()])
        .args(operations)
        .output()
        .unwrap_or_else(|error| panic!("valgrind: {error}; run `scripts/setup`"));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    // The first call ends what went before, the second the rounds of the first operation.
    let part = |at| total(&folder.path().join(format!("part.{}", 2 * at + 2)));
    (0..operations.len()).map(|at| part(at) / u64::from(rounds)).collect()
}

fn total(profile: &Path) -> u64 {
    let text = fs::read_to_string(profile).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("summary: ")).unwrap();
    line.trim().parse().unwrap()
}
