#![expect(clippy::unwrap_used, reason = "what a test needs fails by panicking")]

use axum::body::Body;
use axum::http::Request;
use serde_json::Value;

use crate::harness::Api;

/// Every operation, with its method and path.
fn operations(document: &Value) -> Vec<(String, String, Value)> {
    let paths = document["paths"].as_object().unwrap().iter();
    paths
        .flat_map(|(path, operations)| {
            let operations = operations.as_object().unwrap().iter();
            operations.map(|(method, one)| (method.to_uppercase(), path.clone(), one.clone()))
        })
        .collect()
}

#[tokio::test]
async fn every_operation_names_its_answers_one_by_one() {
    let api = Api::new().await;
    for (method, path, operation) in operations(&api.document) {
        let answers = operation["responses"].as_object().unwrap();
        assert!(!answers.contains_key("default"), "{method} {path}");
        assert!(answers.keys().any(|status| status.starts_with('2')), "{method} {path}");
        let open = operation["security"] == serde_json::json!([]);
        assert_eq!(answers.contains_key("401"), !open || method != "GET", "{method} {path}");
        // Who acts in an organization names it in the body.
        let about = path.contains('{') || path.ends_with("/impersonate");
        assert_eq!(answers.contains_key("404"), about, "{method} {path}");
        for parameter in operation["parameters"].as_array().unwrap() {
            assert!(parameter["schema"]["type"].is_string(), "{method} {path}: {parameter}");
        }
    }
}

#[tokio::test]
async fn examples_can_be_sent_as_they_are() {
    let api = Api::new().await;
    let mut refused = Vec::new();
    let wanted = [
        "createOrganization",
        "createIntegration",
        "createLookup",
        "createEventType",
        "duplicateLookup",
        "duplicateEventType",
        "importResources",
        "publishEvent",
        "publishEvents",
        "patchIntegration",
        "rollbackIntegration",
        "pauseIntegration",
        "replaceLookup",
        "bulkIntegrations",
        "cancelDeliveries",
        "bulkEventTypes",
        "createRole",
        "createUser",
        "setUserPassword",
        "createApiKey",
        "startReplay",
        "previewReplay",
        "previewCancelDeliveries",
        "getDraftCurl",
        "getIntegrationCurl",
        "dryRunTransform",
        "dryRunFilter",
        "importLookup",
        "resolveLookup",
        "applyResources",
        "eraseEvents",
    ];
    for id in wanted {
        let all = operations(&api.document);
        let (method, path, operation) =
            all.into_iter().find(|(_, _, one)| one["operationId"] == id).unwrap();
        let (media, form) =
            operation["requestBody"]["content"].as_object().unwrap().iter().next().unwrap();
        let one = match id {
            _ if id.contains("Lookup") => "countries",
            _ if id.contains("EventType") => "order.paid",
            _ if id.contains("User") => "ada",
            _ => "orders",
        };
        let path = path.replace("{org}", "acme").replace("{id}", one);
        let example = form["example"].to_string();
        let answer = api.call(&method, &path, &[("content-type", media)], &example).await;
        if !answer.status.is_success() {
            refused.push(format!("{id} {path} {example}: {}", answer.text));
        }
    }
    assert!(refused.is_empty(), "{refused:#?}");
}

#[tokio::test]
async fn every_body_has_an_example_that_its_schema_takes() {
    let api = Api::new().await;
    let mut faults = Vec::new();
    for (_, _, operation) in operations(&api.document) {
        let id = operation["operationId"].as_str().unwrap();
        let Some(forms) = operation["requestBody"]["content"].as_object() else { continue };
        let form = forms.values().find(|form| form.get("example").is_some());
        let Some(form) = form else {
            faults.push(format!("{id}: there is no example"));
            continue;
        };
        let schema = serde_json::json!({
            "allOf": [form["schema"]], "components": api.document["components"],
        });
        let schema = jsonschema::validator_for(&schema).unwrap();
        faults.extend(schema.iter_errors(&form["example"]).map(|e| format!("{id}: {e}")));
    }
    assert!(faults.is_empty(), "{faults:#?}");
}

#[tokio::test]
async fn the_page_is_shown_to_everybody_and_runs_only_what_it_has() {
    let api = Api::new().await;
    let answer = api.raw(Request::get("/api/v1/docs").body(Body::empty()).unwrap()).await;
    assert_eq!(
        (answer.status.as_u16(), answer.header("content-type")),
        (200, "text/html; charset=utf-8")
    );
    let policy = answer.header("content-security-policy");
    for part in [
        "default-src 'none'",
        "script-src 'sha256-",
        "style-src 'sha256-",
        "frame-ancestors 'none'",
    ] {
        assert!(policy.contains(part), "{policy}");
    }
    assert!(answer.text.contains("openapi.json") && !policy.contains("unsafe"));
}
