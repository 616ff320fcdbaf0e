//! The scaling model counts as its tests say, by constants that are still true.
#![forbid(unsafe_code)]

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// By how many percent a constant may be off.
const ROOM: u64 = 10;

#[test]
fn the_model_passes_its_tests() {
    let output = Command::new("python3")
        .args(["-m", "unittest", "scripts/scaling_model_test.py"])
        .current_dir(workspace())
        .output()
        .unwrap_or_else(|error| panic!("python3: {error}; run `scripts/setup`"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(!said.contains("Ran 0 tests"), "{said}");
}

#[test]
fn records_take_the_bytes_that_the_model_multiplies_by() {
    let text = fs::read_to_string(workspace().join("docs/scaling-constants.json")).unwrap();
    let constants: Value = serde_json::from_str(&text).unwrap();
    let (event, delivery) = icp_micro::queue::weights();
    for (name, weighed) in [("event_bytes", event), ("delivery_bytes", delivery)] {
        let constant = constants["constants"][name]["value"].as_u64().unwrap();
        assert!(
            constant.abs_diff(weighed) * 100 <= constant * ROOM,
            "`{name}` is {weighed}, docs/scaling-constants.json says {constant}: run \
             `cargo run -p icp-micro --bin icp-weigh` and write down what it prints"
        );
    }
}

fn workspace() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}
