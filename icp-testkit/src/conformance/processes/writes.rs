//! Processes write configuration at the same time, and follow what all of them write.

use std::collections::BTreeSet;

use icp_core::error::Code;
use icp_core::resource::{Expect, Revision};
use serde_json::json;

use super::PROCESSES;
use super::crew::{Hand, Told};
use crate::conformance::world::{World, change, org, res, write};

const WRITES: usize = 15;
const COUNTER: &str = "counter";

pub(super) async fn prepare(world: &World) {
    let mut counter = change("acme", COUNTER, Expect::Absent);
    counter.record.spec = json!({ "count": 0 });
    world.write(write(vec![counter], 0)).await.unwrap();
}

/// Writes two resources that all write, in either order, and counts one up; then reads on until it
/// has seen what everybody wrote.
pub(super) async fn act(world: &World, hand: Hand) {
    let mut feed = Feed::default();
    for round in 0..WRITES {
        let mut names = ["a", "b"];
        if (hand.number + round) % 2 == 1 {
            names.reverse();
        }
        let changes = names.map(|name| change("acme", name, Expect::Any)).to_vec();
        for record in world.write(write(changes, 1)).await.unwrap() {
            hand.say(format_args!("wrote {}", record.revision.0));
        }
        hand.say(format_args!("wrote {}", count_up(world).await.0));
        feed.read(world).await;
    }
    while feed.seen.len() < 1 + PROCESSES * WRITES * 3 {
        feed.read(world).await;
    }
    for revision in feed.seen {
        hand.say(format_args!("saw {}", revision.0));
    }
}

/// Adds one to the counter, where nobody else did since it was read.
async fn count_up(world: &World) -> Revision {
    loop {
        let found = world.resource(&org("acme"), "integration", &res(COUNTER)).await.unwrap();
        let found = found.unwrap();
        let mut next = change("acme", COUNTER, Expect::Revision(found.revision));
        next.record.spec = json!({ "count": found.spec["count"].as_u64().unwrap() + 1 });
        match world.write(write(vec![next], 1)).await {
            Ok(written) => return written[0].revision,
            Err(error) => assert_eq!(error.code(), Code::RevisionConflict, "{error:?}"),
        }
    }
}

/// What a follower has seen, in order.
#[derive(Default)]
struct Feed {
    seen: Vec<Revision>,
}

impl Feed {
    async fn read(&mut self, world: &World) {
        let after = self.seen.last().copied().unwrap_or(Revision::ZERO);
        self.seen.extend(world.changes(after, 7).await.unwrap().iter().map(|r| r.revision));
    }
}

pub(super) async fn check(world: &World, told: &[Told]) {
    let said = |by: usize, word: &str| -> Vec<u64> {
        let said = told.iter().filter(|told| told.by == by && told.words::<2>()[0] == word);
        said.map(|told| told.words::<2>()[1].parse().unwrap()).collect()
    };
    let mut made: Vec<_> = (0..PROCESSES).flat_map(|by| said(by, "wrote")).collect();
    made.push(1);
    made.sort_unstable();
    let distinct: BTreeSet<_> = made.iter().copied().collect();
    assert_eq!(distinct.len(), 1 + PROCESSES * WRITES * 3, "two writes had one revision");
    for by in 0..PROCESSES {
        assert_eq!(said(by, "saw"), made, "process {by} saw something else");
    }
    let counter = world.resource(&org("acme"), "integration", &res(COUNTER)).await.unwrap();
    assert_eq!(counter.unwrap().spec["count"], PROCESSES * WRITES);
}
