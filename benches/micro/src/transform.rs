//! Transformations of an order of 1 KiB.

use std::fmt::Write;
use std::hint::black_box;

use bytes::Bytes;
use icp::event::EventType;
use icp::id::{EventId, OrgId};
use icp::lookup::Lookups;
use icp::sandbox::{InProcess, Limits};
use icp::transform::{InPlace, Outcome, Plan, PlanSpec, TransformContext, Transformer};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::{NOW, Round};

/// Four names changed and a list of lines shaped anew, where it is called.
#[must_use]
pub fn mapping() -> Round {
    let lines = json!([
        { "target": "article", "from": "sku" },
        { "target": "count", "from": "quantity", "cast": "string" },
    ]);
    let rules = json!([
        { "target": "number", "from": "id" },
        { "target": "buyer", "from": "customer.name" },
        { "target": "city", "from": "customer.city" },
        { "target": "lines", "from": "lines", "each": lines },
    ]);
    by(InPlace, &json!([{ "map": { "base": "empty", "rules": rules } }]))
}

/// The same by an expression, in a thread of this process.
#[must_use]
pub fn jmespath() -> Round {
    let source = "{number: id, buyer: customer.name, city: customer.city, \
                  lines: lines[].{article: sku, count: to_string(quantity)}}";
    let by_thread = InProcess::start(Limits::default()).unwrap();
    by(by_thread, &json!([{ "jmespath": { "source": source } }]))
}

fn by(transformer: impl Transformer, plan: &Value) -> Round {
    let spec: PlanSpec = serde_json::from_value(plan.clone()).unwrap();
    let plan = spec.compile("/transform").unwrap();
    let (runtime, order, lookups) = (runtime(), order(), Lookups::default());
    let (org, event_type) = (OrgId::new("acme").unwrap(), EventType::new("order.paid").unwrap());
    let event = EventId::from_bytes([7; 16]);
    Box::new(move || {
        let cx = TransformContext::new(&org, event, &event_type, NOW, lookups.view(None));
        let report = runtime.block_on(run(&transformer, &plan, order.clone(), &cx));
        assert!(matches!(black_box(report), Outcome::Value(_)));
    })
}

async fn run(
    transformer: &impl Transformer,
    plan: &Plan,
    order: Bytes,
    cx: &TransformContext<'_>,
) -> Outcome {
    transformer.run(plan, order, cx).await.unwrap().outcome
}

/// What operations run on, where they wait for something.
pub(crate) fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// An order of 1 KiB of JSON.
#[must_use]
pub fn order() -> Bytes {
    let mut text = r#"{"id":"ord_000017","paid":true,"amount":4200,"#.to_owned();
    text += r#""customer":{"name":"Ada Example","city":"Berlin"},"lines":["#;
    let mut comma = "";
    for number in 0..20 {
        write!(text, r#"{comma}{{"sku":"SKU-{number:06}","quantity":{}}}"#, number % 7 + 1)
            .unwrap();
        comma = ",";
    }
    text += r#"],"note":""#;
    while text.len() < 1_022 {
        text.push('x');
    }
    (text + r#""}"#).into()
}
