//! The Node package on the library, by its own tests, and the packages as a user installs them.
//!
//! They need Node.js of 20.11 or later with npm, and what `scripts/oracles` installs: the
//! compiler, the package that the one here depends on, drivers of databases, and Fastify for an
//! example. The outbox is that of real servers, which `scripts/services up` starts.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod shop;

use std::ffi::OsStr;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::{env, fs};

use serde_json::json;
use shop::sold;

/// The shared library that cargo built beside this test.
fn library() -> PathBuf {
    env::current_exe().unwrap().parent().unwrap().join("libicp_ffi.so")
}

fn oracles() -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    let packages = target.join("oracles/node_modules");
    let there =
        ["koffi", "typescript", "drizzle-orm"].iter().all(|name| packages.join(name).is_dir());
    assert!(there, "{} is not complete: run `scripts/oracles`", packages.display());
    packages
}

fn run(program: impl AsRef<OsStr>, arguments: &[&str], folder: &Path) -> String {
    let mut command = Command::new(program);
    command.args(arguments).current_dir(folder);
    command.env_remove("ICP_LIBRARY").env_remove("NODE_OPTIONS").env("RUST_BACKTRACE", "0");
    said(&mut command)
}

fn said(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {text}{errors}");
    text
}

/// The package with its tests, compiled once. Nothing is written beside the sources.
fn built() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("node-package");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("node");
        let _ = fs::remove_dir_all(&folder);
        for (part, from) in [("src", "src"), ("test", "test"), ("examples", "../../examples/node")]
        {
            fs::create_dir_all(folder.join(part)).unwrap();
            for entry in fs::read_dir(source.join(from)).unwrap() {
                let entry = entry.unwrap();
                fs::copy(entry.path(), folder.join(part).join(entry.file_name())).unwrap();
            }
        }
        for file in ["package.json", "tsconfig.json", "pack.mjs", "README.md"] {
            fs::copy(source.join(file), folder.join(file)).unwrap();
        }
        symlink(oracles(), folder.join("node_modules")).unwrap();
        let compiler = folder.join("node_modules/.bin/tsc");
        run(&compiler, &[], &folder);
        run(&compiler, &["-p", "test"], &folder);
        folder
    })
}

fn tests(name: &str) {
    let mut command = Command::new("node");
    command
        .args(["--test", "--test-reporter=tap", "--test-timeout=120000"])
        .arg(format!("build/{name}.test.mjs"));
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases.json");
    command.env("ICP_CASES", cases);
    command.current_dir(built()).env("ICP_LIBRARY", library()).env_remove("NODE_OPTIONS");
    let said = said(&mut command);
    assert!(said.contains("\n# skipped 0\n") && !said.contains("\n# pass 0\n"), "{said}");
}

#[test]
fn the_engine() {
    tests("engine");
}

#[test]
fn handlers_are_functions() {
    tests("handlers");
}

#[test]
fn the_outbox_in_transactions_of_the_host() {
    tests("outbox");
}

#[test]
fn the_cases_of_all_languages() {
    tests("cases");
}

#[test]
fn processes_and_threads_that_end() {
    tests("ends");
}

const PROGRAM: &str = "
    const host = await Engine.open({ store: 'memory:' })
    await host.organizations.put('acme')
    const { duplicate } = await host.publish({ org: 'acme', type: 'a.b', data: 1 })
    console.log(duplicate, (await host.close()).unsettled)";

#[test]
fn the_packages_are_installed_without_scripts_and_used() {
    let folder = tempfile::tempdir().unwrap();
    // Nobody is given the symbols of a debugger.
    let stripped = folder.path().join("libicp.so");
    let strip =
        ["-s", "-o", stripped.to_str().unwrap(), library().to_str().unwrap()].map(str::to_owned);
    run("strip", &strip.each_ref().map(String::as_str), folder.path());
    let packages = folder.path().to_str().unwrap();
    let made = run("node", &["pack.mjs", stripped.to_str().unwrap(), packages], built());
    let mut made: Vec<String> = made.lines().map(str::to_owned).collect();
    assert_eq!(made.len(), 2, "{made:?}");
    for package in ["koffi", &format!("@koromix/koffi-linux-{}", arch())] {
        let pack = ["pack", "--silent", "--ignore-scripts", "--pack-destination", packages];
        made.push(run("npm", &pack, &oracles().join(package)).trim().to_owned());
    }
    let app = folder.path().join("app");
    fs::create_dir(&app).unwrap();
    fs::write(app.join("package.json"), "{\"private\":true}").unwrap();
    let cache = folder.path().join("cache");
    let mut install = vec!["install", "--ignore-scripts", "--offline", "--no-audit", "--no-fund"];
    install.extend(["--cache", cache.to_str().unwrap()]);
    let made: Vec<String> = made.iter().map(|name| format!("../{name}")).collect();
    install.extend(made.iter().map(String::as_str));
    run("npm", &install, &app);
    fs::write(app.join("a.mjs"), format!("import {{ Engine }} from 'icp'\n{PROGRAM}")).unwrap();
    let required = "const { Engine } = require('icp')\n";
    let program = format!("{required}void (async () => {{{PROGRAM}}})()");
    fs::write(app.join("a.cjs"), program).unwrap();
    for program in ["a.mjs", "a.cjs"] {
        assert_eq!(run("node", &[program], &app), "false 0\n", "{program}");
    }
}

fn example(name: &str) -> Command {
    let mut node = Command::new("node");
    node.arg(built().join("examples").join(name));
    node
}

#[test]
fn the_examples_deliver() {
    assert_eq!(sold(example("http.mjs")), json!({ "number": 17 }));
    assert_eq!(sold(example("fastify.mjs")), json!({ "number": 17, "vat": 19 }));
}

/// The architecture, as Node names it.
fn arch() -> &'static str {
    match env::consts::ARCH {
        "x86_64" => "x64",
        "aarch64" => "arm64",
        other => other,
    }
}
