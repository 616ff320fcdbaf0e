//! The wall clocks of nodes differ, and jump.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use icp_core::time::{Clock, SystemClock, Timestamp};

use super::stage::Stage;
use super::{Fixture, Size};

const SECOND: i64 = 1_000;
const MINUTE: i64 = 60 * SECOND;
const DAY: i64 = 24 * 60 * MINUTE;

/// At most so many deliveries may be sent again: what one claim brings.
const AGAIN: usize = 64;

/// The system's clock, wrong by what a behaviour says.
#[derive(Clone, Debug, Default)]
pub(super) struct Wrong(Arc<AtomicI64>);

impl Wrong {
    fn by(millis: i64) -> Self {
        Self(Arc::new(AtomicI64::new(millis)))
    }

    fn set(&self, millis: i64) {
        self.0.store(millis, Ordering::Release);
    }
}

impl Clock for Wrong {
    fn now(&self) -> Timestamp {
        let wrong_by = self.0.load(Ordering::Acquire);
        Timestamp::from_millis(SystemClock.now().as_millis() + wrong_by)
    }

    fn monotonic(&self) -> Duration {
        SystemClock.monotonic()
    }
}

/// Three nodes, of which one is ahead and one behind.
pub(super) async fn of_nodes_differ(fixture: Fixture, size: Size) {
    let mut stage = Stage::new(fixture).await;
    let clocks = [Wrong::by(10 * MINUTE), Wrong::default(), Wrong::by(-10 * MINUTE)];
    for clock in &clocks {
        stage.start_at(clock.clone()).await;
    }
    let publishers = stage.publish();
    stage.delivers(50).await;
    tokio::time::sleep(size.stretch / 4).await;
    // Also what one node gave a later time gets due on the others.
    clocks[2].set(10 * MINUTE);
    stage.resume(size.resume).await;
    stage.finish(publishers, AGAIN).await;
}

/// The clock of one of two nodes is put forward and back while both work.
pub(super) async fn of_one_node_jumps(fixture: Fixture, size: Size) {
    let mut stage = Stage::new(fixture).await;
    let clock = Wrong::default();
    stage.start_at(clock.clone()).await;
    stage.start_at(Wrong::default()).await;
    let publishers = stage.publish();
    stage.delivers(50).await;
    let jumps = [SECOND, -SECOND, 30 * SECOND, -30 * SECOND, 10 * MINUTE, -10 * MINUTE, DAY, -DAY];
    for jump in jumps {
        clock.set(jump);
        tokio::time::sleep(size.stretch / 8).await;
        stage.delivers(10).await;
    }
    // What was due a day later by the wrong clock is due by then.
    clock.set(DAY + MINUTE);
    stage.resume(size.resume).await;
    stage.finish(publishers, AGAIN).await;
}
