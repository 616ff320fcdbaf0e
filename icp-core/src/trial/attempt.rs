use std::sync::Arc;

use bytes::Bytes;

use super::curl::{self, CurlCommand};
use super::run::{transformed, why};
use crate::delivery::{Attempt, Delivery};
use crate::engine::Engine;
use crate::engine::core::OrgView;
use crate::error::{Code, Error, Result};
use crate::event::{Event, TraceContext};
use crate::id::{DeliveryId, OrgId};
use crate::integration::{Bound, IntegrationSpec, Outgoing, Preview};
use crate::resource::Spec;

/// An attempt as a command.
pub(crate) async fn attempt_curl(
    engine: &Engine,
    org: &OrgId,
    id: DeliveryId,
    number: u32,
    epoch: Option<u32>,
) -> Result<CurlCommand> {
    let delivery = engine.delivery(org, id).await?;
    let attempts = engine.attempts(org, id).await?;
    let is_meant = |attempt: &Attempt| {
        attempt.number == number && epoch.is_none_or(|epoch| attempt.epoch == epoch)
    };
    let Some(attempt) = attempts.into_iter().rfind(is_meant) else {
        let message = format!("the delivery has no attempt {number}; see its attempts");
        return Err(Error::new(Code::AttemptNotFound, message));
    };
    let event = engine.event(org, delivery.event).await?;
    let view = engine.core().org(org).await?;
    let bound = match view.matching.bound(&delivery.integration) {
        Some(Ok(bound)) => Arc::clone(bound),
        Some(Err(_)) => return bare(&attempt, &event, "the integration cannot be used"),
        None => return bare(&attempt, &event, "the integration was deleted"),
    };
    let mut notes = Vec::new();
    notes.extend(erased(&event));
    if changed_since(engine, &delivery, &attempt).await? {
        notes.push(
            "the integration was changed after the attempt: the header fields and the body are \
             those of now"
                .to_owned(),
        );
    }
    let mut preview =
        remade(engine, &view, &bound, &delivery, &attempt, &event, &mut notes).await?;
    match &attempt.exchange {
        None if event.erased_at.is_some() => {}
        None => notes.push("the attempt itself sent nothing".to_owned()),
        Some(sent) if sent.method == preview.method && leads_to(&preview.url, &sent.url) => {}
        Some(sent) => {
            notes.push("the method and the address are those of then".to_owned());
            preview.method.clone_from(&sent.method);
            preview.url.clone_from(&sent.url);
        }
    }
    Ok(CurlCommand::new(&preview, notes))
}

/// That the body is not that of then, because there is none any more.
fn erased(event: &Event) -> Option<String> {
    event.erased_at.map(|at| format!("the event was erased at {at}: its body is not what was sent"))
}

/// Whether an address is the one that was kept, but for a credential in its query.
fn leads_to(url: &str, kept: &str) -> bool {
    url.strip_prefix(kept).is_some_and(|rest| rest.is_empty() || rest.starts_with(['?', '&']))
}

/// The request as the integration would make it now.
async fn remade(
    engine: &Engine,
    view: &OrgView,
    bound: &Bound,
    delivery: &Delivery,
    attempt: &Attempt,
    event: &Event,
    notes: &mut Vec<String>,
) -> Result<Preview> {
    let body = match transformed(engine.core(), view, bound, event, attempt.number, None).await {
        Ok(body) => body.bytes,
        Err(outcome) => {
            notes.push(format!("the body cannot be known and is left out: {}", why(&outcome)));
            Bytes::new()
        }
    };
    if bound.integration.signs() {
        notes.push("the signatures are of now, by the keys of now".to_owned());
    }
    notes.extend(curl::unasked(&bound.integration));
    let trace = event.trace.clone().unwrap_or_else(|| TraceContext::of_event(event.id));
    let outgoing = Outgoing {
        event,
        delivery: delivery.id,
        epoch: attempt.epoch,
        number: attempt.number,
        body,
        now: engine.now(),
        trace: trace.child(u64::from(attempt.epoch)),
        round: delivery.round,
        test: false,
    };
    bound.target.preview(&outgoing)
}

async fn changed_since(engine: &Engine, delivery: &Delivery, attempt: &Attempt) -> Result<bool> {
    let store = &engine.core().store;
    let kind = IntegrationSpec::KIND;
    let record = store.resource(&delivery.org, kind, &delivery.integration).await?;
    Ok(record.is_none_or(|record| record.updated_at > attempt.started_at))
}

/// What the attempt itself tells, where its integration cannot be asked.
fn bare(attempt: &Attempt, event: &Event, why: &str) -> Result<CurlCommand> {
    let Some(sent) = &attempt.exchange else {
        let sent = if event.erased_at.is_some() { "was erased" } else { "is nothing" };
        let message = format!("what the attempt sent {sent}, and {why}");
        return Err(Error::new(Code::IntegrationNotFound, message));
    };
    let headers = [
        ("content-type", event.content_type.to_string()),
        ("webhook-id", event.id.to_string()),
        ("icp-event-type", event.event_type.to_string()),
        ("icp-delivery", attempt.delivery.to_string()),
        ("icp-attempt", attempt.number.to_string()),
    ];
    let preview = Preview {
        method: sent.method.clone(),
        url: sent.url.clone(),
        headers: headers.map(|(name, value)| (name.to_owned(), value)).into(),
        body: Bytes::new(),
    };
    let note = format!("{why}: the body and the other header fields cannot be known");
    Ok(CurlCommand::new(&preview, [Some(note), erased(event)].into_iter().flatten().collect()))
}
