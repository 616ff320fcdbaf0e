//! Whatever is submitted, an engine stays well: any operation with any bytes, and many threads
//! while it is freed.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(unsafe_code, reason = "the tests call the C ABI")]

mod support;

use std::cell::RefCell;
use std::ptr;
use std::sync::Mutex;
use std::thread;

use icp_ffi::abi::*;
use icp_ffi::op::Op;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value, json};
use support::{Embedded, completions, records};

/// What happens to a document that would be fine.
#[derive(Clone, Debug)]
enum Change {
    None,
    Cut(Index),
    Byte(Index, u8),
    /// Another value in the place of some member or item.
    Value(Index, Value),
}

fn values() -> impl Strategy<Value = Value> {
    let long = "x".repeat(70_000);
    let deep = (0..200).fold(json!(1), |deep, _| json!([deep]));
    select(vec![
        json!(null),
        json!(-1),
        json!(1e300),
        json!(u64::MAX),
        json!(""),
        json!("acme"),
        json!("\u{0}\u{202e}"),
        json!(long),
        json!({ "org": "acme", "limit": 0 }),
        json!([[], {}]),
        deep,
    ])
}

fn changes() -> impl Strategy<Value = Change> {
    prop_oneof![
        Just(Change::None),
        any::<Index>().prop_map(Change::Cut),
        (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Change::Byte(at, byte)),
        (any::<Index>(), values()).prop_map(|(at, value)| Change::Value(at, value)),
    ]
}

/// Places of a document that can be changed.
fn places(value: &Value, at: &str, found: &mut Vec<String>) {
    found.push(at.to_owned());
    match value {
        Value::Object(members) => {
            for (name, value) in members {
                let name = name.replace('~', "~0").replace('/', "~1");
                places(value, &format!("{at}/{name}"), found);
            }
        }
        Value::Array(items) => {
            for (index, value) in items.iter().enumerate() {
                places(value, &format!("{at}/{index}"), found);
            }
        }
        _ => {}
    }
}

fn changed(document: &Value, change: &Change) -> Vec<u8> {
    let mut bytes = document.to_string().into_bytes();
    match change {
        Change::None => {}
        Change::Cut(at) => bytes.truncate(at.index(bytes.len())),
        Change::Byte(at, byte) => {
            let at = at.index(bytes.len());
            bytes[at] = *byte;
        }
        Change::Value(at, value) => {
            let (mut document, mut found) = (document.clone(), Vec::new());
            places(&document, "", &mut found);
            *document.pointer_mut(&found[at.index(found.len())]).unwrap() = value.clone();
            bytes = document.to_string().into_bytes();
        }
    }
    bytes
}

/// The inputs of the cases, which are of every kind.
fn seeds() -> Vec<(u32, Value)> {
    let cases: Vec<Value> = serde_json::from_str(include_str!("cases.json")).unwrap();
    let op = |case: &Value| Op::ALL.iter().find(|op| case["op"] == op.name()).unwrap().number();
    cases.iter().map(|case| (op(case), case["input"].clone())).collect()
}

#[test]
fn whatever_is_submitted_ends_once_with_a_document() {
    let seeds = seeds();
    let any_op = prop_oneof![
        8 => select(Op::ALL.to_vec()).prop_map(Op::number),
        1 => any::<u32>(),
    ];
    let seeded = (select(seeds), changes()).prop_map(|((op, body), by)| (op, changed(&body, &by)));
    let drawn = (any_op, prop::collection::vec(any::<u8>(), 0..64));
    let inputs = prop_oneof![4 => seeded, 1 => drawn];
    // Another engine is not what is asked for here, and a wait takes the time it is told.
    let inputs = inputs.prop_filter("ends the engine, or takes its time", |(op, body)| {
        ![Op::Shutdown.number(), Op::DeliveryWait.number()].contains(op) && body.len() < 1 << 20
    });
    let host = RefCell::new(Embedded::started());
    let config = Config { cases: 1_500, failure_persistence: None, ..Config::default() };
    let ran = TestRunner::new_with_rng(
        config,
        proptest::test_runner::TestRng::deterministic_rng(
            proptest::test_runner::RngAlgorithm::ChaCha,
        ),
    )
    .run(&inputs, |(op, body)| {
        let mut host = host.borrow_mut();
        let ended = match host.submit(op, &body) {
            Ok(tag) => host.completion(tag),
            Err(refused) => {
                prop_assert_eq!((refused.0, Op::of(op)), (10, None), "{}", refused.1);
                return Ok(());
            }
        };
        if let Err((status, error)) = ended {
            prop_assert!((1..98).contains(&status), "{} {}", op, error);
            prop_assert_eq!(&error["code"], status);
            prop_assert!(error["message"].as_str().is_some_and(|text| !text.is_empty()));
        }
        Ok(())
    });
    ran.unwrap();
    let mut host = host.into_inner();
    assert_eq!(host.ask(Op::Health, &json!({})).unwrap()["ready"], true);
    assert!(completions(&host.seen).is_empty(), "nothing ends twice");
}

#[test]
fn what_is_under_way_while_an_engine_is_freed_ends_once() {
    const EACH: u64 = 2_500;
    let mut host = Embedded::started_with(&json!({ "store": "memory:", "max_in_flight": 100_000 }));
    let event = json!({ "org": "acme", "type": "a.b", "data": 1 }).to_string();
    let (publish, health) = (Op::Publish.number(), Op::Health.number());
    thread::scope(|scope| {
        let (host, event) = (&host, &event);
        for of in 0..4 {
            scope.spawn(move || {
                for number in 0..EACH {
                    let (op, body) =
                        if number % 2 == 0 { (publish, &event[..]) } else { (health, "") };
                    let (data, size, none) = (body.as_ptr(), body.len(), ptr::null_mut());
                    let tag = 1_000_000 * (of + 1) + number;
                    let status =
                        unsafe { icp_submit(host.engine, host.queue, op, tag, data, size, none) };
                    assert_eq!(status, 0);
                }
            });
        }
    });
    let seen = Mutex::new(Vec::new());
    thread::scope(|scope| {
        let (host, seen) = (&host, &seen);
        for _ in 0..3 {
            scope.spawn(move || {
                let mut buffer = vec![0; 4_096];
                loop {
                    let (at, cap, none) = (buffer.as_mut_ptr(), buffer.len(), ptr::null_mut());
                    let bytes = unsafe { icp_queue_drain(host.queue, at, cap, -1, none) };
                    let Ok(bytes) = usize::try_from(bytes) else { return };
                    seen.lock().unwrap().extend(records(&buffer[..bytes]));
                }
            });
        }
        unsafe { icp_engine_free(host.engine) };
    });
    host.engine = ptr::null_mut();
    let count = completions(&seen.into_inner().unwrap());
    assert_eq!(count.len() as u64, 4 * EACH);
    assert!(count.values().all(|times| *times == 1));
}
