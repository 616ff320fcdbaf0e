//! A receiver of webhooks on loopback that behaves as badly as it is told to.

mod behaviour;
mod connection;
mod seen;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;
use icp_core::time::Timestamp;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub use behaviour::{Behaviour, Reaction};
pub use seen::{Received, Seen};

/// How long a test waits for what it expects before it fails: long enough for a machine of which
/// others take most.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// An HTTP/1.1 server on a free port of 127.0.0.1 that records every request.
///
/// It answers 200 wherever [`behave`](Self::behave) says nothing else. It ends when it is
/// dropped.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// use icp_testkit::receiver::{Behaviour, Reaction, Receiver};
///
/// let receiver = Receiver::start().await;
/// receiver.behave("/crm", Behaviour::script([Reaction::Status(503)]));
/// assert!(receiver.url("/crm").starts_with("http://127.0.0.1:"));
/// # });
/// ```
#[derive(Debug)]
pub struct Receiver {
    shared: Arc<Shared>,
    address: SocketAddr,
    _server: JoinSet<()>,
}

#[derive(Debug)]
struct Shared {
    seen: watch::Sender<Seen>,
    behaviours: Mutex<HashMap<String, Set>>,
}

/// The behaviour of a path.
#[derive(Debug)]
struct Set {
    behaviour: Behaviour,
    /// How many requests came before it was set.
    since: usize,
    release: CancellationToken,
}

impl Receiver {
    /// Starts a server.
    ///
    /// # Panics
    ///
    /// Where no port of 127.0.0.1 can be had.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            seen: watch::Sender::new(Seen::default()),
            behaviours: Mutex::default(),
        });
        let mut server = JoinSet::new();
        server.spawn(accept(listener, Arc::clone(&shared)));
        Self { shared, address, _server: server }
    }

    /// The address of `path`, which begins with a slash.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Sets what is done with the requests to `path` from now on. A script begins anew.
    pub fn behave(&self, path: &str, behaviour: impl Into<Behaviour>) {
        let set = Set {
            behaviour: behaviour.into(),
            since: self.shared.seen.borrow().count(path),
            release: CancellationToken::new(),
        };
        self.shared.behaviours().insert(path.to_owned(), set);
    }

    /// Answers the requests that hang on `path` with 200, and those that follow.
    pub fn release(&self, path: &str) {
        if let Some(set) = self.shared.behaviours().get(path) {
            set.release.cancel();
        }
    }

    /// What has come in so far.
    #[must_use]
    pub fn seen(&self) -> Seen {
        self.shared.seen.borrow().clone()
    }

    /// The requests that came to `path` so far.
    #[must_use]
    pub fn requests(&self, path: &str) -> Vec<Received> {
        self.shared.seen.borrow().to(path).cloned().collect()
    }

    /// Waits for `count` requests in all, or more.
    ///
    /// # Panics
    ///
    /// As [`wait_until`](Self::wait_until).
    pub async fn wait_for(&self, count: usize) -> Seen {
        self.wait_until(|seen| seen.requests().len() >= count).await
    }

    /// Waits for `count` requests to `path`, or more, and answers them.
    ///
    /// # Panics
    ///
    /// As [`wait_until`](Self::wait_until).
    pub async fn wait_for_to(&self, path: &str, count: usize) -> Vec<Received> {
        self.wait_until(|seen| seen.count(path) >= count).await.to(path).cloned().collect()
    }

    /// Waits until what has come in is as `condition` asks, and answers it.
    ///
    /// # Panics
    ///
    /// Where that has not come after [`PATIENCE`]; the panic lists what has.
    pub async fn wait_until(&self, condition: impl Fn(&Seen) -> bool) -> Seen {
        let mut seen = self.shared.seen.subscribe();
        let waited = tokio::time::timeout(PATIENCE, seen.wait_for(condition)).await;
        let found = match waited {
            Ok(Ok(found)) => Some(found.clone()),
            Ok(Err(_)) | Err(_) => None,
        };
        found.unwrap_or_else(|| {
            let came: Vec<_> = self
                .seen()
                .requests()
                .iter()
                .map(|r| (r.path.clone(), r.reaction.clone()))
                .collect();
            panic!("waited for {PATIENCE:?} in vain; this came in: {came:?}")
        })
    }
}

impl Shared {
    fn behaviours(&self) -> MutexGuard<'_, HashMap<String, Set>> {
        self.behaviours.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a request and decides what is done with it.
    fn record(&self, head: Parts, body: Bytes, at: Timestamp) -> Reaction {
        let mut request = Received {
            path: head.uri.path().to_owned(),
            query: head.uri.query().map(str::to_owned),
            method: head.method,
            headers: head.headers,
            body,
            at,
            reaction: Reaction::OK,
        };
        let behaviours = self.behaviours();
        self.seen.send_modify(|seen| {
            if let Some(set) = behaviours.get(&request.path) {
                let count = seen.count(&request.path).saturating_sub(set.since);
                let repeat = seen.repeats(&request.path, request.id());
                request.reaction = set.behaviour.react(count, request.id(), repeat);
            }
            seen.push(request.clone());
        });
        request.reaction
    }

    async fn released(&self, path: &str) {
        let release = self.behaviours().get(path).map(|set| set.release.clone());
        if let Some(release) = release {
            release.cancelled().await;
        }
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((stream, _)) = accepted else { continue };
                let _ = stream.set_nodelay(true);
                connections.spawn(connection::serve(Arc::clone(&shared), stream));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}
