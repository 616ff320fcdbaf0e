//! Puts a store of this process behind a network: each of its calls is asked for, and answered,
//! over TCP.
//!
//! The store's own work is not what is shown then; the engine is, and the suite itself.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use icp_core::store::Store;
use icp_core::{Code, Error, Result};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use super::Fixture;
use crate::intercept::{Call, Intercept, Intercepted};
use crate::proxy::{Pattern, Proxy};

/// The length of an answer in bytes: one that can be cut in the middle.
const ANSWER: usize = 256;

/// Calls that wait for their request to arrive.
type Waiting = Mutex<HashMap<u64, Arrival>>;

/// How the server tells a call that its request arrived, and hears that it was made.
#[derive(Debug)]
struct Arrival {
    arrived: oneshot::Sender<()>,
    made: oneshot::Receiver<()>,
}

/// Asks a server over TCP before each call is made, and again whether it was.
///
/// A request that does not arrive is not made. One whose answer is lost was made, and its caller
/// sees an error all the same.
#[derive(Debug)]
pub struct Remote {
    server: SocketAddr,
    waiting: Arc<Waiting>,
    next: AtomicU64,
    idle: Mutex<Vec<TcpStream>>,
}

/// The other end of the connections of a [`Remote`]; it ends when it is dropped.
#[derive(Debug)]
struct Server {
    address: SocketAddr,
    waiting: Arc<Waiting>,
    _tasks: JoinSet<()>,
}

/// A fixture over `store`, with a proxy between it and those who use it.
///
/// # Panics
///
/// Where no port of 127.0.0.1 can be had.
pub async fn fixture(store: Arc<dyn Store>) -> Fixture {
    let server = Server::start().await;
    let proxy = Proxy::start(server.address).await;
    let (address, waiting) = (proxy.addr(), Arc::clone(&server.waiting));
    let behind = Arc::clone(&store);
    // Numbers of calls are the server's, so each store takes them from a range of its own.
    let opened = AtomicU64::new(0);
    let through = move || {
        let remote = Remote {
            server: address,
            waiting: Arc::clone(&waiting),
            next: AtomicU64::new(opened.fetch_add(1, Ordering::AcqRel) << 32),
            idle: Mutex::default(),
        };
        let store: Arc<dyn Store> = Arc::new(Intercepted::new(Arc::clone(&behind), remote));
        async move { Ok(store) }
    };
    let commit = ["ingest ", "claim ", "settle "].map(Pattern::holding);
    let commit = commit.into_iter().reduce(Pattern::or).unwrap();
    Fixture::new(store, proxy, through).committing_with(commit).guarded_by(server)
}

impl Remote {
    async fn call<T>(&self, operation: &'static str, call: Call<'_, T>) -> Result<T> {
        let idle = locked(&self.idle).pop();
        let mut stream = match idle {
            Some(stream) => stream,
            None => TcpStream::connect(self.server).await.map_err(unreachable)?,
        };
        let number = self.next.fetch_add(1, Ordering::AcqRel);
        let (arrived, mut arrival) = oneshot::channel();
        let (done, made) = oneshot::channel();
        locked(&self.waiting).insert(number, Arrival { arrived, made });
        let _waits = Waits { waiting: &self.waiting, number };
        let request = format!("{operation} {number}\n");
        stream.write_all(request.as_bytes()).await.map_err(unreachable)?;
        let mut answer = [0; ANSWER];
        tokio::select! {
            biased;
            arrived = &mut arrival => arrived.map_err(|_| broken())?,
            // Nothing is answered before the call was made.
            _ = stream.read(&mut answer[..1]) => return Err(broken()),
        }
        let result = call.await;
        let _ = done.send(());
        stream.read_exact(&mut answer).await.map_err(unreachable)?;
        locked(&self.idle).push(stream);
        result
    }
}

impl Intercept for Remote {
    async fn around<'a, T: Send + 'a>(
        &'a self,
        operation: &'static str,
        call: Call<'a, T>,
    ) -> Result<T> {
        self.call(operation, call).await
    }
}

/// Forgets a call that is over, or was given up.
struct Waits<'a> {
    waiting: &'a Waiting,
    number: u64,
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        locked(self.waiting).remove(&self.number);
    }
}

impl Server {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let waiting = Arc::<Waiting>::default();
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, Arc::clone(&waiting)));
        Self { address, waiting, _tasks: tasks }
    }
}

async fn accept(listener: TcpListener, waiting: Arc<Waiting>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let waiting = Arc::clone(&waiting);
        connections.spawn(async move {
            // What ends a connection is what is tried out.
            let _ = serve(stream, &waiting).await;
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn serve(mut stream: TcpStream, waiting: &Waiting) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let (requests, mut answers) = stream.split();
    let mut requests = BufReader::new(requests).lines();
    while let Some(request) = requests.next_line().await? {
        let number = request.split_once(' ').and_then(|(_, number)| number.parse::<u64>().ok());
        let arrival = number.and_then(|number| locked(waiting).remove(&number));
        let Some(Arrival { arrived, made }) = arrival else { continue };
        if arrived.send(()).is_ok() && made.await.is_ok() {
            answers.write_all(&[b'.'; ANSWER]).await?;
        }
    }
    Ok(())
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn unreachable(error: io::Error) -> Error {
    Error::new(Code::StoreUnavailable, "the store is not reached").caused_by(error)
}

fn broken() -> Error {
    Error::new(Code::StoreUnavailable, "the connection to the store broke off")
}
