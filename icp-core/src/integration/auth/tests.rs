use std::sync::Arc;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::rules::RESERVED;
use super::*;
use crate::secret::{LocalKeys, MASK, MaskAll, Owner, Previous, SealAll, Sealer, SystemEntropy};

const OWNER: Owner<'_> = Owner { org: "acme", kind: "integration", id: "orders" };

fn sealer() -> Sealer {
    Sealer::new(Arc::new(LocalKeys::generate("k", &SystemEntropy).unwrap()))
}

fn spec(json: &Value) -> AuthSpec {
    serde_json::from_value(json.clone()).unwrap_or_else(|error| panic!("{json}: {error}"))
}

fn valid() -> Vec<Value> {
    vec![
        json!({ "type": "none" }),
        json!({ "type": "api_key", "in": "header", "name": "X-Key", "value": "hush" }),
        json!({ "type": "api_key", "in": "header", "name": "Authorization", "value": "Token hush" }),
        json!({ "type": "api_key", "in": "query", "name": "api key", "value": "a&b=c d" }),
        json!({ "type": "basic", "username": "ann", "password": "pa:ss" }),
        json!({ "type": "basic", "username": "", "password": "" }),
        json!({ "type": "bearer", "token": "hush" }),
        json!({ "type": "headers", "headers": { "X-A": "1", "x-b": "2" } }),
    ]
}

fn host() -> Value {
    json!({ "type": "host", "handler": "vault", "config": { "key": "k1" } })
}

/// The URL and the headers of a request to `https://example.com/hook?a=1`, applied after the
/// spec went through the store's sealed form.
fn applied(json: &Value) -> (String, Vec<(String, String)>) {
    let sealer = sealer();
    let mut spec = spec(json);
    spec.visit_secrets("", &mut SealAll::new(&sealer, OWNER, Previous::default())).unwrap();
    let stored = serde_json::to_string(&spec).unwrap();
    let spec: AuthSpec = serde_json::from_str(&stored).unwrap();
    let auth = spec.open(&Opener::new(&sealer, OWNER)).unwrap();
    let mut url = Url::parse("https://example.com/hook?a=1").unwrap();
    let mut headers = HeaderMap::new();
    headers.insert(AUTHORIZATION, HeaderValue::from_static("stale"));
    auth.apply(&mut url, &mut headers).unwrap();
    auth.apply(&mut Url::parse("https://example.com").unwrap(), &mut headers).unwrap();
    let shown = headers
        .iter()
        .filter(|(_, value)| *value != "stale")
        .map(|(name, value)| {
            assert!(value.is_sensitive(), "{name}");
            (name.to_string(), value.to_str().unwrap().to_owned())
        })
        .collect();
    (url.to_string(), shown)
}

#[test]
fn each_scheme_changes_the_request_as_it_should() {
    let plain = "https://example.com/hook?a=1";
    let expected: Vec<(&str, Vec<(&str, &str)>)> = vec![
        (plain, vec![]),
        (plain, vec![("x-key", "hush")]),
        (plain, vec![("authorization", "Token hush")]),
        ("https://example.com/hook?a=1&api+key=a%26b%3Dc+d", vec![]),
        (plain, vec![("authorization", "Basic YW5uOnBhOnNz")]),
        (plain, vec![("authorization", "Basic Og==")]),
        (plain, vec![("authorization", "Bearer hush")]),
        (plain, vec![("x-a", "1"), ("x-b", "2")]),
    ];
    for (json, (url, headers)) in valid().iter().zip(expected) {
        assert_eq!(spec(json).validate("/auth"), [], "{json}");
        let (got_url, got) = applied(json);
        let mut got: Vec<_> = got.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        got.sort_unstable();
        assert_eq!((got_url.as_str(), got), (url, headers), "{json}");
    }
}

#[test]
fn rules() {
    let key = |place: &str, name: &str, value: &str| json!({ "type": "api_key", "in": place, "name": name, "value": value });
    let custom = |name: &str, value: &str| json!({ "type": "headers", "headers": { name: value } });
    for (json, pointer, code) in [
        (key("header", "", "v"), "/auth/name", "header_name_invalid"),
        (key("header", "x y", "v"), "/auth/name", "header_name_invalid"),
        (key("header", "x:", "v"), "/auth/name", "header_name_invalid"),
        (key("header", "HOST", "v"), "/auth/name", "header_reserved"),
        (key("header", "x", ""), "/auth/value", "secret_empty"),
        (key("header", "x", "v\r\nevil: 1"), "/auth/value", "secret_invalid"),
        (key("header", "x", "v\n"), "/auth/value", "secret_invalid"),
        (key("header", "x", " v"), "/auth/value", "secret_invalid"),
        (key("query", "", "v"), "/auth/name", "query_name_invalid"),
        (key("query", "a\n", "v"), "/auth/name", "query_name_invalid"),
        (key("query", &"q".repeat(129), "v"), "/auth/name", "query_name_invalid"),
        (key("query", "q", ""), "/auth/value", "secret_empty"),
        (
            json!({ "type": "basic", "username": "a:b", "password": "p" }),
            "/auth/username",
            "username_invalid",
        ),
        (
            json!({ "type": "basic", "username": "a", "password": "p\0" }),
            "/auth/password",
            "secret_invalid",
        ),
        (json!({ "type": "bearer", "token": "" }), "/auth/token", "secret_empty"),
        (json!({ "type": "bearer", "token": "a\nb" }), "/auth/token", "secret_invalid"),
        (json!({ "type": "headers", "headers": {} }), "/auth/headers", "auth_headers_count"),
        (custom("a/b~", "v"), "/auth/headers/a~1b~0", "header_name_invalid"),
        (custom("x", "a\u{7f}"), "/auth/headers/x", "secret_invalid"),
        (
            json!({ "type": "headers", "headers": { "X-A": "1", "x-a": "2" } }),
            "/auth/headers/x-a",
            "header_twice",
        ),
        (json!({ "type": "host", "handler": "" }), "/auth/handler", "handler_name"),
        (json!({ "type": "host", "handler": "a b" }), "/auth/handler", "handler_name"),
    ] {
        let found = spec(&json).validate("/auth");
        assert_eq!(found.len(), 1, "{json}: {found:?}");
        assert_eq!((found[0].pointer.as_str(), found[0].code.as_str()), (pointer, code), "{json}");
    }
    for name in RESERVED.into_iter().chain(["Webhook-Id", "webhook-signature", "webhook-x"]) {
        assert_eq!(spec(&custom(name, "v")).validate("")[0].code, "header_reserved", "{name}");
    }
}

#[test]
fn a_signer_of_the_host_is_named_without_secrets() {
    let spec = spec(&host());
    assert_eq!(spec.validate("/auth"), []);
    assert_eq!(serde_json::to_value(&spec).unwrap(), host());
    let auth = spec.open(&Opener::new(&sealer(), OWNER)).unwrap();
    assert!(auth.is_asked() && !auth.is_none());
    // Who does not ask it must not send without it.
    let mut headers = HeaderMap::new();
    let mut url = Url::parse("https://example.com/").unwrap();
    let error = auth.apply(&mut url, &mut headers).unwrap_err();
    assert_eq!((error.code(), headers.len()), (Code::SigningFailed, 0));
}

#[test]
fn unknown_types_and_fields_are_refused() {
    for json in [
        json!({}),
        json!(null),
        json!("none"),
        json!({ "type": "oauth2" }),
        json!({ "type": "NONE" }),
        json!({ "type": "none", "token": "x" }),
        json!({ "type": "bearer" }),
        json!({ "type": "bearer", "token": "x", "extra": 1 }),
        json!({ "type": "basic", "username": "x" }),
        json!({ "type": "api_key", "in": "cookie", "name": "x", "value": "y" }),
        json!({ "type": "api_key", "name": "x", "value": "y" }),
        json!({ "type": "host" }),
        json!({ "type": "host", "handler": "x", "token": "y" }),
    ] {
        assert!(serde_json::from_value::<AuthSpec>(json.clone()).is_err(), "{json}");
        assert!(serde_json::from_str::<AuthSpec>(&json.to_string()).is_err(), "{json}");
    }
}

#[test]
fn plain_secrets_are_not_serialized_and_masked_ones_are_shown_as_such() {
    for json in valid() {
        let mut spec = spec(&json);
        let shown = format!("{spec:?}");
        assert!(!shown.contains("hush") && !shown.contains("pa:ss"), "{shown}");
        assert_eq!(serde_json::to_value(&spec).is_err(), json["type"] != "none", "{json}");
        spec.visit_secrets("", &mut MaskAll).unwrap();
        let masked = serde_json::to_string(&spec).unwrap();
        assert_eq!(masked.contains(MASK), json["type"] != "none", "{masked}");
        assert_eq!(spec.validate(""), [], "{masked}");
        assert_eq!(serde_json::from_str::<AuthSpec>(&masked).unwrap(), spec);
        let sealer = sealer();
        let opened = spec.open(&Opener::new(&sealer, OWNER));
        assert_eq!(opened.is_err(), json["type"] != "none", "{json}");
    }
}

#[test]
fn a_masked_secret_does_not_follow_a_change_of_scheme() {
    let sealer = sealer();
    let mut stored = spec(&json!({ "type": "bearer", "token": "hush" }));
    stored.visit_secrets("/auth", &mut SealAll::new(&sealer, OWNER, Previous::default())).unwrap();
    let mut previous = Previous::default();
    stored.visit_secrets("/auth", &mut previous).unwrap();
    let mut changed = spec(&json!({ "type": "basic", "username": "a", "password": MASK }));
    let mut seal = SealAll::new(&sealer, OWNER, previous);
    let error = changed.visit_secrets("/auth", &mut seal).unwrap_err();
    assert_eq!(error.list()[0].pointer, "/auth/password");
    let mut same = spec(&json!({ "type": "bearer", "token": MASK }));
    same.visit_secrets("/auth", &mut seal).unwrap();
    assert_eq!(same, stored);
}

#[test]
fn illegal_credentials_do_not_open_and_are_not_shown() {
    let sealer = sealer();
    for json in [
        json!({ "type": "bearer", "token": "hush\n" }),
        json!({ "type": "api_key", "in": "header", "name": "host", "value": "hush" }),
        json!({ "type": "headers", "headers": { "x": "hush\0" } }),
    ] {
        let error = spec(&json).open(&Opener::new(&sealer, OWNER)).unwrap_err();
        assert_eq!(error.code(), Code::ConfigInvalid);
        assert!(!format!("{error:?}").contains("hush"), "{error:?}");
    }
}

proptest! {
    #[test]
    fn what_validates_opens_and_applies(
        name in "[ -~]{0,12}",
        value in "\\PC{0,12}",
        place in prop::sample::select(vec!["header", "query"]),
    ) {
        let json = json!({ "type": "api_key", "in": place, "name": name, "value": value });
        let spec = spec(&json);
        let sealer = sealer();
        if value != MASK && spec.validate("").is_empty() {
            let auth = spec.open(&Opener::new(&sealer, OWNER)).unwrap();
            let mut url = Url::parse("https://example.com/").unwrap();
            auth.apply(&mut url, &mut HeaderMap::new()).unwrap();
            if place == "query" {
                prop_assert_eq!(
                    url.query_pairs().next().unwrap(),
                    (name.as_str().into(), value.as_str().into())
                );
            }
        }
    }
}

#[test]
fn credentials_that_a_receiver_repeats_are_masked() {
    let bearer = json!({ "type": "bearer", "token": "hush-hush" });
    let headers = json!({ "type": "headers", "headers": { "x-a": "two words", "x-b": "short" } });
    let query = json!({ "type": "api_key", "in": "query", "name": "key", "value": "hush-hush" });
    let basic = json!({ "type": "basic", "username": "ann", "password": "pa:ss" });
    let odd = json!({ "type": "basic", "username": "ann", "password": "a\"b/c d~é" });
    for (auth, text, shown) in [
        (&bearer, "you sent Bearer hush-hush, hush-hush", "you sent ***, ***"),
        (&headers, "two words, short words", "***, short words"),
        (&query, "/?key=hush-hush", "/?key=***"),
        (&basic, "Basic YW5uOnBhOnNz YW5uOnBhOnNz", "*** ***"),
        (&odd, "not a\"b/c d~é", "not ***"),
        (&odd, "/?password=a%22b%2Fc+d%7E%C3%A9&a=b", "/?password=***&a=b"),
        (&odd, "/?password=a%22b%2fc+d%7e%c3%a9&a=b", "/?password=***&a=b"),
        (&odd, "/a%22b%2Fc%20d~%C3%A9/", "/***/"),
        (&odd, "/a%22b%2fc%20d%7e%c3%a9/", "/***/"),
        (&odd, r#"{"you":"a\"b/c d~é"}"#, r#"{"you":"***"}"#),
        (&odd, r#"{"you":"a\"b\/c d~é"}"#, r#"{"you":"***"}"#),
        (&odd, "Basic YW5uOmEiYi9jIGR+w6k=", "***"),
        (&odd, "/?basic=YW5uOmEiYi9jIGR%2Bw6k%3D", "/?basic=***"),
        (&bearer, "Bearer%20hush-hush", "***"),
        (&json!({ "type": "none" }), "hush-hush", "hush-hush"),
    ] {
        let auth = spec(auth).open(&Opener::new(&sealer(), OWNER)).unwrap();
        assert_eq!(auth.redact(text.to_owned()), shown);
    }
}
