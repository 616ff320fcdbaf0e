//! The real binary: started, called, stopped, and started on what is broken.

mod canary;
mod cli;
mod harness;
mod loris;
mod traces;

use std::collections::HashMap;
use std::fs;

use harness::{Folder, Receiver, Server};
use serde_json::{Value, json};
use sqlx::ConnectOptions;
use sqlx::sqlite::SqliteConnectOptions;

const LOOPBACK: (&str, &str) = ("ICP_ALLOW_LOOPBACK", "true");

#[tokio::test]
async fn a_published_event_arrives_signed_and_the_server_stops_in_peace() {
    let (folder, mut receiver) = (Folder::new(), Receiver::start().await);
    let server = Server::start(&folder, &[LOOPBACK]).await;
    let key = server.key.clone().unwrap();
    server.set_up(&key, &receiver.url).await;
    let id = server.publish(&key, json!({"order": 17})).await;
    let arrived = receiver.next().await;
    assert_eq!((arrived.id.as_str(), arrived.body.as_str()), (id.as_str(), r#"{"order":17}"#));
    assert!(arrived.signature.starts_with("v1,"));
    let said = server.stop().await;
    assert!(said.contains("icp stopped:"), "{said}");
}

#[tokio::test]
async fn programs_run_in_workers_of_the_server_itself() {
    let (folder, mut receiver) = (Folder::new(), Receiver::start().await);
    let server = Server::start(&folder, &[LOOPBACK]).await;
    let key = server.key.clone().unwrap();
    server.set_up(&key, &receiver.url).await;
    let secret = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
    let program = |source: &str| json!([{ "javascript": { "source": source } }]);
    // The second takes what memory it can get: the allocator of the server is not the system's.
    for (id, source) in [
        ("good", "return { double: payload.order * 2 }"),
        ("bad", "const all = []; for (;;) all.push('x'.repeat(1e3).repeat(1e3))"),
    ] {
        let spec = json!({
            "events": ["cart.*"],
            "target": { "kind": "http", "url": receiver.url },
            "transform": program(source),
            "signing": { "keys": [{ "secret": secret }] },
        });
        let integration = json!({ "id": id, "spec": spec });
        server.post(&key, "/organizations/acme/integrations", integration).await;
    }
    let event = json!({ "type": "cart.paid", "data": { "order": 17 } });
    let published = server.post(&key, "/organizations/acme/events", event).await;
    assert_eq!(published["deliveries"], 2, "{published}");
    assert_eq!(receiver.next().await.body, r#"{"double":34}"#);
    let dead = loop {
        let page = server.get(&key, "/organizations/acme/deliveries?state=dead").await;
        if let Some(dead) = page["items"].as_array().unwrap().first() {
            break dead.clone();
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    };
    assert_eq!(dead["integration"], "bad", "{dead}");
    assert!(dead.to_string().contains("transform_memory"), "{dead}");
    server.stop().await;

    let server = Server::start(&folder, &[LOOPBACK, ("ICP_SANDBOX", "false")]).await;
    let spec = json!({
        "events": ["*"],
        "target": { "kind": "http", "url": receiver.url },
        "transform": program("return 1"),
    });
    let path = "/organizations/acme/integrations";
    let refused = server.refused(&key, path, json!({ "id": "more", "spec": spec })).await;
    assert!(refused.to_string().contains("transform_no_sandbox"), "{refused}");
    server.stop().await;
}

#[tokio::test]
async fn the_development_switch_shows_in_the_log() {
    let warning = "DEVELOPMENT: addresses are not guarded";
    for (environment, shows) in
        [(&[LOOPBACK][..], true), (&[("ICP_ALLOW_LOOPBACK", "false")], false), (&[], false)]
    {
        let folder = Folder::new();
        let log = fs::File::create(folder.path("log")).unwrap();
        let server = Server::start_logging(&folder, environment, log).await;
        let logged = fs::read_to_string(folder.path("log")).unwrap();
        assert_eq!(logged.contains(warning), shows, "{environment:?}: {logged}");
        let line = logged.lines().find(|line| line.contains(warning));
        assert_eq!(line.is_some_and(|line| line.contains(" WARN ")), shows, "{logged}");
        server.stop().await;
    }
}

#[tokio::test]
async fn a_restart_keeps_the_data_and_does_not_show_the_key_again() {
    let (folder, mut receiver) = (Folder::new(), Receiver::start().await);
    let first = Server::start(&folder, &[LOOPBACK]).await;
    let key = first.key.clone().unwrap();
    first.set_up(&key, &receiver.url).await;
    let before = first.publish(&key, json!(1)).await;
    assert_eq!(receiver.next().await.id, before);
    first.stop().await;

    let second = Server::start(&folder, &[LOOPBACK]).await;
    assert!(second.key.is_none() && second.said.contains("shown when the database was made"));
    let shown = second.get(&key, &format!("/organizations/acme/events/{before}")).await;
    assert_eq!(shown["data"], 1);
    let after = second.publish(&key, json!(2)).await;
    assert_eq!(receiver.next().await.id, after);
    second.stop().await;
}

#[tokio::test]
async fn two_servers_on_one_file_deliver_everything_once() {
    let (folder, mut receiver) = (Folder::new(), Receiver::start().await);
    let one = Server::start(&folder, &[LOOPBACK]).await;
    let key = one.key.clone().unwrap();
    one.set_up(&key, &receiver.url).await;
    let two = Server::start(&folder, &[LOOPBACK]).await;
    let mut arrivals: HashMap<String, usize> = HashMap::new();
    for n in 0..40 {
        let server = if n % 2 == 0 { &one } else { &two };
        arrivals.insert(server.publish(&key, json!(n)).await, 0);
    }
    for _ in 0..40 {
        *arrivals.get_mut(&receiver.next().await.id).unwrap() += 1;
    }
    assert!(arrivals.values().all(|count| *count == 1), "{arrivals:?}");
    one.stop().await;
    two.stop().await;
    assert!(receiver.is_empty());
}

#[tokio::test]
async fn bad_settings_are_named() {
    let folder = Folder::new();
    for (file, environment, says) in [
        ("lisen = \"x\"", None, "did you mean `listen`?"),
        ("allow_loopback = 1", None, "`allow_loopback`"),
        ("log = \"=\"", None, "`log` is not a filter"),
        ("", Some(("ICP_DATABSE", "x")), "did you mean `ICP_DATABASE`?"),
        ("", Some(("ICP_LISTEN", "nowhere")), "`ICP_LISTEN`"),
        ("", Some(("ICP_STORE_URL", "icp.db")), "`ICP_STORE_URL`"),
        ("", Some(("ICP_STORE_URL", "postgers://db")), "did you mean `postgres`?"),
        ("", Some(("ICP_MAX_IN_FLIGHT", "0")), "max_in_flight"),
        ("max_body_bytes = 0", None, "max_body"),
        ("", Some(("ICP_CONFIG", "none.toml")), "`none.toml` cannot be read"),
    ] {
        fs::write(folder.path("icp.toml"), file).unwrap();
        let failure = folder.failure(environment.as_slice()).await;
        assert!(failure.contains(says), "{file} {environment:?}: {failure}");
        assert!(failure.contains("[config_invalid]"), "{failure}");
    }
}

#[tokio::test]
async fn the_store_is_named_by_a_url_whose_password_is_never_shown() {
    let folder = Folder::new();
    let server = Server::start(&folder, &[("ICP_STORE_URL", "sqlite:other.db")]).await;
    assert!(server.said.contains("Events are kept in sqlite:other.db\n"), "{}", server.said);
    server.stop().await;
    assert!(folder.path("other.db").exists() && !folder.path("icp.db").exists());

    // Whether the store is built in or not, nobody listens on port 1.
    for scheme in ["postgres", "mysql", "mongodb"] {
        let url = format!("{scheme}://icp:hush@127.0.0.1:1/icp?serverSelectionTimeoutMS=200");
        let failure = folder.failure(&[("ICP_STORE_URL", &url), ("ICP_LOG", "trace")]).await;
        assert!(failure.contains(&format!("`{scheme}://icp:***@127.0.0.1:1/icp`")), "{failure}");
        assert!(!failure.contains("hush"), "{failure}");
    }
}

#[tokio::test]
async fn a_broken_key_file_is_refused_and_stays_as_it_is() {
    let folder = Folder::new();
    Server::start(&folder, &[]).await.stop().await;
    let key = fs::read_to_string(folder.path("icp.key")).unwrap();
    fs::write(folder.path("icp.key"), &key[..20]).unwrap();
    let failure = folder.failure(&[]).await;
    assert!(failure.contains("icp.key") && failure.contains("[key_unreadable]"), "{failure}");
    assert!(!failure.contains(&key[3..20]), "{failure}");
    assert_eq!(fs::read_to_string(folder.path("icp.key")).unwrap(), key[..20]);
}

#[tokio::test]
async fn a_lost_key_file_is_not_made_anew_as_the_first_key_is_sealed_with_it() {
    let folder = Folder::new();
    Server::start(&folder, &[LOOPBACK]).await.stop().await;

    let kept = folder.path("icp.key.kept");
    fs::rename(folder.path("icp.key"), &kept).unwrap();
    let failure = folder.failure(&[]).await;
    assert!(failure.contains("put the file back"), "{failure}");
    assert!(failure.contains("icp.key") && failure.contains("[key_unreadable]"), "{failure}");
    assert!(!folder.path("icp.key").exists());
    fs::rename(&kept, folder.path("icp.key")).unwrap();
    Server::start(&folder, &[LOOPBACK]).await.stop().await;
}

#[tokio::test]
async fn a_file_that_is_no_database_is_refused_and_stays_as_it_is() {
    let folder = Folder::new();
    let text = "certainly not a database".repeat(100);
    fs::write(folder.path("icp.db"), &text).unwrap();
    let failure = folder.failure(&[]).await;
    assert!(failure.contains("icp.db") && failure.contains("[store_corrupt]"), "{failure}");
    assert_eq!(fs::read_to_string(folder.path("icp.db")).unwrap(), text);
    let failure = folder.failure(&[("ICP_DATABASE", "none/icp.db")]).await;
    assert!(failure.contains("[store_unavailable]"), "{failure}");
}

#[tokio::test]
async fn a_database_that_another_process_keeps_locked_is_named() {
    let folder = Folder::new();
    Server::start(&folder, &[]).await.stop().await;
    let file = SqliteConnectOptions::new().filename(folder.path("icp.db"));
    let mut other = file.connect().await.unwrap();
    sqlx::query("BEGIN EXCLUSIVE").execute(&mut other).await.unwrap();
    let failure = folder.failure(&[]).await;
    assert!(failure.contains("icp.db") && failure.contains("[store_locked]"), "{failure}");
    sqlx::query("ROLLBACK").execute(&mut other).await.unwrap();
    Server::start(&folder, &[]).await.stop().await;
}

#[tokio::test]
async fn an_address_in_use_is_refused() {
    let (folder, other) = (Folder::new(), Folder::new());
    let server = Server::start(&folder, &[]).await;
    let address = server.url.trim_start_matches("http://").to_owned();
    let failure = other.failure(&[("ICP_LISTEN", address.as_str())]).await;
    assert!(failure.contains("choose another `listen`"), "{failure}");
    let ready: Value = harness::http()
        .get(format!("{}/ready", server.url))
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    assert_eq!(ready["ready"], true);
    server.stop().await;
}
