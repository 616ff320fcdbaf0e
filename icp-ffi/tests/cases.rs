//! The cases of `cases.json`, which every language runs alike: here Rust, by the queue, and a
//! program in C, by calls. The packages run them in tests of their own.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(unsafe_code, reason = "the tests call the C ABI")]

mod support;

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use icp_ffi::op::Op;
use icp_ffi::status::Status;
use serde::Deserialize;
use serde_json::{Value, json};
use support::Embedded;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    op: String,
    input: Value,
    #[serde(default = "ok")]
    status: String,
    /// What the answer has at least.
    #[serde(default)]
    answer: Option<Value>,
    /// Names for members of the answer, which later cases have as `$name`.
    #[serde(default)]
    keep: HashMap<String, String>,
}

fn ok() -> String {
    "OK".to_owned()
}

/// Asks each case in its turn: `ask` takes an operation and its document, and answers a status and
/// the answer.
fn run(mut ask: impl FnMut(Op, &Value) -> (i32, Value)) {
    let cases: Vec<Case> = serde_json::from_str(include_str!("cases.json")).unwrap();
    let mut kept = HashMap::new();
    for case in &cases {
        let op = *Op::ALL.iter().find(|op| op.name() == case.op).unwrap();
        let (status, answer) = ask(op, &filled(&case.input, &kept));
        let name = Status::ALL.iter().find(|known| known.number() == status).unwrap().name();
        assert_eq!(name, case.status, "{}: {answer}", case.name);
        let expected = case.answer.as_ref().map(|expected| filled(expected, &kept));
        let is_fine = expected.as_ref().is_none_or(|expected| has(&answer, expected));
        assert!(is_fine, "{}: {answer} has not {}", case.name, expected.unwrap_or_default());
        for (name, member) in &case.keep {
            kept.insert(format!("${name}"), answer[member].clone());
        }
    }
}

fn filled(value: &Value, kept: &HashMap<String, Value>) -> Value {
    match value {
        Value::String(text) => kept.get(text).unwrap_or(value).clone(),
        Value::Array(items) => items.iter().map(|item| filled(item, kept)).collect(),
        Value::Object(members) => {
            let members = members.iter();
            Value::Object(members.map(|(name, of)| (name.clone(), filled(of, kept))).collect())
        }
        _ => value.clone(),
    }
}

/// Whether `found` has all that is expected: more members are fine, more items are not.
fn has(found: &Value, expected: &Value) -> bool {
    match (found, expected) {
        (Value::Object(found), Value::Object(expected)) => expected
            .iter()
            .all(|(name, expected)| found.get(name).is_some_and(|found| has(found, expected))),
        (Value::Array(found), Value::Array(expected)) => {
            found.len() == expected.len()
                && found.iter().zip(expected).all(|(found, expected)| has(found, expected))
        }
        _ => found == expected,
    }
}

#[test]
fn rust_is_answered_what_the_cases_say() {
    let mut host = Embedded::fresh(&json!({ "store": "memory:", "allow_loopback": true }));
    host.ask(Op::Start, &json!({})).unwrap();
    run(|op, input| match host.ask(op, input) {
        Ok(answer) => (0, answer),
        Err(refused) => refused,
    });
}

#[test]
fn c_is_answered_what_the_cases_say() {
    let folder = tempfile::tempdir().unwrap();
    let program = support::compiled("cases", &[], folder.path());
    let mut child = Command::new(program)
        .env("LD_LIBRARY_PATH", folder.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut questions = child.stdin.take().unwrap();
    let mut answers = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut ask = |op: Op, input: &Value| {
        writeln!(questions, "{} {input}", op.number()).unwrap();
        let line = answers.next().unwrap().unwrap();
        let (status, answer) = line.split_once(' ').unwrap();
        (status.parse().unwrap(), serde_json::from_str(answer).unwrap())
    };
    assert_eq!(ask(Op::Start, &json!({})).0, 0);
    run(&mut ask);
    drop(questions);
    assert!(child.wait().unwrap().success());
}

#[test]
fn what_is_missing_in_an_answer_is_seen() {
    let found = json!({ "a": [{ "b": 1, "c": 2 }], "d": null });
    assert!(has(&found, &json!({ "a": [{ "b": 1 }] })));
    for missing in [json!({ "a": [] }), json!({ "a": [{ "b": 2 }] }), json!({ "e": null })] {
        assert!(!has(&found, &missing), "{missing}");
    }
}
