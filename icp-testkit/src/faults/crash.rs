//! The server of the database ends, as in a crash, and comes back.

use std::time::Duration;

use super::stage::Stage;
use super::{BoxFuture, Fixture};

/// How long claims may take to go on once the server is back.
const RESUME: Duration = Duration::from_secs(10);

/// Two engines work while `crash` ends the server of their database and brings it back, so many
/// `rounds`; each time what is published afterwards comes in within 10 s, and in the end the ledger
/// closes: nothing that was acknowledged is lost.
///
/// `crash` is over when the server takes connections again. The fixture's stores may go past its
/// proxy, of which nothing is asked here.
///
/// # Panics
///
/// Where any of it fails.
pub async fn survive_crashes(fixture: Fixture, rounds: u32, crash: impl Fn() -> BoxFuture<()>) {
    let mut stage = Stage::new(fixture).await;
    stage.start(true).await;
    stage.start(true).await;
    let publishers = stage.publish();
    for _ in 0..rounds {
        stage.delivers(50).await;
        crash().await;
        stage.resume(RESUME).await;
    }
    stage.finish(publishers, usize::MAX).await;
}
