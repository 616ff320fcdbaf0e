use serde_json::{Value, json};

use super::{Stage, run};
use crate::harness::{Folder, Receiver};

#[tokio::test]
async fn get_shows_one_or_all_in_three_forms() {
    let stage = Stage::set().await;
    stage.server.set_up(&stage.key, "http://127.0.0.1:9/hooks").await;
    let table = stage.run(&["get", "organizations"]).await.well();
    assert!(table.starts_with("ID          NAME") && table.contains("\nacme        -"), "{table}");
    let text = stage.run(&["get", "integration", "--org", "acme", "-o", "json"]).await.well();
    let all: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&all[0]["id"], &all[0]["version"]), (&json!("orders"), &json!(1)));
    let one = ["get", "integrations", "orders", "--org", "acme", "-o"];
    let text = stage.run(&[&one[..], &["json"]].concat()).await.well();
    assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), all[0]);
    // What is shown can be applied as it is.
    let text = stage.run(&[&one[..], &["yaml"]].concat()).await.well();
    let applied = stage.run_with(&["apply", "-f", "-"], &text).await.well();
    assert!(applied.ends_with("0 created, 0 changed, 0 deleted, 1 kept\n"), "{applied}");
    let none = ["get", "lookups", "--org", "acme", "-l", "a:b"];
    assert_eq!(stage.run(&none).await.well().lines().count(), 1);
    stage.server.stop().await;
}

#[tokio::test]
async fn lists_are_read_beyond_one_page() {
    let stage = Stage::set().await;
    stage.server.post(&stage.key, "/organizations", json!({"id": "acme", "spec": {}})).await;
    let many: String = (0..1_050)
        .map(|n| format!("---\nkind: event_type\norg: acme\nid: type{n:04}\nspec: {{}}\n"))
        .collect();
    let done = stage.run_with(&["apply", "-f", "-"], &many).await.well();
    assert!(done.ends_with("done: 1050 created, 0 changed, 0 deleted, 0 kept\n"), "{done}");
    let table = stage.run(&["get", "event-types", "--org", "acme"]).await.well();
    assert_eq!(table.lines().count(), 1_051);
    let some = stage.run(&["export", "--org", "acme", "-k", "event_type"]).await.well();
    assert_eq!(some.matches("kind: event_type\n").count(), 1_050);
    assert!(!some.contains("kind: organization"));
    stage.server.stop().await;
}

#[tokio::test]
async fn tail_shows_each_attempt() {
    let (stage, mut receiver) = (Stage::set().await, Receiver::start().await);
    stage.server.set_up(&stage.key, &receiver.url).await;
    stage.server.publish(&stage.key, json!(1)).await;
    receiver.next().await;
    // What arrived is recorded a moment later.
    let line = loop {
        let lines = stage.run(&["tail", "--org", "acme", "--once"]).await.well();
        if !lines.is_empty() {
            break lines;
        }
    };
    for word in ["  orders  ", "  #1  200  delivered  ", " ms"] {
        assert!(line.contains(word), "{line}");
    }
    let json = stage.run(&["tail", "--org", "acme", "--once", "--json"]).await.well();
    let attempt: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&attempt["integration"], &attempt["status"]), (&json!("orders"), &json!(200)));
    let failed = stage.run(&["tail", "--org", "acme", "--once", "--failed"]).await.well();
    assert_eq!(failed, "");
    stage.server.stop().await;
}

#[tokio::test]
async fn tail_follows_until_it_is_stopped() {
    use tokio::io::{AsyncBufReadExt, BufReader};

    let (stage, mut receiver) = (Stage::set().await, Receiver::start().await);
    stage.server.set_up(&stage.key, &receiver.url).await;
    let environment = [("ICP_URL", stage.server.url.as_str()), ("ICP_API_KEY", &stage.key)];
    let mut command = stage.folder.command(&environment);
    let mut child = command.args(["tail", "--org", "acme"]).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    for number in 0..2 {
        stage.server.publish(&stage.key, json!(number)).await;
        receiver.next().await;
        let line = lines.next_line().await.unwrap().unwrap();
        assert!(line.contains("delivered"), "{line}");
    }
    let pid = child.id().unwrap().to_string();
    tokio::process::Command::new("kill").args(["-INT", &pid]).status().await.unwrap();
    assert_eq!(child.wait().await.unwrap().code(), Some(0));
    stage.server.stop().await;
}

#[tokio::test]
async fn replay_sends_a_range_again_and_says_when_it_is_done() {
    let (stage, mut receiver) = (Stage::set().await, Receiver::start().await);
    stage.server.set_up(&stage.key, &receiver.url).await;
    let first = stage.server.publish(&stage.key, json!(1)).await;
    receiver.next().await;
    let counted =
        stage.run(&["replay", "--org", "acme", "--since", "1h", "--preview"]).await.well();
    assert!(counted.contains(": 1\n"), "{counted}");
    let said = stage.run(&["replay", "--org", "acme", "--since", "1h", "--rate", "100"]).await;
    assert!(said.out.contains("is done: "), "{said:?}");
    said.well();
    assert_eq!(receiver.next().await.id, first);
    let detached = ["replay", "--org", "acme", "--since", "1h", "--type", "none.*", "--detach"];
    let id = stage.run(&detached).await.well();
    let path = format!("/organizations/acme/replays/{}", id.trim());
    let job = stage.server.get(&stage.key, &path).await;
    assert_eq!(job["request"]["event_type"], "none.*");
    stage.server.stop().await;
}

#[tokio::test]
async fn completions_name_every_command() {
    let folder = Folder::new();
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let text = run(&folder, &["completions", shell], &[], "").await.well();
        for command in ["apply", "doctor", "export", "migrate", "replay", "serve", "tail"] {
            assert!(text.contains(command), "{shell}: {command}");
        }
    }
}
