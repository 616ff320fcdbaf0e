//! Lookup tables as an organization uses them: saved, searched by its integrations, changed.

#![expect(clippy::unwrap_used, reason = "a setup that fails is a test that fails")]

use icp_core::Engine;
use icp_core::error::{Code, Error, Result};
use icp_core::event::NewEvent;
use icp_core::id::{OrgId, ResourceId};
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
        let store = MemoryStore::new();
        let engine = Engine::builder(store.clone()).build().unwrap();
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
