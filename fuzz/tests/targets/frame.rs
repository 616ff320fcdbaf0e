//! Frames that a host is answered with: whatever a worker says, the host is not held up.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use icp_core::transform::{Outcome, Plan, PlanSpec};
use icp_fuzz::{Draw, frame};
use icp_sandbox::Sandbox;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::world::{block_on, run, tables};

/// How long a host may take that was never answered well.
const PATIENCE: Duration = Duration::from_secs(30);

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

/// The host asks a worker that answers whatever was drawn, and then closes.
fn answered(bytes: &[u8]) {
    let mut draw = Draw::of(bytes);
    let mut said = frame(&json!("ready"), &[]);
    for _ in 0..=draw.below(3) {
        let head = answer(&mut draw);
        let body = draw.value(2).to_string();
        said.extend(draw.spoiled(frame(&head, body.as_bytes())));
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

fn plan() -> Plan {
    let steps = json!([{ "javascript": { "source": "return payload.a ?? 1" } }]);
    let spec: PlanSpec = serde_json::from_value(steps).unwrap();
    spec.compile("/transform").unwrap()
}
