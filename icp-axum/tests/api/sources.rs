use serde_json::json;

use crate::harness::Api;

const MANY: &str = "/api/v1/organizations/acme/event-sources";
const ONE: &str = "/api/v1/organizations/acme/event-sources/orders";

async fn with_source() -> Api {
    let api = Api::with_orders().await;
    let spec =
        json!({"type": "orders", "config": {"table": "paid"}, "secrets": {"password": "canary"}});
    let made = api.post(MANY, json!({"id": "orders", "spec": spec})).await.expect(201);
    assert_eq!((&made["spec"]["batch"], &made["spec"]["enabled"]), (&json!(100), &json!(true)));
    assert!(!made.to_string().contains("canary"), "{made}");
    api
}

#[tokio::test]
async fn a_source_shows_how_far_it_is_and_is_moved() {
    let api = with_source().await;
    let fresh = api.get(&format!("{ONE}/progress")).await.expect(200);
    assert_eq!(fresh, json!({"checkpoint": null, "events": 0, "duplicates": 0, "refused": 0}));
    let place = format!("{ONE}/checkpoint");
    let to = |checkpoint| api.send("PUT", &place, &[], checkpoint);
    let moved = to(json!({"checkpoint": {"offset": 7}})).await.expect(200);
    assert_eq!(moved["checkpoint"], json!({"offset": 7}));
    assert_eq!(api.get(&format!("{ONE}/progress")).await.expect(200), moved);
    let anew = to(json!({"checkpoint": null})).await.expect(200);
    assert_eq!(anew["checkpoint"], json!(null));

    to(json!({})).await.problem(400, "resource_invalid");
    to(json!({"checkpoint": 1, "more": 2})).await.problem(400, "resource_invalid");
    let long = to(json!({"checkpoint": "x".repeat(65_536)})).await;
    let problem = long.problem(400, "resource_invalid");
    assert_eq!(problem["violations"][0]["pointer"], "/checkpoint");
    api.get(&format!("{MANY}/none/progress")).await.problem(404, "resource_not_found");
    let none =
        api.send("PUT", &format!("{MANY}/none/checkpoint"), &[], json!({"checkpoint": 1})).await;
    none.problem(404, "resource_not_found");
}

#[tokio::test]
async fn what_is_wrong_with_a_source_is_listed() {
    let api = with_source().await;
    let spec = json!({"type": "", "batch": 1_001, "poll_seconds": 0, "secret": "x"});
    let problem = api.post(MANY, json!({"spec": spec})).await.problem(400, "resource_invalid");
    let found: Vec<_> =
        problem["violations"].as_array().unwrap().iter().map(|one| &one["pointer"]).collect();
    for pointer in ["/spec/type", "/spec/batch", "/spec/poll_seconds", "/spec/secret"] {
        assert!(found.contains(&&json!(pointer)), "{pointer}: {found:?}");
    }
}
