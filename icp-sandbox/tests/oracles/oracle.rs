//! The other implementations, each a process that answers all cases at once.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use icp_core::transform::Language;
use serde_json::{Value, json};

use crate::compare::{Case, End};

/// Where an implementation comes from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Oracle {
    Npm,
    PyPi,
}

impl Oracle {
    /// What each case ends in.
    pub(crate) fn answer(self, language: Language, cases: &[Case]) -> Vec<End> {
        let packages = packages();
        let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oracles");
        let mut command = match self {
            Self::Npm => {
                let mut node = Command::new("node");
                node.arg(here.join("oracle.mjs")).arg(packages).arg(language.as_str());
                node
            }
            Self::PyPi => {
                let mut python = Command::new("python3");
                python.arg(here.join("oracle.py")).arg(packages.join("python"));
                python
            }
        };
        let asked: Vec<_> = cases.iter().map(|case| json!([case.program, case.input])).collect();
        let told = ask(&mut command, &Value::from(asked));
        let ends: Vec<End> = serde_json::from_slice(&told).unwrap();
        assert_eq!(ends.len(), cases.len());
        ends
    }
}

/// Where `scripts/oracles` puts the packages: beside what is built.
fn packages() -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    let packages = target.join("oracles");
    let there = packages.join("installed").is_file();
    assert!(there, "{} is not complete: run `scripts/oracles`", packages.display());
    packages
}

fn ask(command: &mut Command, question: &Value) -> Vec<u8> {
    let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| {
        panic!("{command:?} cannot be started: {error}; `scripts/setup` installs it")
    });
    // It answers once it has read everything, so writing first cannot block.
    child.stdin.take().unwrap().write_all(question.to_string().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}
