//! The connection between a node and its store fails while both work.

use std::time::Duration;

use super::stage::Stage;
use super::{Fault, Fixture, Size};

const SEED: u64 = 20;

pub(super) async fn is_late(fixture: Fixture, size: Size) {
    let fault = |delay, jitter| Fault::Latency {
        delay: Duration::from_millis(delay),
        jitter: Duration::from_millis(jitter),
        seed: SEED,
    };
    Stage::suffer(fixture, size, &[(fault(20, 180), 0.5), (fault(2_000, 0), 0.5)]).await;
}

pub(super) async fn is_narrow(fixture: Fixture, size: Size) {
    Stage::suffer(fixture, size, &[(Fault::Bandwidth(4_096), 1.0)]).await;
}

pub(super) async fn is_stalled(fixture: Fixture, size: Size) {
    Stage::suffer(fixture, size, &[(Fault::Stall, 1.0)]).await;
}

pub(super) async fn is_swallowed(fixture: Fixture, size: Size) {
    Stage::suffer(fixture, size, &[(Fault::BlackHole, 1.0)]).await;
}

pub(super) async fn is_reset(fixture: Fixture, size: Size) {
    Stage::suffer(fixture, size, &[(Fault::Reset, 1.0)]).await;
}

pub(super) async fn is_reset_with_each_request(fixture: Fixture, size: Size) {
    Stage::suffer(fixture, size, &[(Fault::ResetOnRequest, 1.0)]).await;
}

pub(super) async fn is_reset_again_and_again(fixture: Fixture, size: Size) {
    let narrow = Fault::Bandwidth(1_000_000);
    let turns = [(Fault::Reset, 0.02), (narrow, 0.08)];
    let turns: Vec<_> = std::iter::repeat_n(turns, 10).flatten().collect();
    Stage::suffer(fixture, size, &turns).await;
}

pub(super) async fn is_closed_by_half(fixture: Fixture, size: Size) {
    Stage::suffer(fixture, size, &[(Fault::HalfClose, 1.0)]).await;
}

pub(super) async fn is_cut_within_answers(fixture: Fixture, size: Size) {
    let cuts = [0, 1, 5, 20, 60, 200, 1_000, 4_000];
    let share = 1.0 / cuts.len() as f64;
    let cuts: Vec<_> = cuts.map(|after| (Fault::CutAnswer(after), share)).into();
    Stage::suffer(fixture, size, &cuts).await;
}

pub(super) async fn is_closed_slowly(fixture: Fixture, size: Size) {
    let slowly = Fault::SlowClose(Duration::from_secs(1));
    Stage::suffer(fixture, size, &[(Fault::Reset, 0.05), (slowly, 0.95)]).await;
}

pub(super) async fn is_refused(fixture: Fixture, size: Size) {
    Stage::suffer(fixture, size, &[(Fault::Reset, 0.05), (Fault::Refused, 0.95)]).await;
}

pub(super) async fn is_lost_half_of_the_time(fixture: Fixture, size: Size) {
    let lost = Fault::LoseConnections { percent: 50, seed: SEED };
    Stage::suffer(fixture, size, &[(Fault::Reset, 0.05), (lost, 0.95)]).await;
}

/// One node is cut off with what it holds, another goes on and takes that over.
pub(super) async fn of_one_node_is_swallowed(fixture: Fixture, size: Size) {
    let mut stage = Stage::new(fixture).await;
    stage.start(true).await;
    stage.start(false).await;
    stage.live_through(size, &[(Fault::BlackHole, 1.0)]).await;
}
