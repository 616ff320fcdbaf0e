//! The Python package on the library, by its own tests, and the wheel as a user installs it.
//!
//! They need `python3` of 3.10 or later, and nothing from elsewhere.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};
use std::process::Command;

/// The shared library that cargo built beside this test.
fn library() -> PathBuf {
    std::env::current_exe().unwrap().parent().unwrap().join("libicp_ffi.so")
}

fn package() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("python")
}

fn python() -> Command {
    let mut python = Command::new("python3");
    // Nothing is written beside the sources.
    python.arg("-B").env_remove("PYTHONPATH").env("RUST_BACKTRACE", "0");
    python
}

fn run(mut command: Command) -> String {
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{command:?}: {said}");
    said + &String::from_utf8_lossy(&output.stdout)
}

fn tests(file: &str) {
    let mut command = python();
    command.env("ICP_LIBRARY", library()).env("PYTHONPATH", package().join("src"));
    command.args(["-W", "error::ResourceWarning", "-m", "unittest", "-v"]);
    command.arg(package().join("tests").join(file)).current_dir(package().join("tests"));
    let said = run(command);
    assert!(said.contains("\nOK") && !said.contains("skipped"), "{said}");
}

#[test]
fn the_engine_for_asyncio() {
    tests("test_aio.py");
}

#[test]
fn the_blocking_engine() {
    tests("test_sync.py");
}

#[test]
fn the_outbox_in_transactions_of_the_host() {
    tests("test_outbox.py");
}

#[test]
fn the_cases_of_all_languages() {
    tests("test_cases.py");
}

#[test]
fn processes_that_end_as_they_should_not() {
    tests("test_ends.py");
}

#[test]
fn the_wheel_carries_the_library() {
    let folder = tempfile::tempdir().unwrap();
    let mut build = python();
    build.arg(package().join("backend.py")).arg(library()).arg(folder.path());
    let name = run(build).trim().to_owned();
    assert!(name.starts_with("icp-0.1.0-py3-none-") && name.ends_with(".whl"), "{name}");
    let installed = folder.path().join("installed");
    let mut install = python();
    install.args(["-m", "zipfile", "-e"]).arg(folder.path().join(&name)).arg(&installed);
    run(install);
    let mut command = python();
    command.current_dir(folder.path()).env("PYTHONPATH", &installed).env_remove("ICP_LIBRARY");
    let program = "import icp\nwith icp.Engine(store='memory:') as host:\n    \
                   host.organizations.put('acme')\n    \
                   print(host.publish({'org': 'acme', 'type': 'a.b', 'data': 1})['duplicate'])";
    command.args(["-c", program]);
    assert_eq!(run(command).trim(), "False");
}
