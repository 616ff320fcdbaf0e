use std::iter::once;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::json;

use super::curl::{self, CurlCommand};
use super::{EVENT_TYPE, Sample, TestOf, TestOutcome, TestReport, TestResponse};
use crate::delivery::{AttemptTimings, condition};
use crate::engine::core::{Core, OrgView};
use crate::error::{Code, Error, Result, Violation};
use crate::event::{self, Event, NewEvent, TraceContext};
use crate::id::{DeliveryId, OrgId, ResourceId};
use crate::integration::filter::{Evaluation, Verdict};
use crate::integration::{
    Bound, CompiledIntegration, Failure, Hint, IntegrationSpec, Judgement, MatchIndex, MatchReason,
    Outgoing, Sent,
};
use crate::transform::{Outcome, Outlet, Plan, Report, TransformContext, TransformError};

/// Makes one test delivery.
pub(crate) async fn test(
    core: &Core,
    org: &OrgId,
    of: TestOf,
    sample: Sample,
) -> Result<TestReport> {
    // Organizations that do not exist must not take the place of those that do.
    core.org(org).await?;
    core.tests.admit(org, core.clock.monotonic())?;
    let trial = Trial::of(core, org, of, sample).await?;
    let mut report = trial.report();
    let outlet = core.outlet(&trial.view.organization);
    let body = match trial.body(core, outlet.as_ref()).await {
        Ok(Body { bytes, warnings, console }) => {
            report.warnings = warnings;
            report.console = console;
            bytes
        }
        Err(outcome) => return Ok(TestReport { outcome, ..report }),
    };
    let outgoing = trial.outgoing(core, body);
    match trial.bound.target.preview(&outgoing) {
        Ok(preview) => report.request = Some(preview),
        Err(error) => {
            let (class, message) = (error.code().as_str().to_owned(), error.message().to_owned());
            return Ok(TestReport { outcome: TestOutcome::Unsent { class, message }, ..report });
        }
    }
    let sending = trial.bound.target.send(outgoing);
    match tokio::time::timeout(core.config.attempt_deadline, sending).await {
        Ok(sent) => Ok(answered(report, sent)),
        Err(_) => {
            let message = "the attempt took too long".to_owned();
            let outcome = TestOutcome::Failed { class: "timeout_attempt".to_owned(), message };
            Ok(TestReport { outcome, ..report })
        }
    }
}

/// The request of a test as a command.
pub(crate) async fn integration_curl(
    core: &Core,
    org: &OrgId,
    of: TestOf,
    sample: Sample,
) -> Result<CurlCommand> {
    let trial = Trial::of(core, org, of, sample).await?;
    let mut notes: Vec<_> = curl::unasked(&trial.bound.integration).into_iter().collect();
    let made = trial.body(core, None).await;
    let body = made.as_ref().map_or_else(|_| Bytes::new(), |body| body.bytes.clone());
    let preview = trial.bound.target.preview(&trial.outgoing(core, body))?;
    match made {
        Ok(Body { warnings, .. }) => notes.extend(warnings),
        Err(outcome) => notes.push(format!("the body is left out: {}", why(&outcome))),
    }
    Ok(CurlCommand::new(&preview, notes))
}

/// What is tried out, and with what.
struct Trial {
    event: Event,
    view: Arc<OrgView>,
    bound: Arc<Bound>,
    matching: Option<MatchReason>,
    /// Why it is not known whether the integration takes the sample.
    unjudged: Option<TransformError>,
    unmatched: bool,
}

impl Trial {
    async fn of(core: &Core, org: &OrgId, of: TestOf, sample: Sample) -> Result<Self> {
        let asked = sample.event.is_some();
        let event = sample.event.map_or_else(|| ping(core, org), Ok)?;
        if event.org() != org.as_str() {
            let violation = Violation::new("/org", "ambiguous", "is another organization");
            return Err(Error::violations(Code::EventInvalid, vec![violation]));
        }
        let (event, view) = event::publish::accept_own(core, event).await?;
        let (id, draft) = match of {
            TestOf::Saved(id) => (id, None),
            TestOf::Draft(spec) => {
                let id = ResourceId::generate(core.ids.as_ref());
                let draft = draft(core, &view, &id, &spec).await?;
                (id, Some(draft))
            }
        };
        let index = draft.as_ref().unwrap_or(&view.matching);
        let Some(bound) = index.bound(&id) else {
            let message = format!("there is no integration `{id}`");
            return Err(Error::new(Code::ResourceNotFound, message));
        };
        let bound = Arc::clone(bound.as_ref().map_err(Clone::clone)?);
        let mut matching = if asked { index.would_match(&id, &event) } else { None };
        let mut unjudged = None;
        if let Some(filter) = &bound.integration.deferred
            && matching.as_ref().is_some_and(MatchReason::is_match)
        {
            match condition::judge(core, &view, filter, &event, 1).await {
                Ok(Evaluation { verdict: Verdict::Match, .. }) => {}
                Ok(judged) => matching = Some(judged.verdict.into()),
                Err(error) => unjudged = Some(error),
            }
        }
        Ok(Self { event, view, bound, matching, unjudged, unmatched: sample.unmatched })
    }

    fn report(&self) -> TestReport {
        TestReport {
            event: self.event.id,
            event_type: self.event.event_type.clone(),
            enabled: self.bound.integration.enabled,
            matching: self.matching.clone(),
            outcome: TestOutcome::Unmatched,
            warnings: Vec::new(),
            console: Vec::new(),
            request: None,
            response: None,
            timings: AttemptTimings::default(),
        }
    }

    /// The body to send, or why there is none.
    async fn body(&self, core: &Core, outlet: Option<&Outlet>) -> Result<Body, TestOutcome> {
        let taken = self.matching.as_ref().is_none_or(MatchReason::is_match);
        if !taken && !self.unmatched {
            return Err(TestOutcome::Unmatched);
        }
        if let Some(error) = &self.unjudged {
            return Err(untransformed(format!("filter_{}", error.code), error.clone()));
        }
        transformed(core, &self.view, &self.bound, &self.event, 1, outlet).await
    }

    fn outgoing(&self, core: &Core, body: Bytes) -> Outgoing<'_> {
        let event = &self.event;
        let delivery = DeliveryId::generate(core.ids.as_ref());
        let trace = event.trace.clone().unwrap_or_else(|| TraceContext::of_event(event.id));
        Outgoing {
            event,
            delivery,
            epoch: 1,
            number: 1,
            body,
            now: core.clock.now(),
            trace: trace.child(span(delivery)),
            round: 0,
            test: true,
        }
    }
}

/// The span that a test is in: the half of its id that is drawn at random.
fn span(delivery: DeliveryId) -> u64 {
    let [.., a, b, c, d, e, f, g, h] = delivery.to_bytes();
    u64::from_be_bytes([a, b, c, d, e, f, g, h])
}

fn ping(core: &Core, org: &OrgId) -> Result<NewEvent> {
    let body = json!({ "test": true, "org": org.as_str(), "at": core.clock.now() });
    NewEvent::json(org.as_str(), EVENT_TYPE, &body)
}

/// An index of nothing but a draft.
async fn draft(
    core: &Core,
    view: &OrgView,
    id: &ResourceId,
    spec: &serde_json::Value,
) -> Result<MatchIndex> {
    let resources = &core.resources;
    let compiled = resources.compile_draft::<IntegrationSpec, _>(&view.entry, id, spec).await?;
    Ok(MatchIndex::new(&view.organization, once((id.clone(), Ok(compiled)))))
}

/// The body of an event as an integration sends it.
#[derive(Default)]
pub(super) struct Body {
    pub(super) bytes: Bytes,
    pub(super) warnings: Vec<String>,
    console: Vec<String>,
}

/// The body of an event as an integration sends it, or why there is none. Its programs send
/// requests only where `outlet` is given: what only shows something has no effect elsewhere.
pub(super) async fn transformed(
    core: &Core,
    view: &OrgView,
    bound: &Bound,
    event: &Event,
    attempt: u32,
    outlet: Option<&Outlet>,
) -> Result<Body, TestOutcome> {
    let Some(plan) = &bound.integration.plan else {
        return Ok(Body { bytes: event.body.clone(), ..Body::default() });
    };
    let scene = Scene { view, integration: Some(&bound.integration), outlet };
    made(run_plan(core, plan, event, attempt, scene).await)
}

/// What a plan is run with.
#[derive(Clone, Copy)]
pub(super) struct Scene<'a> {
    pub(super) view: &'a OrgView,
    /// The integration whose plan it is; none for a plan by itself.
    pub(super) integration: Option<&'a CompiledIntegration>,
    pub(super) outlet: Option<&'a Outlet>,
}

/// Runs a plan on the body of an event, as an attempt of a delivery would.
pub(super) async fn run_plan(
    core: &Core,
    plan: &Plan,
    event: &Event,
    attempt: u32,
    scene: Scene<'_>,
) -> Result<Report, TransformError> {
    let context = TransformContext {
        attempt,
        integration: scene.integration.map(CompiledIntegration::addressee),
        vars: scene.integration.map(|integration| &integration.vars),
        outlet: scene.outlet,
        measure: true,
        ..TransformContext::of(event, scene.view.lookups.view(event.unit.as_ref()))
    };
    core.transformer.run(plan, event.body.clone(), &context).await
}

fn made(ran: Result<Report, TransformError>) -> Result<Body, TestOutcome> {
    match ran {
        Ok(report) => match report.outcome {
            Outcome::Value(bytes) => {
                Ok(Body { bytes, warnings: report.warnings, console: report.console })
            }
            Outcome::Dropped { reason } => Err(TestOutcome::Dropped { reason }),
        },
        Err(error) => Err(untransformed(error.class(), error)),
    }
}

fn untransformed(class: String, error: TransformError) -> TestOutcome {
    let TransformError { message, pointer, origin, .. } = error;
    TestOutcome::Untransformed { class, message, pointer, origin }
}

fn answered(report: TestReport, sent: Sent) -> TestReport {
    let outcome = match sent.judgement {
        Judgement::Delivered => TestOutcome::Delivered,
        Judgement::Failed(Failure { class, message, hint }) => {
            let impossible = matches!(hint, Hint::Refused | Hint::Impossible);
            if sent.status.is_none() && (impossible || sent.exchange.is_none()) {
                TestOutcome::Unsent { class, message }
            } else {
                TestOutcome::Failed { class, message }
            }
        }
    };
    let response = sent.status.zip(sent.exchange).map(|(status, exchange)| TestResponse {
        status,
        headers: exchange.response_headers.clone(),
        body: exchange.response_body.clone(),
        truncated: exchange.response_truncated,
    });
    TestReport { outcome, response, timings: sent.timings, ..report }
}

/// Why there is no body, for people.
pub(super) fn why(outcome: &TestOutcome) -> &str {
    match outcome {
        TestOutcome::Unmatched => "the integration does not take the event",
        TestOutcome::Dropped { .. } => "the transformation drops the event",
        TestOutcome::Untransformed { message, .. }
        | TestOutcome::Failed { message, .. }
        | TestOutcome::Unsent { message, .. } => message,
        TestOutcome::Delivered => "nothing is wrong",
    }
}
