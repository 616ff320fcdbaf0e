//! The log of deliveries: found, counted, and taken out whole.

use axum::Json;
use axum::body::{Body, Bytes};
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use futures_util::stream::try_unfold;
use icp_core::delivery::{DeliveryState, LogEntry, LogPlace, LogQuery, LogSummary};
use icp_core::engine::Within;
use icp_core::letter::Category;

use super::DeliveryView;
use super::export::{Format, NDJSON};
use crate::auth::Reached;
use crate::extract::Query;
use crate::page::{Listing, Pager};
use crate::problem::Result;

pub(super) const LIST: &[&str] = &[
    "limit",
    "cursor",
    "state",
    "event",
    "event_type",
    "idempotency_key",
    "integration",
    "category",
    "code",
    "since",
    "until",
];
/// The filters alone.
pub(super) const FILTERS: &[&str] = &[
    "state",
    "event",
    "event_type",
    "idempotency_key",
    "integration",
    "category",
    "code",
    "since",
    "until",
];
pub(super) const EXPORT: &[&str] = &[
    "format",
    "state",
    "event",
    "event_type",
    "idempotency_key",
    "integration",
    "category",
    "code",
    "since",
    "until",
];

/// How many deliveries an export holds at once.
const BATCH: usize = 500;

pub(super) async fn list(
    Reached(within): Reached,
    query: Query,
) -> Result<Json<Listing<DeliveryView>>> {
    let query = query.only(LIST)?;
    let pager = Pager::of(&query)?;
    let page = pager.query::<LogPlace>()?;
    let wanted = LogQuery { after: page.after, limit: page.limit, ..wanted(&query)? };
    let page = within.delivery_log(&wanted).await?;
    let view = |entry: LogEntry| DeliveryView::from(entry.delivery);
    Ok(Json(pager.listing_to(page.entries.into_iter().map(view).collect(), page.next)))
}

pub(super) async fn summary(Reached(within): Reached, query: Query) -> Result<Json<LogSummary>> {
    let wanted = wanted(&query.only(FILTERS)?)?;
    Ok(Json(within.delivery_log_summary(&wanted).await?))
}

/// Streams what the filters take, a batch at a time. A failure half-way breaks the connection off,
/// so that no reader takes a part for the whole.
pub(super) async fn export(Reached(within): Reached, query: Query) -> Result<Response> {
    let query = query.only(EXPORT)?;
    let format = match query.one("format")? {
        None => Format::Ndjson,
        Some(text) => Format::of(text)
            .ok_or_else(|| query.refuse("format", "is not a format; use `ndjson` or `csv`"))?,
    };
    let wanted = LogQuery { limit: BATCH, ..wanted(&query)? };
    wanted.check()?;
    let walk = Walk { within, wanted, format, begun: false, done: false };
    let name = format!("attachment; filename=\"deliveries.{}\"", format.extension());
    let body = Body::from_stream(try_unfold(walk, Walk::step));
    Ok(([(CONTENT_TYPE, format.media()), (CONTENT_DISPOSITION, &name)], body).into_response())
}

/// The media type that the document names; CSV goes too.
pub(super) const EXPORTED: &str = NDJSON;

struct Walk {
    within: Within,
    wanted: LogQuery,
    format: Format,
    begun: bool,
    done: bool,
}

impl Walk {
    async fn step(mut self) -> icp_core::Result<Option<(Bytes, Self)>> {
        let mut text = String::new();
        if !self.begun {
            self.begun = true;
            self.format.head(&mut text);
        }
        while text.is_empty() && !self.done {
            let page = self.within.delivery_log_with_errors(&self.wanted).await?;
            page.entries.iter().for_each(|entry| self.format.row(entry, &mut text));
            self.done = page.next.is_none();
            self.wanted.after = page.next;
        }
        Ok((!text.is_empty()).then(|| (Bytes::from(text), self)))
    }
}

fn wanted(query: &Query) -> Result<LogQuery> {
    Ok(LogQuery {
        states: states(query)?,
        event: query.typed("event")?,
        event_type: query.typed("event_type")?,
        idempotency_key: query.one("idempotency_key")?.map(str::to_owned),
        integration: query.typed("integration")?,
        category: category(query)?,
        code: query.one("code")?.map(str::to_owned),
        since: query.typed("since")?,
        until: query.typed("until")?,
        after: None,
        limit: 1,
    })
}

/// Several states with commas in between, or the parameter several times.
fn states(query: &Query) -> Result<Vec<DeliveryState>> {
    let names = query.all("state").flat_map(|text| text.split(','));
    let read = |name: &str| {
        name.parse().map_err(|error: icp_core::Error| query.refuse("state", error.message()))
    };
    names.map(read).collect()
}

fn category(query: &Query) -> Result<Option<Category>> {
    let Some(text) = query.one("category")? else { return Ok(None) };
    let read = serde_json::from_value(serde_json::Value::from(text));
    read.map(Some).map_err(|error| query.refuse("category", error.to_string()))
}
