//! The Python package on the library, by its own tests, and the wheel as a user installs it.
//!
//! They need `python3` of 3.10 or later, and nothing from elsewhere, but those of the outbox, of
//! uvloop and of types, and the examples: they need what `scripts/oracles` installs. The outbox is that
//! of real servers, which `scripts/services up` starts.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod shop;

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;
use shop::sold;

/// The shared library that cargo built beside this test.
fn library() -> PathBuf {
    env::current_exe().unwrap().parent().unwrap().join("libicp_ffi.so")
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
    unittest(&["-m", "unittest", "-v", file], &[]);
}

fn unittest(arguments: &[&str], packages: &[PathBuf]) {
    let mut command = python();
    let path = [&[package().join("src")], packages].concat();
    command.env("ICP_LIBRARY", library()).env("PYTHONPATH", env::join_paths(path).unwrap());
    command.args(["-W", "error::ResourceWarning"]).args(arguments);
    command.current_dir(package().join("tests"));
    let said = run(command);
    assert!(said.contains("\nOK") && !said.contains("skipped"), "{said}");
}

#[test]
fn the_engine_for_asyncio() {
    tests("test_aio.py");
}

#[test]
fn the_engine_for_asyncio_on_uvloop() {
    unittest(&["on_uvloop.py", "-v", "test_aio"], &[packages()]);
}

#[test]
fn the_blocking_engine() {
    tests("test_sync.py");
}

#[test]
fn the_outbox_in_transactions_of_the_host() {
    unittest(&["-m", "unittest", "-v", "test_outbox.py"], &[packages()]);
}

#[test]
fn the_types_are_right_to_pyright() {
    let pyright = oracles().join("node_modules/pyright/index.js");
    let mut check = Command::new("node");
    check.arg(pyright).arg("--warnings").current_dir(package());
    let said = run(check);
    assert!(said.contains("0 errors, 0 warnings"), "{said}");
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

/// What `scripts/oracles` installs.
fn oracles() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap().join("oracles")
}

/// The libraries of hosts.
fn packages() -> PathBuf {
    let packages = oracles().join("python");
    let there = ["fastapi", "psycopg", "uvloop"].iter().all(|name| packages.join(name).is_dir());
    assert!(there, "{} is not complete: run `scripts/oracles`", packages.display());
    packages
}

fn example(name: &str) -> Command {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/python");
    let mut command = python();
    command.env("PYTHONPATH", env::join_paths([package().join("src"), packages()]).unwrap());
    command.arg(examples.canonicalize().unwrap().join(name));
    command
}

#[test]
fn the_examples_deliver() {
    assert_eq!(sold(example("fastapi_shop.py")), json!({ "number": 17, "vat": 19 }));
    assert_eq!(sold(example("django_shop.py")), json!({ "number": 17 }));
}
