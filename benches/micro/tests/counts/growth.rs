//! What an operation costs does not depend on what else there is.

use icp_micro::organization::{self, Beside};
use icp_micro::queue;

use crate::allocations::mean;
use crate::instructions::rounds;

/// By how many percent a figure may differ.
const ROOM: u64 = 15;
/// How many of the stored deliveries are of one event.
const FAN_OUT: u64 = 10;

#[test]
fn a_publish_allocates_the_same_beside_10_000_integrations() {
    let (alone, bytes) = mean(organization::publish(1, Beside::Nothing));
    for beside in [Beside::Types(10_000), Beside::Organizations(10_000)] {
        let (count, all) = mean(organization::publish(1, beside));
        same(alone, count);
        same(bytes, all);
    }
}

#[test]
fn a_delivery_takes_the_same_beside_1_000_and_beside_100_000_stored_ones() {
    let folder = tempfile::tempdir().unwrap();
    let stored = |count: u64| {
        let path = folder.path().join(format!("{count}.db"));
        queue::store(&path, count / FAN_OUT, FAN_OUT, 16);
        format!("deliver/sqlite@{}", path.display())
    };
    let (few, many) = (stored(1_000), stored(100_000));
    let counted = rounds(&[&few, &many], 4);
    same(counted[0], counted[1]);
}

/// Fails where the figures differ by more than [`ROOM`].
#[expect(clippy::print_stdout, reason = "the figures are shown with `--nocapture`")]
pub(crate) fn same(few: u64, many: u64) {
    println!("{few} beside little, {many} beside much");
    let apart = few.abs_diff(many) * 100;
    assert!(apart <= few * ROOM, "{few} beside little, {many} beside much");
}
