//! Events: publish, list, show, explain.

mod envelope;
mod view;

use axum::Json;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use icp_core::Code;
use icp_core::access::{Area, Operation};
use icp_core::engine::{Explanation, Timeline};
use icp_core::event::{EventQuery, Published};

use crate::auth::Reached;
use crate::endpoint::{Endpoint, may};
use crate::extract::{Body, Params, Query, header};
use crate::page::{Listing, Pager};
use crate::problem::{Problem, Result};
use envelope::{Batch, IDEMPOTENCY_KEY};
pub(crate) use envelope::{Envelope, Sender};
use view::{BatchAnswer, BatchItem, EventSummaryView, EventView};

const LIST: &[&str] = &["limit", "cursor", "type", "idempotency_key", "since", "until"];
const MAX_BATCH: usize = 1_000;

pub(crate) fn endpoints() -> Vec<Endpoint> {
    let many = "/api/v1/organizations/{org}/events";
    let one = format!("{many}/{{id}}");
    let all = [
        Endpoint::post(may(Area::Events, Operation::Write), many, publish)
            .named("publishEvent", "Publishes one event; once answered, it is stored")
            .headers(&["Idempotency-Key", "traceparent", "tracestate"])
            .takes::<Envelope>()
            .answers::<Published>(202),
        Endpoint::post(may(Area::Events, Operation::Write), format!("{many}/batch"), publish_batch)
            .named("publishEvents", "Publishes up to 1,000 events; 207 where some are refused")
            .headers(&["traceparent", "tracestate"])
            .takes::<Batch>()
            .answers::<BatchAnswer>(202),
        Endpoint::get(may(Area::Events, Operation::Read), many, list)
            .named("listEvents", "Lists events without their bodies, newest first")
            .query(LIST)
            .answers::<Listing<EventSummaryView>>(200),
        Endpoint::get(may(Area::Events, Operation::Read), &one, get)
            .named("getEvent", "Shows one event with its body")
            .answers::<EventView>(200),
        Endpoint::get(may(Area::Traces, Operation::Read), format!("{one}/timeline"), timeline)
            .named("eventTimeline", "Tells what happened to the event, moment by moment")
            .answers::<Timeline>(200),
        Endpoint::get(may(Area::Traces, Operation::Read), format!("{one}/explain"), explain)
            .named("explainEvent", "Says why the event went, or did not go, to each integration")
            .answers::<Explanation>(200),
    ];
    all.into_iter().map(Endpoint::by_unit).collect()
}

async fn publish(
    Reached(within): Reached,
    query: Query,
    headers: HeaderMap,
    Body(envelope): Body<Envelope>,
) -> Result<(StatusCode, Json<Published>)> {
    query.only(&[])?;
    let event = envelope.event(within.org(), &Sender::of(&headers)?, "")?;
    Ok((StatusCode::ACCEPTED, Json(within.publish(event).await?)))
}

async fn publish_batch(
    Reached(within): Reached,
    query: Query,
    headers: HeaderMap,
    Body(batch): Body<Batch>,
) -> Result<Response> {
    query.only(&[])?;
    if header(&headers, IDEMPOTENCY_KEY)?.is_some() {
        let hint = "give each event of a batch an `idempotency_key` of its own";
        return Err(Problem::new(Code::HeaderInvalid, hint));
    }
    if batch.len() > MAX_BATCH {
        let hint = format!("the batch has {} events; send at most {MAX_BATCH}", batch.len());
        return Err(Problem::new(Code::BatchTooLarge, hint));
    }
    let read = batch.events(within.org(), &Sender::of(&headers)?);
    let good = read.iter().filter_map(|event| event.as_ref().ok().cloned()).collect();
    let mut published = within.publish_batch(good).await.into_iter();
    let results = read.into_iter().map(|event| {
        let answer = match event {
            Ok(_) => published.next().unwrap_or_else(|| {
                Err(icp_core::Error::new(Code::Internal, "the event got no answer"))
            }),
            Err(problem) => return BatchItem::refused(problem),
        };
        answer.map_or_else(|error| BatchItem::refused(error.into()), BatchItem::accepted)
    });
    let answer = BatchAnswer::of(results.collect());
    Ok((answer.status(), Json(answer)).into_response())
}

async fn list(Reached(within): Reached, query: Query) -> Result<Json<Listing<EventSummaryView>>> {
    let query = query.only(LIST)?;
    let pager = Pager::of(&query)?;
    let wanted = EventQuery {
        event_type: query.typed("type")?,
        idempotency_key: query.one("idempotency_key")?.map(str::to_owned),
        since: query.typed("since")?,
        until: query.typed("until")?,
        page: pager.query()?,
    };
    let page = within.events(&wanted).await?;
    let items = page.items.into_iter().map(EventSummaryView::from).collect();
    Ok(Json(pager.listing_to(items, page.next)))
}

async fn get(Reached(within): Reached, params: Params, query: Query) -> Result<Json<EventView>> {
    query.only(&[])?;
    let event = within.event(params.parse("id")?).await?;
    Ok(Json(EventView::from(event)))
}

async fn timeline(
    Reached(within): Reached,
    params: Params,
    query: Query,
) -> Result<Json<Timeline>> {
    query.only(&[])?;
    Ok(Json(within.timeline(params.parse("id")?).await?))
}

async fn explain(
    Reached(within): Reached,
    params: Params,
    query: Query,
) -> Result<Json<Explanation>> {
    query.only(&[])?;
    Ok(Json(within.explain(params.parse("id")?).await?))
}
