//! The examples, run as a reader would run them, against a real receiver.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "database/mod.rs"]
#[expect(dead_code, reason = "the examples open their stores themselves")]
mod database;

use std::path::PathBuf;
use std::process::Command;

use database::{Database, Server};
use icp_testkit::receiver::{Behaviour, Reaction, Receiver};

/// Runs an example and answers what it printed.
async fn run(name: &str, argument: String) -> String {
    run_with(name, vec![argument]).await
}

async fn run_with(name: &str, arguments: Vec<String>) -> String {
    let folder = std::env::current_exe().unwrap();
    let path: PathBuf = folder.parent().unwrap().parent().unwrap().join("examples").join(name);
    assert!(path.exists(), "{name} is not built; run `cargo build -p icp --examples`");
    let run = move || Command::new(path).args(arguments).output().unwrap();
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
async fn programs_make_drop_and_refuse_payloads() {
    let receiver = Receiver::start().await;
    let printed = run("transform", receiver.url("/hook")).await;
    for line in [
        "refused: /spec/transform/1/javascript/source transform_compile: SyntaxError",
        "(line 2, column 21)",
        "  console: total 17",
        r#"  sent: {"order":17,"total":17,"at":""#,
        r#"{"result":"dropped","reason":"nothing to pay"}"#,
        r#""class":"transform_runtime","message":"TypeError: "#,
        r#""class":"transform_schema_invalid""#,
    ] {
        assert!(printed.contains(line), "no `{line}` in {printed}");
    }
    assert_eq!(receiver.seen().count("/hook"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_pulled_out_of_a_table_of_the_product() {
    let receiver = Receiver::start().await;
    let printed = run("event_source", receiver.url("/hook")).await;
    assert_eq!(
        printed.lines().collect::<Vec<_>>(),
        ["3 orders delivered, read up to 19", "5 orders delivered, read up to 21"]
    );
    assert_eq!(receiver.seen().count("/hook"), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_is_filled_by_a_file_and_looked_up() {
    let receiver = Receiver::start().await;
    let printed = run("lookups", receiver.url("/hook")).await;
    for line in [
        "line 3, column key: is the key of line 2 too; use each once",
        "line 4, column json: is not json",
        "applied: 3 added, 0 changed",
        "key,value,json,unit,category,active",
    ] {
        assert!(printed.contains(line), "no `{line}` in {printed}");
    }
    let mut bodies: Vec<_> = receiver.requests("/hook").into_iter().map(|r| r.body).collect();
    bodies.sort();
    let bodies: Vec<_> = bodies.iter().map(|body| std::str::from_utf8(body).unwrap()).collect();
    let expected = [r#"{"country":"Deutschland","dial":49}"#, r#"{"country":"Germany","dial":49}"#];
    assert_eq!(bodies, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_pauses_calls_off_and_copies() {
    let receiver = Receiver::start().await;
    receiver.behave("/hook", Behaviour::script([Reaction::Status(500)]));
    let printed = run("operate", receiver.url("/hook")).await;
    for line in [
        "1 called off",
        "delivered after 2 tries, out of order",
        "cancelled after 0 tries",
        "copied as \"crm (Copy)\"",
        "operator:ada pause integration crm",
        "operator:ada cancel_deliveries organization acme",
    ] {
        assert!(printed.contains(line), "no `{line}` in {printed}");
    }
    assert_eq!(receiver.seen().count("/hook"), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rolled_back_order_is_not_told() {
    let receiver = Receiver::start().await;
    let printed = run("publish_in_transaction", receiver.url("/hook")).await;
    assert!(printed.contains("3 orders, 1 rolled back, 2 delivered"), "{printed}");
    let bodies: Vec<_> = receiver.requests("/hook").into_iter().map(|r| r.body).collect();
    assert!(!bodies.iter().any(|body| body.as_ref() == br#"{"order":18}"#), "{bodies:?}");
}

async fn rolls_one_order_back(server: Server, example: &str) {
    let receiver = Receiver::start().await;
    let database = Database::create(server).await;
    let arguments = vec![database.url.clone(), receiver.url("/hook")];
    let printed = run_with(example, arguments).await;
    assert!(printed.contains("3 orders, 1 rolled back, 2 delivered"), "{printed}");
    let bodies: Vec<_> = receiver.requests("/hook").into_iter().map(|r| r.body).collect();
    assert_eq!(bodies.len(), 2);
    assert!(!bodies.iter().any(|body| body.as_ref() == br#"{"order":18}"#), "{bodies:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_rolled_back_on_postgres_is_not_told() {
    rolls_one_order_back(Server::Postgres, "publish_in_postgres").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_rolled_back_on_mysql_is_not_told() {
    rolls_one_order_back(Server::MySql, "publish_in_mysql").await;
}

/// With the feature `mongodb` only, and then the server has to be there.
#[cfg(feature = "mongodb")]
#[expect(clippy::disallowed_methods, reason = "the environment names the server")]
#[tokio::test(flavor = "multi_thread")]
async fn an_order_whose_session_is_aborted_is_not_told() {
    let server = std::env::var("ICP_TEST_MONGODB_URL").unwrap_or_else(|_| {
        panic!(
            "ICP_TEST_MONGODB_URL is not set: start the server with `scripts/services up mongo`, \
             and export what `scripts/services env` prints"
        )
    });
    let database = format!("/icp_example_{}", std::process::id());
    let server = server.replacen("/?", &format!("{database}?"), 1);
    let receiver = Receiver::start().await;
    let arguments = vec![receiver.url("/hook"), server.clone()];
    let printed = run_with("publish_in_mongodb_session", arguments).await;
    assert!(printed.contains("3 orders, 1 rolled back, 2 delivered"), "{printed}");
    let bodies: Vec<_> = receiver.requests("/hook").into_iter().map(|r| r.body).collect();
    assert!(!bodies.iter().any(|body| body.as_ref() == br#"{"order":18}"#), "{bodies:?}");
    let client = icp::store_mongo::mongodb::Client::with_uri_str(server).await.unwrap();
    client.default_database().unwrap().drop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_endpoint_is_told() {
    let receiver = Receiver::start().await;
    receiver.behave("/crm", Reaction::Status(500));
    let printed = run("watch_endpoints", receiver.url("")).await;
    assert!(printed.contains("crm fails since"), "{printed}");
    assert!(printed.contains("1 delivery is dead"), "{printed}");
    let told = receiver.requests("/ops");
    let mut types: Vec<_> = told.iter().map(|told| told.header("icp-event-type")).collect();
    types.sort_unstable();
    assert_eq!(types, ["icp.delivery.dead", "icp.endpoint.failing"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_was_added_late_catches_up() {
    let receiver = Receiver::start().await;
    let printed = run("replay", receiver.url("/hook")).await;
    assert!(printed.contains("12 of 12 events are missing"), "{printed}");
    assert!(printed.contains("done: 100 %, 12 deliveries made"), "{printed}");
    assert!(printed.contains("delivered: 12"), "{printed}");
    assert_eq!(receiver.seen().ids("/hook").len(), 12);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_in_trouble_is_left_alone_and_gets_everything() {
    let receiver = Receiver::start().await;
    receiver.behave("/hook", Behaviour::script(vec![Reaction::Status(500); 3]));
    let printed = run("receiver_in_trouble", receiver.url("/hook")).await;
    assert!(printed.contains("Open, 6 waiting"), "{printed}");
    assert!(printed.ends_with("all delivered\n"), "{printed}");
    assert_eq!(receiver.seen().count("/hook"), 9);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotated_secret_overlaps_with_the_one_before() {
    let printed = run("rotate_secret", String::new()).await;
    let expected = "request 1: the old secret fits
request 2: the old secret fits
request 2: the new secret fits
request 3: the old secret does not fit
request 3: the new secret fits
";
    assert_eq!(printed, expected);
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

#[tokio::test(flavor = "multi_thread")]
async fn a_draft_and_what_is_saved_are_tried_out_without_their_secrets_showing() {
    let receiver = Receiver::start().await;
    receiver.behave("/hook", Behaviour::script([Reaction::OK, Reaction::Status(401)]));
    let printed = run("try_out", receiver.url("/hook")).await;
    for line in [
        "test of a draft with user.made: Unmatched",
        "test of a draft with order.paid: Delivered",
        "> authorization: ***",
        r#"> {"order":17,"number":17}"#,
        "< 200",
        "test of what is saved with icp.test: Failed { class: \"status_401\"",
        "< Unauthorized",
        "0 deliveries are stored",
        "command of a draft:\ncurl --globoff --request POST",
        "command of what is saved:\ncurl",
        "command of an attempt:\ncurl",
        r#"  --data-raw '{"order":17,"number":17}'"#,
        "# secrets are shown as ***; put them in before use",
    ] {
        assert!(printed.contains(line), "no `{line}` in {printed}");
    }
    assert!(!printed.contains("in-the-"), "{printed}");
    let received = receiver.requests("/hook");
    assert_eq!(received.len(), 3, "no command was run, and the draft's first sample not sent");
    for request in &received {
        assert_eq!(request.query.as_deref(), Some("token=in-the-address"));
        assert_eq!(request.header("authorization"), "Bearer in-the-header");
    }
    let tests = received.iter().filter(|request| request.header("icp-test") == "true");
    assert_eq!(tests.count(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn records_are_kept_for_as_long_as_each_organization_says_and_erased_before_that() {
    let receiver = Receiver::start().await;
    receiver.behave("/broken", Reaction::Status(500));
    let printed = run("keep_and_erase", receiver.url("")).await;
    for line in [
        "by id: 1 event, 1 attempt erased",
        "left of it: 0 bytes, erased: true",
        "by subject: 1 event, 1 attempt erased",
        "\"subject_sha256\": \"",
        "\"completed_at\": \"2",
        "day 2, acme: 3 events, 3 deliveries, 1 dead",
        "day 2, brief: 1 events, 1 deliveries, 1 dead",
        "day 8, brief: 0 events, 0 deliveries, 0 dead",
        "day 31, acme: 1 events, 1 deliveries, 1 dead",
        "day 91, acme: 0 events, 0 deliveries, 0 dead",
        "2 receipts stay",
    ] {
        assert!(printed.contains(line), "no `{line}` in {printed}");
    }
    assert!(!printed.contains("customer-7"), "{printed}");
    assert_eq!(receiver.seen().requests().len(), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limited_store_lets_four_calls_through_at_once() {
    let printed = run("write_a_store", String::new()).await;
    assert_eq!(printed, "100 reads of 100 events, at most 4 calls at once\n");
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
