//! Secrets of every field that takes one, and the whole product in use: they reach their receivers,
//! and are in no log, trace, metric, answer, table or file.
#![expect(clippy::unwrap_used, reason = "what a test needs fails by panicking")]

mod hunt;
mod stage;

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use serde_json::{Value, json};

use hunt::{Canary, Hunt};
use stage::Stage;

const ACME: &str = "/api/v1/organizations/acme";

/// Every field of the API's document that takes a secret. A new one is to be planted below.
const FIELDS: [&str; 18] = [
    "/AuthSpec/oneOf/1/properties/value",
    "/AuthSpec/oneOf/2/properties/password",
    "/AuthSpec/oneOf/3/properties/token",
    "/AuthSpec/oneOf/4/properties/headers/additionalProperties",
    "/Bootstrap/properties/password",
    "/Credentials/properties/password",
    "/IntrospectionSpec/properties/client_secret",
    "/LoginSpec/properties/client_secret/anyOf/0",
    "/NewPassword/properties/password",
    "/PasswordChange/properties/password",
    "/PasswordChange/properties/present",
    "/PreviousKey/properties/verifier",
    "/Refresh/properties/refresh_token",
    "/Secret",
    "/SigningKeySpec/properties/secret",
    "/spec.api_key/properties/verifier/anyOf/0",
    "/spec.event_source/properties/secrets/additionalProperties",
    "/spec.user/properties/password/anyOf/0",
];

/// The canaries, by the field that they are planted in.
#[derive(Default)]
struct Plants(BTreeMap<String, Canary>);

impl Plants {
    /// A canary for `field`, always the same; letters and digits of both cases.
    fn core(&mut self, field: &str) -> String {
        let digest = field.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        let core = format!("Cq{:011}Zx{:011}Kv", digest % 99_999_999_977, digest % 99_999_999_943);
        self.0.entry(field.to_owned()).or_insert_with(|| Canary::new(field, &core));
        core
    }

    /// The same as a secret that signs, by Standard Webhooks.
    fn signing(&mut self, field: &str) -> String {
        format!("whsec_{}", STANDARD.encode(self.core(field)))
    }

    /// The same in 64 hexadecimal digits.
    fn digest(&mut self, field: &str) -> String {
        let core = self.core(field);
        let digest: String = core.bytes().map(|byte| format!("{byte:02x}")).collect();
        format!("{digest:0<64}")[..64].to_owned()
    }

    /// A secret that was made by the product.
    fn made(&mut self, name: &str, core: &str) {
        self.0.insert(name.to_owned(), Canary::new(name, core));
    }
}

#[tokio::test]
async fn a_secret_of_any_field_is_seen_by_its_receiver_only() {
    let mut stage = Stage::set().await;
    let document = stage.call("GET", "/api/v1/openapi.json", None).await;
    let known: BTreeSet<String> = FIELDS.iter().map(|field| (*field).to_owned()).collect();
    assert_eq!(secret_fields(&document), known, "plant a canary in what is new");

    let mut plants = Plants::default();
    configure(&mut stage, &mut plants).await;
    sources(&mut stage, &mut plants).await;
    people(&mut stage, &mut plants).await;
    issuers(&mut stage, &mut plants).await;
    wrong(&mut stage, &mut plants).await;
    deliver(&mut stage).await;
    look_everywhere(&mut stage, &document).await;
    commands(&mut stage).await;

    let wire = stage.wire();
    let canaries: Vec<Canary> = plants.0.into_values().collect();
    for name in ["header", "query", "bearer", "headers", "introspection", "login"] {
        let sent = canaries.iter().find(|canary| canary.name == name).unwrap().clone();
        let found = Hunt::for_all(&[sent]).find("the wire", &wire);
        assert!(!found.is_empty(), "{name} did not reach its receiver");
    }
    let hunt = Hunt::for_all(&canaries);
    let said = stage.end().await;
    assert!(said.len() > 150, "only {} places", said.len());
    for place in ["/log", "/icp.db", "the traces", "system/log", "/metrics", "icp.db-wal"] {
        let bytes: usize =
            said.iter().filter(|(name, _)| name.contains(place)).map(|(_, said)| said.len()).sum();
        assert!(bytes > 1_000, "{place} has {bytes} bytes");
    }
    let found: Vec<String> =
        said.iter().flat_map(|(place, bytes)| hunt.find(place, bytes)).collect();
    assert!(found.is_empty(), "{} leaks:\n{}", found.len(), found.join("\n"));
}

/// Resources with a canary in each secret.
async fn configure(stage: &mut Stage, plants: &mut Plants) {
    let organization = json!({"id": "acme", "spec": {}});
    stage.good("POST", "/api/v1/organizations", organization).await;
    let receiver = stage.receiver.clone();
    let auths = [
        (
            "header",
            json!({"type": "api_key", "in": "header", "name": "x-key", "value": plants.core("header")}),
        ),
        (
            "query",
            json!({"type": "api_key", "in": "query", "name": "key", "value": plants.core("query")}),
        ),
        ("basic", json!({"type": "basic", "username": "icp", "password": plants.core("basic")})),
        ("bearer", json!({"type": "bearer", "token": plants.core("bearer")})),
        ("headers", json!({"type": "headers", "headers": {"x-own": plants.core("headers")}})),
    ];
    for (id, auth) in auths {
        let also = json!([{
            "id": "second", "profile": "hmac-body", "settings": {"header": "x-signature"},
            "keys": [{"secret": plants.core(&format!("{id} also"))}],
        }]);
        for (end, target) in [
            ("ok", format!("{receiver}/ok/{id}")),
            ("refused", format!("{receiver}/refused/{id}")),
            ("nobody", format!("http://127.0.0.1:1/{id}")),
        ] {
            let spec = json!({
                "events": ["order.*"],
                "target": {"kind": "http", "url": target},
                "auth": auth,
                "retry": {"max_attempts": 1},
                "signing": {"keys": [{"secret": plants.signing(&format!("{id} {end}"))}], "also": also},
            });
            let integration = json!({"id": format!("{id}-{end}"), "spec": spec});
            let path = format!("{ACME}/integrations");
            stage.good("POST", &path, integration).await;
        }
    }
}

/// An event source with a secret, which no program here asks for.
async fn sources(stage: &mut Stage, plants: &mut Plants) {
    let secrets = json!({"password": plants.core("source")});
    let source = json!({"id": "orders", "spec": {"type": "orders", "secrets": secrets}});
    stage.good("POST", &format!("{ACME}/event-sources"), source).await;
    let one = format!("{ACME}/event-sources/orders");
    stage.good("PATCH", &one, json!({"labels": {"a": "b"}})).await;
    stage.good("POST", &format!("{one}/rollback"), json!({"version": 1})).await;
    stage.good("PUT", &format!("{one}/checkpoint"), json!({"checkpoint": 7})).await;
    let secret = plants.core("source refused");
    for wrong in [json!(secret), json!([secret]), json!({"a b": secret}), json!({"a": [secret]})] {
        let source = json!({"spec": {"type": "orders", "secrets": wrong}});
        stage.refused("POST", &format!("{ACME}/event-sources"), &source).await;
    }
}

/// Users, sessions and keys: secrets that people have, and those that the product makes.
async fn people(stage: &mut Stage, plants: &mut Plants) {
    let hash = STANDARD_NO_PAD.encode(&plants.digest("hash")[..32]);
    plants.made("hash", &hash);
    let phc = format!("$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHRzYWx0c2FsdA${hash}");
    let user = json!({"id": "ann", "spec": {"email": "ann@example.com", "password": phc}});
    stage.good("POST", &format!("{ACME}/users"), user).await;
    let path = format!("{ACME}/users/ann/password");
    let (first, second) = (plants.core("password"), plants.core("password next"));
    stage.good("PUT", &path, json!({"password": first})).await;
    let log_in = |password: &str| json!({"organization": "acme", "email": "ann@example.com", "password": password});
    stage.call("POST", "/api/v1/auth/login", Some(&log_in(&plants.core("password wrong")))).await;
    let tokens = stage.once("/api/v1/auth/login", log_in(&first)).await;
    let token = |tokens: &Value, name: &str| tokens[name].as_str().unwrap().to_owned();
    let made = |plants: &mut Plants, name: &str, text: &str| {
        let part = text.split(['_', '.', '-']).max_by_key(|part| part.len()).unwrap();
        plants.made(name, &part[..part.len().min(40)]);
    };
    made(plants, "access token", &token(&tokens, "access_token"));
    let refresh = token(&tokens, "refresh_token");
    made(plants, "refresh token", &refresh);
    let tokens = stage.once("/api/v1/auth/refresh", json!({"refresh_token": refresh})).await;
    made(plants, "access token next", &token(&tokens, "access_token"));
    made(plants, "refresh token next", &token(&tokens, "refresh_token"));
    // The second time it is known to be copied.
    stage.call("POST", "/api/v1/auth/refresh", Some(&json!({"refresh_token": refresh}))).await;
    let operator = std::mem::replace(&mut stage.key, token(&tokens, "access_token"));
    let change = json!({"present": first, "password": second});
    stage.call("PUT", "/api/v1/auth/password", Some(&change)).await;
    stage.call("GET", "/api/v1/auth/me", None).await;
    stage.key = operator;

    let key = json!({"spec": {"grants": [{"role": "viewer"}]}});
    let issued = stage.once(&format!("{ACME}/api-keys"), key).await;
    made(plants, "api key", &token(&issued, "key"));
    let id = token(&issued["document"], "id");
    let rotated = stage.once(&format!("{ACME}/api-keys/{id}/rotate"), json!({})).await;
    made(plants, "api key next", &token(&rotated, "key"));
    let rotate = format!("{ACME}/integrations/bearer-ok/signing/rotate");
    let rotated = stage.once(&rotate, json!({"overlap_seconds": 60})).await;
    let secret = token(&rotated, "secret");
    made(plants, "signing secret", &secret);
    let acting = json!({"organization": "acme", "role": "org_user", "reason": "to look"});
    let acting = stage.once("/api/v1/auth/impersonate", acting).await;
    made(plants, "token of impersonation", &token(&acting, "access_token"));
    let verifier = plants.digest("verifier");
    let forged = json!({"spec": {"verifier": verifier}});
    stage.call("PATCH", &format!("{ACME}/api-keys/{id}"), Some(&forged)).await;
    let until = "2199-01-01T00:00:00Z";
    let previous = json!({"verifier": plants.digest("previous"), "until": until});
    let forged = json!({"spec": {"previous": previous}});
    stage.call("PATCH", &format!("{ACME}/api-keys/{id}"), Some(&forged)).await;
}

/// An outside issuer that is asked about a token and for one, each time with a secret.
async fn issuers(stage: &mut Stage, plants: &mut Plants) {
    let at = |path: &str| format!("{}/ok/{path}", stage.receiver);
    let page = "https://console.example/back";
    let client = |secret: String| json!({"client_id": "icp", "client_secret": secret});
    let mut introspection = client(plants.core("introspection"));
    introspection["endpoint"] = at("introspect").into();
    let mut login = client(plants.core("login"));
    login["redirect_uris"] = json!([page]);
    login["authorization_endpoint"] = at("authorize").into();
    login["token_endpoint"] = at("token").into();
    // That of RFC 8037, appendix A.
    let x = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
    let key = json!({"kty": "OKP", "crv": "Ed25519", "x": x});
    let spec = json!({
        "issuer": stage.receiver, "jwks": {"keys": [key]}, "audiences": ["icp"],
        "introspection": introspection, "login": login,
    });
    let path = format!("{ACME}/issuers");
    stage.good("POST", &path, json!({"id": "outside", "spec": spec})).await;
    let operator = std::mem::replace(&mut stage.key, plants.core("opaque token"));
    stage.ask_about("GET", &path, None).await;
    stage.key = operator;

    let start = json!({"organization": "acme", "issuer": "outside", "redirect_uri": page});
    let left = stage.once("/api/v1/auth/oidc/start", start).await;
    plants.made("binding", left["binding"].as_str().unwrap());
    let url = url::Url::parse(left["url"].as_str().unwrap()).unwrap();
    let state = url.query_pairs().find(|(name, _)| name == "state").unwrap().1.into_owned();
    let back = json!({
        "state": state, "code": plants.core("code"), "binding": left["binding"],
    });
    stage.ask_about("POST", "/api/v1/auth/oidc/callback", Some(&back)).await;
}

/// Documents that are refused and hold a secret: what is said of them must not repeat it.
async fn wrong(stage: &mut Stage, plants: &mut Plants) {
    let secret = plants.core("refused");
    let signing = |secret: Value| json!({"keys": [{"secret": secret}]});
    for (field, value) in [
        ("auth", json!({"type": "bearer", "token": [secret]})),
        ("auth", json!({"type": "bearer", "token": {"$sealed": secret}})),
        ("auth", json!({"type": "bearer", "password": secret})),
        ("auth", json!({"type": "bearer", "token": format!("{secret}\n")})),
        ("auth", json!({"type": "basic", "username": "a:b", "password": secret})),
        ("auth", json!({"type": secret})),
        ("auth", json!({"type": "headers", "headers": {"content-length": secret}})),
        ("auth", json!({"type": "headers", "headers": secret})),
        ("auth", json!(secret)),
        ("signing", signing(json!(format!("whsec_{secret}")))),
        ("signing", signing(json!({"of": secret}))),
        ("signing", json!({"keys": secret})),
    ] {
        let mut spec = json!({
            "events": ["order.*"], "target": {"kind": "http", "url": "http://127.0.0.1:1/"},
        });
        spec[field] = value;
        let document = json!({"id": "wrong", "spec": spec});
        let many = format!("{ACME}/integrations");
        stage.refused("POST", &many, &document).await;
        stage.refused("PUT", &format!("{many}/bearer-ok"), &document).await;
        let patch = json!({"spec": {field: spec[field]}});
        stage.call("PATCH", &format!("{many}/bearer-ok"), Some(&patch)).await;
        let row = json!({"kind": "integration", "id": "wrong", "spec": spec});
        let file = json!({"version": 1, "resources": [row]});
        stage.refused("POST", &format!("{ACME}/import"), &file).await;
        let trial = json!({"spec": spec});
        stage.refused("POST", &format!("{ACME}/test-deliveries"), &trial).await;
        let bulk = json!({"action": "create", "items": [document]});
        stage.call("POST", &format!("{ACME}/bulk/integrations"), Some(&bulk)).await;
    }
    for (method, path) in [
        ("POST", format!("{ACME}/users")),
        ("PUT", format!("{ACME}/users/ann/password")),
        ("POST", "/api/v1/auth/login".to_owned()),
        ("POST", "/api/v1/auth/refresh".to_owned()),
        ("POST", "/api/v1/auth/logout".to_owned()),
        ("PUT", "/api/v1/auth/password".to_owned()),
        ("POST", "/api/v1/auth/bootstrap".to_owned()),
        ("POST", format!("{ACME}/api-keys")),
    ] {
        for body in [
            json!(secret),
            json!([secret]),
            json!({"password": [secret], "email": 5}),
            json!({"password": {"text": secret}}),
            json!({"email": "a@b.c", "password": secret, "present": secret, "more": 1}),
            json!({"refresh_token": secret}),
            json!({"refresh_token": [secret]}),
            json!({"spec": {"email": "a@b.c", "password": secret}}),
            json!({"spec": {"verifier": secret, "previous": {"verifier": secret}}}),
        ] {
            stage.call(method, &path, Some(&body)).await;
        }
    }
    let key = std::mem::replace(&mut stage.key, format!("icp_{secret}"));
    stage.refused("GET", ACME, &json!({})).await;
    stage.key = key;
}

/// Events to good receivers, to some that refuse and to some that are not there; then again.
async fn deliver(stage: &mut Stage) {
    let event = json!({"type": "order.paid", "data": {"order": 17}});
    for _ in 0..2 {
        stage.good("POST", &format!("{ACME}/events"), event.clone()).await;
    }
    stage.ended(ACME, "delivered", 10).await;
    let dead = stage.ended(ACME, "dead", 20).await;
    let id = dead["id"].as_str().unwrap();
    stage.good("POST", &format!("{ACME}/deliveries/{id}/replay"), json!({})).await;
    let retried = json!({"ids": [id]});
    stage.call("POST", &format!("{ACME}/dead-letters/retry"), Some(&retried)).await;
    let replay = json!({"since": "2020-01-01T00:00:00Z", "states": ["dead"], "reason": "again"});
    stage.call("POST", &format!("{ACME}/replays/preview"), Some(&replay)).await;
    stage.call("POST", &format!("{ACME}/replays"), Some(&replay)).await;
    for name in ["header", "query", "basic", "bearer", "headers"] {
        for end in ["ok", "refused", "nobody"] {
            let one = format!("{ACME}/integrations/{name}-{end}");
            // Some are more than may be tested in a minute.
            stage.call("POST", &format!("{one}/test"), Some(&json!({}))).await;
            stage.good("PATCH", &one, json!({"labels": {"a": "b"}})).await;
            stage.good("POST", &format!("{one}/rollback"), json!({"version": 1})).await;
        }
        let one = format!("{ACME}/integrations/{name}-ok");
        stage.call("POST", &format!("{one}/duplicate"), Some(&json!({}))).await;
        stage.call("POST", &format!("{one}/pause"), Some(&json!({}))).await;
        stage.call("POST", &format!("{one}/resume"), Some(&json!({}))).await;
        let sample = json!({"type": "order.paid", "data": {"n": 1}});
        for part in ["transforms", "filters"] {
            let asked = json!({"integration": format!("{name}-ok"), "sample": sample});
            stage.call("POST", &format!("{ACME}/{part}/dry-run"), Some(&asked)).await;
        }
    }
}

/// Every route of the document that looks at something, with things that are there.
async fn look_everywhere(stage: &mut Stage, document: &Value) {
    let mut last = async |path: &str| {
        let page = stage.call("GET", path, None).await;
        let item = page["items"][0].clone();
        item["id"].as_str().map_or_else(|| item["revision"].to_string(), str::to_owned)
    };
    let known = [
        ("integrations", vec!["bearer-refused".to_owned(), "query-nobody".to_owned()]),
        ("users", vec!["ann".to_owned()]),
        ("api-keys", vec![last(&format!("{ACME}/api-keys")).await]),
        ("events", vec![last(&format!("{ACME}/events")).await]),
        ("deliveries", vec![last(&format!("{ACME}/deliveries?state=dead")).await]),
        ("dead-letters", vec![last(&format!("{ACME}/dead-letters")).await]),
        ("replays", vec![last(&format!("{ACME}/replays")).await]),
        ("audit", vec![last(&format!("{ACME}/audit")).await, "30".to_owned(), "12".to_owned()]),
        ("lanes", vec![last(&format!("{ACME}/lanes")).await]),
        ("event-types", vec!["order.paid".to_owned()]),
    ];
    let mut looked = 0;
    for (template, operations) in document["paths"].as_object().unwrap() {
        if operations.get("get").is_none() {
            continue;
        }
        let part = template.split('/').nth(5).unwrap_or_default();
        let ids = known.iter().find(|(known, _)| *known == part).map(|(_, ids)| ids.clone());
        for id in ids.unwrap_or_else(|| vec!["some".to_owned()]) {
            let path = template.replace("{org}", "acme").replace("{version}", "2");
            let path = path.replace("{id}", &id).replace("{revision}", &id);
            let path = path.replace("{number}", "1").replace("{name}", "deliveries");
            let query = if path.ends_with("/compare") { "?from=1&to=2" } else { "" };
            stage.call("GET", &format!("{path}{query}"), None).await;
            looked += 1;
        }
    }
    assert!(looked > 60, "only {looked} routes");
    for format in ["csv", "yaml", "json"] {
        stage.call("GET", &format!("{ACME}/export?format={format}"), None).await;
    }
    for revision in 1..60 {
        stage.call("GET", &format!("{ACME}/audit/{revision}"), None).await;
    }
    stage.call("GET", "/api/v1/system/log?level=trace&limit=200", None).await;
}

/// What the command line tells of it.
async fn commands(stage: &mut Stage) {
    for arguments in [
        &["get", "integrations", "--org", "acme", "-o", "yaml"][..],
        &["get", "users", "--org", "acme", "-o", "json"],
        &["get", "api-keys", "--org", "acme", "-o", "json"],
        &["export", "--org", "acme"],
        &["tail", "--org", "acme", "--once", "--json"],
        &["doctor"],
    ] {
        stage.run(arguments).await;
    }
}

/// The places in the document's schemas that take a secret and show it to nobody.
fn secret_fields(document: &Value) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    walk(&document["components"]["schemas"], "", &mut found);
    found
}

fn walk(schema: &Value, at: &str, found: &mut BTreeSet<String>) {
    let refers = schema["$ref"].as_str().is_some_and(|to| to.ends_with("/Secret"));
    if refers || schema["writeOnly"] == true {
        found.insert(at.to_owned());
        return;
    }
    match schema {
        Value::Object(fields) => {
            for (name, value) in fields {
                walk(value, &format!("{at}/{name}"), found);
            }
        }
        Value::Array(items) => {
            for (number, value) in items.iter().enumerate() {
                walk(value, &format!("{at}/{number}"), found);
            }
        }
        _ => {}
    }
}
