//! A TCP proxy on loopback that stands between a host and its database, and breaks what passes
//! through it as it is told to.
//!
//! Point the host's connection at [`Proxy::addr`], [`set`](Proxy::set) a fault in the middle of
//! its work, [`heal`](Proxy::heal), and look at what is left: the suite of faults does so
//! for every store.

mod fault;
mod link;
mod listen;
mod pump;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::watch;
use tokio::task::JoinSet;

pub use fault::{Fault, Pattern};

/// A proxy in front of one server. It ends, with all of its connections, when it is dropped.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// use icp_testkit::proxy::{Fault, Proxy};
/// use tokio::io::{AsyncReadExt, AsyncWriteExt};
/// use tokio::net::{TcpListener, TcpStream};
///
/// let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
/// let proxy = Proxy::start(server.local_addr().unwrap()).await;
/// let mut client = TcpStream::connect(proxy.addr()).await.unwrap();
/// let (mut served, _) = server.accept().await.unwrap();
/// client.write_all(b"hello").await.unwrap();
/// served.read_exact(&mut [0; 5]).await.unwrap();
///
/// proxy.set(Fault::Reset);
/// assert!(client.read_u8().await.is_err());
/// proxy.heal();
/// # });
/// ```
#[derive(Debug)]
pub struct Proxy {
    shared: Arc<Shared>,
    address: SocketAddr,
    _tasks: JoinSet<()>,
}

/// What the proxy and its connections know together.
#[derive(Debug)]
struct Shared {
    upstream: SocketAddr,
    state: watch::Sender<State>,
    accepted: AtomicU64,
    open: AtomicU64,
    applied: AtomicU64,
}

/// The fault that is set, and how often one was.
#[derive(Clone, Debug, Default)]
struct State {
    fault: Option<Fault>,
    turn: u64,
}

/// What a proxy has done so far.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Counts {
    /// Connections that clients have made.
    pub accepted: u64,
    /// Connections that are open now.
    pub open: u64,
    /// How often the faults took hold: a connection that was reset, refused or lost, a stretch of
    /// bytes that was delayed, swallowed or cut. Refused connections are not seen, and not counted.
    pub applied: u64,
}

impl Proxy {
    /// Starts a proxy on a free port of 127.0.0.1 that passes everything on to `upstream`.
    ///
    /// # Panics
    ///
    /// Where no port of 127.0.0.1 can be had.
    pub async fn start(upstream: SocketAddr) -> Self {
        let port = listen::Port::take().unwrap();
        let address = port.address();
        let shared = Arc::new(Shared {
            upstream,
            state: watch::Sender::new(State::default()),
            accepted: AtomicU64::new(0),
            open: AtomicU64::new(0),
            applied: AtomicU64::new(0),
        });
        let mut tasks = JoinSet::new();
        let listener = port.listen().unwrap();
        tasks.spawn(listen::accept(Arc::clone(&shared), port, listener));
        Self { shared, address, _tasks: tasks }
    }

    /// Starts a proxy in front of the server that a database's address names, and gives the address
    /// that leads through it. What else the address says stays: TLS must be off in it, and a
    /// MongoDB driver must be told `directConnection=true`, or it goes on to the server by itself.
    ///
    /// # Panics
    ///
    /// Where the address has no host and port that can be resolved.
    pub async fn in_front_of(url: &str) -> (Self, String) {
        let (scheme, rest) = url.split_once("://").unwrap();
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (place, path) = rest.split_at(end);
        let (login, host) = place
            .rsplit_once('@')
            .map_or(("", place), |(_, host)| (&place[..place.len() - host.len()], host));
        let upstream = tokio::net::lookup_host(host).await.unwrap().next().unwrap();
        let proxy = Self::start(upstream).await;
        let through = format!("{scheme}://{login}{}{path}", proxy.addr());
        (proxy, through)
    }

    /// Where clients connect to.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.address
    }

    /// Sets the fault, in place of any other, for the connections that are open and those to come.
    pub fn set(&self, fault: Fault) {
        self.change(Some(fault));
    }

    /// Lets everything pass again: what was held back goes on at once; a connection that lost bytes
    /// is reset, because its stream has a hole.
    pub fn heal(&self) {
        self.change(None);
    }

    /// What it has done so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        Counts {
            accepted: self.shared.accepted.load(Ordering::Acquire),
            open: self.shared.open.load(Ordering::Acquire),
            applied: self.shared.applied.load(Ordering::Acquire),
        }
    }

    fn change(&self, fault: Option<Fault>) {
        self.shared.state.send_modify(|state| {
            state.fault = fault;
            state.turn += 1;
        });
    }
}

impl Shared {
    fn apply(&self) {
        self.applied.fetch_add(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests;
