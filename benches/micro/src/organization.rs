//! What an engine does with organizations and their integrations, on the memory store.

use std::collections::BTreeMap;
use std::ops::Range;

use icp::engine::Engine;
use icp::event::{JSON, NewEvent};
use icp::id::{ClockIds, OrgId, ResourceId};
use icp::resource::{Actor, Change, Draft, Expect, Record, ResourceStore, Revision, Write};
use icp::secret::LocalKeys;
use icp::store::MemoryStore;
use serde_json::{Value, json};

use crate::moment::Still;
use crate::{NOW, Round, transform};

const SEALING_KEY: &str = "k1:AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";

/// What there is beside the integrations that an event goes to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Beside {
    /// Nothing.
    Nothing,
    /// So many integrations of the same organization, for other types.
    Types(usize),
    /// So many integrations of ten other organizations, for the same type.
    Organizations(usize),
}

/// Publishes an event of 1 KiB that goes to `count` integrations; nothing is sent.
#[must_use]
pub fn publish(count: usize, beside: Beside) -> Round {
    let runtime = transform::runtime();
    let engine = runtime.block_on(async {
        let store = MemoryStore::new();
        let acme = add_organization(&store, "acme").await;
        add(&store, &acme, 0..count, |_| "order.paid".to_owned()).await;
        let engine = engine(&store);
        match beside {
            Beside::Nothing => {}
            Beside::Types(others) => add(&store, &acme, count..count + others, other).await,
            Beside::Organizations(others) => {
                for number in 0..10 {
                    let org = add_organization(&store, &format!("other-{number}")).await;
                    add(&store, &org, 0..others / 10, |_| "order.paid".to_owned()).await;
                    // So that this node knows it.
                    engine.accept(event(org.as_str())).await.unwrap();
                }
            }
        }
        engine
    });
    Box::new(move || {
        let published = runtime.block_on(engine.publish(event("acme"))).unwrap();
        assert_eq!(published.deliveries, count);
    })
}

/// Changes one integration of `count`, and makes the organization ready for the next event.
#[must_use]
pub fn update(count: usize) -> Round {
    let (runtime, store) = (transform::runtime(), MemoryStore::new());
    let org = runtime.block_on(async {
        let org = add_organization(&store, "acme").await;
        add(&store, &org, 0..count, other).await;
        org
    });
    let (engine, id) = (engine(&store), ResourceId::new("to-7").unwrap());
    let mut round = 0;
    Box::new(move || {
        round += 1;
        runtime.block_on(async {
            let change = draft(spec(&other(round)));
            let (resources, actor) = (engine.resources(), Actor::host());
            let made =
                resources.replace(&org, "integration", &id, change, Expect::Any, &actor).await;
            made.unwrap();
            engine.accept(event("acme")).await.unwrap();
        });
    })
}

/// A type that no event is of.
fn other(number: usize) -> String {
    format!("stock.moved.{}", number % 100)
}

/// An engine that was not started, and reads what it needs at the first use.
#[must_use]
pub fn engine(store: &MemoryStore) -> Engine {
    Engine::builder(store.clone())
        .keys(LocalKeys::parse(SEALING_KEY).unwrap())
        .clock(Still)
        .ids(ClockIds::seeded(Still, 1))
        .build()
        .unwrap()
}

/// Makes an organization through the engine.
pub async fn create(engine: &Engine, name: &str) -> OrgId {
    let org = OrgId::new(name).unwrap();
    let resources = engine.resources();
    resources.create(&org, "organization", draft(json!({})), &Actor::host()).await.unwrap();
    org
}

/// Stores an organization, as [`add`] stores integrations.
pub async fn add_organization(store: &impl ResourceStore, name: &str) -> OrgId {
    let org = OrgId::new(name).unwrap();
    write(store, vec![change(&org, "organization", name, json!({}))]).await;
    org
}

/// Stores integrations with the ids `to-<number>`, each for one type of events. They are not
/// checked, which would take longer than all that is measured.
pub async fn add(
    store: &impl ResourceStore,
    org: &OrgId,
    numbers: Range<usize>,
    event_type: impl Fn(usize) -> String,
) {
    let integration = |n| change(org, "integration", &format!("to-{n}"), spec(&event_type(n)));
    write(store, numbers.map(integration).collect()).await;
}

async fn write(store: &impl ResourceStore, changes: Vec<Change>) {
    store.write(Write { changes, actor: Actor::host(), now: NOW }).await.unwrap();
}

fn change(org: &OrgId, kind: &str, id: &str, spec: Value) -> Change {
    let record = Record {
        org: org.clone(),
        kind: kind.into(),
        id: ResourceId::new(id).unwrap(),
        name: None,
        labels: BTreeMap::new(),
        spec,
        status: Value::Null,
        revision: Revision::ZERO,
        version: 1,
        created_at: NOW,
        updated_at: NOW,
        deleted: false,
    };
    let (expect, effects) = (Expect::Absent, Vec::new());
    Change { record, expect, action: "create".to_owned(), effects }
}

pub(crate) fn draft(spec: Value) -> Draft {
    Draft { spec, ..Draft::default() }
}

fn spec(event_type: &str) -> Value {
    let target = json!({ "kind": "http", "url": "https://hooks.example.com/orders" });
    json!({ "events": [event_type], "target": target })
}

fn event(org: &str) -> NewEvent {
    NewEvent::raw(org, "order.paid", JSON, transform::order())
}
