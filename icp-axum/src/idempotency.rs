//! Requests that may be sent again: done once, and answered as the first time.

use std::fmt::Write as _;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{FromRequest, MatchedPath, OriginalUri, Request};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, LOCATION};
use axum::http::uri::PathAndQuery;
use axum::http::{HeaderName, HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http_body_util::BodyExt;
use icp_core::access::Principal;
use icp_core::slot::{NewSlot, SlotExpect};
use icp_core::{Code, Engine};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::extract::{header, refused_body};
use crate::problem::{Problem, Result};
use crate::router::broken_off;

const KEY: &str = "idempotency-key";
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");
const MAX_KEY: usize = 255;

/// How long an answer is kept.
const KEPT: Duration = Duration::from_secs(24 * 60 * 60);

/// How long a request may run; after that its key is free, as its node was lost.
const RUNNING: Duration = Duration::from_secs(10 * 60);

/// The longest body of an answer that is kept, so that it fits into a slot.
const MAX_ANSWER: usize = 512 << 10;

/// Header fields that are kept with an answer.
const FIELDS: [HeaderName; 3] = [CONTENT_TYPE, ETAG, LOCATION];

/// Routes that mean something of their own by the key.
const OWN: [&str; 3] = ["/events", "/events/batch", "/events/push"];

/// What is known of a key.
#[derive(Debug, Deserialize, Serialize)]
struct Record {
    /// The digest of method, address and body.
    print: String,
    /// Tells apart who claims a key at the same moment.
    claim: String,
    state: Progress,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
enum Progress {
    Running,
    Done(Kept),
    /// It was done, and its answer is not to be kept: too long, or it shows a secret.
    Unkept,
}

/// An answer as it was.
#[derive(Debug, Deserialize, Serialize)]
struct Kept {
    status: u16,
    fields: Vec<(String, String)>,
    /// In base 64.
    body: String,
}

/// Answers a `POST` with an `Idempotency-Key` once, and again what was answered then. What was
/// refused or failed is forgotten: the next request of the key is the first.
pub(crate) async fn once<F>(
    engine: &Engine,
    request: Request,
    then: impl FnOnce(Request) -> F + Send + 'static,
) -> Result<Response>
where
    F: Future<Output = Result<Response>> + Send + 'static,
{
    if *request.method() != Method::POST || has_own(&request) {
        return then(request).await;
    }
    let Some(key) = header(request.headers(), KEY)?.map(str::to_owned) else {
        return then(request).await;
    };
    if key.is_empty() || key.len() > MAX_KEY {
        let hint = format!("use an `{KEY}` of 1 to {MAX_KEY} characters");
        return Err(Problem::new(Code::HeaderInvalid, hint));
    }
    let caller = request.extensions().get::<Principal>().map(Principal::name).unwrap_or_default();
    let slot = format!("idem:{}", digest(&[caller.as_bytes(), key.as_bytes()]));
    let (request, print) = fingerprint(engine, request).await?;
    let now = engine.now();
    let claim = format!("{:032x}", engine.ids().next());
    let running = Record { print: print.clone(), claim, state: Progress::Running };
    let claimed =
        NewSlot { key: slot.clone(), value: text_of(&running)?, expires_at: now + RUNNING };
    if !engine.slots().put_slot(claimed, SlotExpect::Absent, now).await? {
        return known(engine, &slot, &print).await;
    }
    let version = NewSlot::version(SlotExpect::Absent, now);
    let engine = engine.clone();
    let work = async move {
        let response = then(request).await.into_response();
        settle(&engine, &slot, version, running, response).await
    };
    // A caller that hangs up must not leave it open whether the request was done.
    #[expect(clippy::disallowed_methods, reason = "awaited here; it outlives only who hung up")]
    let done = tokio::spawn(work).await;
    done.map_err(|fault| match fault.try_into_panic() {
        Ok(panic) => broken_off(&*panic),
        Err(_) => Problem::new(Code::Internal, "the request broke off as the server stops"),
    })?
}

fn has_own(request: &Request) -> bool {
    let path = request.extensions().get::<MatchedPath>();
    path.is_some_and(|path| OWN.iter().any(|own| path.as_str().ends_with(own)))
}

/// The request, and a digest of what it asks for.
async fn fingerprint(engine: &Engine, request: Request) -> Result<(Request, String)> {
    let (parts, body) = request.into_parts();
    let whole = Request::from_parts(parts.clone(), body);
    let bytes = Bytes::from_request(whole, engine).await.map_err(refused_body)?;
    let uri = parts.extensions.get::<OriginalUri>().map_or(&parts.uri, |original| &original.0);
    let address = uri.path_and_query().map(PathAndQuery::as_str).unwrap_or_default();
    let media = parts.headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    let print = digest(&[parts.method.as_str().as_bytes(), address.as_bytes(), media, &bytes]);
    Ok((Request::from_parts(parts, Body::from(bytes)), print))
}

/// Keeps the answer of what was done, and frees the key of what was not.
async fn settle(
    engine: &Engine,
    slot: &str,
    version: u64,
    running: Record,
    response: Response,
) -> Result<Response> {
    if !response.status().is_success() {
        engine.slots().remove_slot(slot, Some(version)).await?;
        return Ok(response);
    }
    let (parts, body) = response.into_parts();
    let body = body.collect().await.map_err(|_| {
        Problem::new(Code::Internal, "the answer broke off before it was written whole")
    })?;
    let body = body.to_bytes();
    let secret = parts.headers.get(CACHE_CONTROL).is_some_and(|value| value == "no-store");
    let state = if secret || body.len() > MAX_ANSWER {
        Progress::Unkept
    } else {
        let fields = FIELDS.iter().filter_map(|name| {
            let value = parts.headers.get(name)?.to_str().ok()?;
            Some((name.as_str().to_owned(), value.to_owned()))
        });
        let status = parts.status.as_u16();
        Progress::Done(Kept { status, fields: fields.collect(), body: STANDARD.encode(&body) })
    };
    let now = engine.now();
    let kept = NewSlot {
        key: slot.to_owned(),
        value: text_of(&Record { state, ..running })?,
        expires_at: now + KEPT,
    };
    if !engine.slots().put_slot(kept, SlotExpect::Version(version), now).await? {
        tracing::warn!("a request took so long that its idempotency key was free again");
    }
    Ok(Response::from_parts(parts, Body::from(body)))
}

/// The answer to a request whose key is taken.
async fn known(engine: &Engine, slot: &str, print: &str) -> Result<Response> {
    let found = engine.slots().slot(slot, engine.now()).await?;
    let record = found.and_then(|slot| serde_json::from_str::<Record>(&slot.value).ok());
    let Some(record) = record else { return Err(still_running()) };
    if record.print != print {
        let hint = format!("use another `{KEY}` for another request");
        return Err(Problem::new(Code::IdempotencyMismatch, hint));
    }
    match record.state {
        Progress::Running => Err(still_running()),
        Progress::Unkept => {
            let hint =
                "the request was done; its answer shows a secret or is long, and was not kept";
            Err(Problem::new(Code::IdempotencyUnkept, hint))
        }
        Progress::Done(kept) => kept.answer(),
    }
}

fn still_running() -> Problem {
    Problem::new(Code::IdempotencyRunning, "the first request of this key still runs; wait for it")
}

impl Kept {
    fn answer(self) -> Result<Response> {
        let broken = || Problem::new(Code::StoreCorrupt, "a kept answer cannot be read");
        let body = STANDARD.decode(&self.body).map_err(|_| broken())?;
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = StatusCode::from_u16(self.status).map_err(|_| broken())?;
        response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
        for (name, value) in self.fields {
            let name = HeaderName::try_from(name).map_err(|_| broken())?;
            response.headers_mut().insert(name, value.parse().map_err(|_| broken())?);
        }
        Ok(response)
    }
}

fn text_of(record: &Record) -> Result<String> {
    serde_json::to_string(record)
        .map_err(|_| Problem::new(Code::Internal, "an answer cannot be kept"))
}

/// A digest of parts, each with its length before it.
fn digest(parts: &[&[u8]]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part.len().to_be_bytes());
        hash.update(part);
    }
    hash.finalize().iter().fold(String::with_capacity(64), |mut text, byte| {
        // Writing to a `String` does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
