//! What is handed in wrong, each with its exit code.

use serde_json::json;

use super::{Stage, run};
use crate::harness::Folder;

const SERVER: &str = "http://127.0.0.1:1";

#[tokio::test]
async fn files_that_are_no_resources_are_refused_with_their_line() {
    let folder = Folder::new();
    let environment = [("ICP_URL", SERVER), ("ICP_API_KEY", "k")];
    for (name, text, says) in [
        ("bad.yaml", "kind: lookup\nid: [hush\n", "bad.yaml is not yaml"),
        ("bad.yaml", "kind: lookup\nid: [hush\n", "line 2"),
        ("bad.json", "{\n\"kind\": }", "bad.json:2 is not json"),
        ("a.yaml", "\nkind: integratoin\nid: a\norg: x\n", "a.yaml:2: `integratoin` is not a kind"),
        ("a.yaml", "kind: lookup\nid: a\n", "`org` is missing"),
        ("a.yaml", "kind: lookup\nid: a\norg: x\nspecc: {}\n", "unknown field `specc`"),
        ("a.yaml", "kind: lookup\nkind: lookup\n", "line 2"),
    ] {
        std::fs::write(folder.path(name), text).unwrap();
        let said = run(&folder, &["apply", "-f", name], &environment, "").await.ill(2);
        assert!(said.contains(says) && !said.contains("hush"), "{text}: {said}");
    }
    let said = run(&folder, &["apply", "-f", "none.yaml"], &environment, "").await.ill(2);
    assert!(said.contains("`none.yaml` cannot be read"), "{said}");
    let said = run(&folder, &["apply", "-f", "-"], &environment, "# nothing\n").await.ill(2);
    assert!(said.contains("no resource"), "{said}");
}

#[tokio::test]
async fn arguments_that_are_none_are_refused() {
    let folder = Folder::new();
    let environment = [("ICP_URL", SERVER), ("ICP_API_KEY", "k")];
    for (arguments, says) in [
        (&["get", "integratoin", "--org", "x"][..], "did you mean `integration`?"),
        (&["get", "integration"], "use `--org`"),
        (&["export"], "--org"),
        (&["export", "--org", "x", "-k", "nothing"], "is not a kind"),
        (&["replay", "--org", "x", "--since", "yesterday"], "how long ago"),
        (&["apply"], "--file"),
        (&["apply", "-f", "-", "-l", "a:b"], "--prune"),
        (&["apply", "-f", "-", "--prune", "-l", "ab"], "key:value"),
        (&["tail"], "--org"),
        (&["get", "organizations", "--url", "ftp://x"], "http://"),
        (&["completions", "tcsh"], "tcsh"),
        (&["aplly"], "apply"),
    ] {
        let said = run(&folder, arguments, &environment, "").await.ill(2);
        assert!(said.contains(says), "{arguments:?}: {said}");
    }
    let said = run(&folder, &["get", "organizations"], &[], "").await.ill(2);
    assert!(said.contains("ICP_API_KEY"), "{said}");
}

#[tokio::test]
async fn a_server_that_is_not_there_is_told_by_its_own_code() {
    let folder = Folder::new();
    let environment = [("ICP_URL", "http://u:hush@127.0.0.1:1"), ("ICP_API_KEY", "k")];
    std::fs::write(folder.path("a.yaml"), "kind: organization\nid: a\n").unwrap();
    for arguments in [
        &["get", "organizations"][..],
        &["export", "--org", "a"],
        &["apply", "-f", "a.yaml"],
        &["tail", "--org", "a", "--once"],
        &["replay", "--org", "a", "--since", "1h"],
    ] {
        let said = run(&folder, arguments, &environment, "").await.ill(3);
        assert!(said.contains("is the server running") && !said.contains("hush"), "{said}");
    }
}

#[tokio::test]
async fn what_the_server_refuses_is_told_with_its_code() {
    let stage = Stage::set().await;
    let url = ("ICP_URL", stage.server.url.as_str());
    for key in ["icp_wrong", ""] {
        let environment = [url, ("ICP_API_KEY", key)];
        let said = run(&stage.folder, &["get", "organizations"], &environment, "").await.ill(4);
        assert!(said.contains("[unauthenticated]"), "{said}");
    }
    let said = stage.run(&["get", "integration", "none", "--org", "acme"]).await.ill(5);
    assert!(
        said.contains("[resource_not_found]") || said.contains("[organization_unknown]"),
        "{said}"
    );
    stage.run(&["tail", "--org", "none", "--once"]).await.ill(5);
    stage.run(&["export", "--org", "none"]).await.ill(5);
    stage.server.post(&stage.key, "/organizations", json!({"id": "acme", "spec": {}})).await;
    let replay = ["replay", "--org", "acme", "--since", "1h", "--rate", "0"];
    let said = stage.run(&replay).await.ill(1);
    assert!(said.contains("[replay_invalid]") && said.contains("/rate"), "{said}");
    // Something else answers there.
    let other = format!("{}/elsewhere", stage.server.url);
    let environment = [("ICP_URL", other.as_str()), ("ICP_API_KEY", &stage.key)];
    run(&stage.folder, &["get", "organizations"], &environment, "").await.ill(5);
    stage.server.stop().await;
}
