//! One attempt: transform, sign, send, judge.
//!
//! What fails is boxed, as in [`dispatch`](super::dispatch).

use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use super::dispatch::Work;
use super::prepare;
use super::{Attempt, AttemptOutcome, EndReason, Next};
use crate::engine::core::{Core, OrgView};
use crate::error::{Code, Error, Result};
use crate::event::TraceContext;
use crate::integration::retry::{Decision, Past, RetrySpec};
use crate::integration::{
    Bound, Failure, Hint, IntegrationSpec, Judgement, OnFailure, Outgoing, Sent, order,
};
use crate::notice;
use crate::resource::Spec;
use crate::time::Timestamp;

/// Why an integration is switched off whose receiver answers 410.
const GONE: &str = "gone";

/// How a lease ends.
#[derive(Debug)]
pub(crate) struct Ending {
    pub(crate) attempt: Option<Attempt>,
    pub(crate) next: Next,
    pub(crate) block_lane_until: Option<Timestamp>,
}

impl Ending {
    fn untried(next: Next) -> Self {
        Self { attempt: None, next, block_lane_until: None }
    }

    /// Nothing was sent, or it does not count: the try is given back.
    pub(crate) fn released(now: Timestamp) -> Self {
        Self::untried(Next::Refund { due_at: now, throttled: false })
    }
}

/// How far an attempt got, for the case that it breaks off.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    started: OnceLock<Timestamp>,
    sending: OnceLock<()>,
}

/// Makes an attempt.
pub(crate) async fn run(core: &Core, work: &Work, progress: &Progress) -> Ending {
    let delivery = &work.delivery;
    let now = core.clock.now();
    if delivery.expires_at.is_some_and(|expires| expires <= now) {
        return Ending::untried(Next::Expired);
    }
    if work.event.erased_at.is_some() {
        let reason = EndReason::new("erased", "the event was erased");
        return Ending::untried(Next::Cancelled { reason });
    }
    let (view, bound) = match target(core, work).await {
        Ok(found) => found,
        Err(ending) => return *ending,
    };
    if let Some(reason) = bound.integration.retry.before_try(since(work), now) {
        return Ending::untried(Next::Dead { reason });
    }
    if core.clock.monotonic() >= work.trusted_until && !still_held(core, work) {
        return Ending::released(now);
    }
    if delivery.tries == 1 {
        core.metrics.first_attempt_seconds.observe(now.since(delivery.due_at).as_secs_f64());
    }
    core.metrics.attempts.inc();
    let started = core.clock.monotonic();
    let _ = progress.started.set(now);
    let ending = attempt(core, work, &view, &bound, now, progress).await;
    core.metrics.attempt_seconds.observe((core.clock.monotonic() - started).as_secs_f64());
    ending
}

/// From when the time counts that a delivery may take.
fn since(work: &Work) -> Timestamp {
    let made = work.delivery.created_at;
    work.event.due_at.map_or(made, |due_at| due_at.max(made))
}

/// The ending of an attempt that broke off.
pub(crate) async fn broken(
    core: &Core,
    work: &Work,
    failure: Failure,
    progress: &Progress,
) -> Ending {
    let now = core.clock.now();
    let started = progress.started.get().copied().unwrap_or(now);
    let mut ending = match target(core, work).await {
        Ok((_, bound)) => failed(core, work, &bound, failure, None, started, now).await,
        Err(_) => retried(work, &RetrySpec::default(), failure, None, started, now),
    };
    // The time of what was sent; that there is none tells that nothing was, which is no fault of
    // the receiver.
    if let Some(attempt) = ending.attempt.as_mut().filter(|_| progress.sending.get().is_some()) {
        let took = now.since(started).as_micros().max(1);
        attempt.timings.total = u64::try_from(took).unwrap_or(u64::MAX);
    }
    ending
}

fn still_held(core: &Core, work: &Work) -> bool {
    let now = core.clock.monotonic();
    core.leases().get(&work.delivery.id).is_some_and(|held| held.until > now)
}

/// The integration as it is configured now, or how the lease ends without it.
async fn target(core: &Core, work: &Work) -> Result<(Arc<OrgView>, Arc<Bound>), Box<Ending>> {
    let cancelled = |code: &str, message: &str| {
        let reason = EndReason::new(code, message);
        Box::new(Ending::untried(Next::Cancelled { reason }))
    };
    let now = core.clock.now();
    let view: Arc<OrgView> = match core.org(&work.delivery.org).await {
        Ok(view) => view,
        Err(error) if error.code() == Code::OrganizationUnknown => {
            return Err(cancelled("organization_gone", "the organization was deleted"));
        }
        Err(error) => {
            report(work, &error);
            return Err(Box::new(later(core)));
        }
    };
    let bound = match view.matching.bound(&work.delivery.integration) {
        None => Err(cancelled("integration_gone", "the integration was deleted")),
        Some(Ok(bound)) if bound.integration.enabled => Ok(Arc::clone(bound)),
        // Its lanes are paused by the write that switched it off.
        Some(Ok(_)) => Err(Box::new(Ending::released(now))),
        Some(Err(error)) => {
            report(work, error);
            Err(Box::new(later(core)))
        }
    };
    bound.map(|bound| (view, bound))
}

/// The delivery waits a while, and the try is given back.
pub(crate) fn later(core: &Core) -> Ending {
    let due_at = core.clock.now() + core.config.poll * 10;
    Ending::untried(Next::Refund { due_at, throttled: false })
}

fn report(work: &Work, error: &Error) {
    tracing::error!(
        icp.delivery.id = %work.delivery.id,
        icp.integration.id = %work.delivery.integration,
        icp.error = error.code().as_str(),
        "a delivery waits because its integration cannot be used: {error}"
    );
}

async fn attempt(
    core: &Core,
    work: &Work,
    view: &OrgView,
    bound: &Bound,
    now: Timestamp,
    progress: &Progress,
) -> Ending {
    let mut told = None;
    let mut ending = match prepare::body(core, work, view, bound, now, &mut told).await {
        Ok(body) => sent(core, work, view, bound, body, now, progress).await,
        Err(ending) => *ending,
    };
    if let Some(attempt) = &mut ending.attempt {
        attempt.transcript = told.map(Arc::new);
    }
    ending
}

async fn sent(
    core: &Core,
    work: &Work,
    view: &OrgView,
    bound: &Bound,
    body: Bytes,
    now: Timestamp,
    progress: &Progress,
) -> Ending {
    let (delivery, event) = (&work.delivery, &work.event);
    let trace = event.trace.clone().unwrap_or_else(|| TraceContext::of_event(event.id));
    let outgoing = Outgoing {
        event,
        delivery: delivery.id,
        epoch: delivery.epoch,
        number: delivery.tries,
        round: delivery.round,
        body,
        now,
        trace: trace.child(span(work)),
        test: false,
    };
    let _ = progress.sending.set(());
    let sent = bound.target.send(outgoing).await;
    observe(core, work, view, bound, &sent.judgement);
    judged(core, work, view, bound, sent, now).await
}

/// Notes what an attempt showed of its endpoint. Operational events show nothing, so that telling
/// of an endpoint can give no cause to tell of it.
fn observe(core: &Core, work: &Work, view: &OrgView, bound: &Bound, judgement: &Judgement) {
    if work.event.event_type.is_operational() {
        return;
    }
    let (org, id) = (&work.delivery.org, &work.delivery.integration);
    let failing = view.failing.get(id).copied();
    match judgement {
        Judgement::Delivered => core.health.succeeded(org, id, failing.is_some()),
        Judgement::Failed(_) => {
            let limit = bound.integration.disable_after;
            core.health.failed(org, id, failing, limit, core.clock.now());
        }
    }
}

async fn judged(
    core: &Core,
    work: &Work,
    view: &OrgView,
    bound: &Bound,
    sent: Sent,
    started: Timestamp,
) -> Ending {
    let now = core.clock.now();
    match sent.judgement.clone() {
        Judgement::Delivered => Ending {
            attempt: Some(record(work, AttemptOutcome::Delivered, started, Some(&sent), None)),
            next: Next::Delivered,
            block_lane_until: None,
        },
        Judgement::Failed(failure) => {
            if failure.hint == Hint::Gone
                && let Err(error) = Box::pin(switch_off(core, work, view, bound)).await
            {
                report(work, &error);
            }
            Box::pin(failed(core, work, bound, failure, Some(&sent), started, now)).await
        }
    }
}

/// The receiver wants no more: the integration is switched off before the outcome is recorded,
/// so that a crash between the two loses neither. One that sends to another target by now stays
/// on: the answer is not of that one.
async fn switch_off(core: &Core, work: &Work, view: &OrgView, bound: &Bound) -> Result<()> {
    let (org, id) = (&work.delivery.org, &work.delivery.integration);
    let same = |spec: &serde_json::Value| bound.integration.aims_as(spec);
    let record = core.store.resource(org, IntegrationSpec::KIND, id).await?;
    if !record.is_some_and(|record| same(&record.spec)) {
        return Ok(());
    }
    let entry = view.entry.resource(IntegrationSpec::KIND, id);
    let version = entry.map_or(0, |entry| entry.revision.0);
    let told = if work.event.event_type.is_operational() {
        Ok(())
    } else {
        notice::disabled(core, org, id, version, None, GONE).await
    };
    let off = core.resources.switch_off_while(org, id, GONE, same).await;
    told.and(off)
}

/// The ending of a failed try: by the retry policy, then by what is due to those behind it.
pub(super) async fn failed(
    core: &Core,
    work: &Work,
    bound: &Bound,
    failure: Failure,
    sent: Option<&Sent>,
    started: Timestamp,
    now: Timestamp,
) -> Ending {
    let integration = &bound.integration;
    let mut ending = retried(work, &integration.retry, failure, sent, started, now);
    if integration.on_failure != OnFailure::Block {
        // The share is set anew with each change of the organization; this is for a new lane.
        let weight = core.org(&work.delivery.org).await.map_or(1, |org| org.organization.weight);
        let (most, rules) = (integration.max_in_flight, integration.rules);
        let beside = order::unordered(&work.delivery, most, weight, rules);
        ending.next = integration.on_failure.after_failure(&work.delivery, ending.next, beside);
    }
    ending
}

fn retried(
    work: &Work,
    retry: &RetrySpec,
    failure: Failure,
    sent: Option<&Sent>,
    started: Timestamp,
    now: Timestamp,
) -> Ending {
    let delivery = &work.delivery;
    let past = Past {
        tries: delivery.tries,
        throttles: delivery.throttles,
        since: since(work),
        expires_at: delivery.expires_at,
        now,
        seed: seed(work),
    };
    let status = sent.and_then(|sent| sent.status);
    let Decision { next, block_lane_until } = retry.after_failure(&failure, status, &past);
    let outcome = AttemptOutcome::Failed(failure.class);
    let attempt = record(work, outcome, started, sent, Some(failure.message));
    Ending { attempt: Some(attempt), next, block_lane_until }
}

pub(super) fn record(
    work: &Work,
    outcome: AttemptOutcome,
    started_at: Timestamp,
    sent: Option<&Sent>,
    message: Option<String>,
) -> Attempt {
    Attempt {
        delivery: work.delivery.id,
        epoch: work.delivery.epoch,
        number: work.delivery.tries,
        started_at,
        outcome,
        status: sent.and_then(|sent| sent.status),
        timings: sent.map(|sent| sent.timings).unwrap_or_default(),
        exchange: sent.and_then(|sent| sent.exchange.clone()),
        message,
        transcript: None,
    }
}

fn seed(work: &Work) -> u64 {
    let id = u128::from_be_bytes(work.delivery.id.to_bytes());
    u64::try_from(id & u128::from(u64::MAX)).unwrap_or_default()
}

fn span(work: &Work) -> u64 {
    seed(work).rotate_left(work.delivery.epoch % 64) ^ u64::from(work.delivery.epoch)
}
