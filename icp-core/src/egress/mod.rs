//! The one way out: a guarded HTTP client through which every outbound call goes.
//!
//! A call is an [`EgressRequest`] given to a [`Transport`], a plain [`tower::Service`] that a host
//! wraps with its own layers and a test replaces by a fake. The real one is `Client` (feature
//! `http`), which judges the URL and every address with the request's [`AddressPolicy`] before a
//! socket is opened, and connects to the judged address and to no other.
//!
//! What it never does: follow a redirect, read a proxy from the environment, honour `Alt-Svc`,
//! share a connection between host names, or unpack a compressed body.
#![cfg_attr(
    feature = "http",
    doc = r#"
```no_run
use std::sync::Arc;

use icp_core::egress::{AddressPolicy, Client, EgressRequest, stack};
use tower::ServiceExt;

# async fn example() -> Result<(), Box<dyn std::error::Error>> {
let client = Client::builder().build()?;
let transport = stack(client.into_transport(), 512, tower::layer::util::Identity::new());

let policy = Arc::new(AddressPolicy::strict());
let request = EgressRequest::post("https://hooks.example.com/orders".parse()?, "{}", policy);
let response = transport.oneshot(request).await?;
assert!(response.status.is_success());
# Ok(())
# }
```
"#
)]

#[cfg(feature = "http")]
mod client;
#[cfg(feature = "http")]
mod connect;
mod error;
mod policy;
mod resolver;
mod stack;
mod timing;

#[cfg(feature = "http")]
pub use client::{Client, ClientBuilder};
#[cfg(feature = "http")]
pub use connect::{Dial, TcpDialer};
pub use error::{EgressError, FailureClass, Phase};
pub use policy::{AddressPolicy, Denied, Entry, PolicyBuilder, PolicySpec, Target};
#[cfg(feature = "http")]
pub use resolver::SystemResolver;
pub use resolver::{Resolver, StaticResolver};
pub use stack::{Deadline, DeadlineLayer, Trace, TraceLayer, stack};
pub use timing::{Timeouts, Timings};

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, Method, StatusCode};
use url::{Position, Url};

/// What the engine calls, what fakes implement, and what a host's [`tower::Layer`] wraps.
pub type Transport = tower::util::BoxCloneSyncService<EgressRequest, EgressResponse, EgressError>;

/// How much of a response body is kept unless the request says otherwise: 64 KiB.
pub const DEFAULT_RESPONSE_LIMIT: usize = 64 * 1024;

/// One outbound call.
///
/// Its `Debug` form says where to and how much, never what: path, query, user name, header values
/// and body carry secrets at many receivers.
#[derive(Clone)]
pub struct EgressRequest {
    /// The method; `CONNECT` is refused.
    pub method: Method,
    /// Where to; the fragment is not sent.
    pub url: Url,
    /// The headers; `Host` and the connection-level ones are set by the client, never from here.
    pub headers: HeaderMap,
    /// The body, sent with a content length.
    pub body: Bytes,
    /// How long each phase may take.
    pub timeouts: Timeouts,
    /// How many bytes of the response body are kept; the rest is not read.
    pub response_limit: usize,
    /// What may be reached.
    pub policy: Arc<AddressPolicy>,
}

impl EgressRequest {
    /// A request without headers, with the default timeouts and [`DEFAULT_RESPONSE_LIMIT`].
    pub fn new(
        method: Method,
        url: Url,
        body: impl Into<Bytes>,
        policy: Arc<AddressPolicy>,
    ) -> Self {
        Self {
            method,
            url,
            headers: HeaderMap::new(),
            body: body.into(),
            timeouts: Timeouts::default(),
            response_limit: DEFAULT_RESPONSE_LIMIT,
            policy,
        }
    }

    /// A `POST`, otherwise as [`new`](Self::new).
    pub fn post(url: Url, body: impl Into<Bytes>, policy: Arc<AddressPolicy>) -> Self {
        Self::new(Method::POST, url, body, policy)
    }
}

/// What came back; any status, redirects included, is a response and not an error.
///
/// Its `Debug` form leaves out header values and body, as a token endpoint answers with secrets.
#[derive(Clone)]
pub struct EgressResponse {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body, at most `response_limit` bytes of it.
    pub body: Bytes,
    /// Whether there was more body than `response_limit`.
    pub truncated: bool,
    /// Where the time went.
    pub timings: Timings,
    /// The address that answered, where there is one.
    pub remote: Option<SocketAddr>,
}

impl fmt::Debug for EgressRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = &self.url[Position::BeforeHost..Position::AfterPort];
        f.debug_struct("EgressRequest")
            .field("method", &self.method)
            .field("to", &format_args!("{}://{host}", self.url.scheme()))
            .field("headers", &Names(&self.headers))
            .field("body", &format_args!("{} bytes", self.body.len()))
            .field("timeouts", &self.timeouts)
            .field("response_limit", &self.response_limit)
            .field("policy", &self.policy)
            .finish()
    }
}

impl fmt::Debug for EgressResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EgressResponse")
            .field("status", &self.status)
            .field("headers", &Names(&self.headers))
            .field("body", &format_args!("{} bytes", self.body.len()))
            .field("truncated", &self.truncated)
            .field("timings", &self.timings)
            .field("remote", &self.remote)
            .finish()
    }
}

/// Header names without their values.
struct Names<'a>(&'a HeaderMap);

impl fmt::Debug for Names<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.keys().map(HeaderName::as_str)).finish()
    }
}

#[cfg(test)]
#[cfg(feature = "http")]
pub(crate) mod tests;
