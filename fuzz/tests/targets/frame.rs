//! Frames between host and worker: neither is held up or taken down by what the other says.

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use icp_core::transform::{Outcome, Plan, PlanSpec};
use icp_fuzz::Draw;
use icp_sandbox::Sandbox;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::world::{block_on, event, run, tables};

/// How long a host may take that was never answered well.
const PATIENCE: Duration = Duration::from_secs(30);

/// The number of the question after which a worker has answered all before.
const LAST: u64 = 777_777;

const WORKER: &str = env!("CARGO_BIN_EXE_icp-fuzz-worker");

/// What a host can be told by a worker that is not itself.
const TOLD: &[&str] = &[
    "compile",
    "runtime",
    "memory",
    "stack",
    "crashed",
    "timeout",
    "timeout_hard",
    "output_invalid",
    "output_too_large",
    "output_too_deep",
    "schema_invalid",
    "unavailable",
    "no_result",
];

#[test]
fn answers() {
    bolero::check!().with_iterations(150).with_max_len(512).for_each(answered);
}

#[test]
fn questions() {
    bolero::check!().with_iterations(60).with_max_len(512).for_each(asked);
}

/// The host asks a worker that answers whatever was drawn, and then closes.
fn answered(bytes: &[u8]) {
    let mut draw = Draw::of(bytes);
    let mut said = frame(&json!("ready"), &[]);
    for _ in 0..=draw.below(3) {
        let head = answer(&mut draw);
        let body = draw.value(2).to_string();
        said.extend(spoiled(&mut draw, frame(&head, body.as_bytes())));
    }
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().display();
    std::fs::write(dir.path().join("said"), said).unwrap();
    // It says what it has to say, closes, and reads on, so that asking it never fails.
    let script = format!("#!/bin/sh\ncat {at}/said\nexec >&-\ncat >/dev/null\n");
    std::fs::write(dir.path().join("worker"), script).unwrap();
    let executable = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(dir.path().join("worker"), executable).unwrap();
    let end = block_on(async {
        let sandbox = Sandbox::builder().program(dir.path().join("worker")).build().unwrap();
        let (plan, tables) = (plan(), tables());
        let ran = timeout(PATIENCE, run(&sandbox, &plan, b"{}".to_vec(), &tables));
        ran.await.unwrap().map(|report| report.outcome)
    });
    match end {
        // Whatever is taken for a result can be read by everybody after.
        Ok(Outcome::Value(bytes)) => {
            serde_json::from_slice::<Value>(&bytes).unwrap();
        }
        Ok(Outcome::Dropped { reason }) => assert!(reason.len() <= 256),
        Err(error) => {
            assert!(TOLD.contains(&error.code), "{error:?}");
            assert!(error.message.len() <= 1_024, "{error:?}");
        }
    }
}

/// A worker is asked whatever was drawn. It ends when nobody asks any more, by itself: not by a
/// signal, which a system call that it must not make would be, and what it said is frames.
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
    let end = spoiled(&mut draw, frame(&head, &body));
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

fn frame(head: &Value, body: &[u8]) -> Vec<u8> {
    let head = head.to_string().into_bytes();
    let length = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap().to_le_bytes();
    [&length(&head)[..], &length(body), &head, body].concat()
}

/// The frame as it is, mostly; or cut, or with a byte changed.
fn spoiled(draw: &mut Draw<'_>, mut frame: Vec<u8>) -> Vec<u8> {
    match draw.below(16) {
        6 => frame.truncate(draw.below(frame.len().min(255))),
        7 => {
            let at = draw.below(frame.len().min(255));
            frame[at] ^= draw.byte();
        }
        _ => {}
    }
    frame
}

fn answer(draw: &mut Draw<'_>) -> Value {
    let number = draw.one(&[1, 1, 1, 1, 1, 1, 2, u64::MAX]);
    let mut notes = json!({
        "warnings": [draw.text()],
        "console": [draw.text().repeat(200)],
        "cpu_micros": draw.one(&[0, 1, u64::MAX]),
    });
    if draw.rarely(8) {
        notes["console"] = draw.value(2);
    }
    match draw.below(6) {
        0 | 1 => json!({ "done": { "number": number, "dropped": null, "notes": notes } }),
        2 => json!({ "done": { "number": number, "dropped": draw.text(), "notes": notes } }),
        3 => json!({ "failed": { "number": number, "failure": failure(draw) } }),
        4 => json!({ "begins": { "number": number, "program": draw.one(&[0, 1, u64::MAX]) } }),
        _ => draw.value(2),
    }
}

fn failure(draw: &mut Draw<'_>) -> Value {
    let mut failure = json!({
        "code": draw.one(TOLD), "message": draw.text().repeat(99), "pointer": null,
        "origin": { "console": [draw.text()], "excerpt": draw.text().repeat(99) },
    });
    if draw.rarely(4) {
        failure["origin"]["frames"] = draw.value(2);
    }
    failure
}

fn ask(draw: &mut Draw<'_>) -> (Value, Vec<u8>) {
    let (number, slot) = (draw.byte(), draw.one(&[0, 0, 0, 0, 0, 0, 1, usize::MAX]));
    match draw.below(8) {
        2 => (json!({ "plan": { "slot": slot } }), draw.text().into_bytes()),
        3 => (json!({ "check": { "number": number, "slot": slot } }), Vec::new()),
        4..=6 => {
            let event = event(&json!({}));
            let scene = json!({
                "org": event.org, "event": event.id, "event_type": event.event_type,
                "received_at": event.received_at, "attempt": draw.byte(),
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
