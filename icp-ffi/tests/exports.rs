//! The library exports what the header declares, and nothing else.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;

/// The shared library that cargo built beside this test.
fn library() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let folder = test.parent().unwrap();
    folder.join("libicp_ffi.so")
}

#[test]
fn the_exports_are_the_functions_of_the_header() {
    let listed =
        Command::new("nm").arg("-D").arg("--defined-only").arg(library()).output().unwrap();
    assert!(listed.status.success(), "nm of binutils is needed: {listed:?}");
    let listed = String::from_utf8(listed.stdout).unwrap();
    let exported: BTreeSet<&str> =
        listed.lines().filter_map(|line| line.split_whitespace().last()).collect();
    let header = include_str!("../include/icp.h");
    let declared: BTreeSet<&str> = header
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .filter_map(|line| line.split('(').next().filter(|_| line.contains('(')))
        .filter_map(|before| before.rsplit(|c: char| !c.is_alphanumeric() && c != '_').next())
        .filter(|name| name.starts_with("icp_"))
        .collect();
    assert_eq!(declared.len(), 21, "{declared:?}");
    assert_eq!(exported, declared);
}
