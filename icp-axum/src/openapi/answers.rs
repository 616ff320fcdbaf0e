//! Which statuses an operation answers with: all that can happen, and no other.

use axum::http::Method;
use serde_json::{Map, Value, json};

use crate::endpoint::{Endpoint, Permit};
use crate::problem::PROBLEM_JSON;

/// What failures of HTTP itself every route answers with, and those of the store.
const ALWAYS: [u16; 6] = [400, 414, 415, 431, 500, 503];

/// Operations that not every build, store or signing profile can do.
const UNSUPPORTED: [&str; 4] =
    ["duplicateIntegration", "rotateSigningSecret", "publishEvent", "publishEvents"];

/// Operations of many parts, each of which may end by itself in another way.
const MIXED: [&str; 3] = ["publishEvents", "abandonDeadLetters", "retryDeadLetters"];

/// Every failure that the operation can answer with, in order.
pub(super) fn failures(endpoint: &Endpoint) -> Vec<u16> {
    let mut found = Vec::from(ALWAYS);
    let mut when = |happens: bool, statuses: &[u16]| {
        if happens {
            found.extend(statuses);
        }
    };
    let method = &endpoint.method;
    // Who is let in by an open route proves who they are there.
    when(endpoint.permit != Permit::Open || method != Method::GET, &[401, 429]);
    when(matches!(endpoint.permit, Permit::May(_)) || endpoint.id == "bootstrap", &[403]);
    // The organization to act in is named in the body.
    when(endpoint.path.contains('{') || endpoint.id == "impersonate", &[404]);
    when(*method == Method::GET, &[406]);
    when(method != Method::GET || endpoint.id == "getDeadLetter", &[409]);
    when(matches!(*method, Method::POST | Method::PUT | Method::PATCH), &[408, 413]);
    when(*method == Method::POST, &[422]);
    when(endpoint.headers.contains(&"If-Match"), &[412]);
    when(UNSUPPORTED.contains(&endpoint.id.as_str()), &[501]);
    found.sort_unstable();
    found.dedup();
    found.retain(|status| *status != endpoint.status);
    found
}

/// The answers of an operation: that of its success, and a problem for every failure.
pub(super) fn responses(endpoint: &Endpoint, success: Value, problem: &Value) -> Value {
    let mut responses = Map::new();
    if MIXED.contains(&endpoint.id.as_str()) {
        responses.insert("207".into(), success.clone());
    }
    responses.insert(endpoint.status.to_string(), success);
    if shows_tag(endpoint) {
        let same = json!({ "description": "It is as the request knows it" });
        responses.insert("304".into(), same);
    }
    for status in failures(endpoint) {
        let failure = json!({
            "description": meaning(status),
            "content": { PROBLEM_JSON: { "schema": problem } },
        });
        responses.insert(status.to_string(), failure);
    }
    if endpoint.id == "ready" {
        // A node that does not deliver says the same as one that does.
        let success = responses.get("200").cloned().unwrap_or_default();
        responses.insert("503".into(), success);
    }
    Value::Object(responses)
}

/// Whether its answer has an entity tag that a request may know already.
pub(super) fn shows_tag(endpoint: &Endpoint) -> bool {
    let one = endpoint.kind.is_some() && !endpoint.query.contains(&"limit");
    let known = ["openapi", "getUnit"].contains(&endpoint.id.as_str());
    endpoint.method == Method::GET && (known || one)
}

fn meaning(status: u16) -> &'static str {
    match status {
        400 => "The request is not acceptable; the problem names what is at fault",
        401 => "The request names no key, or none that is known",
        403 => "The caller may not do this",
        404 => "There is no such thing for this caller",
        406 => "The answer is in no media type that the request accepts",
        408 => "The body arrives too slowly",
        409 => "The present state stands against it",
        412 => "The resource is not at the version that `If-Match` names",
        413 => "The body is larger than this route takes",
        414 => "The address is too long",
        415 => "The body is of a type or coding that this route does not take",
        422 => "The idempotency key was used for another request",
        429 => "The caller asks too often",
        431 => "The header fields are too many or too long",
        501 => "This build or backend cannot do it",
        503 => "Something needed is not usable at the moment",
        _ => "A defect of the server",
    }
}
