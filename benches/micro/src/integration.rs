//! Matching: which integrations of an organization an event goes to.

use std::hint::black_box;
use std::sync::Arc;

use icp::access::{Organization, OrganizationSpec};
use icp::event::{Event, EventLimits, JSON, NewEvent};
use icp::id::{EventId, OrgId, ResourceId};
use icp::integration::filter::{Filter, Verdict};
use icp::integration::matching::document;
use icp::integration::{CompiledIntegration, Connectors, IntegrationSpec, MatchIndex};
use icp::lookup::LookupLimits;
use icp::resource::{Revision, Services, Spec, SpecContext};
use icp::secret::{LocalKeys, Sealer};
use icp::signing::Profiles;
use icp::transform::InPlace;
use serde_json::{Value, json};

use crate::{NOW, Round, transform};

/// A filter of three conditions.
pub const DECLARATIVE: &str =
    r#"{ "data.amount": { "$gte": 100 }, "data.paid": true, "data.customer.city": "Berlin" }"#;

/// The same as an expression that is judged in place.
pub const JMESPATH: &str =
    r#"{ "jmespath": "data.amount >= `100` && data.paid && data.customer.city == 'Berlin'" }"#;

/// How an integration names the events it takes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum By {
    /// By its type.
    Type,
    /// By a pattern, which has to be asked for each event.
    Pattern,
}

/// Of how many kinds the integrations are that an event does not go to.
const OTHERS: usize = 99;

/// Matches an event among `count` integrations of its organization, of which it goes to one.
#[must_use]
pub fn matching(count: usize, by: By) -> Round {
    let services = services();
    let events = |number: usize| match (number, by) {
        (0, By::Type) => "order.paid".to_owned(),
        (0, By::Pattern) => "order.*".to_owned(),
        (_, By::Type) => format!("stock.moved.{number}"),
        (_, By::Pattern) => format!("stock.{number}.*"),
    };
    let compiled: Vec<Arc<CompiledIntegration>> = (0..count.min(OTHERS + 1))
        .map(|number| {
            let spec = json!({ "events": [events(number)], "target": { "kind": "none" } });
            compile::<IntegrationSpec, _>(&services, &spec)
        })
        .collect();
    // Nothing but the patterns is asked of the others, so that they need not be compiled each.
    let integrations = (0..count).map(|number| {
        let of = if number < compiled.len() { number } else { number % OTHERS + 1 };
        (ResourceId::new(format!("to-{number}")).unwrap(), Ok(Arc::clone(&compiled[of])))
    });
    let organization: Arc<Organization> = compile::<OrganizationSpec, _>(&services, &json!({}));
    let index = MatchIndex::new(&organization, integrations);
    let event = event();
    Box::new(move || assert_eq!(index.matches(black_box(&event)).len(), 1))
}

/// Judges an event by a filter, which it passes.
#[must_use]
pub fn filter(text: &str) -> Round {
    let filter: Filter = serde_json::from_str(text).unwrap();
    let filter = filter.compile("/filter").unwrap();
    let document = document(&event());
    Box::new(move || assert_eq!(filter.matches(black_box(&document)), Verdict::Match))
}

fn event() -> Event {
    NewEvent::raw("acme", "order.paid", JSON, transform::order())
        .accept(EventId::from_bytes([1; 16]), NOW, Revision::ZERO, &EventLimits::default())
        .unwrap()
}

fn compile<S: Spec, T: Send + Sync + 'static>(services: &Services, spec: &Value) -> Arc<T> {
    let (org, id) = (OrgId::new("acme").unwrap(), ResourceId::new("acme").unwrap());
    let context = SpecContext {
        org: &org,
        kind: S::KIND,
        id: &id,
        name: None,
        services,
        within: None,
        grantor: None,
    };
    let spec: S = serde_json::from_value(spec.clone()).unwrap();
    spec.compile(&context).unwrap().downcast().unwrap()
}

/// Without connectors: matching asks nothing of targets.
fn services() -> Services {
    let keys = LocalKeys::parse("k1:AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=").unwrap();
    Services {
        sealer: Arc::new(Sealer::new(Arc::new(keys))),
        profiles: Arc::new(Profiles::default()),
        signers: Arc::default(),
        connectors: Arc::new(Connectors::new()),
        transformer: Arc::new(InPlace),
        lookups: LookupLimits::default(),
        sources: Arc::default(),
    }
}
