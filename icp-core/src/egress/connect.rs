//! The connector: lookup, judgement, TCP and TLS, for one new connection.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};
use http::Uri;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use url::{Host, Url};

use super::error::{FailureClass, Phase};
use super::policy::{AddressPolicy, Target};
use super::resolver::Resolver;

// How long the next address waits for the one before it, as RFC 8305 section 5 recommends.
const STAGGER: Duration = Duration::from_millis(250);
const MAX_ADDRESSES: usize = 8;

/// Opens a TCP connection to an address that was judged; a seam for tests and for hosts that
/// bind to a source address.
#[async_trait::async_trait]
pub trait Dial: Send + Sync {
    /// Connects to exactly `address`.
    ///
    /// # Errors
    /// The operating system's error.
    async fn dial(&self, address: SocketAddr) -> io::Result<TcpStream>;
}

/// Plain TCP with Nagle's algorithm off.
#[derive(Clone, Copy, Debug, Default)]
pub struct TcpDialer;

#[async_trait::async_trait]
impl Dial for TcpDialer {
    async fn dial(&self, address: SocketAddr) -> io::Result<TcpStream> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}

/// What every connection needs, whatever the policy.
pub(super) struct Parts {
    pub(super) resolver: Arc<dyn Resolver>,
    pub(super) dialer: Arc<dyn Dial>,
    pub(super) tls: TlsConnector,
}

/// Makes connections under one policy.
#[derive(Clone)]
pub(super) struct Connector {
    pub(super) parts: Arc<Parts>,
    pub(super) policy: Arc<AddressPolicy>,
    pub(super) timeout: Duration,
}

/// Why no connection came about.
#[derive(Debug)]
pub(super) struct ConnectError {
    pub(super) class: FailureClass,
    pub(super) message: String,
    pub(super) dns: Option<Duration>,
    pub(super) connect: Option<Duration>,
}

/// How the connection was made; the first response on it takes the timings.
#[derive(Clone)]
pub(super) struct Made(Arc<MadeInner>);

struct MadeInner {
    remote: SocketAddr,
    dns: Option<Duration>,
    connect: Duration,
    told: AtomicBool,
}

impl Made {
    pub(super) fn remote(&self) -> SocketAddr {
        self.0.remote
    }

    /// Lookup and connect time, to the first caller only.
    pub(super) fn take_timings(&self) -> Option<(Option<Duration>, Duration)> {
        (!self.0.told.swap(true, Ordering::Relaxed)).then_some((self.0.dns, self.0.connect))
    }
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for ConnectError {}

fn failed(class: FailureClass, message: impl Into<String>) -> ConnectError {
    ConnectError { class, message: message.into(), dns: None, connect: None }
}

impl tower::Service<Uri> for Connector {
    type Response = TokioIo<Stream>;
    type Error = ConnectError;
    type Future = BoxFuture<'static, Result<TokioIo<Stream>, ConnectError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connector = self.clone();
        Box::pin(async move {
            tokio::time::timeout(connector.timeout, connector.connect(&uri)).await.unwrap_or_else(
                |_| {
                    let message = format!("no connection within {:?}", connector.timeout);
                    Err(failed(FailureClass::Timeout(Phase::Connect), message))
                },
            )
        })
    }
}

impl Connector {
    // Judges the URL anew, so that the guard holds even for a caller that forgot to.
    async fn connect(&self, uri: &Uri) -> Result<TokioIo<Stream>, ConnectError> {
        let url = Url::parse(&uri.to_string())
            .map_err(|_| failed(FailureClass::UrlInvalid, "the url does not parse"))?;
        let target = self
            .policy
            .check_url(&url)
            .map_err(|denied| failed(denied.class(), denied.to_string()))?;
        let begun = Instant::now();
        let (addresses, dns) = match target.host {
            Host::Domain(name) => (self.lookup(name).await?, Some(begun.elapsed())),
            Host::Ipv4(address) => (vec![IpAddr::V4(address)], None),
            Host::Ipv6(address) => (vec![IpAddr::V6(address)], None),
        };
        let begun = Instant::now();
        let (stream, remote) = self.open(&addresses, &target).await.map_err(|mut error| {
            error.dns = dns;
            error.connect = Some(begun.elapsed());
            error
        })?;
        let made =
            MadeInner { remote, dns, connect: begun.elapsed(), told: AtomicBool::new(false) };
        Ok(TokioIo::new(Stream { io: stream, made: Made(Arc::new(made)) }))
    }

    async fn lookup(&self, name: &str) -> Result<Vec<IpAddr>, ConnectError> {
        let mut addresses = self.parts.resolver.resolve(name).await.map_err(|error| {
            failed(FailureClass::Dns, format!("{name} did not resolve: {error}"))
        })?;
        if addresses.is_empty() {
            return Err(failed(FailureClass::Dns, format!("{name} has no address")));
        }
        for address in &addresses {
            self.policy.check_address(*address).map_err(|denied| {
                failed(FailureClass::AddressDenied, format!("{name} leads to a denied {denied}"))
            })?;
        }
        addresses.truncate(MAX_ADDRESSES);
        Ok(addresses)
    }

    async fn open(
        &self,
        addresses: &[IpAddr],
        target: &Target<'_>,
    ) -> Result<(Io, SocketAddr), ConnectError> {
        let (tcp, remote) = self.race(addresses, target.port).await.map_err(|error| {
            failed(FailureClass::Connect, format!("port {} does not answer: {error}", target.port))
        })?;
        if !target.tls {
            return Ok((Io::Plain(tcp), remote));
        }
        let name = match target.host {
            Host::Domain(name) => ServerName::try_from(name.to_owned())
                .map_err(|_| failed(FailureClass::UrlInvalid, "not a name for a certificate"))?,
            Host::Ipv4(address) => IpAddr::V4(address).into(),
            Host::Ipv6(address) => IpAddr::V6(address).into(),
        };
        let tls = self
            .parts
            .tls
            .connect(name, tcp)
            .await
            .map_err(|error| failed(FailureClass::Tls, format!("tls handshake: {error}")))?;
        Ok((Io::Tls(Box::new(tls)), remote))
    }

    // In order, the next one joining when the one before fails or takes longer than the stagger.
    async fn race(&self, addresses: &[IpAddr], port: u16) -> io::Result<(TcpStream, SocketAddr)> {
        let mut waiting = addresses.iter();
        let mut open = FuturesUnordered::new();
        let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
        loop {
            match waiting.next() {
                Some(address) => open.push(self.dial(SocketAddr::new(*address, port))),
                None if open.is_empty() => return Err(last),
                None => {}
            }
            let patience = async {
                if waiting.len() == 0 {
                    std::future::pending::<()>().await;
                }
                tokio::time::sleep(STAGGER).await;
            };
            tokio::select! {
                Some(outcome) = open.next() => match outcome {
                    Ok(connected) => return Ok(connected),
                    Err(error) => last = error,
                },
                () = patience => {}
            }
        }
    }

    async fn dial(&self, address: SocketAddr) -> io::Result<(TcpStream, SocketAddr)> {
        Ok((self.parts.dialer.dial(address).await?, address))
    }
}

/// An open connection, plain or TLS.
pub(super) struct Stream {
    io: Io,
    made: Made,
}

enum Io {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        let connected = Connected::new().extra(self.made.clone());
        match &self.io {
            Io::Tls(tls) if tls.get_ref().1.alpn_protocol() == Some(b"h2") => {
                connected.negotiated_h2()
            }
            Io::Plain(_) | Io::Tls(_) => connected,
        }
    }
}

macro_rules! forward {
    ($self:ident, $io:ident => $call:expr) => {
        match &mut $self.get_mut().io {
            Io::Plain($io) => {
                let $io = Pin::new($io);
                $call
            }
            Io::Tls($io) => {
                let $io = Pin::new($io.as_mut());
                $call
            }
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        forward!(self, io => io.poll_read(cx, buf))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        forward!(self, io => io.poll_write(cx, buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        forward!(self, io => io.poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        match &self.io {
            Io::Plain(io) => io.is_write_vectored(),
            Io::Tls(io) => io.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        forward!(self, io => io.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        forward!(self, io => io.poll_shutdown(cx))
    }
}
