//! Connections: taken up to a number, and ended when nothing is asked on them.
//!
//! Who opens connections and says nothing, or dribbles header fields, holds each for
//! [`Limits::idle`] at most; how slowly a body may arrive is for the API to say.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, HttpBody};
use axum::extract::ConnectInfo;
use axum::response::Response;
use bytes::Bytes;
use http::Request;
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tower::ServiceExt;

/// How many connections may wait to be taken. The system drops the others, and a client that then
/// says nothing never learns of it.
const BACKLOG: u32 = 1_024;
/// How long the server waits after it could not take a connection, as when files run out.
const PAUSE: Duration = Duration::from_millis(100);

/// What connections may use.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// How many there are at once; others wait to be taken.
    pub(crate) connections: usize,
    /// How long one may have no request under way: from its start or the last answer until all
    /// header fields of the next request are there.
    pub(crate) idle: Duration,
}

/// Listens on `address`.
///
/// # Errors
///
/// What the system says, as for an address that another process listens on.
pub(crate) fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // A server that starts anew takes the place of its connections that are not over yet.
    #[cfg(unix)]
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Serves `router` until `stop`, and then what is under way.
pub(crate) async fn serve(
    listener: TcpListener,
    router: Router,
    limits: Limits,
    stop: impl Future<Output = ()>,
) {
    let room = Arc::new(Semaphore::new(limits.connections.min(Semaphore::MAX_PERMITS)));
    let stopping = watch::Sender::new(false);
    let mut connections = JoinSet::new();
    let mut stop = pin!(stop);
    loop {
        let accepted = tokio::select! {
            () = &mut stop => break,
            Some(_) = connections.join_next() => continue,
            accepted = accept(&listener, &room) => accepted,
        };
        let Some((permit, stream, peer)) = accepted else { continue };
        let (router, stopping) = (router.clone(), stopping.subscribe());
        connections.spawn(async move {
            connection(stream, peer, router, limits.idle, stopping).await;
            drop(permit);
        });
    }
    drop(listener);
    stopping.send_replace(true);
    while connections.join_next().await.is_some() {}
}

async fn accept(
    listener: &TcpListener,
    room: &Arc<Semaphore>,
) -> Option<(tokio::sync::OwnedSemaphorePermit, tokio::net::TcpStream, SocketAddr)> {
    let permit = Arc::clone(room).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, peer)) => {
            // Answers are written whole.
            let _ = stream.set_nodelay(true);
            Some((permit, stream, peer))
        }
        Err(fault) => {
            tracing::warn!("a connection could not be taken: {fault}");
            tokio::time::sleep(PAUSE).await;
            None
        }
    }
}

/// Serves one connection to its end.
async fn connection<I>(
    stream: I,
    peer: SocketAddr,
    router: Router,
    idle: Duration,
    mut stopping: watch::Receiver<bool>,
) where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let under_way = watch::Sender::new(0);
    let work = under_way.clone();
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(ConnectInfo(peer));
        let held = Held::of(&work);
        let answer = router.clone().oneshot(request);
        async move { answer.await.map(|response| held.with(response)) }
    });
    let builder = Builder::new(TokioExecutor::new());
    let mut served = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let mut quiet = pin!(quiet(under_way.subscribe(), idle));
    // The sender lives as long as the server.
    let mut stopped = pin!(stopping.wait_for(|stopping| *stopping));
    let mut stops = true;
    loop {
        tokio::select! {
            // What ends a connection is its peer's doing: nobody is to be told.
            _ = &mut served => return,
            () = &mut quiet => return,
            _ = &mut stopped, if stops => {
                stops = false;
                served.as_mut().graceful_shutdown();
            }
        }
    }
}

/// Waits until nothing was under way for `idle`.
async fn quiet(mut under_way: watch::Receiver<usize>, idle: Duration) {
    // The sender lives as long as the connection.
    while under_way.wait_for(|count| *count == 0).await.is_ok() {
        // Not for a count: a request may be over before anybody looks.
        if tokio::time::timeout(idle, under_way.changed()).await.is_err() {
            return;
        }
    }
}

/// A request that is under way, until its answer is written or given up.
struct Held(watch::Sender<usize>);

impl Held {
    fn of(work: &watch::Sender<usize>) -> Self {
        work.send_modify(|count| *count += 1);
        Self(work.clone())
    }

    fn with(self, response: Response) -> Response {
        response.map(|body| Body::new(HeldBody { body, _held: self }))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

/// The body of an answer, as long as it is being written.
struct HeldBody {
    body: Body,
    _held: Held,
}

impl HttpBody for HeldBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests;
