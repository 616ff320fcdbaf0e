use std::time::Duration;

use icp::id::ClockIds;
use icp::time::{Clock, Timestamp};

/// The moment at which everything is done.
pub const NOW: Timestamp = Timestamp::from_millis(1_795_232_700_000);

/// A clock that stands at [`NOW`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Still;

impl Clock for Still {
    fn now(&self) -> Timestamp {
        NOW
    }

    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }
}

/// A source of ids; two of the same seed give the same ones.
#[must_use]
pub fn ids(seed: u64) -> impl icp::id::IdSource {
    ClockIds::seeded(Still, seed)
}
