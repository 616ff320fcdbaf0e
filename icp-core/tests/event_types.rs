//! The catalogue of event types, from what is saved to what is published.

#![expect(clippy::unwrap_used, reason = "a setup that fails is a test that fails")]

use icp_core::Engine;
use icp_core::error::{Code, Error, Result};
use icp_core::event::{EventType, NewEvent, Published};
use icp_core::id::{OrgId, ResourceId};
use icp_core::resource::{Actor, Document, Draft, Expect};
use icp_core::store::MemoryStore;
use serde_json::{Value, json};

struct Shop {
    engine: Engine,
    org: OrgId,
}

fn order() -> Value {
    json!({
        "type": "object",
        "required": ["order"],
        "properties": { "order": { "type": "integer" }, "mail": { "format": "email" } },
    })
}

fn codes(error: &Error) -> Vec<(&str, &str)> {
    error.list().iter().map(|v| (v.pointer.as_str(), v.code.as_str())).collect()
}

impl Shop {
    async fn open() -> Self {
        let engine = Engine::builder(MemoryStore::new()).build().unwrap();
        let org = OrgId::new("acme").unwrap();
        let new = Draft { spec: json!({}), ..Draft::default() };
        engine.resources().create(&org, "organization", new, &Actor::host()).await.unwrap();
        Self { engine, org }
    }

    async fn save(&self, name: &str, spec: Value) -> Result<Document> {
        let draft = Draft { id: Some(ResourceId::new(name)?), spec, ..Draft::default() };
        self.engine.resources().create(&self.org, "event_type", draft, &Actor::host()).await
    }

    async fn publish(&self, name: &str, body: Value) -> Result<Published> {
        self.engine.publish(NewEvent::json("acme", name, &body).unwrap()).await
    }

    fn differed(&self) -> bool {
        let text = self.engine.metrics().render();
        text.contains("event_schema_mismatches_total 1")
    }
}

#[tokio::test]
async fn what_does_not_fit_is_refused_with_its_differences() {
    let shop = Shop::open().await;
    shop.save("order.paid", json!({ "schema": order(), "policy": "reject" })).await.unwrap();
    shop.publish("order.paid", json!({ "order": 17 })).await.unwrap();
    shop.publish("order.other", json!("anything")).await.unwrap();

    let body = json!({ "order": "canary", "mail": "canary" });
    let refused = shop.publish("order.paid", body.clone()).await.unwrap_err();
    assert_eq!(refused.code(), Code::EventSchemaMismatch);
    let mut found = codes(&refused);
    found.sort_unstable();
    assert_eq!(found, [("/body/mail", "format"), ("/body/order", "type")]);
    assert!(!format!("{refused} {refused:?}").contains("canary"), "{refused:?}");
    let event = NewEvent::json("acme", "order.paid", &body).unwrap();
    assert_eq!(shop.engine.accept(event).await.unwrap_err().code(), Code::EventSchemaMismatch);

    let text = NewEvent::raw("acme", "order.paid", "text/plain", "order 17");
    let refused = shop.engine.publish(text).await.unwrap_err();
    assert_eq!(codes(&refused), [("/body", "not_json")]);

    let batch = [json!({ "order": 1 }), json!({}), json!({ "order": 2 })];
    let events = batch.iter().map(|body| NewEvent::json("acme", "order.paid", body).unwrap());
    let answers = shop.engine.publish_batch(events.collect()).await;
    let taken: Vec<_> = answers.iter().map(Result::is_ok).collect();
    assert_eq!(taken, [true, false, true]);
}

#[tokio::test]
async fn what_does_not_fit_is_taken_where_the_policy_says_so() {
    let shop = Shop::open().await;
    let off = json!({ "schema": order(), "policy": "off" });
    shop.save("order.paid", off).await.unwrap();
    shop.publish("order.paid", json!([])).await.unwrap();
    assert!(!shop.differed());

    let resources = shop.engine.resources();
    let patch = json!({ "spec": { "policy": "warn" } });
    let (id, expect) = (ResourceId::new("order.paid").unwrap(), Expect::Present);
    let host = Actor::host();
    resources.merge_patch(&shop.org, "event_type", &id, &patch, expect, &host).await.unwrap();
    shop.publish("order.paid", json!([])).await.unwrap();
    assert!(shop.differed());
}

#[tokio::test]
async fn what_cannot_be_checked_safely_is_refused_when_it_is_saved() {
    let shop = Shop::open().await;
    for (spec, expected) in [
        (
            json!({ "schema": { "$ref": "https://example.com/order.json" } }),
            ("/spec/schema/$ref", "schema_reference"),
        ),
        (json!({ "schema": { "type": "text" } }), ("/spec/schema/type", "schema_malformed")),
        (json!({ "schema": { "pattern": "(a)\\1" } }), ("/spec/schema/pattern", "schema_pattern")),
        (json!({ "schema": order(), "sample": {} }), ("/spec/sample/order", "required")),
        (json!({ "description": "x".repeat(4_001) }), ("/spec/description", "max_length")),
        (json!({ "policy": "strict" }), ("/spec/policy", "enum")),
    ] {
        let refused = shop.save("order.paid", spec.clone()).await.unwrap_err();
        assert_eq!(codes(&refused), [expected], "{spec}");
    }
    for (name, code) in [("order..paid", "event_type_invalid"), ("icp.test", "event_type_reserved")]
    {
        let refused = shop.save(name, json!({})).await.unwrap_err();
        assert_eq!(codes(&refused), [("/spec", code)]);
    }
    shop.save("order.paid", json!({ "schema": order(), "sample": { "order": 1 } })).await.unwrap();
}

fn kind(name: &str) -> EventType {
    EventType::new(name).unwrap()
}

#[tokio::test]
async fn a_body_is_judged_whatever_the_policy_is() {
    let shop = Shop::open().await;
    shop.save("order.paid", json!({ "schema": order(), "policy": "off" })).await.unwrap();
    shop.save("order.made", json!({})).await.unwrap();
    let fit = |name, body: Value| {
        let shop = &shop;
        async move { shop.engine.event_type_fit(&shop.org, &kind(name), &body).await }
    };
    assert!(fit("order.paid", json!({ "order": 17 })).await.unwrap().fits);
    let found = fit("order.paid", json!({ "order": "17" })).await.unwrap();
    assert_eq!((found.fits, found.has_schema), (false, true));
    assert_eq!((&*found.violations[0].pointer, &*found.violations[0].code), ("/order", "type"));
    let found = fit("order.made", json!(null)).await.unwrap();
    assert_eq!((found.fits, found.has_schema), (true, false));
    for unknown in ["order.none", &"x".repeat(100)] {
        let refused = fit(unknown, json!({})).await.unwrap_err();
        assert_eq!(refused.code(), Code::ResourceNotFound);
    }
}

#[tokio::test]
async fn a_schema_is_made_of_the_newest_events_of_a_type() {
    let shop = Shop::open().await;
    shop.publish("order.paid", json!({ "old": true })).await.unwrap();
    for order in 0..120 {
        shop.publish("order.paid", json!({ "order": order })).await.unwrap();
        shop.publish("order.made", json!([])).await.unwrap();
    }
    let text = NewEvent::raw("acme", "order.paid", "text/plain", "17");
    shop.engine.publish(text).await.unwrap();
    let gone = shop.publish("order.paid", json!({ "gone": 1 })).await.unwrap().id;
    shop.engine.erase_events(&shop.org, vec![gone], &Actor::host()).await.unwrap();

    let found = shop.engine.infer_schema(&shop.org, &kind("order.paid"), 60).await.unwrap();
    assert_eq!((found.events, found.passed_over), (58, 2));
    let expected = json!({
        "type": "object", "properties": { "order": { "type": "integer" } }, "required": ["order"],
    });
    assert_eq!(found.schema, expected);
    let all = shop.engine.infer_schema(&shop.org, &kind("order.paid"), 10_000).await.unwrap();
    assert_eq!((all.events, all.schema.get("required")), (121, None));
    let none = shop.engine.infer_schema(&shop.org, &kind("order.none"), 9).await.unwrap();
    assert_eq!((none.events, none.schema), (0, json!({})));
    let other = OrgId::new("other").unwrap();
    let refused = shop.engine.infer_schema(&other, &kind("order.paid"), 9).await.unwrap_err();
    assert_eq!(refused.code(), Code::OrganizationUnknown);
}
