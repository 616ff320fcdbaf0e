//! Lookup tables as an organization uses them: saved, searched by its integrations, changed.

#![expect(clippy::unwrap_used, reason = "a setup that fails is a test that fails")]

use icp_core::Engine;
use icp_core::engine::EngineConfig;
use icp_core::error::{Code, Error, Result};
use icp_core::event::NewEvent;
use icp_core::id::{OrgId, ResourceId};
use icp_core::lookup::{LookupLimits, Resolve};
use icp_core::resource::{Actor, Document, Draft, Expect};
use icp_core::store::MemoryStore;
use icp_core::trial::{Sample, TestOf};
use serde_json::{Value, json};

struct Office {
    store: MemoryStore,
    engine: Engine,
    org: OrgId,
}

fn id(text: &str) -> ResourceId {
    ResourceId::new(text).unwrap()
}

fn integration(lookup: &Value) -> Value {
    json!({
        "events": ["order.*"],
        "target": { "kind": "http", "url": "https://example.com/hook" },
        "transform": [{ "map": { "base": "empty", "rules": [
            { "target": "to", "from": "country", "lookup": lookup },
        ] } }],
    })
}

fn codes(error: &Error) -> Vec<(&str, &str)> {
    assert_eq!(error.code(), Code::ResourceInvalid);
    error.list().iter().map(|v| (v.pointer.as_str(), v.code.as_str())).collect()
}

impl Office {
    async fn open() -> Self {
        Self::with(LookupLimits::default()).await
    }

    async fn with(lookups: LookupLimits) -> Self {
        let store = MemoryStore::new();
        let mut config = EngineConfig::default();
        config.lookups = lookups;
        let engine = Engine::builder(store.clone()).config(config).build().unwrap();
        let office = Self { store, engine, org: OrgId::new("acme").unwrap() };
        let units = json!({ "units": [{ "id": "eu" }, { "id": "de", "parent": "eu" }] });
        office.create("organization", None, units).await.unwrap();
        office
    }

    async fn create(&self, kind: &str, name: Option<&str>, spec: Value) -> Result<Document> {
        let draft = Draft { id: name.map(id), spec, ..Draft::default() };
        self.engine.resources().create(&self.org, kind, draft, &Actor::host()).await
    }

    async fn countries(&self) {
        let entries = json!([
            { "key": "DE", "value": { "name": "Germany", "dial": 49 } },
            { "key": "DE", "value": { "name": "Deutschland", "dial": 49 }, "unit": "eu" },
        ]);
        let spec = json!({ "entries": entries, "reverse": ["dial"] });
        self.create("lookup", Some("countries"), spec).await.unwrap();
    }

    /// What the integration would send of an event, or why it would not.
    async fn sends(&self, unit: Option<&str>, country: &str) -> String {
        let event = NewEvent::json("acme", "order.paid", &json!({ "country": country })).unwrap();
        let event = match unit {
            Some(unit) => event.unit(unit),
            None => event,
        };
        let saved = TestOf::Saved(id("orders"));
        let curl = self.engine.integration_curl(&self.org, saved, Sample::of(event)).await.unwrap();
        format!("{} {}", curl.command, curl.notes.join(" "))
    }
}

#[tokio::test]
async fn an_integration_finds_what_the_table_says_now() {
    let office = Office::open().await;
    office.countries().await;
    let spec = integration(&json!({ "table": "countries", "field": "name" }));
    office.create("integration", Some("orders"), spec).await.unwrap();
    let sent = office.sends(None, "DE").await;
    assert!(sent.contains(r#"{"to":"Germany"}"#), "{sent}");
    let sent = office.sends(Some("de"), "DE").await;
    assert!(sent.contains(r#"{"to":"Deutschland"}"#), "{sent}");
    let sent = office.sends(None, "FR").await;
    assert!(sent.contains("has no entry for the value of `to`"), "{sent}");

    let patch = json!({ "spec": { "entries": [{ "key": "FR", "value": { "name": "France" } }] } });
    let resources = office.engine.resources();
    let (org, host) = (&office.org, &Actor::host());
    let countries = id("countries");
    let expect = Expect::Present;
    resources.merge_patch(org, "lookup", &countries, &patch, expect, host).await.unwrap();
    let sent = office.sends(None, "FR").await;
    assert!(sent.contains(r#"{"to":"France"}"#), "{sent}");

    resources.delete(org, "lookup", &countries, expect, host).await.unwrap();
    let sent = office.sends(None, "FR").await;
    assert!(sent.contains("cannot look up in `countries`"), "{sent}");
}

#[tokio::test]
async fn another_node_finds_what_was_stored() {
    let office = Office::open().await;
    office.countries().await;
    let spec = integration(&json!({ "table": "countries", "field": "name" }));
    office.create("integration", Some("orders"), spec).await.unwrap();
    let engine = Engine::builder(office.store.clone()).build().unwrap();
    let there = Office { engine, ..office };
    let sent = there.sends(None, "DE").await;
    assert!(sent.contains(r#"{"to":"Germany"}"#), "{sent}");
}

#[tokio::test]
async fn what_no_table_can_answer_is_refused_when_it_is_saved() {
    let office = Office::open().await;
    office.countries().await;
    for (lookup, pointer, code) in [
        (json!({ "table": "contries" }), "table", "lookup_unknown"),
        (json!({ "table": "countries", "reverse": "name" }), "reverse", "lookup_not_reversible"),
    ] {
        let refused = office.create("integration", None, integration(&lookup)).await.unwrap_err();
        let at = format!("/spec/transform/0/map/rules/0/lookup/{pointer}");
        assert_eq!(codes(&refused), [(at.as_str(), code)]);
    }
    let lookup = json!({ "table": "contries" });
    let refused = office.create("integration", None, integration(&lookup)).await.unwrap_err();
    assert!(refused.message().contains("did you mean `countries`?"), "{refused}");
    let lookup = json!({ "table": "countries", "reverse": "dial" });
    office.create("integration", None, integration(&lookup)).await.unwrap();
}

#[tokio::test]
async fn a_table_is_bounded_and_has_each_key_once() {
    let office = Office::open().await;
    let entry = |key: usize| json!({ "key": key.to_string(), "value": 1 });
    let many: Vec<_> = (0..10_001).map(entry).collect();
    let refused = office.create("lookup", None, json!({ "entries": many })).await.unwrap_err();
    assert_eq!(codes(&refused), [("/spec/entries", "too_many")]);
    let large = json!([{ "key": "a", "value": "x".repeat(1 << 20) }]);
    let refused = office.create("lookup", None, json!({ "entries": large })).await.unwrap_err();
    assert_eq!(codes(&refused), [("/spec/entries", "too_large")]);

    let twice = json!({ "entries": [entry(1), entry(2), entry(1)] });
    let refused = office.create("lookup", None, twice).await.unwrap_err();
    assert_eq!(codes(&refused), [("/spec/entries/2/key", "duplicate")]);
    let shapeless = json!({ "entries": [{ "key": "a" }, { "key": "b", "value": 1, "unti": "x" }] });
    let refused = office.create("lookup", None, shapeless).await.unwrap_err();
    let expected =
        [("/spec/entries/0/value", "required"), ("/spec/entries/1/unti", "unknown_field")];
    assert_eq!(codes(&refused), expected);
}

#[tokio::test]
async fn a_table_tells_what_a_rule_would_write() {
    let office = Office::open().await;
    office.countries().await;
    let entries = json!([{ "key": "7", "value": null }]);
    let spec = json!({ "entries": entries, "reverse": ["@"], "on_missing": "keep" });
    office.create("lookup", Some("kept"), spec).await.unwrap();
    let spec = json!({ "on_missing": { "default": "none" } });
    office.create("lookup", Some("empty"), spec).await.unwrap();
    for (table, asked, expected) in [
        ("countries", json!({"values": ["DE"]}), json!([{"name": "Germany", "dial": 49}])),
        (
            "countries",
            json!({"values": ["DE", "XX"], "unit": "de"}),
            json!([{"name": "Deutschland", "dial": 49}, "fails"]),
        ),
        (
            "countries",
            json!({"values": [49, 49.0, "49"], "reverse": "dial"}),
            json!(["DE", "DE", "fails"]),
        ),
        ("kept", json!({"values": [7, "7", 8, null, [7]]}), json!([null, null, 8, null, [7]])),
        ("empty", json!({"values": ["a", true, null]}), json!(["none", "none", null])),
    ] {
        let asked: Resolve = serde_json::from_value(asked).unwrap();
        let answer = office.engine.resolve_lookup(&office.org, &id(table), asked).await.unwrap();
        let told =
            answer.into_iter().map(|one| if one.fails { json!("fails") } else { one.written });
        assert_eq!(told.collect::<Value>(), expected, "{table}");
    }
    let many = json!({"values": vec![1; 1_001]});
    for (table, asked, code, pointer) in [
        ("none", json!({"values": ["a"]}), Code::ResourceNotFound, None),
        ("kept", json!({"values": []}), Code::ResolveInvalid, Some("/values")),
        ("kept", many, Code::ResolveInvalid, Some("/values")),
        ("kept", json!({"values": [1], "reverse": "a"}), Code::ResolveInvalid, Some("/reverse")),
        ("kept", json!({"values": [1], "reverse": "a..b"}), Code::ResolveInvalid, Some("/reverse")),
        ("kept", json!({"values": [1], "unit": "us"}), Code::UnitUnknown, Some("/unit")),
    ] {
        let asked: Resolve = serde_json::from_value(asked).unwrap();
        let refused = office.engine.resolve_lookup(&office.org, &id(table), asked).await;
        let refused = refused.unwrap_err();
        assert_eq!(refused.code(), code, "{refused}");
        assert_eq!(refused.list().first().map(|v| v.pointer.as_str()), pointer);
    }
}

#[tokio::test]
async fn the_tables_of_an_organization_are_bounded_together() {
    let one = json!({ "entries": [{ "key": "a", "value": "x".repeat(100) }] });
    let bytes = one["entries"].to_string().len();
    let limits = LookupLimits { tables: 2, all_bytes: 2 * bytes, ..LookupLimits::default() };
    let office = Office::with(limits).await;
    for name in ["first", "second"] {
        office.create("lookup", Some(name), one.clone()).await.unwrap();
    }
    let refused = office.create("lookup", Some("third"), json!({})).await.unwrap_err();
    assert_eq!(codes(&refused), [("/spec", "too_many")]);
    let resources = office.engine.resources();
    let replace = |entries: Value| {
        let draft = Draft { spec: json!({ "entries": entries }), ..Draft::default() };
        let second = id("second");
        let org = office.org.clone();
        async move {
            resources.replace(&org, "lookup", &second, draft, Expect::Present, &Actor::host()).await
        }
    };
    let longer = json!([{ "key": "ab", "value": "x".repeat(100) }]);
    let refused = replace(longer.clone()).await.unwrap_err();
    assert_eq!(codes(&refused), [("/spec/entries", "too_large")]);
    replace(one["entries"].clone()).await.unwrap();
    let first = id("first");
    resources.delete(&office.org, "lookup", &first, Expect::Present, &Actor::host()).await.unwrap();
    replace(longer).await.unwrap();
    office.create("lookup", Some("third"), json!({})).await.unwrap();
}
