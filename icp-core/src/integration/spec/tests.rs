use serde_json::{Value, json};

use super::*;
use crate::egress::{EgressError, EgressRequest, EgressResponse, Transport};
use crate::id::OrgId;
use crate::integration::Connectors;
use crate::integration::http::HttpConnector;
use crate::resource::{Admitted, KindRegistry};
use crate::secret::MASK;

const CANARY: &str = "hunter2-canary";
const KEY: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";

fn admit(spec: &Value) -> Result<Admitted> {
    let transport = Transport::new(tower::service_fn(|_: EgressRequest| {
        std::future::pending::<Result<EgressResponse, EgressError>>()
    }));
    let connectors = Connectors::new().with(Arc::new(HttpConnector::new(transport)));
    let services = crate::resource::fixture::services(connectors);
    let mut kinds = KindRegistry::new();
    kinds.register::<IntegrationSpec>().unwrap();
    let (org, id) = (OrgId::new("acme").unwrap(), ResourceId::new("hook").unwrap());
    let context = SpecContext {
        org: &org,
        kind: IntegrationSpec::KIND,
        id: &id,
        name: None,
        services: &services,
        within: None,
        grantor: None,
    };
    let kind = kinds.get(IntegrationSpec::KIND).unwrap();
    let admitted = kind.admit(&context, spec, None)?;
    kind.compile(&context, &admitted.spec)?;
    Ok(admitted)
}

fn good() -> Value {
    json!({ "events": ["order.*"], "target": { "kind": "http", "url": "https://example.com/in" } })
}

/// The good document with the field at `pointer` set.
fn with(pointer: &str, value: Value) -> Value {
    let mut spec = good();
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    spec.pointer_mut(parent).unwrap()[name] = value;
    spec
}

fn without(name: &str) -> Value {
    let mut spec = good();
    spec.as_object_mut().unwrap().remove(name);
    spec
}

#[test]
fn a_minimal_document_is_enough_and_defaults_are_filled_in() {
    let admitted = admit(&good()).unwrap();
    assert_eq!(
        admitted.spec,
        json!({
            "enabled": true,
            "events": ["order.*"],
            "scope": "include_children",
            "ordering": "none",
            "max_in_flight": 10,
            "adaptive_concurrency": true,
            "breaker": {
                "enabled": true,
                "failures": 5,
                "failure_percent": 50,
                "min_outcomes": 20,
                "window_seconds": 60,
                "open_seconds": 30,
                "max_open_seconds": 3600,
            },
            "target": { "kind": "http", "url": "https://example.com/in" },
            "auth": { "type": "none" },
            "auto_retry": { "type": "off" },
            "retry": { "schedule": { "type": "standard" }, "ignore_retry_after": false },
            "failing": { "disable_after_seconds": 432_000 },
        })
    );
    let id = ResourceId::new("hook").unwrap();
    let lanes = Effect::Lanes { integration: id.clone(), max_in_flight: 10, paused: false };
    let rules = Effect::Rules { integration: id, rules: LaneRules::default() };
    assert_eq!(admitted.effects, [lanes, rules]);
}

#[test]
fn switching_off_pauses_the_lanes() {
    let admitted = admit(&with("/enabled", json!(false))).unwrap();
    assert!(matches!(admitted.effects.as_slice(), [Effect::Lanes { paused: true, .. }, _]));
}

#[test]
fn secrets_are_sealed() {
    let mut spec = with("/auth", json!({ "type": "bearer", "token": CANARY }));
    spec["signing"] = json!({ "keys": [{ "secret": KEY }] });
    let stored = admit(&spec).unwrap().spec;
    let text = stored.to_string();
    assert!(!text.contains(CANARY) && !text.contains(KEY), "{text}");
    assert!(stored["auth"]["token"]["$sealed"].is_string());
    assert!(stored["signing"]["keys"][0]["secret"]["$sealed"].is_string());
}

#[test]
fn each_bad_document_gets_exactly_its_violations() {
    type Expected = &'static [(&'static str, &'static str)];
    let many = vec!["a.b"; 257];
    let table: Vec<(Value, Expected)> = vec![
        (json!([]), &[("/spec", "type")]),
        (json!({}), &[("/spec/events", "required"), ("/spec/target", "required")]),
        (without("target"), &[("/spec/target", "required")]),
        (with("/enabled", json!("yes")), &[("/spec/enabled", "type")]),
        (with("/enabeld", json!(true)), &[("/spec/enabeld", "unknown_field")]),
        (with("/a~b", json!(true)), &[("/spec/a~0b", "unknown_field")]),
        (with("/events", json!([])), &[("/spec/events", "min_items")]),
        (with("/events", json!(many)), &[("/spec/events", "max_items")]),
        (with("/events", json!("*")), &[("/spec/events", "type")]),
        (with("/events", json!(["a", "b c"])), &[("/spec/events/1", "pattern")]),
        (with("/events", json!(["**.a"])), &[("/spec/events/0", "pattern")]),
        (with("/unit", json!(".eu")), &[("/spec/unit", "pattern")]),
        (with("/scope", json!("all")), &[("/spec/scope", "enum")]),
        (with("/excluded_units", json!(["eu", "eu"])), &[("/spec/excluded_units", "unique_items")]),
        (
            {
                let mut spec = with("/excluded_units", json!(["eu"]));
                spec["scope"] = json!("unit_only");
                spec
            },
            &[("/spec/excluded_units", "not_applicable")],
        ),
        (with("/filter", json!("data.a")), &[("/spec/filter", "type")]),
        (
            with("/filter", json!({ "data.a": { "$like": CANARY } })),
            &[("/spec/filter/data.a/$like", "filter_invalid")],
        ),
        (with("/ordering", json!("fifo")), &[("/spec/ordering", "enum")]),
        (with("/max_in_flight", json!(0)), &[("/spec/max_in_flight", "minimum")]),
        (with("/max_in_flight", json!(1001)), &[("/spec/max_in_flight", "maximum")]),
        (with("/max_in_flight", json!(1.5)), &[("/spec/max_in_flight", "type")]),
        (with("/target", json!("https://example.com")), &[("/spec/target", "type")]),
        (with("/target", json!({})), &[("/spec/target/kind", "required")]),
        (with("/target/kind", json!("htp")), &[("/spec/target/kind", "unknown")]),
        (with("/target/kind", json!(7)), &[("/spec/target/kind", "unknown")]),
        (with("/target", json!({ "kind": "http" })), &[("/spec/target/url", "required")]),
        (with("/target/url", json!("no address")), &[("/spec/target/url", "url_invalid")]),
        (with("/target/url", json!("ftp://example.com")), &[("/spec/target/url", "url_invalid")]),
        (
            with("/target/url", json!("https://127.0.0.1/")),
            &[("/spec/target/url", "address_denied")],
        ),
        (with("/target/method", json!("GET")), &[("/spec/target/method", "enum")]),
        (with("/target/metod", json!("PUT")), &[("/spec/target/metod", "unknown_field")]),
        (
            with("/target/headers", json!({ "a/b": [CANARY] })),
            &[("/spec/target/headers/a~1b", "type")],
        ),
        (
            with("/target/timeouts", json!({ "total": CANARY })),
            &[("/spec/target/timeouts/total", "unknown_field")],
        ),
        (with("/auth", json!({})), &[("/spec/auth/type", "required")]),
        (with("/auth", json!({ "type": "oauth" })), &[("/spec/auth/type", "enum")]),
        (with("/auth", json!({ "type": "bearer" })), &[("/spec/auth/token", "required")]),
        (
            with("/auth", json!({ "type": "bearer", "token": { "$sealed": "AQID" } })),
            &[("/spec/auth/token", "type")],
        ),
        (
            with("/auth", json!({ "type": "bearer", "token": MASK })),
            &[("/spec/auth/token", "secret_masked")],
        ),
        (
            with("/auth", json!({ "type": "bearer", "token": "" })),
            &[("/spec/auth/token", "secret_empty")],
        ),
        (
            with("/auth", json!({ "type": "basic", "username": "a:b", "password": "p", "x": 1 })),
            &[("/spec/auth/username", "username_invalid"), ("/spec/auth/x", "unknown_field")],
        ),
        (
            with("/auth", json!({ "type": "headers", "headers": {} })),
            &[("/spec/auth/headers", "min_properties")],
        ),
        (with("/signing", json!({ "keys": [] })), &[("/spec/signing/keys", "min_items")]),
        (
            with("/signing", json!({ "keys": [{ "secret": CANARY }] })),
            &[("/spec/signing/keys/0/secret", "secret_invalid")],
        ),
        (
            with("/signing", json!({ "profile": "x", "keys": [{ "secret": KEY }] })),
            &[("/spec/signing/profile", "signing_profile_unknown")],
        ),
        (with("/signing", json!(true)), &[("/spec/signing", "type")]),
        (
            with("/transform", json!([{ "script": {} }])),
            &[("/spec/transform/0/map", "required"), ("/spec/transform/0/script", "unknown_field")],
        ),
        (
            with("/transform", json!([{ "map": { "remove": ["a..b"] } }])),
            &[("/spec/transform/0/map/remove/0", "path_malformed")],
        ),
        (
            with("/retry", json!({ "schedule": { "type": "list", "delays_seconds": [] } })),
            &[("/spec/retry/schedule/delays_seconds", "min_items")],
        ),
        (
            with("/retry", json!({ "schedule": { "type": "exponential" } })),
            &[("/spec/retry/schedule/base_seconds", "required")],
        ),
        (with("/retry", json!({ "max_attempts": 0 })), &[("/spec/retry/max_attempts", "minimum")]),
        (with("/retry", json!({ "retry_on": ["2xx"] })), &[("/spec/retry/retry_on/0", "pattern")]),
        (
            json!({
                "events": ["*", "a b"], "max_in_flight": 0, "scope": 1,
                "target": { "kind": "http", "ulr": "https://example.com" },
                "auth": { "type": "bearer", "token": [CANARY] },
            }),
            &[
                ("/spec/auth/token", "type"),
                ("/spec/events/1", "pattern"),
                ("/spec/max_in_flight", "minimum"),
                ("/spec/scope", "enum"),
            ],
        ),
    ];
    let mut wrong = Vec::new();
    for (spec, expected) in &table {
        let error = admit(spec).expect_err(&spec.to_string());
        assert_eq!(error.code(), Code::ResourceInvalid);
        let mut found: Vec<_> =
            error.list().iter().map(|v| (v.pointer.as_str(), v.code.as_str())).collect();
        found.sort_unstable();
        if found != *expected {
            wrong.push(format!("{spec}\n  found {:?}\n  not {expected:?}", error.list()));
        }
        assert!(!format!("{error} {error:?}").contains(CANARY), "{error:?}");
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_nearest_name_is_suggested() {
    for (spec, says) in [
        (with("/enabeld", json!(true)), "`enabled`"),
        (with("/target/metod", json!("PUT")), "`method`"),
        (with("/target/timeouts", json!({ "total": 1 })), "`total_ms`"),
        (with("/target/kind", json!("htp")), "http"),
        (with("/auth", json!({ "type": "bearer", "token": "t", "tokne": 1 })), "`token`"),
        (with("/scope", json!("all")), "include_children, unit_only"),
    ] {
        let error = admit(&spec).unwrap_err();
        assert!(error.message().contains(says), "{error}");
    }
}

#[test]
fn a_signature_does_not_take_the_place_of_a_credential() {
    let signing = json!({
        "keys": [{ "secret": KEY }],
        "also": [{
            "id": "plain",
            "profile": "hmac-body",
            "settings": { "header": "x-key" },
            "keys": [{ "secret": CANARY }],
        }],
    });
    for (auth, fine) in [
        (json!({ "type": "api_key", "in": "header", "name": "X-Key", "value": "v" }), false),
        (json!({ "type": "headers", "headers": { "X-KEY": "v" } }), false),
        (json!({ "type": "api_key", "in": "query", "name": "x-key", "value": "v" }), true),
        (json!({ "type": "bearer", "token": "v" }), true),
    ] {
        let mut spec = with("/auth", auth.clone());
        spec["signing"] = signing.clone();
        match admit(&spec) {
            Ok(admitted) => {
                assert!(fine, "{auth}");
                assert!(!admitted.spec.to_string().contains(CANARY));
            }
            Err(error) => {
                assert!(!fine, "{error:?}");
                let found = &error.list()[0];
                assert_eq!((&*found.pointer, &*found.code), ("/spec/auth", "header_signed"));
            }
        }
    }
}
