//! Units: who edits them, and what a role in one of them lets somebody see and do.

#![expect(clippy::unwrap_used, reason = "what a test needs fails by panicking")]

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Api, orders};

const ACME: &str = "/api/v1/organizations/acme";

/// `acme` with the units `eu`, `de` as a part of it, and `us`.
async fn acme() -> Api {
    let api = Api::new().await;
    let units = json!([{ "id": "eu" }, { "id": "de", "parent": "eu" }, { "id": "us" }]);
    let made = json!({ "id": "acme", "spec": { "units": units } });
    api.post("/api/v1/organizations", made).await.expect(201);
    api
}

fn at(path: &str) -> String {
    format!("{ACME}/{path}")
}

async fn key(api: &Api, grants: Value) -> String {
    let made = api.post(&at("api-keys"), json!({ "spec": { "grants": grants } })).await;
    made.expect(201)["key"].as_str().unwrap().to_owned()
}

/// An integration `id` of a unit, or of the whole organization.
fn of_unit(id: &str, unit: Option<&str>) -> Value {
    let mut integration = orders();
    integration["id"] = json!(id);
    integration["spec"]["breaker"] = json!({ "enabled": false });
    if let Some(unit) = unit {
        integration["spec"]["unit"] = json!(unit);
    }
    integration
}

fn ids(listing: &Value) -> BTreeSet<String> {
    let items = listing["items"].as_array().unwrap();
    items.iter().map(|item| item["id"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn an_organization_edits_its_own_units_and_nothing_else_of_itself() {
    let api = acme().await;
    let admin = key(&api, json!([{ "role": "admin" }])).await;
    let looks = key(&api, json!([{ "role": "org_admin" }])).await;
    let call = async |method: &str, path: &str, body: Value| {
        api.as_holder(&admin, method, &at(path), body).await
    };
    let listed = call("GET", "units?limit=2", Value::Null).await.expect(200);
    assert_eq!(ids(&listed), ["de", "eu"].map(String::from).into());
    let rest = format!("units?limit=2&cursor={}", listed["next"].as_str().unwrap());
    let rest = call("GET", &rest, Value::Null).await.expect(200);
    assert_eq!((ids(&rest), &rest["next"]), (["us".to_owned()].into(), &Value::Null));
    let fr = json!({ "name": "France", "parent": "eu" });
    let made = call("PUT", "units/fr", fr).await;
    assert_eq!(made.expect(200), json!({ "id": "fr", "name": "France", "parent": "eu" }));
    let shown = call("GET", "units/fr", Value::Null).await;
    assert_eq!(shown.header("etag"), made.header("etag"));
    // The rest of the organization stays as it was, and is not theirs to change.
    let document = api.get(ACME).await.expect(200);
    assert_eq!(document["spec"]["weight"], 1);
    assert_eq!(document["spec"]["units"].as_array().unwrap().len(), 4);
    let refused = api.as_holder(&admin, "PATCH", ACME, json!({ "spec": { "weight": 100 } })).await;
    refused.problem(403, "permission_denied");
    for (path, body, pointer, code) in [
        ("units/eu", json!({ "parent": "de" }), "/parent", "cycle"),
        ("units/eu", json!({ "parent": "eu" }), "/parent", "cycle"),
        ("units/it", json!({ "parent": "nowhere" }), "/parent", "unknown"),
        ("units/it", json!({ "name": "x".repeat(129) }), "/name", "max_length"),
    ] {
        let problem = call("PUT", path, body).await.problem(400, "resource_invalid");
        let found = &problem["violations"][0];
        assert_eq!((&found["pointer"], &found["code"]), (&json!(pointer), &json!(code)));
    }
    call("PUT", "units/bad%20id", json!({})).await.problem(400, "id_invalid");
    let stale = [("content-type", "application/json"), ("if-match", "\"1\"")];
    api.call("PUT", &at("units/fr"), &stale, "{}").await.problem(412, "revision_conflict");
    let looks_at =
        async |method: &str| api.as_holder(&looks, method, &at("units/fr"), json!({})).await;
    looks_at("GET").await.expect(200);
    looks_at("PUT").await.problem(403, "permission_denied");
    looks_at("DELETE").await.problem(403, "permission_denied");
    let rows = api.get(&at("audit?kind=organization")).await.expect(200);
    assert_eq!(rows["items"][0]["action"], "put_unit");
}

#[tokio::test]
async fn a_unit_in_use_stays() {
    let api = acme().await;
    api.post(&at("integrations"), of_unit("crm", Some("us"))).await.expect(201);
    let delete =
        async |unit: &str| api.call("DELETE", &at(&format!("units/{unit}")), &[], "").await;
    delete("nowhere").await.problem(404, "unit_not_found");
    let told = delete("eu").await.problem(409, "unit_in_use");
    assert!(told["detail"].as_str().unwrap().contains("unit `de`"));
    let told = delete("us").await.problem(409, "unit_in_use");
    assert!(told["detail"].as_str().unwrap().contains("integration `crm`"));
    key(&api, json!([{ "role": "viewer", "unit": "de" }])).await;
    let told = delete("de").await.problem(409, "unit_in_use");
    assert!(told["detail"].as_str().unwrap().contains("api_key `key_"));
    api.call("DELETE", &at("integrations/crm"), &[], "").await.expect(204);
    delete("us").await.expect(204);
    api.get(&at("units/us")).await.problem(404, "unit_not_found");
}

#[tokio::test]
async fn who_has_a_role_in_a_unit_gives_roles_there_and_below_only() {
    let api = acme().await;
    let role = json!({ "id": "personnel", "spec": {
        "permissions": ["users:*", "api_keys:*", "settings:*"],
    } });
    // Operators may give `settings:configure` too; this role needs it not.
    api.post(&at("roles"), role).await.expect(201);
    let author =
        key(&api, json!([{ "role": "personnel" }, { "role": "admin", "unit": "eu" }])).await;
    let give = async |grant: Value| {
        let body = json!({ "spec": { "grants": [grant] } });
        api.as_holder(&author, "POST", &at("api-keys"), body).await
    };
    give(json!({ "role": "admin", "unit": "eu" })).await.expect(201);
    give(json!({ "role": "viewer", "unit": "de" })).await.expect(201);
    for grant in [
        json!({ "role": "viewer" }),
        json!({ "role": "viewer", "unit": "us" }),
        json!({ "role": "super_admin", "unit": "us" }),
    ] {
        let problem = give(grant.clone()).await.problem(400, "resource_invalid");
        assert_eq!(problem["violations"][0]["code"], "not_granted", "{grant}");
    }
    // Nor is anybody with a role elsewhere theirs to change.
    let made = json!({ "spec": { "grants": [{ "role": "viewer", "unit": "us" }] } });
    let made = api.post(&at("api-keys"), made).await.expect(201);
    let other = at(&format!("api-keys/{}", made["document"]["id"].as_str().unwrap()));
    let refused = api.as_holder(&author, "DELETE", &other, Value::Null).await;
    refused.problem(403, "principal_stronger");
    // A unit does not come below theirs by their own hand: they would have more in it.
    let moved = api.as_holder(&author, "PUT", &at("units/us"), json!({ "parent": "eu" })).await;
    let moved = moved.problem(400, "resource_invalid");
    assert_eq!(moved["violations"][0]["pointer"], "/parent");
    assert_eq!(moved["violations"][0]["code"], "not_granted");
    api.send("PUT", &at("units/us"), &[], json!({ "parent": "eu" })).await.expect(200);
}

#[tokio::test]
async fn a_role_in_a_unit_reaches_its_integrations_and_no_others() {
    let api = acme().await;
    for (id, unit) in [
        ("crm-all", None),
        ("crm-eu", Some("eu")),
        ("de1", Some("de")),
        ("de2", Some("de")),
        ("crm-us", Some("us")),
    ] {
        api.post(&at("integrations"), of_unit(id, unit)).await.expect(201);
    }
    let editor = key(&api, json!([{ "role": "admin", "unit": "de" }])).await;
    let call = async |method: &str, path: &str, body: Value| {
        api.as_holder(&editor, method, &at(path), body).await
    };
    // One at a time, the pages lead over what is beyond, whatever the order.
    for sort in ["id", "-updated_at", "name"] {
        let (mut seen, mut cursor) = (Vec::new(), String::new());
        loop {
            let path = format!("integrations?limit=1&sort={sort}{cursor}");
            let page = call("GET", &path, Value::Null).await.expect(200);
            seen.extend(ids(&page));
            let Some(next) = page["next"].as_str() else { break };
            cursor = format!("&cursor={next}");
        }
        seen.sort();
        assert_eq!(seen, ["de1", "de2"], "{sort}");
    }
    // What is beyond is answered as what is not there.
    let spec = of_unit("x", Some("de"))["spec"].clone();
    let of = |name: &str| {
        let name = name.to_owned();
        [
            ("GET", format!("integrations/{name}"), Value::Null),
            ("PUT", format!("integrations/{name}"), json!({ "spec": spec })),
            ("PATCH", format!("integrations/{name}"), json!({ "spec": { "enabled": false } })),
            ("DELETE", format!("integrations/{name}"), Value::Null),
            ("GET", format!("integrations/{name}/history"), Value::Null),
            ("GET", format!("integrations/{name}/versions/1"), Value::Null),
            ("POST", format!("integrations/{name}/rollback"), json!({ "version": 1 })),
            ("POST", format!("integrations/{name}/duplicate"), Value::Null),
            ("POST", format!("integrations/{name}/pause"), json!({ "reason": "x" })),
            ("POST", format!("integrations/{name}/resume"), Value::Null),
            ("POST", format!("integrations/{name}/test"), Value::Null),
            ("POST", format!("integrations/{name}/curl"), Value::Null),
            ("POST", format!("integrations/{name}/signing/rotate"), Value::Null),
            ("POST", "bulk/integrations".into(), json!({ "action": "delete", "ids": [name] })),
        ]
    };
    for beyond in ["crm-all", "crm-eu", "crm-us"] {
        for ((method, path, body), (_, missing, none)) in of(beyond).into_iter().zip(of("nobody")) {
            let found = call(method, &path, body).await;
            let missing = call(method, &missing, none).await;
            assert_eq!(found.status, missing.status, "{method} {path}: {}", found.text);
            assert_eq!(found.text.replace(beyond, "nobody"), missing.text, "{method} {path}");
        }
    }
    // What is within is theirs, and stays within.
    call("PATCH", "integrations/de1", json!({ "spec": { "enabled": false } })).await.expect(200);
    let bulk = json!({ "action": "enable", "ids": ["de1", "de2"] });
    assert_eq!(call("POST", "bulk/integrations", bulk).await.expect(200)["done"], 2);
    call("POST", "integrations", of_unit("mine", Some("de"))).await.expect(201);
    for unit in [None, Some("eu"), Some("us"), Some("nowhere")] {
        let made = call("POST", "integrations", of_unit("more", unit)).await;
        let problem = made.problem(400, "resource_invalid");
        let found = &problem["violations"][0];
        assert_eq!(
            (&found["pointer"], &found["code"]),
            (&json!("/spec/unit"), &json!("not_granted"))
        );
    }
    let moved = json!({ "spec": { "unit": "us" } });
    call("PATCH", "integrations/mine", moved).await.problem(400, "resource_invalid");
    call("DELETE", "integrations/mine", Value::Null).await.expect(204);
    // Who may write there and not delete does not delete by a bulk either.
    let writer = key(&api, json!([{ "role": "integration_editor", "unit": "de" }])).await;
    let bulk = json!({ "action": "delete", "ids": ["de2"] });
    let refused = api.as_holder(&writer, "POST", &at("bulk/integrations"), bulk).await;
    assert_eq!(refused.problem(400, "bulk_refused")["violations"][0]["code"], "permission_denied");
    let me = api.as_holder(&editor, "GET", "/api/v1/auth/me", Value::Null).await.expect(200);
    assert_eq!((&me["permissions"], &me["units"][0]["unit"]), (&json!([]), &json!("de")));
}

#[tokio::test]
async fn a_role_in_a_unit_reaches_its_events_and_what_became_of_them() {
    let api = acme().await;
    api.post(&at("integrations"), of_unit("all", None)).await.expect(201);
    api.post(&at("integrations"), of_unit("us", Some("us"))).await.expect(201);
    let editor = key(&api, json!([{ "role": "admin", "unit": "eu" }])).await;
    let call = async |method: &str, path: &str, body: Value| {
        api.as_holder(&editor, method, &at(path), body).await
    };
    let event = |unit: &str| json!({ "type": "order.paid", "data": {}, "unit": unit });
    let running = api.engine.start().await.unwrap();
    let mut own = BTreeSet::new();
    let mut foreign = BTreeSet::new();
    for unit in ["eu", "us", "de", "us"] {
        let made = api.post(&at("events"), event(unit)).await.expect(202)["id"].clone();
        let of = if unit == "us" { &mut foreign } else { &mut own };
        of.insert(made.as_str().unwrap().to_owned());
    }
    let whole = json!({ "type": "order.paid", "data": {} });
    let made = api.post(&at("events"), whole.clone()).await.expect(202)["id"].clone();
    foreign.insert(made.as_str().unwrap().to_owned());
    let published = call("POST", "events", event("de")).await.expect(202);
    own.insert(published["id"].as_str().unwrap().to_owned());
    // A unit beyond is not told from one that is not there.
    let beyond = call("POST", "events", event("us")).await.problem(400, "unit_unknown");
    let missing = call("POST", "events", event("zz")).await.problem(400, "unit_unknown");
    assert_eq!(beyond.to_string().replace("`us`", "`zz`"), missing.to_string());
    let refused = call("POST", "events", whole.clone()).await.problem(403, "permission_denied");
    assert_eq!(refused["violations"][0]["pointer"], "/unit");
    let batch = json!({ "events": [event("us"), event("eu"), whole] });
    let batch = call("POST", "events/batch", batch).await.expect(207);
    let statuses: Vec<_> =
        batch["results"].as_array().unwrap().iter().map(|one| &one["status"]).collect();
    assert_eq!(statuses, [400, 202, 403]);
    own.insert(batch["results"][1]["event"]["id"].as_str().unwrap().to_owned());
    let ended = async {
        while !ids(&api.get(&at("deliveries?state=ready,leased")).await.expect(200)).is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), ended).await.unwrap();
    let drained = running.shutdown(Duration::from_secs(20)).await;
    assert_eq!((drained.released, drained.unsettled), (0, 0));

    let all = async |path: &str, id: &str| {
        let (mut seen, mut cursor) = (BTreeSet::new(), String::new());
        loop {
            let page =
                call("GET", &format!("{path}?limit=1{cursor}"), Value::Null).await.expect(200);
            for item in page["items"].as_array().unwrap() {
                assert!(seen.insert(item[id].as_str().unwrap().to_owned()), "{path} lists twice");
            }
            let Some(next) = page["next"].as_str() else { return seen };
            cursor = format!("&cursor={next}");
        }
    };
    assert_eq!(all("events", "id").await, own);
    assert_eq!(all("deliveries", "event").await, own);
    assert_eq!(all("dead-letters", "event").await, own);
    let summary = call("GET", "deliveries/summary", Value::Null).await.expect(200);
    assert_eq!(summary["counted"], own.len());
    let export = call("GET", "deliveries/export", Value::Null).await;
    assert_eq!(export.text.lines().count(), own.len());

    let (mine, theirs) = (own.first().unwrap().clone(), foreign.first().unwrap().clone());
    let delivery = async |event: &str| {
        let found = api.get(&at(&format!("deliveries?event={event}"))).await.expect(200);
        found["items"][0]["id"].as_str().unwrap().to_owned()
    };
    let (my_delivery, their_delivery) = (delivery(&mine).await, delivery(&theirs).await);
    assert_eq!(
        call("GET", &format!("deliveries?event={theirs}"), Value::Null).await.expect(200)["items"],
        json!([])
    );
    let of = |event: &str, delivery: &str| {
        [
            ("GET", format!("events/{event}"), Value::Null),
            ("GET", format!("events/{event}/timeline"), Value::Null),
            ("GET", format!("events/{event}/explain"), Value::Null),
            ("GET", format!("deliveries/{delivery}"), Value::Null),
            ("GET", format!("deliveries/{delivery}/attempts"), Value::Null),
            ("GET", format!("deliveries/{delivery}/attempts/1/curl"), Value::Null),
            ("GET", format!("dead-letters/{delivery}"), Value::Null),
            ("POST", format!("dead-letters/{delivery}/notes"), json!({ "text": "seen" })),
            ("POST", format!("dead-letters/{delivery}/abandon"), json!({ "note": "no" })),
            ("POST", format!("deliveries/{delivery}/replay"), Value::Null),
        ]
    };
    let nobody = ("evt_00000000000000000000000001", "dlv_00000000000000000000000001");
    for ((method, path, body), (_, missing, none)) in
        of(&theirs, &their_delivery).into_iter().zip(of(nobody.0, nobody.1))
    {
        let found = call(method, &path, body).await;
        let missing = call(method, &missing, none).await;
        let told = found.text.replace(&theirs, nobody.0).replace(&their_delivery, nobody.1);
        assert_eq!((found.status, told), (missing.status, missing.text), "{method} {path}");
        assert_eq!(found.status, 404, "{method} {path}");
    }
    for (method, path, body) in of(&mine, &my_delivery) {
        let found = call(method, &path, body).await;
        assert!(found.status.is_success(), "{method} {path}: {}", found.text);
    }
    // An integration of another unit is not told of.
    let explained = call("GET", &format!("events/{mine}/explain"), Value::Null).await.expect(200);
    let told = explained["integrations"].as_array().unwrap();
    assert_eq!(told.iter().map(|one| &one["integration"]).collect::<Vec<_>>(), ["all"]);
    let retry = json!({ "ids": [their_delivery, my_delivery] });
    let retried = call("POST", "dead-letters/retry", retry).await.expect(207);
    assert_eq!(retried["results"][0]["problem"]["code"], "delivery_not_found");
}
