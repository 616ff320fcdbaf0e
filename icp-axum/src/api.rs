//! The API as it is put together: the routes, and how they speak HTTP.

use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::DefaultBodyLimit;
use axum::http::header::{
    ACCEPT, AUTHORIZATION, CONTENT_DISPOSITION, CONTENT_TYPE, ETAG, HeaderName, HeaderValue,
    IF_MATCH, IF_NONE_MATCH, LINK, LOCATION, RETRY_AFTER,
};
use axum::http::{Extensions, HeaderMap, Method, StatusCode, Version};
use axum::middleware::from_fn_with_state;
use icp_core::{Code, Engine, Error};
use tower::ServiceBuilder;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::compression::CompressionLayer;
use tower_http::compression::predicate::{Predicate, SizeAbove};
use tower_http::cors::CorsLayer;
use tower_http::decompression::RequestDecompressionLayer;
use tower_http::map_request_body::MapRequestBodyLayer;
use tower_http::request_id::{PropagateRequestIdLayer, SetRequestIdLayer};
use tower_http::sensitive_headers::SetSensitiveRequestHeadersLayer;
use tower_http::trace::TraceLayer;
use url::Url;

use crate::aliases::{ALIASES, Alias};
use crate::auth::X_API_KEY;
use crate::pace::Paced;
use crate::protocol::{self, Speech};
use crate::router::{RequestIds, panicked};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// What the largest document needs beside the body of an event: an organization with all of its
/// units; a lookup table may need more.
const SLACK: usize = 4 << 20;

/// Answers that are shorter are not worth packing, in bytes.
const WORTH_PACKING: u64 = 1_024;

/// How long browsers may remember what a foreign origin may do.
const REMEMBERED: Duration = Duration::from_secs(600);

/// The HTTP API of an engine, with what a host may choose.
///
/// ```
/// # fn serve(engine: icp_core::Engine) -> icp_core::Result<axum::Router> {
/// let api = icp_axum::Api::new(engine).cors(["https://console.example.com"]).build()?;
/// # Ok(api)
/// # }
/// ```
#[derive(Debug)]
pub struct Api {
    engine: Engine,
    origins: Vec<String>,
    hsts: Option<Duration>,
    first: FirstUser,
    aliases: &'static [Alias],
}

impl Api {
    /// The API of `engine`, for callers that are no browsers at other origins.
    #[must_use]
    pub fn new(engine: Engine) -> Self {
        Self { engine, origins: Vec::new(), hsts: None, first: FirstUser::ByTheHost, aliases: &[] }
    }

    /// Lets pages of these origins call the API, as in `https://console.example.com`. Default
    /// none. They send a key or token in a header field; cookies are not taken from them.
    #[must_use]
    pub fn cors<I>(mut self, origins: I) -> Self
    where
        I: IntoIterator,
        I::Item: Into<String>,
    {
        self.origins.extend(origins.into_iter().map(Into::into));
        self
    }

    /// Tells browsers to come by TLS only, for so long (RFC 6797). Default off: whether the API
    /// is reached by TLS is for its host to know.
    #[must_use]
    pub fn hsts(mut self, max_age: Duration) -> Self {
        self.hsts = Some(max_age);
        self
    }

    /// Lets whoever asks first make the first user, who may do everything, by
    /// `POST /api/v1/auth/bootstrap`. Default off: until somebody did, everybody who reaches the
    /// API can. A host makes the first principal by itself with
    /// [`Engine::bootstrap_key`] or [`Engine::bootstrap_user`].
    #[must_use]
    pub fn first_user_by_request(mut self) -> Self {
        self.first = FirstUser::ByRequest;
        self
    }

    /// Serves the paths of earlier products beside the API's own, as in `/api/v1/events/push`.
    /// Default off. Each leads to the operation that it stood for, with its permission, bodies and
    /// answers; the guide on the paths of earlier products lists them.
    #[must_use]
    pub fn earlier_paths(mut self) -> Self {
        self.aliases = ALIASES;
        self
    }

    /// The router, to be served as it is or nested in a router of the host.
    ///
    /// # Errors
    ///
    /// [`Code::ConfigInvalid`] for an origin that is none.
    pub fn build(self) -> Result<Router, Error> {
        let origins = self.origins.iter().map(|origin| origin_of(origin));
        let origins: Vec<_> = origins.collect::<Result<_, _>>()?;
        let router = assemble(self.engine, self.hsts, self.first, self.aliases);
        Ok(if origins.is_empty() { router } else { router.layer(cors(origins)) })
    }
}

/// The HTTP API of `engine`, to be served as it is or nested in a router of the host.
pub fn router(engine: Engine) -> Router {
    assemble(engine, None, FirstUser::ByTheHost, &[])
}

/// Who makes the first user.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum FirstUser {
    /// The host, or nobody.
    ByTheHost,
    /// Whoever asks first.
    ByRequest,
}

fn assemble(engine: Engine, hsts: Option<Duration>, first: FirstUser, aliases: &[Alias]) -> Router {
    // Base 64 makes four bytes of three.
    let limit =
        engine.event_limits().max_body / 3 * 4 + SLACK.max(engine.lookup_limits().file_bytes());
    // One layer: each layer of a router is boxed by itself, and the boxes below it are copied for
    // each request.
    let around = ServiceBuilder::new()
        .layer(CompressionLayer::new().compress_when(SizeAbove::new(WORTH_PACKING).and(may_pack)))
        .layer(from_fn_with_state(Speech::new(hsts), protocol::speak))
        .layer(MapRequestBodyLayer::new(Paced::new))
        // What it cannot unpack was refused before.
        .layer(RequestDecompressionLayer::new().pass_through_unaccepted(true))
        .layer(MapRequestBodyLayer::new(Body::new))
        .layer(SetRequestIdLayer::new(REQUEST_ID, RequestIds(engine.clone())))
        .layer(PropagateRequestIdLayer::new(REQUEST_ID))
        .layer(SetSensitiveRequestHeadersLayer::new([AUTHORIZATION, X_API_KEY]))
        .layer(TraceLayer::new_for_http())
        .layer(CatchPanicLayer::custom(panicked))
        .layer(DefaultBodyLimit::max(limit));
    crate::router::router(engine, first, aliases).layer(around)
}

/// Not what holds secrets, whose length would tell of them, nor what is read as it is written.
fn may_pack(_: StatusCode, _: Version, headers: &HeaderMap, _: &Extensions) -> bool {
    use axum::http::header::CACHE_CONTROL;
    let starts = |name: HeaderName, with: &str| {
        headers.get(name).is_some_and(|value| value.as_bytes().starts_with(with.as_bytes()))
    };
    !starts(CACHE_CONTROL, "no-store") && !starts(CONTENT_TYPE, "text/event-stream")
}

fn cors(origins: Vec<HeaderValue>) -> CorsLayer {
    let name = HeaderName::from_static;
    CorsLayer::new()
        .allow_origin(origins)
        .allow_methods([
            Method::GET,
            Method::HEAD,
            Method::POST,
            Method::PUT,
            Method::PATCH,
            Method::DELETE,
        ])
        .allow_headers([
            ACCEPT,
            AUTHORIZATION,
            CONTENT_TYPE,
            IF_MATCH,
            IF_NONE_MATCH,
            name("idempotency-key"),
            name("last-event-id"),
            name("x-api-key"),
            name("x-request-id"),
            name("x-tenant-id"),
        ])
        .expose_headers([
            CONTENT_DISPOSITION,
            ETAG,
            LINK,
            LOCATION,
            RETRY_AFTER,
            name("idempotency-replayed"),
            name("ratelimit"),
            name("ratelimit-policy"),
            name("x-request-id"),
        ])
        .max_age(REMEMBERED)
}

fn origin_of(text: &str) -> Result<HeaderValue, Error> {
    let refuse = || {
        let message =
            format!("`{text}` is no origin; use scheme, host and port, as in https://a.b");
        Error::new(Code::ConfigInvalid, message)
    };
    let url = Url::parse(text).map_err(|_| refuse())?;
    let is_origin =
        ["http", "https"].contains(&url.scheme()) && url.origin().ascii_serialization() == text;
    if !is_origin {
        return Err(refuse());
    }
    HeaderValue::from_str(text).map_err(|_| refuse())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_exact() {
        for good in ["https://a.example", "http://localhost:3000", "https://[::1]:8443"] {
            assert_eq!(origin_of(good).unwrap(), good);
        }
        for bad in [
            "*",
            "",
            "a.example",
            "https://a.example/",
            "https://a.example:443",
            "null",
            "https://A.example",
            "ftp://a.example",
            "https://u@a.example",
            "https://a.example/x",
        ] {
            assert_eq!(origin_of(bad).unwrap_err().code(), Code::ConfigInvalid, "{bad}");
        }
    }
}
