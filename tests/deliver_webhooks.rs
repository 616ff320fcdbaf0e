//! The example `deliver_webhooks`, run as a test on GitHub's real payloads.
#![forbid(unsafe_code)]

#[path = "../examples/deliver_webhooks/endpoints.rs"]
mod endpoints;
#[path = "../examples/deliver_webhooks/ledger.rs"]
mod ledger;
#[path = "../examples/deliver_webhooks/payloads.rs"]
mod payloads;
#[path = "../examples/deliver_webhooks/progress.rs"]
mod progress;
#[path = "../examples/deliver_webhooks/scenario.rs"]
mod scenario;

use std::path::PathBuf;

use icp::delivery::DeliveryState;
use ledger::Row;
use scenario::Scenario;

fn folder() -> PathBuf {
    let default = || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/target/payloads"));
    let folder = std::env::var_os("ICP_PAYLOADS").map_or_else(default, PathBuf::from);
    let shown = folder.display();
    assert!(folder.exists(), "there are no payloads; run `scripts/fetch-payloads {shown}`");
    folder
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_ledger_of_all_real_payloads_closes() {
    let payloads = payloads::read(&folder()).unwrap();
    let count = payloads.len();
    assert_eq!(count, 329);
    let dir = tempfile::tempdir().unwrap();
    let scenario = Scenario { payloads, database: &dir.path().join("icp.db"), seed: 17 };
    let mut out = Vec::new();
    let ledger = scenario.run(&mut out, false).await.unwrap();
    ledger.write(&mut out).unwrap();
    let out = String::from_utf8(out).unwrap();
    assert!(ledger.closes(), "{out}");
    assert!(out.contains("the ledger closes"), "{out}");

    let row = |name: &str| ledger.rows.iter().find(|row| row.endpoint == name).unwrap();
    for row in &ledger.rows {
        assert!(row.published > 0, "{out}");
        assert!(row.calls > row.ended(DeliveryState::Delivered), "nothing failed: {out}");
    }
    assert_eq!(row("acme archive").published, count);
    assert!(row("acme issues").published < row("acme archive").published, "{out}");
    assert!(row("globex mapped").ended(DeliveryState::Skipped) > 0, "{out}");
    assert_eq!(row("initech quits").switched_on, 1, "{out}");
}

#[test]
fn a_row_closes_only_when_everything_is_accounted_for() {
    let whole =
        || Row { published: 2, ended: [("delivered", 1), ("dead", 1)].into(), ..Row::default() };
    assert!(whole().closes());
    let broken: [fn(&mut Row); 5] = [
        |row| row.published = 3,
        |row| row.missing.push("msg_1".into()),
        |row| row.uninvited.push("msg_1".into()),
        |row| row.bad_signatures = 1,
        |row| row.ended.clear(),
    ];
    for breaks in broken {
        let mut row = whole();
        breaks(&mut row);
        assert!(!row.closes(), "{row:?}");
    }
}

#[test]
fn every_layout_of_payloads_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("one-each");
    std::fs::create_dir_all(folder.join("issues")).unwrap();
    std::fs::create_dir_all(folder.join("push")).unwrap();
    std::fs::write(folder.join("issues/001-opened.json"), r#"{"action": "opened", "n": 1.0}"#)
        .unwrap();
    std::fs::write(folder.join("push/001.json"), "{\"ref\":\"main\"}\n").unwrap();
    let together = dir.path().join("index.json");
    let groups = r#"[{"name": "issues", "examples": [{"action": "opened", "n": 1.0}]},
        {"name": "push", "actions": [], "examples": [{"ref":"main"}]}]"#;
    std::fs::write(&together, groups).unwrap();
    let archive = dir.path().join("some.tgz");
    let mut tar = std::process::Command::new("tar");
    tar.arg("-czf").arg(&archive).arg("-C").arg(dir.path()).arg("one-each");
    assert!(tar.status().unwrap().success());
    for path in [folder, together, archive] {
        let read = payloads::read(&path).unwrap();
        let found: Vec<_> = read.iter().map(|p| (p.event_type(), p.body.as_str())).collect();
        let expected = [
            ("github.issues.opened".to_owned(), r#"{"action": "opened", "n": 1.0}"#),
            ("github.push".to_owned(), r#"{"ref":"main"}"#),
        ];
        assert_eq!(found, expected, "{}", path.display());
    }
    assert!(payloads::read(&dir.path().join("nothing")).is_err());
}
