use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use futures_util::stream;
use http::header::{CONTENT_ENCODING, HeaderValue, LOCATION, RETRY_AFTER};
use http::{Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use icp_core::time::{Clock, SystemClock, Timestamp};
use tokio::net::TcpStream;
use tokio::sync::Notify;

use super::{Reaction, Shared};

/// What is poured at once.
const CHUNK: usize = 64 << 10;
/// The beginning of a gzip member and then nothing of one.
const GARBLED: Bytes = Bytes::from_static(b"\x1f\x8b\x08\xff no gzip at all");

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// Serves one connection until it ends or is to be reset.
pub(super) async fn serve(shared: Arc<Shared>, stream: TcpStream) {
    let reset = Arc::new(Notify::new());
    let service = service_fn(|request| answer(Arc::clone(&shared), Arc::clone(&reset), request));
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new());
    let mut connection = http.serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        _ = &mut connection => {}
        () = reset.notified() => {
            let stream = connection.into_parts().io.into_inner();
            // Without a linger time, closing sends a reset in place of an orderly end.
            let _ = stream.set_zero_linger();
        }
    }
}

async fn answer(
    shared: Arc<Shared>,
    reset: Arc<Notify>,
    request: Request<Incoming>,
) -> Result<Response<Body>, hyper::Error> {
    let (head, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    let now = SystemClock.now();
    let path = head.uri.path().to_owned();
    match shared.record(head, body, now) {
        Reaction::Status(status) => Ok(plain(status)),
        Reaction::RetryAfter(status, seconds) => Ok(with_wait(status, &seconds.to_string())),
        Reaction::RetryAfterDate(status, seconds) => {
            Ok(with_wait(status, &date(now + Duration::from_secs(seconds))))
        }
        Reaction::Redirect(location) => {
            let mut response = plain(307);
            if let Ok(location) = location.try_into() {
                response.headers_mut().insert(LOCATION, location);
            }
            Ok(response)
        }
        Reaction::Hang => {
            shared.released(&path).await;
            Ok(plain(200))
        }
        Reaction::Reset => {
            reset.notify_one();
            std::future::pending().await
        }
        Reaction::SlowBody(pause) => Ok(Response::new(drip(pause))),
        Reaction::LargeBody(bytes) => Ok(Response::new(pour(bytes))),
        Reaction::Undecodable => {
            let mut response = Response::new(Full::new(GARBLED).boxed_unsync());
            response.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            Ok(response)
        }
    }
}

fn plain(status: u16) -> Response<Body> {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let text = status.canonical_reason().unwrap_or_default();
    let body = if status == StatusCode::NO_CONTENT {
        Bytes::new()
    } else {
        Bytes::from_static(text.as_bytes())
    };
    let mut response = Response::new(Full::new(body).boxed_unsync());
    *response.status_mut() = status;
    response
}

fn with_wait(status: u16, wait: &str) -> Response<Body> {
    let mut response = plain(status);
    if let Ok(wait) = wait.try_into() {
        response.headers_mut().insert(RETRY_AFTER, wait);
    }
    response
}

fn date(at: Timestamp) -> String {
    let since = Duration::from_millis(at.as_millis().unsigned_abs());
    httpdate::fmt_http_date(UNIX_EPOCH + since)
}

fn pour(bytes: usize) -> Body {
    let chunk = Bytes::from(vec![b'.'; CHUNK.min(bytes)]);
    let chunks = stream::unfold(bytes, move |left| {
        let next = chunk.slice(..left.min(chunk.len()));
        let left = left - next.len();
        std::future::ready((!next.is_empty()).then(|| (Ok(Frame::data(next)), left)))
    });
    StreamBody::new(chunks).boxed_unsync()
}

fn drip(pause: Duration) -> Body {
    let bytes = stream::unfold((), move |()| async move {
        tokio::time::sleep(pause).await;
        Some((Ok(Frame::data(Bytes::from_static(b"."))), ()))
    });
    StreamBody::new(bytes).boxed_unsync()
}
