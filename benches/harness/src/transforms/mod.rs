//! Programs in transformations, beside parsing and writing the same payload natively.

mod crowd;
mod engines;
mod workers;

use std::fmt::Write as _;

use icp::event::EventType;
use icp::id::{EventId, OrgId};
use icp::lookup::Lookups;
use icp::sandbox::{Limits, Sandbox};
use icp::time::Timestamp;
use icp::transform::{Plan, PlanSpec, Report as Done, TransformContext, Transformer};
use serde_json::{Value, json};

use crate::report::Report;
use crate::{Result, usage};

/// The payload that figures are of where nothing else is said, in bytes.
const USUAL: usize = 1_096;

/// How often a figure is taken; the least counts, as others use the machine as well.
const BATCHES: usize = 30;

pub(crate) async fn run(report: &mut Report, scale: f64) -> Result<()> {
    let native = native(&order(USUAL))?;
    report.note(format!(
        "N, parsing and writing an order of {USUAL} bytes natively: {:.2} µs of CPU",
        native * 1e6
    ));
    engines::run(report, native).await?;
    workers::run(report, native, scale).await?;
    crowd::run(report, scale).await
}

/// An order of about so many bytes.
fn order(bytes: usize) -> String {
    let mut text = r#"{"id":"ord_20261121_000017","customer":{"name":"Ada Example","email":"ada@example.com","address":{"street":"12 Long Road","city":"Berlin","zip":"10115"}},"currency":"EUR","note":null,"paid":true,"lines":["#
        .to_owned();
    let mut number = 0;
    while text.len() + 2 < bytes.max(400) {
        let comma = if number == 0 { "" } else { "," };
        let (count, cents) = (number % 7 + 1, number % 90 + 10);
        // Writing to a text cannot fail.
        let _ = write!(
            text,
            r#"{comma}{{"sku":"SKU-{number:06}","quantity":{count},"price":{count}.{cents},"tax":"19"}}"#
        );
        number += 1;
    }
    text + "]}"
}

/// Seconds of processor time for parsing and writing a payload natively.
fn native(text: &str) -> Result<f64> {
    let times = 2_000_000 / text.len().max(1);
    let mut least = f64::MAX;
    for _ in 0..BATCHES {
        let begun = usage::thread_cpu();
        for _ in 0..times {
            let value: Value = serde_json::from_str(std::hint::black_box(text))?;
            std::hint::black_box(serde_json::to_vec(&value)?);
        }
        least = least.min(per(usage::thread_cpu() - begun, times));
    }
    Ok(least)
}

#[expect(clippy::cast_precision_loss, reason = "counts are small")]
fn per(time: std::time::Duration, times: usize) -> f64 {
    time.as_secs_f64() / times.max(1) as f64
}

/// What an order becomes in each language: names changed, lines reduced, a sum.
fn job(language: &str) -> Value {
    match language {
        "map" => json!({ "map": { "base": "empty", "rules": [
            { "target": "number", "from": "id" },
            { "target": "buyer", "from": "customer.name" },
            { "target": "city", "from": "customer.address.city" },
            { "target": "lines", "from": "lines", "each": [
                { "target": "article", "from": "sku" },
                { "target": "count", "from": "quantity" },
                { "target": "price", "from": "price", "cast": "string" },
            ] },
        ] } }),
        "jmespath" => json!({ "jmespath": { "source":
            "{number: id, buyer: customer.name, city: customer.address.city, \
             lines: lines[].{article: sku, count: quantity, price: price}, \
             total: sum(lines[].price)}" } }),
        "jsonata" => json!({ "jsonata": { "source":
            "{'number': id, 'buyer': customer.name, 'city': customer.address.city, \
             'lines': lines.{'article': sku, 'count': quantity, 'total': $round(quantity * price, 2)}, \
             'total': $round($sum(lines.(quantity * price)), 2)}" } }),
        _ => json!({ "javascript": { "source":
            "const cents = (n) => Math.round(n * 100) / 100;
             const lines = payload.lines.map((l) => ({
               article: l.sku, count: l.quantity, total: cents(l.quantity * l.price),
             }));
             return {
               number: payload.id, buyer: payload.customer.name, city: payload.customer.address.city,
               lines, total: cents(lines.reduce((sum, l) => sum + l.total, 0)),
             };" } }),
    }
}

fn plan(step: Value) -> Result<Plan> {
    let spec: PlanSpec = serde_json::from_value(Value::from(vec![step]))?;
    spec.compile("/transform").map_err(|found| format!("{found:?}").into())
}

fn javascript(source: &str) -> Result<Plan> {
    plan(json!({ "javascript": { "source": source } }))
}

/// Runs a plan for an organization.
async fn call(by: &impl Transformer, org: &OrgId, plan: &Plan, input: &str) -> Result<Done> {
    let lookups = Lookups::default();
    let event_type = EventType::new("order.paid")?;
    let cx = TransformContext::new(
        org,
        EventId::from_bytes([7; 16]),
        &event_type,
        Timestamp::from_millis(1_795_232_700_123),
        lookups.view(None),
    );
    by.run(plan, input.to_owned().into(), &cx).await.map_err(|error| error.to_string().into())
}

/// A sandbox whose workers are the program `icp-sandbox` beside this one, where it was built, and
/// this program otherwise.
fn sandbox(workers: Option<usize>, limits: Limits) -> Result<(Sandbox, &'static str)> {
    let builder = |builder: icp::sandbox::Builder| match workers {
        Some(most) => builder.workers(most),
        None => builder,
    };
    if let Ok(found) = builder(Sandbox::builder()).limits(limits.clone()).build() {
        return Ok((found, "icp-sandbox"));
    }
    let own = Sandbox::builder().own_executable();
    Ok((builder(own).limits(limits).build()?, "the harness itself"))
}

/// The share `part` of sorted figures.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "counts are small and positive"
)]
fn quantile(sorted: &[f64], part: f64) -> f64 {
    let at = ((sorted.len() as f64 * part) as usize).min(sorted.len().saturating_sub(1));
    sorted.get(at).copied().unwrap_or_default()
}

fn sorted(mut figures: Vec<f64>) -> Vec<f64> {
    figures.sort_unstable_by(f64::total_cmp);
    figures
}
