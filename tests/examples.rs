//! The examples, run as a reader would run them, against a real receiver.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::PathBuf;
use std::process::Command;

use icp_testkit::receiver::{Behaviour, Reaction, Receiver};

/// Runs an example and answers what it printed.
async fn run(name: &str, argument: String) -> String {
    let folder = std::env::current_exe().unwrap();
    let path: PathBuf = folder.parent().unwrap().parent().unwrap().join("examples").join(name);
    assert!(path.exists(), "{name} is not built; run `cargo build -p icp --examples`");
    let run = move || Command::new(path).arg(argument).output().unwrap();
    let output = tokio::task::spawn_blocking(run).await.unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{told}");
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn embed_delivers_one_event() {
    let receiver = Receiver::start().await;
    let printed = run("embed", receiver.url("/hook")).await;
    assert!(printed.contains("delivered: 1"), "{printed}");
    assert_eq!(receiver.seen().count("/hook"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rolled_back_order_is_not_told() {
    let receiver = Receiver::start().await;
    let printed = run("publish_in_transaction", receiver.url("/hook")).await;
    assert!(printed.contains("3 orders, 1 rolled back, 2 delivered"), "{printed}");
    let bodies: Vec<_> = receiver.requests("/hook").into_iter().map(|r| r.body).collect();
    assert!(!bodies.iter().any(|body| body.as_ref() == br#"{"order":18}"#), "{bodies:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_are_grouped_replayed_given_up_and_erased() {
    let receiver = Receiver::start().await;
    receiver.behave("/hook", Behaviour::script(vec![Reaction::Status(503); 3]));
    let printed = run("dead_letters", receiver.url("/hook")).await;
    for line in [
        "3 died of status_503 (ServerError)",
        "Abandoned\nAbandoned",
        "the replayed one is Resolved",
        "erased 3 events and 4 attempts",
    ] {
        assert!(printed.contains(line), "{printed}");
    }
    assert_eq!(receiver.seen().count("/hook"), 4);
}

#[test]
fn the_readme_shows_the_example_as_it_is() {
    let readme = include_str!("../README.md");
    let example = include_str!("../examples/embed.rs");
    let block = readme.split("```rust,ignore\n").nth(1).unwrap().split("```").next().unwrap();
    for line in block.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let shown = line.replace("open(\"icp.db\")", "open(folder.path().join(\"icp.db\"))");
        let shown = shown.replace(".build()?", ".allow_loopback().build()?");
        assert!(example.contains(&shown), "the example has no `{shown}`");
    }
}
