#![expect(clippy::unwrap_used, reason = "what a test needs fails by panicking")]

use serde_json::Value;

use super::run;
use crate::harness::{Folder, Server};

fn verdict<'a>(checks: &'a Value, name: &str) -> &'a str {
    let all = checks.as_array().unwrap();
    let check = all.iter().find(|check| check["name"] == name).unwrap();
    check["verdict"].as_str().unwrap()
}

async fn checked(folder: &Folder, environment: &[(&str, &str)], code: i32) -> Value {
    let said = run(folder, &["doctor", "--offline", "-o", "json"], environment, "").await;
    assert_eq!(said.code, Some(code), "{said:?}");
    serde_json::from_str(&said.out).unwrap()
}

#[tokio::test]
async fn migrate_makes_the_tables_once_and_shows_them_first() {
    let folder = Folder::new();
    let shown = run(&folder, &["migrate", "--dry-run"], &[], "").await.well();
    assert!(shown.contains("CREATE TABLE"), "{shown}");
    let done = run(&folder, &["migrate"], &[], "").await.well();
    assert!(done.contains("applied:") && folder.path("icp.db").exists(), "{done}");
    let again = run(&folder, &["migrate"], &[], "").await.well();
    assert_eq!(again, "sqlite:icp.db is up to date\n");
    let wrong = [("ICP_STORE_URL", "postgres://icp:hush@127.0.0.1:1/icp")];
    let said = run(&folder, &["migrate"], &wrong, "").await.ill(1);
    assert!(said.contains("postgres://icp:***@") && !said.contains("hush"), "{said}");
}

#[tokio::test]
async fn doctor_finds_a_fresh_folder_and_a_used_one_sound() {
    let folder = Folder::new();
    let fresh = checked(&folder, &[], 0).await;
    for name in ["configuration", "listen", "key file", "store", "sandbox"] {
        assert_eq!(verdict(&fresh, name), "ok", "{fresh}");
    }
    assert!(!folder.path("icp.db").exists() && !folder.path("icp.key").exists());
    Server::start(&folder, &[]).await.stop().await;
    let used = checked(&folder, &[], 0).await;
    assert_eq!(verdict(&used, "store"), "ok");
    let text = run(&folder, &["doctor", "--offline"], &[], "").await.well();
    assert!(text.contains("ok    store"), "{text}");
}

#[tokio::test]
async fn doctor_says_what_is_wrong_and_what_to_do() {
    let folder = Folder::new();
    let server = Server::start(&folder, &[("ICP_ALLOW_LOOPBACK", "true")]).await;
    let key = server.key.clone().unwrap();
    server.set_up(&key, "http://127.0.0.1:9/").await;
    let date = format!("{}/health", server.url);
    let asked = ["doctor", "--egress-url", &date];
    let reached = run(&folder, &asked, &[("ICP_ALLOW_LOOPBACK", "true")], "").await.well();
    assert!(reached.contains("ok    egress") && reached.contains("answered 200"), "{reached}");
    assert!(reached.contains("warn  configuration"), "{reached}");
    let guarded = run(&folder, &asked, &[], "").await.well();
    assert!(guarded.contains("warn  egress") && guarded.contains("fix:"), "{guarded}");
    server.stop().await;

    std::fs::rename(folder.path("icp.key"), folder.path("kept")).unwrap();
    let missing = checked(&folder, &[], 1).await;
    assert_eq!(verdict(&missing, "key file"), "fail", "{missing}");
    std::fs::write(folder.path("icp.key"), "no key").unwrap();
    assert_eq!(verdict(&checked(&folder, &[], 1).await, "key file"), "fail");

    let unreachable = [("ICP_STORE_URL", "postgres://icp:hush@127.0.0.1:1/icp")];
    let checks = checked(&folder, &unreachable, 1).await;
    assert_eq!(verdict(&checks, "store"), "fail");
    assert!(!checks.to_string().contains("hush"), "{checks}");
    let wrong = checked(&folder, &[("ICP_LISTEN", "nowhere")], 1).await;
    assert_eq!(verdict(&wrong, "configuration"), "fail");
    let off = checked(&folder, &[("ICP_SANDBOX", "false"), ("ICP_KEY_FILE", "kept")], 0).await;
    assert_eq!(verdict(&off, "sandbox"), "warn");
}
