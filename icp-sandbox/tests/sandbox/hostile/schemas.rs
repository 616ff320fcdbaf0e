//! Schemas that mean harm.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::timeout;

use super::Street;
use crate::fixture::{outcome, plan, sandbox};

const ENDS: &[&str] =
    &["!compile", "!schema_invalid", "!timeout_hard", "!crashed", "!memory", "!stack"];

/// A schema that stands for twice as many with each level.
fn doubled(word: &str, levels: usize, last: &Value) -> Value {
    let mut defs = json!({ "d0": last });
    for level in 1..levels {
        let below = json!({ "$ref": format!("#/$defs/d{}", level - 1) });
        defs[format!("d{level}")] = json!({ word: [below.clone(), below] });
    }
    json!({ "$defs": defs, "$ref": format!("#/$defs/d{}", levels - 1) })
}

#[tokio::test]
async fn schemas_end() {
    let street = Street::new().await;
    let deep = "[".repeat(60) + &"]".repeat(60);
    let text = |length| format!("\"{}\"", "a".repeat(length));
    let values = |count: u32| json!((0..count).map(|n| format!("v{n}")).collect::<Vec<_>>());
    let members = |count: u32| {
        let members = (0..count).map(|n| (format!("v{n}"), json!(n)));
        Value::Object(members.collect()).to_string()
    };
    let choice: Vec<_> = (0..4_000).map(|n| json!(format!("w{n}"))).collect();
    let patterns: serde_json::Map<_, _> =
        (0..500).map(|n| (format!("^v.*{n}$"), json!({ "minimum": 0 }))).collect();
    let never = json!({ "type": "null" });
    let split = |word: &str| {
        json!({ "type": "array", word: [
        { "items": { "$ref": "#" }, "minItems": 9 }, { "items": { "$ref": "#" }, "maxItems": 0 },
    ] })
    };
    for (name, schema, input) in [
        ("allOf", doubled("allOf", 26, &never), "{}"),
        ("anyOf", doubled("anyOf", 26, &never), "{}"),
        ("oneOf", doubled("oneOf", 26, &never), "{}"),
        ("allOf within the weight", doubled("allOf", 9, &never), "{}"),
        ("anyOf within the weight", doubled("anyOf", 9, &never), "{}"),
        ("oneOf within the weight", doubled("oneOf", 9, &never), "{}"),
        (
            "anyOf for each of many",
            json!({ "items": doubled("anyOf", 9, &never), "$defs": doubled("anyOf", 9, &never)["$defs"] }),
            &*values(5_000).to_string(),
        ),
        ("recursive anyOf", split("anyOf"), &*deep),
        ("recursive oneOf", split("oneOf"), &*deep),
        ("recursive allOf", split("allOf"), &*deep),
        ("recursive not", json!({ "not": { "items": { "$ref": "#" } } }), &*deep),
        ("reference to itself", json!({ "$ref": "#" }), "{}"),
        (
            "references in a ring",
            json!({ "$ref": "#/$defs/a", "$defs": { "a": { "$ref": "#/$defs/b" }, "b": { "$ref": "#/$defs/a" } } }),
            "{}",
        ),
        (
            "dynamic reference",
            json!({ "$dynamicAnchor": "n", "items": { "$dynamicRef": "#n" }, "unevaluatedItems": false }),
            &*deep,
        ),
        (
            "unevaluated",
            json!({ "anyOf": [{ "items": { "$ref": "#" } }, { "unevaluatedItems": { "$ref": "#" } }], "unevaluatedItems": false }),
            &*deep,
        ),
        ("enum", json!({ "items": { "enum": choice } }), &*values(5_000).to_string()),
        (
            "large constant",
            json!({ "items": { "const": values(5_000) } }),
            &*values(5_000).to_string(),
        ),
        (
            "unique",
            json!({ "uniqueItems": true, "maxItems": 1 }),
            &*json!((0..4_000).map(|n| json!([[n % 7], { "a": n }])).collect::<Vec<_>>())
                .to_string(),
        ),
        (
            "contains",
            json!({ "contains": { "contains": { "type": "null" } } }),
            &*json!(vec![vec![1; 200]; 400]).to_string(),
        ),
        (
            "patterns of names",
            json!({ "patternProperties": patterns, "maxProperties": 1 }),
            &*members(4_000),
        ),
        ("pattern of counts", json!({ "pattern": "((a{1000}){1000}){1000}" }), "\"a\""),
        ("nested quantifiers", json!({ "pattern": "^(a+)+$", "maxLength": 1 }), &*text(200_000)),
        (
            "pattern of many choices",
            json!({ "pattern": format!("^({})*$", vec!["a|aa|aaa"; 2_000].join("|")), "maxLength": 1 }),
            &*text(100_000),
        ),
        ("classes", json!({ "pattern": "[\\p{L}\\p{N}]{1,500}[\\p{L}\\p{N}]{1,500}" }), "\"1\""),
        ("lookaround", json!({ "pattern": "(?=a)b" }), "\"a\""),
        ("backreference", json!({ "pattern": "(a)\\1" }), "\"a\""),
        ("email", json!({ "format": "email" }), &*text(200_000)),
        ("host", json!({ "format": "hostname" }), &*text(200_000)),
        ("address", json!({ "format": "ipv6" }), &*text(200_000)),
        (
            "pattern as a value",
            json!({ "format": "regex", "maxLength": 1 }),
            &*format!("\"{}\"", "(a{1000})".repeat(20_000)),
        ),
        ("multiple", json!({ "multipleOf": 1e-300 }), "1e308"),
        ("no multiple", json!({ "multipleOf": 0 }), "1"),
        ("negative", json!({ "maxItems": -1 }), "[]"),
        ("unknown draft", json!({ "$schema": "https://example.com/s" }), "{}"),
        ("bad type", json!({ "type": "strange" }), "{}"),
        ("too deep", (0..70).fold(json!({}), |inner, _| json!({ "not": inner })), "{}"),
        ("too long", json!({ "description": "x".repeat(70_000) }), "{}"),
    ] {
        // What is checked in linear time may be found to conform.
        let conforms: &[&str] = match name {
            "reference to itself" | "references in a ring" => &["{}"],
            "recursive not" | "dynamic reference" | "unevaluated" => &[&deep],
            "multiple" => &["1e308", "1e+308"],
            _ => &[],
        };
        let codes = [ENDS, conforms].concat();
        street.meet(name, &plan(json!([{ "schema": schema }])), input, &codes).await;
    }
}

#[tokio::test]
async fn no_reference_leads_anywhere() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let sandbox = sandbox();
    for reference in [
        format!("http://127.0.0.1:{port}/s"),
        format!("https://127.0.0.1:{port}/s"),
        format!("HTTP://127.0.0.1:{port}/s#/$defs/a"),
        format!("//127.0.0.1:{port}/s"),
        "file:///etc/hostname".to_owned(),
        "file:/etc/hostname".to_owned(),
        "/etc/hostname".to_owned(),
        "other.json".to_owned(),
        "../other.json#/a".to_owned(),
        "urn:a:b".to_owned(),
    ] {
        for schema in [
            json!({ "$ref": reference }),
            json!({ "items": { "not": { "$ref": reference } } }),
            json!({ "$dynamicRef": reference }),
            json!({ "$id": reference, "$ref": "x" }),
            json!({ "$schema": reference }),
        ] {
            let plan = plan(json!([{ "schema": schema }]));
            assert_eq!(outcome(&sandbox, "villain", &plan, "{}").await, "!compile", "{schema}");
        }
    }
    let seen = timeout(Duration::from_millis(1), listener.accept()).await;
    assert!(seen.is_err(), "somebody asked for a schema");
}
