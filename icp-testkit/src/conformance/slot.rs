use std::sync::Arc;

use icp_core::Code;
use icp_core::slot::{MAX_SLOT_KEY, MAX_SLOT_VALUE, NewSlot, Slot, SlotExpect};

use super::world::{World, at, race};

const ABSENT: SlotExpect = SlotExpect::Absent;

fn new(key: &str, value: &str, until: u64) -> NewSlot {
    NewSlot { key: key.to_owned(), value: value.to_owned(), expires_at: at(until) }
}

async fn put(world: &World, slot: NewSlot, expect: SlotExpect, secs: u64) -> bool {
    world.put_slot(slot, expect, at(secs)).await.unwrap()
}

async fn read(world: &World, key: &str, secs: u64) -> Option<Slot> {
    world.slot(key, at(secs)).await.unwrap()
}

async fn version(world: &World, key: &str, secs: u64) -> SlotExpect {
    SlotExpect::Version(read(world, key, secs).await.unwrap().version)
}

pub(super) async fn is_read_back_whole(world: World) {
    assert_eq!(read(&world, "a", 1).await, None);
    assert!(put(&world, new("a", "ü\0\u{1f511}", 60), ABSENT, 1).await);
    let slot = read(&world, "a", 2).await.unwrap();
    assert_eq!((slot.key.as_str(), slot.value.as_str()), ("a", "ü\0\u{1f511}"));
    assert_eq!(slot.expires_at, at(60));
    assert_eq!(slot.version, NewSlot::version(ABSENT, at(1)));
    for other in ["A", "a ", "ä", "a\0"] {
        assert_eq!(read(&world, other, 2).await, None, "{other:?}");
    }
    let (key, value) = ("k".repeat(MAX_SLOT_KEY), "v".repeat(MAX_SLOT_VALUE));
    assert!(put(&world, new(&key, &value, 60), ABSENT, 1).await);
    assert_eq!(read(&world, &key, 2).await.unwrap().value, value);
    assert!(put(&world, new("empty", "", 60), ABSENT, 1).await);
    assert_eq!(read(&world, "empty", 2).await.unwrap().value, "");
}

pub(super) async fn too_large_ones_are_refused(world: World) {
    let large = new("a", &"v".repeat(MAX_SLOT_VALUE + 1), 60);
    let long = new(&"k".repeat(MAX_SLOT_KEY + 1), "", 60);
    for (slot, code) in [(large, Code::BodyTooLarge), (long, Code::IdInvalid)] {
        let refused = world.put_slot(slot, ABSENT, at(1)).await.unwrap_err();
        assert_eq!(refused.code(), code);
    }
    assert_eq!(read(&world, "a", 1).await, None);
}

pub(super) async fn expectations_are_checked(world: World) {
    assert!(!put(&world, new("a", "1", 60), SlotExpect::Version(1), 1).await);
    assert_eq!(read(&world, "a", 1).await, None);
    assert!(put(&world, new("a", "1", 60), ABSENT, 1).await);
    assert!(!put(&world, new("a", "2", 60), ABSENT, 2).await);
    let first = version(&world, "a", 2).await;
    assert!(put(&world, new("a", "2", 60), first, 2).await);
    let second = version(&world, "a", 2).await;
    assert!(second != first);
    assert!(!put(&world, new("a", "3", 60), first, 3).await, "that version is gone");
    assert_eq!(read(&world, "a", 3).await.unwrap().value, "2");
    assert!(put(&world, new("b", "other", 60), ABSENT, 3).await);
    assert_eq!(version(&world, "a", 3).await, second);
}

pub(super) async fn a_repeated_put_answers_the_same(world: World) {
    for _ in 0..2 {
        assert!(put(&world, new("a", "1", 60), ABSENT, 1).await);
    }
    let first = version(&world, "a", 1).await;
    for _ in 0..2 {
        assert!(put(&world, new("a", "2", 90), first, 2).await);
    }
    let slot = read(&world, "a", 2).await.unwrap();
    assert_eq!((slot.value.as_str(), slot.expires_at), ("2", at(90)));
    assert!(!put(&world, new("a", "1", 60), ABSENT, 1).await, "another is there by now");
    assert_eq!(read(&world, "a", 2).await, Some(slot));
}

pub(super) async fn one_whose_time_is_over_counts_as_gone(world: World) {
    assert!(put(&world, new("a", "1", 10), ABSENT, 1).await);
    let first = version(&world, "a", 9).await;
    assert_eq!(read(&world, "a", 10).await, None);
    assert!(!put(&world, new("a", "2", 60), first, 10).await);
    assert!(put(&world, new("a", "3", 60), ABSENT, 10).await);
    assert_eq!(read(&world, "a", 11).await.unwrap().value, "3");
    assert!(!put(&world, new("a", "4", 60), first, 11).await, "its owner came back too late");
    let SlotExpect::Version(first) = first else { unreachable!() };
    assert!(!world.remove_slot("a", Some(first)).await.unwrap());
    assert_eq!(read(&world, "a", 11).await.unwrap().value, "3");
}

pub(super) async fn removing_names_the_version_or_any(world: World) {
    assert!(!world.remove_slot("a", None).await.unwrap());
    assert!(put(&world, new("a", "1", 60), ABSENT, 1).await);
    let present = read(&world, "a", 1).await.unwrap().version;
    assert!(!world.remove_slot("a", Some(present + 1)).await.unwrap());
    assert!(world.remove_slot("a", Some(present)).await.unwrap());
    assert!(!world.remove_slot("a", Some(present)).await.unwrap());
    assert_eq!(read(&world, "a", 1).await, None);
    assert!(put(&world, new("a", "2", 60), ABSENT, 2).await);
    assert!(world.remove_slot("a", None).await.unwrap());
    assert_eq!(read(&world, "a", 2).await, None);
}

pub(super) async fn a_sweep_takes_what_is_over_bit_by_bit(world: World) {
    for n in 0..5 {
        assert!(put(&world, new(&format!("over-{n}"), "", 10 + n), ABSENT, 1).await);
        assert!(put(&world, new(&format!("on-{n}"), "", 60), ABSENT, 1).await);
    }
    let mut counts = Vec::new();
    for _ in 0..4 {
        counts.push(world.sweep_slots(at(20), 2).await.unwrap());
    }
    assert_eq!(counts, [2, 2, 1, 0]);
    assert_eq!(read(&world, "over-4", 1).await, None);
    assert!(read(&world, "on-4", 59).await.is_some());
}

pub(super) async fn one_of_racing_puts_wins(world: World) {
    for (round, secs) in [1, 100, 200].into_iter().enumerate() {
        // At first there is none, then one whose time is over, then one that all of them know.
        let expect = if round == 2 { version(&world, "a", secs).await } else { ABSENT };
        let until = if round == 0 { 50 } else { 1_000 };
        let store = world.store();
        let won = race((0..12).map(|n| {
            let (store, slot) = (Arc::clone(&store), new("a", &format!("{round}-{n}"), until));
            async move {
                let value = slot.value.clone();
                store.put_slot(slot, expect, at(secs)).await.unwrap().then_some(value)
            }
        }))
        .await;
        let won: Vec<String> = won.into_iter().flatten().collect();
        assert_eq!(won.len(), 1, "{won:?}");
        assert_eq!(read(&world, "a", secs).await.unwrap().value, won[0]);
    }
}
