//! The parameters of an operation, each with what it takes.

use axum::http::Method;
use serde_json::{Value, json};

use super::answers::shows_tag;
use crate::endpoint::Endpoint;

pub(super) fn parameters(endpoint: &Endpoint) -> Vec<Value> {
    let in_path = endpoint.path.split('/').filter_map(|segment| {
        let name = segment.strip_prefix('{')?.strip_suffix('}')?;
        let schema = match name {
            "version" | "number" => json!({ "type": "integer", "minimum": 1 }),
            _ => json!({ "type": "string", "minLength": 1, "maxLength": 128 }),
        };
        Some(json!({ "name": name, "in": "path", "required": true, "schema": schema }))
    });
    let in_query = endpoint.query.iter().map(|name| {
        let (schema, description) = in_query(&endpoint.id, name);
        let required = ["from", "to"].contains(name);
        let mut parameter = json!({
            "name": name, "in": "query", "required": required, "schema": schema,
        });
        if !description.is_empty() {
            parameter["description"] = description.into();
        }
        if parameter["schema"]["type"] == "array" {
            parameter["style"] = "form".into();
            parameter["explode"] = (*name != "fields").into();
        }
        parameter
    });
    let mut fields: Vec<_> = endpoint.headers.to_vec();
    if endpoint.method == Method::POST && !endpoint.path.contains("/events") {
        fields.push("Idempotency-Key");
    }
    fields.extend(shows_tag(endpoint).then_some("If-None-Match"));
    let in_header = fields.into_iter().map(|name| {
        let (schema, description) = in_header(name);
        json!({ "name": name, "in": "header", "description": description, "schema": schema })
    });
    in_path.chain(in_query).chain(in_header).collect()
}

fn in_query(operation: &str, name: &str) -> (Value, &'static str) {
    let text = || json!({ "type": "string" });
    let flag = || json!({ "type": "boolean", "default": false });
    let words = |words: &[&str]| json!({ "type": "string", "enum": words });
    match name {
        "limit" => (
            json!({ "type": "integer", "minimum": 1, "maximum": 1000, "default": 50 }),
            "The most items of the page.",
        ),
        "cursor" => (text(), "The `next` of the page before, under the same filters."),
        "label" => (
            json!({ "type": "array", "items": { "type": "string", "pattern": "^[^:]*:" } }),
            "Only those that have all these labels, each as `key:value`.",
        ),
        "filter" => (
            json!({
                "type": "array", "maxItems": 10,
                "items": { "type": "string", "pattern": "^[^:]+:[a-z]+:" },
            }),
            "Only those that fit all of these, each as `field:operator:value`.",
        ),
        "sort" => {
            let orders = [
                "id",
                "-id",
                "name",
                "-name",
                "created_at",
                "-created_at",
                "updated_at",
                "-updated_at",
            ];
            (words(&orders), "The order; with `-` the largest first.")
        }
        "fields" => (
            json!({ "type": "array", "items": { "type": "string" } }),
            "The fields that are shown beside the id, as in `name,spec.target.url`.",
        ),
        "from" | "to" => (json!({ "type": "integer", "minimum": 1 }), "The number of a version."),
        "since" | "until" => (json!({ "type": "string", "format": "date-time" }), ""),
        "active" | "validate_only" | "continue_on_error" => (flag(), ""),
        "on_existing" => (words(&["fail", "skip", "update"]), "What becomes of what is there."),
        "mode" => (words(&["merge", "replace"]), ""),
        "format" if operation == "exportResources" => (
            words(&["json", "yaml", "csv"]),
            "The format of the file; by default what `Accept` likes most.",
        ),
        "format" => (words(&["json", "csv"]), ""),
        "kind" if operation == "exportResources" => (
            json!({ "type": "array", "items": { "type": "string" } }),
            "The kinds of resources; by default all that the caller may export.",
        ),
        _ => (text(), ""),
    }
}

fn in_header(name: &str) -> (Value, &'static str) {
    match name {
        "If-Match" => (
            json!({ "type": "string", "pattern": "^(\\*|\"[0-9]+\")$" }),
            "The `etag` of the version that is to be changed, or `*`.",
        ),
        "If-None-Match" => {
            (json!({ "type": "string" }), "The `etag` of what the caller has already.")
        }
        "Idempotency-Key" => (
            json!({ "type": "string", "minLength": 1, "maxLength": 255 }),
            "Makes the request safe to be sent again for 24 hours.",
        ),
        _ => (json!({ "type": "string" }), ""),
    }
}
