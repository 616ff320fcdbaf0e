//! Processes publish under the same idempotency keys, each in an order of its own.

use std::collections::BTreeMap;

use icp_core::delivery::DeliveryState;
use icp_core::event::Ingested;

use super::PROCESSES;
use super::crew::{Hand, Told};
use crate::conformance::world::World;

const KEYS: usize = 200;
const BATCH: usize = 10;

pub(super) async fn prepare(_: &World) {}

/// Publishes every key; one process has other bodies than the rest.
pub(super) async fn act(world: &World, hand: Hand) {
    let hash = hash_of(hand.number);
    let mut keys: Vec<usize> = (0..KEYS).collect();
    keys.rotate_left(hand.number * 7);
    if hand.number % 2 == 1 {
        keys.reverse();
    }
    for batch in keys.chunks(BATCH) {
        let item = |key: &usize| {
            let event = world.keyed("acme", &format!("k{key}"));
            let mut item = world.item(&event, vec![world.to("acme", "hook")]);
            item.body_hash = [hash; 32];
            item
        };
        let items: Vec<_> = batch.iter().map(item).collect();
        let answers = world.ingest_items(items.clone(), 0).await;
        for ((key, item), answer) in batch.iter().zip(items).zip(answers) {
            match answer {
                Ingested::Accepted { .. } => {
                    hand.say(format_args!("{key} accepted {}", item.event.id));
                }
                Ingested::Duplicate { of } => hand.say(format_args!("{key} duplicate {of}")),
                Ingested::Conflict { with } => hand.say(format_args!("{key} conflict {with}")),
                other => panic!("{other:?}"),
            }
        }
    }
}

fn hash_of(number: usize) -> u8 {
    if number == 0 { 8 } else { 7 }
}

pub(super) async fn check(world: &World, told: &[Told]) {
    let mut by_key: BTreeMap<&str, Vec<(usize, [&str; 2])>> = BTreeMap::new();
    for one in told {
        let [key, answer, event] = one.words();
        by_key.entry(key).or_default().push((one.by, [answer, event]));
    }
    assert_eq!(by_key.len(), KEYS);
    for (key, answers) in by_key {
        assert_eq!(answers.len(), PROCESSES);
        let accepted: Vec<_> =
            answers.iter().filter(|(_, [answer, _])| *answer == "accepted").collect();
        let [(winner, [_, event])] = accepted[..] else { panic!("{key}: {answers:?}") };
        for (by, answer) in answers.iter().filter(|(by, _)| by != winner) {
            let same = hash_of(*by) == hash_of(*winner);
            let expected = if same { "duplicate" } else { "conflict" };
            assert_eq!(*answer, [expected, event], "{key}");
        }
    }
    assert_eq!(world.counts().await.unwrap(), [(DeliveryState::Ready, KEYS as u64)]);
}
