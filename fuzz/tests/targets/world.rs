//! What every target needs: one thread to run on, and the facts of an event.

use std::future::Future;

use icp_core::access::UnitTree;
use icp_core::event::{Event, EventLimits, EventType, NewEvent};
use icp_core::id::{EventId, OrgId, ResourceId};
use icp_core::lookup::{LookupSpec, Lookups};
use icp_core::resource::Revision;
use icp_core::time::Timestamp;
use icp_core::transform::{Plan, Report, TransformContext, TransformError, Transformer};
use serde_json::json;

const NOW: Timestamp = Timestamp::from_millis(1_795_232_700_123);

/// Runs to the end, on this thread.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(future)
}

pub(crate) fn org() -> OrgId {
    OrgId::new("acme").unwrap()
}

/// One table, `t`.
pub(crate) fn tables() -> Lookups {
    let entries = json!([
        { "key": "a", "value": { "a": 1, "b": ["x"] } },
        { "key": "DE", "value": "Germany" },
        { "key": "12", "value": 12 },
    ]);
    let spec = json!({ "entries": entries, "reverse": ["@", "a"], "on_missing": "keep" });
    let spec: LookupSpec = serde_json::from_value(spec).unwrap();
    Lookups::made_of(UnitTree::default(), [(ResourceId::new("t").unwrap(), spec)]).unwrap()
}

/// Runs a plan on a payload.
pub(crate) async fn run(
    transformer: &impl Transformer,
    plan: &Plan,
    input: Vec<u8>,
    tables: &Lookups,
) -> Result<Report, TransformError> {
    let (org, event_type) = (org(), EventType::new("order.paid").unwrap());
    let cx = TransformContext::new(
        &org,
        EventId::from_bytes([7; 16]),
        &event_type,
        NOW,
        tables.view(None),
    );
    transformer.run(plan, input.into(), &cx).await
}

/// An event with this body.
pub(crate) fn event(body: &serde_json::Value) -> Event {
    let limits = EventLimits::default();
    NewEvent::json("acme", "order.paid", body)
        .unwrap()
        .accept(EventId::from_bytes([1; 16]), NOW, Revision::ZERO, &limits)
        .unwrap()
}
