//! How many deliveries a second the store claims and settles, on the replica set that
//! `ICP_TEST_MONGODB_URL` names.
//!
//! Run with `cargo bench -p icp-store-mongo`.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a bench prints, takes the time, and stops on errors"
)]

#[path = "../tests/fixture/mod.rs"]
mod fixture;

use std::time::Instant;

use fixture::{batch, claim, delivered, store, url};
use icp_core::delivery::*;
use icp_core::event::*;
use icp_store_mongo::MongoStore;

const TOTAL: u128 = 20_000;

fn main() {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.unwrap().block_on(async {
        for nodes in [1, 4] {
            path(nodes, 100).await;
        }
        path(4, 200).await;
    });
}

/// Intake in batches of 100, then claims and settles of `size` by some tasks at once.
async fn path(tasks: usize, size: usize) {
    let store = store(url()).await;
    let before = Instant::now();
    for first in (0..TOTAL).step_by(100) {
        store.ingest(batch(first..first + 100)).await.unwrap();
    }
    let intake = rate(before);
    let before = Instant::now();
    let work = (0..tasks).map(|_| tokio::spawn(work(store.clone(), size)));
    let done = futures_util::future::join_all(work).await;
    let done: usize = done.into_iter().map(Result::unwrap).sum();
    assert_eq!(done as u128, TOTAL);
    let settled = rate(before);
    println!(
        "{tasks} tasks, batches of {size}: intake {intake:.0}/s, claim and settle {settled:.0}/s"
    );
    store.database().drop().await.unwrap();
}

async fn work(store: MongoStore, size: usize) -> usize {
    let mut done = 0;
    loop {
        let claimed = store.claim(Claim { per_lane: size / 4, ..claim(size) }).await.unwrap();
        if claimed.deliveries.is_empty() {
            let counts = store.counts().await.unwrap();
            if counts.iter().all(|(state, _)| state.is_final()) {
                return done;
            }
            continue;
        }
        done += claimed.deliveries.len();
        store.settle(delivered(&claimed.deliveries)).await.unwrap();
    }
}

fn rate(since: Instant) -> f64 {
    TOTAL as f64 / since.elapsed().as_secs_f64()
}
