use async_trait::async_trait;
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::access::OrganizationSpec;
use crate::egress::AddressPolicy;
use crate::error::{Code, Result, Violation};
use crate::event::{EventLimits, NewEvent};
use crate::id::{EventId, OrgId};
use crate::integration::{
    Binding, Connector, Connectors, IntegrationSpec, Outgoing, Preview, Sent,
};
use crate::resource::fixture::services;
use crate::resource::{Revision, Services, Spec, SpecContext};
use crate::time::Timestamp;

/// Binds every target but a broken one, and sends nothing.
#[derive(Debug)]
struct Sink;

impl Connector for Sink {
    fn kind(&self) -> &'static str {
        "sink"
    }

    fn validate(&self, _: &Value, _: &str, _: &AddressPolicy) -> Vec<Violation> {
        Vec::new()
    }

    fn schema(&self) -> Value {
        json!({})
    }

    fn bind(&self, binding: Binding<'_>) -> Result<Arc<dyn Integration>> {
        assert!(binding.target.get("panics").is_none(), "as the test asks");
        match binding.target["broken"].as_str() {
            Some(why) => Err(Error::new(Code::ConfigInvalid, why)),
            None => Ok(Arc::new(Self)),
        }
    }
}

#[async_trait]
impl Integration for Sink {
    async fn send(&self, _: Outgoing<'_>) -> Sent {
        unreachable!("matching sends nothing")
    }

    fn preview(&self, _: &Outgoing<'_>) -> Result<Preview> {
        unreachable!("matching shows no request")
    }
}

fn id(text: &str) -> ResourceId {
    ResourceId::new(text).unwrap()
}

fn compiled<S: Spec, T: std::any::Any + Send + Sync>(
    services: &Services,
    name: &str,
    spec: Value,
) -> Result<Arc<T>> {
    let (org, id) = (OrgId::new("acme").unwrap(), id(name));
    let context = SpecContext {
        org: &org,
        kind: S::KIND,
        id: &id,
        name: None,
        services,
        within: None,
        grantor: None,
    };
    let spec: S = serde_json::from_value(spec).unwrap();
    spec.compile(&context).map(|compiled| compiled.downcast().unwrap())
}

/// An index of an organization with the units `eu` over `de` over `berlin`, and `us`. Each
/// integration takes everything and goes to a sink where its document does not say otherwise.
fn index(integrations: &[(String, Value)]) -> MatchIndex {
    let services = services(Connectors::new().with(Arc::new(Sink)));
    let units = json!([
        { "id": "eu" }, { "id": "de", "parent": "eu" }, { "id": "berlin", "parent": "de" },
        { "id": "us" },
    ]);
    let organization =
        compiled::<OrganizationSpec, Organization>(&services, "acme", json!({ "units": units }));
    let integrations = integrations.iter().map(|(name, fields)| {
        let mut spec = json!({ "events": ["*"], "target": { "kind": "sink" } });
        spec.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        let integration = compiled::<IntegrationSpec, CompiledIntegration>(&services, name, spec);
        (id(name), integration)
    });
    MatchIndex::new(&organization.unwrap(), integrations)
}

fn one(fields: Value) -> MatchIndex {
    index(&[("one".to_owned(), fields)])
}

fn event(event_type: &str, unit: Option<&str>) -> Event {
    let mut event = NewEvent::json("acme", event_type, &json!({ "amount": 7 })).unwrap();
    if let Some(unit) = unit {
        event = event.unit(unit);
    }
    event
        .accept(
            EventId::from_bytes([1; 16]),
            Timestamp::from_millis(1_800_000_000_000),
            Revision::ZERO,
            &EventLimits::default(),
        )
        .unwrap()
}

/// The integrations an event goes to, once for each time it goes there.
fn matched(index: &MatchIndex, event: &Event) -> Vec<ResourceId> {
    let mut ids: Vec<_> =
        index.matches(event).iter().map(|integration| integration.id.clone()).collect();
    ids.sort();
    ids
}

fn reason(index: &MatchIndex, event: &Event) -> MatchReason {
    let [(_, reason)] = <[_; 1]>::try_from(index.explain(event)).unwrap();
    let expected = usize::from(reason.is_match());
    assert_eq!(matched(index, event).len(), expected, "{reason:?}");
    reason
}

#[test]
fn types_match_by_name_and_by_pattern() {
    for (patterns, event_type, matches) in [
        (json!(["order.paid"]), "order.paid", true),
        (json!(["order.paid"]), "order.paid.late", false),
        (json!(["order.paid", "order.paid"]), "order.paid", true),
        (json!(["a", "order.paid", "b.c"]), "b.c", true),
        (json!(["order.*"]), "order.paid", true),
        (json!(["order.*"]), "order.line.added", false),
        (json!(["order.**"]), "order.line.added", true),
        (json!(["order.paid", "order.*", "*"]), "order.paid", true),
        (json!(["order.paid", "user.*"]), "order.paid", true),
        (json!(["order.paid", "user.*"]), "user.made", true),
        (json!(["order.paid", "user.*"]), "user", false),
    ] {
        let expected = if matches { MatchReason::Matched } else { MatchReason::EventType };
        let index = one(json!({ "events": patterns }));
        assert_eq!(reason(&index, &event(event_type, None)), expected, "{patterns} {event_type}");
    }
}

#[test]
fn units_inherit_from_above_unless_the_scope_says_otherwise() {
    use MatchReason::{Matched as Yes, Unit as No};
    // The event's unit: none, eu, de, berlin, us, and one that is gone.
    let units = [None, Some("eu"), Some("de"), Some("berlin"), Some("us"), Some("gone")];
    for (integration, expected) in [
        (json!({}), [Yes, Yes, Yes, Yes, Yes, Yes]),
        (json!({ "scope": "unit_only" }), [Yes, No, No, No, No, No]),
        (json!({ "unit": "eu" }), [No, Yes, Yes, Yes, No, No]),
        (json!({ "unit": "eu", "scope": "include_children" }), [No, Yes, Yes, Yes, No, No]),
        (json!({ "unit": "eu", "scope": "unit_only" }), [No, Yes, No, No, No, No]),
        (json!({ "unit": "de" }), [No, No, Yes, Yes, No, No]),
        (json!({ "unit": "berlin" }), [No, No, No, Yes, No, No]),
        (json!({ "unit": "nowhere" }), [No, No, No, No, No, No]),
    ] {
        let index = one(integration.clone());
        for (unit, expected) in units.into_iter().zip(expected) {
            let reason = reason(&index, &event("a", unit));
            assert_eq!(reason, expected, "{integration} on {unit:?}");
        }
    }
}

#[test]
fn excluded_units_take_no_part_with_all_below_them() {
    use MatchReason::{ExcludedUnit as Out, Matched as Yes, Unit as No};
    let units = [None, Some("eu"), Some("de"), Some("berlin"), Some("us")];
    for (integration, expected) in [
        (json!({ "excluded_units": ["de"] }), [Yes, Yes, Out, Out, Yes]),
        (json!({ "excluded_units": ["berlin", "us"] }), [Yes, Yes, Yes, Out, Out]),
        (json!({ "unit": "eu", "excluded_units": ["de"] }), [No, Yes, Out, Out, No]),
        (json!({ "unit": "eu", "excluded_units": ["us"] }), [No, Yes, Yes, Yes, No]),
        (json!({ "unit": "de", "excluded_units": ["eu"] }), [No, No, Out, Out, No]),
    ] {
        let index = one(integration.clone());
        for (unit, expected) in units.into_iter().zip(expected) {
            let reason = reason(&index, &event("a", unit));
            assert_eq!(reason, expected, "{integration} on {unit:?}");
        }
    }
}

#[test]
fn one_that_cannot_send_matches_and_disturbs_nobody() {
    let table = [
        ("broken", json!({ "target": { "kind": "sink", "broken": "lost its key" } })),
        ("lost", json!({ "target": { "kind": "gone" } })),
        ("off", json!({ "enabled": false })),
        ("panics", json!({ "target": { "kind": "sink", "panics": true } })),
        ("mute", json!({ "events": ["b"], "target": { "kind": "gone" } })),
        ("other", json!({ "events": ["b"] })),
        ("works", json!({})),
        ("zeal", json!({ "events": ["a"] })),
    ];
    let index = index(&table.map(|(name, spec)| (name.to_owned(), spec)));
    let event = event("a", None);
    assert_eq!(matched(&index, &event), ["broken", "lost", "panics", "works", "zeal"].map(id));
    let explained = index.explain(&event);
    let waits = |why: &str| MatchReason::Waits { why: why.to_owned() };
    let expected = [
        ("broken", waits("lost its key")),
        ("lost", waits("name a registered connector: sink")),
        ("mute", MatchReason::EventType),
        ("off", MatchReason::Disabled),
        ("other", MatchReason::EventType),
        ("panics", waits("cannot bind the target: its code panicked; see the log")),
        ("works", MatchReason::Matched),
        ("zeal", MatchReason::Matched),
    ];
    assert_eq!(explained, expected.map(|(name, reason)| (id(name), reason)));

    assert!(index.bound(&id("works")).unwrap().is_ok());
    assert!(index.bound(&id("off")).unwrap().is_ok());
    assert_eq!(
        index.bound(&id("lost")).unwrap().as_ref().unwrap_err().code(),
        Code::ResourceInvalid
    );
    let mut waiting: Vec<_> = index.waiting().map(|(id, _)| id.as_str()).collect();
    waiting.sort_unstable();
    assert_eq!(waiting, ["broken", "lost", "mute", "panics"]);
    assert!(index.integration(&id("lost")).unwrap().is_ok());
    assert!(index.bound(&id("nobody")).is_none());
    assert!(index.has_unit(&id("berlin")) && !index.has_unit(&id("paris")));
}

#[test]
fn one_that_cannot_be_read_takes_nothing() {
    let organization =
        compiled::<OrganizationSpec, Organization>(&services(Connectors::new()), "acme", json!({}));
    let corrupt = Err(Error::new(Code::StoreCorrupt, "not a spec"));
    let index = MatchIndex::new(&organization.unwrap(), std::iter::once((id("bad"), corrupt)));
    let unusable = MatchReason::Unusable { why: "not a spec".to_owned() };
    assert_eq!(reason(&index, &event("a", None)), unusable);
    assert_eq!(index.waiting().count(), 0);
}

#[test]
fn a_refusing_condition_says_why() {
    let index = |least: u32| one(json!({ "filter": { "data.amount": { "$gte": least } } }));
    let event = event("order.paid", None);
    assert_eq!(reason(&index(7), &event), MatchReason::Matched);
    let refused = reason(&index(8), &event);
    let MatchReason::Filter { why } = &refused else { panic!("{refused:?}") };
    assert!(why.contains("data.amount"), "{why}");
    let json = serde_json::to_value(&refused).unwrap();
    assert_eq!(json, json!({ "reason": "filter", "why": why }));
}

#[test]
fn conditions_see_the_event_and_its_body() {
    let mut event = event("order.paid", Some("de"));
    let seen = document(&event);
    assert_eq!(seen["type"], "order.paid");
    assert_eq!((&seen["org"], &seen["unit"]), (&json!("acme"), &json!("de")));
    assert_eq!(seen["data"], json!({ "amount": 7 }));
    assert_eq!(seen["ordering_key"], Value::Null);
    for (content_type, body, data) in [
        ("text/plain", "7", Value::Null),
        ("application/json", "not json", Value::Null),
        ("application/json", "7", json!(7)),
        ("application/vnd.shop+json", "[1]", json!([1])),
    ] {
        event.content_type = content_type.into();
        event.body = body.into();
        assert_eq!(document(&event)["data"], data, "{content_type} {body}");
    }
}

fn integration() -> impl Strategy<Value = Value> {
    let unit = || prop::sample::select(vec!["eu", "de", "berlin", "us", "gone"]);
    let pattern = prop::sample::select(vec!["a", "a.b", "a.*", "a.**", "b", "*", "*.b"]);
    (
        prop::collection::vec(pattern, 1..4),
        prop::option::of(unit()),
        any::<bool>(),
        prop::collection::btree_set(unit(), 0..3),
        prop::bool::weighted(0.8),
        prop::bool::weighted(0.1),
        any::<bool>(),
    )
        .prop_map(|(events, unit, children, excluded, enabled, broken, filtered)| {
            let scope = if children { "include_children" } else { "unit_only" };
            let mut spec = json!({ "events": events, "scope": scope, "enabled": enabled });
            spec["target"] = json!({ "kind": if broken { "gone" } else { "sink" } });
            if let Some(unit) = unit {
                spec["unit"] = json!(unit);
            }
            if children {
                spec["excluded_units"] = json!(excluded);
            }
            if filtered {
                spec["filter"] = json!({ "unit": "de" });
            }
            spec
        })
}

proptest! {
    #[test]
    fn an_event_goes_exactly_where_the_explanation_says(
        integrations in prop::collection::vec(integration(), 0..8),
        event_type in prop::sample::select(vec!["a", "a.b", "a.b.c", "b", "c"]),
        unit in prop::option::of(prop::sample::select(vec!["eu", "de", "berlin", "us", "gone"])),
    ) {
        let named: Vec<_> =
            integrations.into_iter().enumerate().map(|(n, spec)| (format!("i{n}"), spec)).collect();
        let index = index(&named);
        let event = event(event_type, unit);
        let explained = index.explain(&event);
        prop_assert_eq!(explained.len(), named.len());
        let expected: Vec<_> = explained
            .into_iter()
            .filter(|(_, reason)| reason.is_match())
            .map(|(id, _)| id)
            .collect();
        prop_assert_eq!(matched(&index, &event), expected);
    }
}
