//! What the code of a host says as it panics is told nowhere: not in answers, logs, spans, metrics,
//! files of the database, nor on standard error.
//!
//! The test plays a host in a process of its own, since hook, log and standard error are those of a
//! process.
#![expect(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a host that panics; what a test needs fails by panicking"
)]

#[path = "panics/host.rs"]
mod host;
#[path = "server/canary/hunt.rs"]
mod hunt;

use std::fs;
use std::process::Command;

use hunt::{Canary, Hunt};

/// In the code of the host, as a key that it has at hand.
const HELD: &str = "Cq81Zt2Lw9Xb4Vn6Mp3Kd";
/// In the payload of an event, which is stored and shown, and yet nobody's to log.
const CARRIED: &str = "Cq17Hj5Rf8Yc2Wg4Tn9Sb";

/// Where the host is to play, in the process that does.
const SCENE: &str = "ICP_PANICS_SCENE";

#[test]
fn what_code_of_a_host_says_as_it_panics_is_told_nowhere() {
    if let Some(folder) = std::env::var_os(SCENE) {
        return host::play(folder.as_ref());
    }
    let folder = tempfile::tempdir().unwrap();
    let test = "what_code_of_a_host_says_as_it_panics_is_told_nowhere";
    let mut host = Command::new(std::env::current_exe().unwrap());
    let host = host.args(["--exact", test, "--nocapture"]).env(SCENE, folder.path());
    let output = host.output().unwrap();
    let log = fs::read(folder.path().join(host::LOG)).unwrap();
    let text = String::from_utf8_lossy(&log);
    let panics: Vec<_> = text.lines().filter(|line| line.contains("panicked")).collect();
    assert!(output.status.success(), "{}\n{:?}", panics.join("\n"), output.stdout);
    for told in ["an attempt panicked", "a request panicked", "a task panicked", "panics/host.rs"] {
        assert!(text.contains(told), "the log does not tell `{told}`");
    }
    assert!(text.contains("words of the program itself") && text.contains("is withheld"));
    let held = Hunt::for_all(&[Canary::new("held", HELD)]);
    let both = Hunt::for_all(&[Canary::new("held", HELD), Canary::new("carried", CARRIED)]);
    let mut found = both.find("standard error", &output.stderr);
    found.extend(both.find("standard output", &output.stdout));
    found.extend(both.find("the log", &log));
    let mut looked = 0;
    for file in fs::read_dir(folder.path()).unwrap() {
        let path = file.unwrap().path();
        let bytes = fs::read(&path).unwrap();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let hunt = if name == host::METRICS { &both } else { &held };
        found.extend(hunt.find(&name, &bytes));
        looked += 1;
    }
    assert!(looked >= 4, "only {looked} files");
    assert!(found.is_empty(), "{} leaks:\n{}", found.len(), found.join("\n"));
}
