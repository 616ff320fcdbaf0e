//! What happens now, as server-sent events.

use std::convert::Infallible;
use std::fmt::Display;
use std::str::FromStr;
use std::time::Duration;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream::{Stream, unfold};
use icp_core::access::{Area, Operation};
use icp_core::live::{Live, LiveAttempt, LiveChange, LiveEnd};
use icp_core::resource::Revision;
use icp_core::{Code, Engine};
use serde::Serialize;
use serde_json::json;

use crate::endpoint::{Endpoint, may};
use crate::extract::{Params, Query, header};
use crate::problem::{Problem, Result};

const LAST_EVENT_ID: &str = "last-event-id";
const EVENT_STREAM: &str = "text/event-stream";

/// How often a comment says that the stream is alive.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// How long a reader waits before it comes again.
const RETRY: Duration = Duration::from_secs(2);

pub(crate) fn endpoints() -> Vec<Endpoint> {
    vec![
        Endpoint::get(
            may(Area::Deliveries, Operation::Read),
            "/api/v1/organizations/{org}/live/attempts",
            attempts,
        )
        .named("followAttempts", "Follows attempts as they are made, as server-sent events")
        .headers(&[LAST_EVENT_ID])
        .answers_as::<LiveAttempt>(200, EVENT_STREAM),
        Endpoint::get(
            may(Area::Audit, Operation::Read),
            "/api/v1/organizations/{org}/live/changes",
            changes,
        )
        .named("followChanges", "Follows changes of resources, as server-sent events")
        .headers(&[LAST_EVENT_ID])
        .answers_as::<LiveChange>(200, EVENT_STREAM),
    ]
}

async fn attempts(
    State(engine): State<Engine>,
    params: Params,
    query: Query,
    headers: HeaderMap,
) -> Result<Response> {
    query.only(&[])?;
    let stream = engine.live_attempts(&params.org()?, last(&headers)?).await?;
    let items = unfold(stream, |mut stream| async {
        let live = stream.next().await?;
        Some((told("attempt", live, LiveAttempt::cursor), stream))
    });
    Ok(response(items))
}

async fn changes(
    State(engine): State<Engine>,
    params: Params,
    query: Query,
    headers: HeaderMap,
) -> Result<Response> {
    query.only(&[])?;
    let after = last::<Number>(&headers)?.map(|Number(after)| Revision(after));
    let stream = engine.live_changes(&params.org()?, after).await?;
    let items = unfold(stream, |mut stream| async {
        let live = stream.next().await?;
        Some((told("change", live, |change: &LiveChange| change.revision), stream))
    });
    Ok(response(items))
}

/// A revision in the text form that an event's id has.
struct Number(u64);

impl FromStr for Number {
    type Err = icp_core::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let message = "is not the id of a change; send one as it came, or none";
        text.parse().map(Self).map_err(|_| icp_core::Error::new(Code::CursorInvalid, message))
    }
}

/// Where the reader was before; browsers send an empty id where they had none.
fn last<T: FromStr<Err = icp_core::Error>>(headers: &HeaderMap) -> Result<Option<T>> {
    let last = header(headers, LAST_EVENT_ID)?.filter(|last| !last.is_empty());
    last.map(str::parse).transpose().map_err(Problem::from)
}

fn told<T: Serialize, K: Display>(name: &str, live: Live<T>, key: impl Fn(&T) -> K) -> Event {
    match live {
        Live::Item(item) => {
            let event = Event::default().event(name).id(key(&item).to_string());
            // An attempt or a change always makes JSON.
            event.json_data(&item).unwrap_or_else(|_| Event::default().comment("unreadable"))
        }
        Live::Gap => Event::default().event("gap").data(json!({"code": "gap"}).to_string()),
        Live::End(why) => end(why),
        _ => Event::default().comment("unknown"),
    }
}

fn end(why: LiveEnd) -> Event {
    let event = Event::default().event("end").retry(RETRY);
    event.data(json!({ "reason": why }).to_string())
}

fn response(items: impl Stream<Item = Event> + Send + 'static) -> Response {
    use futures_util::StreamExt;
    let items = items.map(Ok::<_, Infallible>);
    let alive = KeepAlive::new().interval(HEARTBEAT).text("alive");
    // Intermediaries that gather answers would hold events back.
    ([("x-accel-buffering", "no")], Sse::new(items).keep_alive(alive)).into_response()
}
