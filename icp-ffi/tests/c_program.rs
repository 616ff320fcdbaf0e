//! A program in C against the header and the shared library, with valgrind looking on.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(unsafe_code, reason = "the tests call the C ABI")]

mod support;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use icp_testkit::receiver::Receiver;
use support::compiled;
use tokio::runtime::Runtime;

struct World {
    _runtime: Runtime,
    receiver: Receiver,
    folder: tempfile::TempDir,
    program: PathBuf,
}

/// `flags` are those of the compiler.
fn world(flags: &[&str]) -> World {
    let runtime = Runtime::new().unwrap();
    let receiver = runtime.block_on(Receiver::start());
    let folder = tempfile::tempdir().unwrap();
    let program = compiled("host", flags, folder.path());
    World { _runtime: runtime, receiver, folder, program }
}

impl World {
    fn run(&self, mut command: Command, how: &str) -> Output {
        let url = self.receiver.url("/hook");
        // With it valgrind sees the cache of symbols as memory that is still reachable.
        command.env("LD_LIBRARY_PATH", self.folder.path()).env("RUST_BACKTRACE", "0");
        command.arg(&self.program).args([url.as_str(), how]).output().unwrap()
    }
}

/// `program` is what follows, so that the same line runs with and without valgrind.
fn plainly() -> Command {
    Command::new("env")
}

fn watched() -> Command {
    let mut valgrind = Command::new("valgrind");
    valgrind.args(["--quiet", "--leak-check=full", "--error-exitcode=9"]);
    valgrind
        .args(["--errors-for-leak-kinds=definite,indirect", "--show-leak-kinds=definite,indirect"]);
    valgrind
}

fn assert_fine(output: &Output) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{:?}: {said}", output.status);
    assert!(said.is_empty(), "the library writes nothing by itself: {said}");
}

#[test]
fn a_program_in_c_publishes_handles_and_stops() {
    let world = world(&[]);
    for how in ["shutdown", "free"] {
        assert_fine(&world.run(plainly(), how));
    }
    let received = world.receiver.requests("/hook");
    assert_eq!(received.len(), 2);
    assert_eq!(&received[0].body[..], br#"{"made":"in C"}"#);
}

#[test]
fn the_header_is_good_for_cpp() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("a.cpp");
    std::fs::write(&source, "#include \"icp.h\"\nint main() { return icp_abi_version() == 0; }\n")
        .unwrap();
    let built = Command::new("c++")
        .args(["-std=c++17", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", "-I"])
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("include"))
        .arg(&source)
        .output()
        .unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
}

#[test]
fn nothing_leaks_and_a_leak_would_be_seen() {
    let world = world(&[]);
    assert_fine(&world.run(watched(), "shutdown"));
    let mut leaking = watched();
    leaking.env("LEAK", "1");
    let output = world.run(leaking, "mistakes");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(9), "{said}");
    assert!(said.contains("definitely lost"), "{said}");
}

#[test]
fn sanitizers_find_nothing_and_would_find_mistakes() {
    let flags = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"];
    let world = world(&flags);
    for how in ["shutdown", "free"] {
        assert_fine(&world.run(plainly(), how));
    }
    for (mistake, name) in [
        ("LEAK", "detected memory leaks"),
        ("FREED", "heap-use-after-free"),
        ("SHIFT", "shift exponent"),
    ] {
        let mut careless = plainly();
        careless.env(mistake, "1");
        let output = world.run(careless, "mistakes");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains(name), "{mistake}: {said}");
    }
}
