//! Cases, what they end in, and whether two ends are alike.

use std::path::Path;

use icp_core::transform::Language;
use serde::Deserialize;
use serde_json::Value;

use crate::engine::Engine;
use crate::oracle::Oracle;

/// A program, and a payload for it.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    /// Text, or a schema.
    pub(crate) program: Value,
    pub(crate) input: Value,
}

/// What a case ends in.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(rename_all = "snake_case")]
pub(crate) enum End {
    /// A result; of a schema, whether the payload conforms.
    Value(Value),
    /// No result, which JSONata tells from `null`.
    Nothing,
    /// `compile` or `runtime`.
    Error(String),
}

/// Programs that are each run on every input.
#[derive(Deserialize)]
struct Group {
    inputs: Vec<Value>,
    programs: Vec<Value>,
}

impl Case {
    /// The cases of `cases/<language>.json`.
    pub(crate) fn written(language: &str) -> Vec<Self> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oracles/cases");
        let text = std::fs::read_to_string(folder.join(format!("{language}.json"))).unwrap();
        let groups: Vec<Group> = serde_json::from_str(&text).unwrap();
        let of = |group: Group| {
            let Group { inputs, programs } = group;
            programs.into_iter().flat_map(move |program| {
                let case = |input: &Value| Self { program: program.clone(), input: input.clone() };
                inputs.iter().map(case).collect::<Vec<_>>()
            })
        };
        groups.into_iter().flat_map(of).collect()
    }
}

impl End {
    /// Whether both say the same. A number is the same however it is written.
    fn is_like(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Value(one), Self::Value(two)) => alike(one, two),
            (one, two) => one == two,
        }
    }
}

fn alike(one: &Value, two: &Value) -> bool {
    match (one, two) {
        (Value::Number(one), Value::Number(two)) => one.as_f64() == two.as_f64(),
        (Value::Array(one), Value::Array(two)) => {
            one.len() == two.len() && one.iter().zip(two).all(|(one, two)| alike(one, two))
        }
        (Value::Object(one), Value::Object(two)) => {
            let same =
                |(name, one): (&String, &Value)| two.get(name).is_some_and(|two| alike(one, two));
            one.len() == two.len() && one.iter().all(same)
        }
        (one, two) => one == two,
    }
}

/// Runs every case in the engine and by the oracle. A program that ends differently for a payload
/// must be among the listed, and each of the listed must.
pub(crate) async fn agree(language: Language, oracle: Oracle, cases: &[Case], listed: &[Value]) {
    let theirs = oracle.answer(language, cases);
    let engine = Engine::new(language);
    let mut unlisted = Vec::new();
    let mut seen = vec![false; listed.len()];
    for (case, theirs) in cases.iter().zip(&theirs) {
        let ours = engine.end(case).await;
        if ours.is_like(theirs) {
            continue;
        }
        match listed.iter().position(|program| *program == case.program) {
            Some(at) => seen[at] = true,
            None => unlisted.push(format!(
                "{} of {}\n   ours: {ours:?}\n theirs: {theirs:?}",
                case.program, case.input
            )),
        }
    }
    let shown = unlisted.iter().take(40).map(String::as_str).collect::<Vec<_>>().join("\n");
    assert!(unlisted.is_empty(), "{} of {} differ:\n{shown}", unlisted.len(), cases.len());
    for (program, seen) in listed.iter().zip(seen) {
        assert!(seen, "{program} does not differ: take it off the list");
    }
}
