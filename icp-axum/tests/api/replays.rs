use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Api, orders};

const REPLAYS: &str = "/api/v1/organizations/acme/replays";
const SINCE: &str = "2020-01-01T00:00:00Z";

fn this_year(api: &Api) -> String {
    (api.engine.now() - Duration::from_secs(86_400)).to_string()
}

#[tokio::test(start_paused = true)]
async fn a_replay_is_counted_ahead_started_and_watched() {
    let api = Api::with_orders().await;
    for _ in 0..3 {
        let (_, id) = api.paid().await;
        let cancel = format!("/api/v1/organizations/acme/deliveries/{id}/cancel");
        api.call("POST", &cancel, &[], "").await.expect(200);
    }
    let request = json!({
        "since": this_year(&api),
        "event_type": "order.*",
        "states": ["cancelled"],
        "rate": 500,
        "reason": "cancelled by mistake",
    });
    let preview = api.post(&format!("{REPLAYS}/preview"), request.clone()).await.expect(200);
    assert_eq!((&preview["deliveries"], &preview["exact"]), (&json!(3), &json!(true)));
    let share = json!({ "integration": "orders", "deliveries": 3, "skipped": 0 });
    assert_eq!(preview["integrations"], json!([share]));

    let started = api.post(REPLAYS, request).await;
    let job = started.expect(202);
    let one = format!("{REPLAYS}/{}", job["id"].as_str().unwrap());
    assert_eq!(started.header("location"), one);
    assert_eq!((&job["state"], &job["progress"]["total"]), (&json!("pending"), &json!(3)));
    assert_eq!((&job["percent"], &job["eta"]), (&json!(0), &Value::Null));
    assert_eq!(job["request"]["reason"], "cancelled by mistake");
    assert!(job["actor"]["name"].as_str().unwrap().starts_with("key:key_"));

    let running = api.engine.start().await.unwrap();
    // Tokio's clock moves on only while nothing has anything to do.
    tokio::time::sleep(Duration::from_secs(60)).await;
    let done = api.get(&one).await.expect(200);
    assert_eq!(done["state"], "done");
    let progress = json!({ "examined": 3, "created": 3, "skipped": 0, "total": 3 });
    assert_eq!((&done["progress"], &done["percent"]), (&progress, &json!(100)));
    assert!(done["ended_at"].is_string());
    let made = api.get(&format!("{one}/deliveries?limit=2")).await.expect(200);
    assert!(made["items"][0]["replay_of"].is_string());
    let next = made["next"].as_str().unwrap();
    let rest = api.get(&format!("{one}/deliveries?limit=2&cursor={next}")).await.expect(200);
    assert_eq!(rest["items"].as_array().unwrap().len(), 1);
    api.call("POST", &format!("{one}/resume"), &[], "").await.problem(409, "replay_state_conflict");
    running.shutdown(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn a_replay_is_paused_resumed_and_cancelled() {
    let api = Api::with_orders().await;
    let job = api.post(REPLAYS, json!({ "since": this_year(&api) })).await.expect(202);
    let one = format!("{REPLAYS}/{}", job["id"].as_str().unwrap());
    for (change, state) in [
        ("pause", "paused"),
        ("pause", "paused"),
        ("resume", "pending"),
        ("cancel", "cancelled"),
        ("cancel", "cancelled"),
    ] {
        let changed = api.call("POST", &format!("{one}/{change}"), &[], "").await.expect(200);
        assert_eq!(changed["state"], state, "{change}");
    }
    let log = api.get("/api/v1/organizations/acme/audit").await.expect(200);
    let told: Vec<_> = log["items"].as_array().unwrap().iter().take(4).collect();
    let actions: Vec<_> = told.iter().map(|row| row["action"].as_str().unwrap()).collect();
    assert_eq!(actions, ["cancel_replay", "resume_replay", "pause_replay", "start_replay"]);
    assert!(told.iter().all(|row| row["note"] == job["id"]), "{told:?}");
    let found = api.get(&format!("{REPLAYS}?state=cancelled")).await.expect(200);
    assert_eq!(found["items"][0]["id"], job["id"]);
    let found = api.get(&format!("{REPLAYS}?state=running")).await.expect(200);
    assert_eq!(found["items"], json!([]));
}

#[tokio::test]
async fn what_cannot_be_replayed_is_told_with_its_pointer() {
    let api = Api::with_orders().await;
    let recent = this_year(&api);
    for (body, pointer, words) in [
        (json!({}), "/since", "is missing"),
        (json!({ "since": "soon" }), "/since", "RFC 3339"),
        (json!({ "since": SINCE }), "/since", "366 days"),
        (json!({ "since": recent, "until": SINCE }), "/until", "before `since`"),
        (json!({ "since": recent, "until": "2199-01-01T00:00:00Z" }), "/until", "future"),
        (json!({ "since": "2199-01-01T00:00:00Z" }), "/since", "before this moment"),
        (json!({ "since": recent, "rate": 0 }), "/rate", "1 to 1000"),
        (json!({ "since": recent, "rate": 5_000 }), "/rate", "1 to 1000"),
        (json!({ "since": recent, "integrations": [] }), "/integrations", "1 to 100"),
        (json!({ "since": recent, "integrations": ["orders", "x"] }), "/integrations/1", "`x`"),
        (json!({ "since": recent, "states": ["ready"] }), "/states/0", "not an end"),
        (json!({ "since": recent, "states": [] }), "/states", "leave it out"),
        (json!({ "since": recent, "mode": "missing", "states": ["dead"] }), "/states", "missing"),
        (json!({ "since": recent, "mode": "all" }), "/mode", "unknown variant"),
        (json!({ "since": recent, "event_type": "a..b" }), "/event_type", "segment 2"),
        (json!({ "since": recent, "intergations": ["x"] }), "/intergations", "did you mean"),
    ] {
        for path in [REPLAYS.to_owned(), format!("{REPLAYS}/preview")] {
            let problem = api.post(&path, body.clone()).await.problem(400, "replay_invalid");
            let violation = &problem["violations"][0];
            assert_eq!(violation["pointer"], pointer, "{body}");
            assert!(violation["message"].as_str().unwrap().contains(words), "{violation}");
        }
    }
}

#[tokio::test]
async fn replays_of_others_are_not_found() {
    let api = Api::with_orders().await;
    let since = json!({ "since": this_year(&api) });
    let nobody = "/api/v1/organizations/nobody/replays";
    api.post(nobody, since.clone()).await.problem(404, "organization_unknown");
    let id = api.post(REPLAYS, since).await.expect(202)["id"].as_str().unwrap().to_owned();
    api.post("/api/v1/organizations", json!({ "id": "other", "spec": {} })).await.expect(201);
    api.post("/api/v1/organizations/other/integrations", orders()).await.expect(201);
    let foreign = format!("/api/v1/organizations/other/replays/{id}");
    for path in [foreign.clone(), format!("{foreign}/deliveries")] {
        api.get(&path).await.problem(404, "replay_not_found");
    }
    for change in ["pause", "resume", "cancel"] {
        let path = format!("{foreign}/{change}");
        api.call("POST", &path, &[], "").await.problem(404, "replay_not_found");
    }
    api.get(&format!("{REPLAYS}/rpl_1")).await.problem(400, "id_invalid");
    api.get(&format!("{REPLAYS}?state=lost")).await.problem(400, "query_invalid");
}
