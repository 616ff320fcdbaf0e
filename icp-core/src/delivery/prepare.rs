//! What comes before an attempt sends anything: the condition that matching left open, and the
//! transformation.

use bytes::Bytes;

use super::attempt::{Ending, failed, record};
use super::condition;
use super::dispatch::Work;
use super::{AttemptOutcome, EndReason, Next};
use crate::engine::core::{Core, OrgView};
use crate::integration::filter::{Evaluation, Verdict};
use crate::integration::retry::RetrySpec;
use crate::integration::{Bound, Failure};
use crate::time::Timestamp;
use crate::transform::{Outcome, Transcript, TransformContext, TransformError};

/// The body to send, or how the attempt ends without one. `told` is what programs said.
pub(super) async fn body(
    core: &Core,
    work: &Work,
    view: &OrgView,
    bound: &Bound,
    now: Timestamp,
    told: &mut Option<Transcript>,
) -> Result<Bytes, Box<Ending>> {
    let integration = &bound.integration;
    if integration.deferred.is_none() && integration.plan.is_none() {
        return Ok(work.event.body.clone());
    }
    Box::pin(programmed(core, work, view, bound, now, told)).await
}

/// As [`body`], where a program judges the event or makes the body.
async fn programmed(
    core: &Core,
    work: &Work,
    view: &OrgView,
    bound: &Bound,
    now: Timestamp,
    told: &mut Option<Transcript>,
) -> Result<Bytes, Box<Ending>> {
    let (event, integration) = (&work.event, &bound.integration);
    if let Some(filter) = &integration.deferred {
        match condition::judge(core, view, filter, event, work.delivery.tries).await {
            Ok(Evaluation { verdict: Verdict::NoMatch { why }, .. }) => {
                return Err(Box::new(skipped(work, now, "filtered", why)));
            }
            Ok(_) => {}
            Err(error) => {
                *told = error.transcript();
                let failure = unjudged(&error, &integration.retry);
                return Err(Box::new(failed(core, work, bound, failure, None, now, now).await));
            }
        }
    }
    let Some(plan) = &integration.plan else { return Ok(event.body.clone()) };
    let outlet = core.outlet(&view.organization);
    let context = TransformContext {
        attempt: work.delivery.tries,
        integration: Some(integration.addressee()),
        vars: Some(&integration.vars),
        outlet: outlet.as_ref(),
        ..TransformContext::of(event, view.lookups.view(event.unit.as_ref()))
    };
    match core.transformer.run(plan, event.body.clone(), &context).await {
        Ok(report) => {
            *told = report.transcript();
            match report.outcome {
                Outcome::Value(body) => Ok(body),
                Outcome::Dropped { reason } => Err(Box::new(skipped(work, now, "dropped", reason))),
            }
        }
        Err(error) => {
            *told = error.transcript();
            let failure = untransformed(&error, &integration.retry);
            Err(Box::new(failed(core, work, bound, failure, None, now, now).await))
        }
    }
}

fn skipped(work: &Work, started: Timestamp, code: &str, reason: String) -> Ending {
    Ending {
        attempt: Some(record(work, AttemptOutcome::Skipped, started, None, Some(reason.clone()))),
        next: Next::Skipped { reason: EndReason::new(code, reason) },
        block_lane_until: None,
    }
}

fn untransformed(error: &TransformError, retry: &RetrySpec) -> Failure {
    let hint = retry.after_transform(error);
    Failure { class: error.class(), message: error.to_string(), hint }
}

/// Whether the event is wanted is not known: it is neither sent nor passed over.
fn unjudged(error: &TransformError, retry: &RetrySpec) -> Failure {
    let class = format!("filter_{}", error.code);
    Failure { class, ..untransformed(error, retry) }
}
