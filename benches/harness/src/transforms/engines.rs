//! What each engine costs by itself: processor time of its thread, payload in and out included, no
//! process in between.

use icp::id::OrgId;
use icp::sandbox::{InProcess, Limits};
use icp::transform::Plan;
use serde_json::{Value, json};

use super::{BATCHES, USUAL, call, javascript, job, native, order, per, plan};
use crate::report::{Goal, Report};
use crate::{Result, usage};

/// Calls of a batch.
const CALLS: usize = 40;

pub(crate) async fn run(report: &mut Report, n: f64) -> Result<()> {
    let mut limits = Limits::default();
    // Large payloads in builds that are not for figures.
    limits.deadline_ms = Limits::MAX.deadline_ms;
    let engine = Engine { by: InProcess::start(limits)?, org: OrgId::new("bench")? };
    let input = order(USUAL);
    let language = |name: &str, source: &str| json!({ name: { "source": source } });
    let empty = engine.cpu(&plan(json!({ "schema": {} }))?, &input).await?;
    let schema = engine.cpu(&plan(json!({ "schema": schema() }))?, &input).await? - empty;
    let mapping = engine.here(&plan(job("map"))?, &input).await?;
    for (what, cpu, most) in [
        ("simple mapping", mapping, 2.0),
        ("schema, over one that asks nothing", schema, 0.25),
        (
            "JMESPath, path",
            engine.of(language("jmespath", "customer.address.city"), &input).await?,
            1.2,
        ),
        ("JMESPath, map", engine.of(job("jmespath"), &input).await?, 3.0),
        (
            "JSONata, path",
            engine.of(language("jsonata", "customer.address.city"), &input).await?,
            1.2,
        ),
        ("JSONata, map", engine.of(job("jsonata"), &input).await?, 3.5),
    ] {
        report.goal(Goal::at_most(format!("transforms: {what}, CPU in N"), cpu / n, most));
    }
    let nothing = engine.cpu(&javascript("return 1")?, "1").await?;
    let mapped = engine.of(job("javascript"), &input).await?;
    let goals = [
        ("JavaScript, map beyond an empty program", (mapped - nothing) / n, 4.0),
        (
            "JavaScript, map with its isolate",
            engine.whole(&plan(job("javascript"))?, &input).await? / n,
            14.0,
        ),
    ];
    for (what, ratio, most) in goals {
        report.goal(Goal::at_most(format!("transforms: {what}, CPU in N"), ratio, most));
    }
    let isolate = engine.whole(&javascript("return 1")?, "1").await?;
    report.note(format!(
        "an isolate that runs an empty program: {:.1} N, of which {:.1} N while the call waits",
        isolate / n,
        nothing / n
    ));
    for kib in [16, 250] {
        let input = order(kib << 10);
        let n = native(&input)?;
        let ratio = engine.of(job("javascript"), &input).await? / n;
        let what = format!("transforms: JavaScript, map of {kib} KiB, CPU in N of that size");
        report.goal(Goal::at_most(what, ratio, 4.5));
    }
    Ok(())
}

struct Engine {
    by: InProcess,
    org: OrgId,
}

impl Engine {
    async fn of(&self, step: Value, input: &str) -> Result<f64> {
        self.cpu(&plan(step)?, input).await
    }

    /// Seconds of processor time as the engine tells them, the least mean of batches.
    async fn cpu(&self, plan: &Plan, input: &str) -> Result<f64> {
        let mut least = f64::MAX;
        for _ in 0..BATCHES {
            let mut sum = std::time::Duration::ZERO;
            for _ in 0..CALLS {
                sum += call(&self.by, &self.org, plan, input).await?.cpu;
            }
            least = least.min(per(sum, CALLS));
        }
        Ok(least)
    }

    /// Seconds of processor time of this process, with what the engine does ahead for the call
    /// that comes next, and with handing the call to its thread.
    async fn whole(&self, plan: &Plan, input: &str) -> Result<f64> {
        let mut least = f64::MAX;
        for _ in 0..BATCHES {
            let begun = usage::cpu();
            for _ in 0..CALLS {
                call(&self.by, &self.org, plan, input).await?;
            }
            least = least.min(per(usage::cpu() - begun, CALLS));
        }
        Ok(least)
    }

    /// The same of a plan that runs on this thread.
    async fn here(&self, plan: &Plan, input: &str) -> Result<f64> {
        let mut least = f64::MAX;
        for _ in 0..BATCHES {
            let begun = usage::thread_cpu();
            for _ in 0..CALLS {
                call(&self.by, &self.org, plan, input).await?;
            }
            least = least.min(per(usage::thread_cpu() - begun, CALLS));
        }
        Ok(least)
    }
}

fn schema() -> Value {
    let text = json!({ "type": "string", "minLength": 1, "maxLength": 200 });
    json!({
        "type": "object",
        "required": ["id", "customer", "lines"],
        "properties": {
            "id": { "type": "string", "pattern": "^ord_[0-9_]+$" },
            "customer": { "type": "object", "required": ["name"], "properties": {
                "name": text, "address": { "type": "object", "additionalProperties": text },
            } },
            "currency": { "enum": ["EUR", "USD", "GBP"] },
            "lines": { "type": "array", "minItems": 1, "items": {
                "type": "object",
                "required": ["sku", "quantity", "price"],
                "properties": {
                    "sku": text,
                    "quantity": { "type": "integer", "minimum": 1 },
                    "price": { "type": "number", "exclusiveMinimum": 0 },
                },
            } },
        },
    })
}
