//! Frames that a worker is asked with: whatever a host says, the worker does nothing that it must
//! not, and ends when nobody asks any more.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a target fails by panicking")]

use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};

use icp_core::event::EventType;
use icp_core::id::EventId;
use icp_core::time::Timestamp;
use icp_core::transform::{Plan, PlanSpec};
use icp_fuzz::{Draw, frame};
use serde_json::{Value, json};

/// The number of the question after which a worker has answered all before.
const LAST: u64 = 777_777;

const WORKER: &str = env!("CARGO_BIN_EXE_icp-sandbox");

#[test]
fn questions() {
    bolero::check!().with_iterations(60).with_max_len(512).for_each(asked);
}

/// It ends by itself, not by a signal, which a system call that it must not make would be; and what
/// it said is frames.
fn asked(bytes: &[u8]) {
    let mut draw = Draw::of(bytes);
    let mut said = frame(&json!({ "limits": {} }), &[]);
    said.extend(frame(&json!({ "plan": { "slot": 0 } }), plan().text().as_bytes()));
    for _ in 0..=draw.below(4) {
        let (head, body) = ask(&mut draw);
        said.extend(frame(&head, &body));
    }
    said.extend(frame(&json!({ "check": { "number": LAST, "slot": 0 } }), &[]));
    let (head, body) = ask(&mut draw);
    let end = draw.spoiled(frame(&head, &body));
    let mut child = Command::new(WORKER)
        .arg("--icp-sandbox-worker")
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let (mut input, mut output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    // It may have ended before it read everything, as it does where a frame makes no sense.
    let _ = input.write_all(&said);
    while told(&mut output).is_some_and(|answer| answer["checked"]["number"] != LAST) {}
    let _ = input.write_all(&end);
    drop(input);
    while told(&mut output).is_some() {}
    assert_eq!(child.wait().unwrap().signal(), None, "{said:?}");
}

/// The head of the next frame; none at the end.
fn told(output: &mut impl Read) -> Option<Value> {
    let mut lengths = [0; 8];
    output.read_exact(&mut lengths).ok()?;
    let length = |at: usize| u32::from_le_bytes(lengths[at..at + 4].try_into().unwrap()) as usize;
    let (mut head, mut body) = (vec![0; length(0)], vec![0; length(4)]);
    output.read_exact(&mut head).ok()?;
    output.read_exact(&mut body).ok()?;
    Some(serde_json::from_slice(&head).unwrap())
}

fn ask(draw: &mut Draw<'_>) -> (Value, Vec<u8>) {
    let (number, slot) = (draw.byte(), draw.one(&[0, 0, 0, 0, 0, 0, 1, usize::MAX]));
    match draw.below(8) {
        2 => (json!({ "plan": { "slot": slot } }), draw.text().into_bytes()),
        3 => (json!({ "check": { "number": number, "slot": slot } }), Vec::new()),
        4..=6 => {
            let scene = json!({
                "org": "acme",
                "event": EventId::from_bytes([7; 16]),
                "event_type": EventType::new("order.paid").unwrap(),
                "received_at": Timestamp::from_millis(1_795_232_700_123),
                "attempt": draw.byte(),
            });
            let head = json!({ "run": { "number": number, "slot": slot, "scene": scene } });
            (head, draw.value(3).to_string().into_bytes())
        }
        7 if draw.rarely(4) => (draw.value(2), draw.text().into_bytes()),
        _ => (json!({ "plan": { "slot": 0 } }), plan().text().as_bytes().to_vec()),
    }
}

fn plan() -> Plan {
    let steps = json!([{ "javascript": { "source": "return payload.a ?? 1" } }]);
    let spec: PlanSpec = serde_json::from_value(steps).unwrap();
    spec.compile("/transform").unwrap()
}
