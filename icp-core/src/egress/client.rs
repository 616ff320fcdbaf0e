//! The guarded client: pooled connections under a policy, phase limits, capped bodies.

use std::error::Error as StdError;
use std::io;
use std::num::NonZeroUsize;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::future::BoxFuture;
use http::{HeaderMap, Method, Request, Uri, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client as Pool;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use lru::LruCache;
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, RootCertStore};
use tokio::time::{Instant, Sleep};
use tokio_rustls::TlsConnector;
use url::{Position, Url};

use super::connect::{ConnectError, Connector, Dial, Made, Parts, TcpDialer};
use super::error::{EgressError, FailureClass, Phase};
use super::policy::AddressPolicy;
use super::resolver::{Resolver, SystemResolver};
use super::timing::{Timeouts, Timings};
use super::{EgressRequest, EgressResponse, Transport};
use crate::error::{Code, Error, Result as BuildResult};

const DEFAULT_MAX_HEADERS: usize = 100;
const MAX_HEAD_BYTES: u16 = 32 * 1024;
// Each holds the idle connections of one policy; organizations with equal rules share one.
const DEFAULT_POLICIES: NonZeroUsize = NonZeroUsize::MIN.saturating_add(255);

// What only the client may say about the connection.
const OWN_HEADERS: [header::HeaderName; 6] = [
    header::HOST,
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::TE,
];

/// The guarded HTTP client; cheap to clone, all clones share the pool.
///
/// HTTP/1.1, and HTTP/2 where TLS negotiates it. A connection is reused only under a policy with
/// the same [`fingerprint`](AddressPolicy::fingerprint) and for the same scheme, host and port. A
/// request is sent again only if a reused connection was found closed before any byte of it was
/// written. A peer that vanished without a word is told from a slow one by HTTP/2 pings, see
/// [`keep_alive`](ClientBuilder::keep_alive).
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

type PoolKey = ([u8; 32], Duration);
type HyperPool = Pool<Connector, Full<Bytes>>;

struct Inner {
    parts: Arc<Parts>,
    pools: Mutex<LruCache<PoolKey, Arc<HyperPool>>>,
    max_headers: usize,
    max_idle_per_host: usize,
    idle_timeout: Duration,
    keep_alive: KeepAlive,
}

/// When a quiet HTTP/2 connection is pinged, and how long the peer has to answer.
#[derive(Clone, Copy)]
struct KeepAlive {
    interval: Duration,
    timeout: Duration,
}

impl Client {
    /// Starts a client with the system's resolver and trusted certificates.
    pub fn builder() -> ClientBuilder {
        ClientBuilder {
            resolver: Arc::new(SystemResolver),
            dialer: Arc::new(TcpDialer),
            native_roots: true,
            extra_roots: Vec::new(),
            max_headers: DEFAULT_MAX_HEADERS,
            max_idle_per_host: 64,
            idle_timeout: Duration::from_secs(50),
            keep_alive: KeepAlive {
                interval: Duration::from_secs(10),
                timeout: Duration::from_secs(5),
            },
        }
    }

    /// The client as the engine takes it.
    #[must_use]
    pub fn into_transport(self) -> Transport {
        Transport::new(self)
    }
}

impl tower::Service<EgressRequest> for Client {
    type Response = EgressResponse;
    type Error = EgressError;
    type Future = BoxFuture<'static, Result<EgressResponse, EgressError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), EgressError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: EgressRequest) -> Self::Future {
        let inner = Arc::clone(&self.inner);
        Box::pin(async move {
            let begun = Instant::now();
            let mut timings = Timings::default();
            let outcome = inner.send(request, begun, &mut timings).await;
            timings.total = Some(begun.elapsed());
            match outcome {
                Ok(response) => Ok(EgressResponse { timings, ..response }),
                Err(error) => Err(error.with_timings(timings)),
            }
        })
    }
}

impl Inner {
    async fn send(
        &self,
        request: EgressRequest,
        begun: Instant,
        timings: &mut Timings,
    ) -> Result<EgressResponse, EgressError> {
        let EgressRequest { method, url, headers, body, timeouts, response_limit, policy } =
            request;
        policy.check_url(&url).map_err(|d| EgressError::new(d.class(), d.to_string()))?;
        let request = to_hyper(method, &url, headers, body)?;
        let pool = self.pool(policy, timeouts.connect);

        let mut limit = Limit::new(begun, &timeouts);
        let mut sleep = pin!(tokio::time::sleep_until(limit.at));
        let response = tokio::select! {
            biased;
            outcome = pool.request(request) => outcome.map_err(|e| classify(&e, timings))?,
            () = &mut sleep => return Err(limit.reached()),
        };
        timings.first_byte = Some(begun.elapsed());
        if response.headers().len() > self.max_headers || oversized(response.headers()) {
            return Err(EgressError::new(
                FailureClass::Protocol,
                "the response's head is too large",
            ));
        }
        limit.enter_body(&timeouts);
        sleep.as_mut().reset(limit.at);
        let (parts, body) = response.into_parts();
        let made = parts.extensions.get::<Made>();
        if let Some((dns, connect)) = made.and_then(Made::take_timings) {
            timings.dns = dns;
            timings.connect = Some(connect);
        }
        let (body, truncated) = read(body, response_limit, sleep, &limit, timings).await?;
        Ok(EgressResponse {
            status: parts.status,
            remote: made.map(Made::remote),
            headers: parts.headers,
            body,
            truncated,
            timings: *timings,
        })
    }

    fn pool(&self, policy: Arc<AddressPolicy>, timeout: Duration) -> Arc<HyperPool> {
        let key = (*policy.fingerprint(), timeout);
        let mut pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        pools
            .get_or_insert(key, || {
                let mut builder = Pool::builder(TokioExecutor::new());
                builder
                    .timer(TokioTimer::new())
                    .pool_timer(TokioTimer::new())
                    .pool_idle_timeout(self.idle_timeout)
                    .pool_max_idle_per_host(self.max_idle_per_host)
                    .http1_max_buf_size(usize::from(MAX_HEAD_BYTES))
                    .http2_keep_alive_interval(self.keep_alive.interval)
                    .http2_keep_alive_timeout(self.keep_alive.timeout)
                    .http2_max_header_list_size(u32::from(MAX_HEAD_BYTES));
                // Saying the default aloud would cost an allocation for each response.
                if self.max_headers != DEFAULT_MAX_HEADERS {
                    builder.http1_max_headers(self.max_headers);
                }
                let parts = Arc::clone(&self.parts);
                Arc::new(builder.build(Connector { parts, policy, timeout }))
            })
            .clone()
    }
}

fn to_hyper(
    method: Method,
    url: &Url,
    mut headers: HeaderMap,
    body: Bytes,
) -> Result<Request<Full<Bytes>>, EgressError> {
    let invalid = |message| EgressError::new(FailureClass::UrlInvalid, message);
    if method == Method::CONNECT {
        return Err(invalid("the method CONNECT is not sent"));
    }
    let uri = Uri::try_from(&url[..Position::AfterQuery])
        .map_err(|_| invalid("the url cannot be written as a request target"))?;
    for name in OWN_HEADERS {
        headers.remove(name);
    }
    let mut request = Request::new(Full::new(body));
    *request.method_mut() = method;
    *request.uri_mut() = uri;
    *request.headers_mut() = headers;
    Ok(request)
}

async fn read(
    mut body: Incoming,
    cap: usize,
    mut sleep: Pin<&mut Sleep>,
    limit: &Limit,
    timings: &mut Timings,
) -> Result<(Bytes, bool), EgressError> {
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    loop {
        let frame = tokio::select! {
            biased;
            frame = body.frame() => frame,
            () = &mut sleep => return Err(limit.reached()),
        };
        let Some(frame) = frame else { break };
        let Ok(mut data) = frame.map_err(|e| classify(&e, timings))?.into_data() else { continue };
        let held = first.len().max(rest.len());
        let over = data.len() > cap - held;
        data.truncate(cap - held);
        // The usual answer is one frame, which is kept without a copy.
        if first.is_empty() && rest.is_empty() {
            first = data;
        } else {
            rest.extend_from_slice(&std::mem::take(&mut first));
            rest.extend_from_slice(&data);
        }
        if over {
            return Ok((if rest.is_empty() { first } else { rest.freeze() }, true));
        }
    }
    Ok((if rest.is_empty() { first } else { rest.freeze() }, false))
}

/// The nearer of the phase's own end and the whole call's.
struct Limit {
    phase: Phase,
    at: Instant,
    end: Instant,
}

impl Limit {
    fn new(begun: Instant, timeouts: &Timeouts) -> Self {
        let mut limit = Self { phase: Phase::Total, at: begun, end: after(begun, timeouts.total) };
        limit.enter(Phase::Headers, after(begun, timeouts.headers));
        limit
    }

    fn enter_body(&mut self, timeouts: &Timeouts) {
        self.enter(Phase::Body, after(Instant::now(), timeouts.body));
    }

    fn enter(&mut self, phase: Phase, at: Instant) {
        (self.phase, self.at) = if at < self.end { (phase, at) } else { (Phase::Total, self.end) };
    }

    fn reached(&self) -> EgressError {
        let message = match self.phase {
            Phase::Headers | Phase::Connect => "no answer in time",
            Phase::Body => "the response body did not end in time",
            Phase::Total => "the call did not end in time",
        };
        EgressError::new(FailureClass::Timeout(self.phase), message)
    }
}

// Hyper's own limit is on its read buffer, which may overshoot by one read.
fn oversized(headers: &HeaderMap) -> bool {
    let bytes: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    bytes > usize::from(MAX_HEAD_BYTES)
}

// A limit beyond what the clock can hold is as good as this one.
fn after(start: Instant, time: Duration) -> Instant {
    const FAR: Duration = Duration::from_secs(365 * 86_400);
    start + time.min(FAR)
}

// Hyper's errors say only through their sources what happened.
fn classify(error: &(dyn StdError + 'static), timings: &mut Timings) -> EgressError {
    let mut class = FailureClass::Protocol;
    let mut message = "the answer is not valid http".to_owned();
    let mut next = Some(error);
    while let Some(cause) = next {
        if let Some(connect) = cause.downcast_ref::<ConnectError>() {
            timings.dns = connect.dns;
            timings.connect = connect.connect;
            return EgressError::new(connect.class, connect.message.clone());
        }
        if let Some(cause) = cause.downcast_ref::<hyper::Error>()
            && (cause.is_incomplete_message() || cause.is_canceled() || cause.is_closed())
        {
            class = FailureClass::Reset;
            message = "the connection closed before the answer was complete".to_owned();
        }
        // Hyper keeps no time of its own here but that of a ping.
        if cause.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_timeout) {
            class = FailureClass::Reset;
            message = "the peer no longer answers on this connection".to_owned();
        }
        if let Some(cause) = cause.downcast_ref::<io::Error>() {
            let tls =
                cause.get_ref().is_some_and(<dyn StdError + Send + Sync>::is::<rustls::Error>);
            class = match cause.kind() {
                _ if tls => FailureClass::Tls,
                // Hyper's own word for a body that is not framed as announced.
                io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData => FailureClass::Protocol,
                _ => FailureClass::Reset,
            };
            message = cause.to_string();
        }
        next = cause.source();
    }
    EgressError::new(class, message)
}

/// Makes a [`Client`].
#[must_use = "a builder does nothing until `build`"]
pub struct ClientBuilder {
    resolver: Arc<dyn Resolver>,
    dialer: Arc<dyn Dial>,
    native_roots: bool,
    extra_roots: Vec<Vec<u8>>,
    max_headers: usize,
    max_idle_per_host: usize,
    idle_timeout: Duration,
    keep_alive: KeepAlive,
}

impl ClientBuilder {
    /// Replaces the name lookup; default [`SystemResolver`].
    pub fn resolver(mut self, resolver: impl Resolver + 'static) -> Self {
        self.resolver = Arc::new(resolver);
        self
    }

    /// Replaces how a TCP connection to a judged address is opened; default [`TcpDialer`].
    pub fn dialer(mut self, dialer: impl Dial + 'static) -> Self {
        self.dialer = Arc::new(dialer);
        self
    }

    /// Whether the operating system's certificates are trusted; default true. They are read once,
    /// in [`build`](Self::build).
    pub fn native_roots(mut self, yes: bool) -> Self {
        self.native_roots = yes;
        self
    }

    /// Trusts one more certificate authority, as a DER certificate.
    pub fn extra_root(mut self, der: impl Into<Vec<u8>>) -> Self {
        self.extra_roots.push(der.into());
        self
    }

    /// How many headers a response may have; default 100. Its head is limited to 32 KiB besides.
    pub fn max_response_headers(mut self, count: usize) -> Self {
        self.max_headers = count;
        self
    }

    /// How many idle HTTP/1.1 connections are kept for each host and policy; default 64.
    pub fn max_idle_per_host(mut self, count: usize) -> Self {
        self.max_idle_per_host = count;
        self
    }

    /// How long an idle connection is kept; default 50 s, below the 60 s after which common load
    /// balancers close it, so that a request seldom meets a closing connection.
    pub fn idle_timeout(mut self, time: Duration) -> Self {
        self.idle_timeout = time;
        self
    }

    /// After how long without a sign of the peer an HTTP/2 connection is pinged, and how long the
    /// answer may take before the connection is closed and its requests fail; default 10 s and
    /// 5 s.
    ///
    /// Only a connection with a request under way is pinged, as many servers take pings of idle
    /// ones for abuse; one that was idle for longer than the interval is pinged with its next
    /// request. So a peer that vanished costs that request at the most the answer's time, and
    /// the next one opens a new connection.
    pub fn keep_alive(mut self, interval: Duration, timeout: Duration) -> Self {
        self.keep_alive = KeepAlive { interval, timeout };
        self
    }

    /// The client.
    ///
    /// # Errors
    /// [`Code::ConfigInvalid`] when an extra root is not a certificate, no certificate is
    /// trusted at all though the system's were asked for, or a time of
    /// [`keep_alive`](Self::keep_alive) is zero.
    pub fn build(self) -> BuildResult<Client> {
        if self.keep_alive.interval.is_zero() || self.keep_alive.timeout.is_zero() {
            return Err(Error::new(Code::ConfigInvalid, "use times of keep-alive above zero"));
        }
        let tls = TlsConnector::from(Arc::new(tls_config(self.native_roots, self.extra_roots)?));
        let parts = Parts { resolver: self.resolver, dialer: self.dialer, tls };
        Ok(Client {
            inner: Arc::new(Inner {
                parts: Arc::new(parts),
                pools: Mutex::new(LruCache::new(DEFAULT_POLICIES)),
                max_headers: self.max_headers,
                max_idle_per_host: self.max_idle_per_host,
                idle_timeout: self.idle_timeout,
                keep_alive: self.keep_alive,
            }),
        })
    }
}

fn tls_config(native: bool, extra: Vec<Vec<u8>>) -> BuildResult<ClientConfig> {
    let mut roots = RootCertStore::empty();
    for der in extra {
        roots.add(CertificateDer::from(der)).map_err(|error| {
            Error::new(Code::ConfigInvalid, "an extra root is not a DER certificate")
                .caused_by(error)
        })?;
    }
    if native {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if roots.is_empty() {
            return Err(Error::new(
                Code::ConfigInvalid,
                "no trusted certificates found; install ca-certificates or add an extra root",
            ));
        }
    }
    // The provider is named, so that no process-wide default is needed or set.
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::new(Code::Internal, "tls set-up failed").caused_by(error))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}
