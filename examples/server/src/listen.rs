//! Connections: taken up to a number, and ended when nothing is asked on them, or not read.
//!
//! Who opens connections and says nothing, or dribbles header fields, holds each for
//! [`Limits::idle`] at most; who asks and does not read the answer, for [`Limits::unread`]. How
//! slowly a body may arrive is for the API to say.

mod held;
mod taken;

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use http::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tower::ServiceExt;

use self::held::Work;
use self::taken::Taken;

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
    /// How long the other side may take nothing of an answer.
    pub(crate) unread: Duration,
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
            connection(stream, peer, router, limits, stopping).await;
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
    limits: Limits,
    mut stopping: watch::Receiver<bool>,
) where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let under_way = Work::none();
    let work = under_way.clone();
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(ConnectInfo(peer));
        let held = work.begin(request.version());
        let answer = router.clone().oneshot(request);
        async move { answer.await.map(|response| held.with(response)) }
    });
    let builder = Builder::new(TokioExecutor::new());
    let stream = TokioIo::new(Taken::within(limits.unread, stream, under_way.clone()));
    let mut served = pin!(builder.serve_connection(stream, service));
    let mut quiet = pin!(under_way.quiet(limits.idle));
    let mut unread = pin!(under_way.unread(limits.unread));
    // The sender lives as long as the server.
    let mut stopped = pin!(stopping.wait_for(|stopping| *stopping));
    let mut stops = true;
    loop {
        tokio::select! {
            // What ends a connection is its peer's doing: nobody is to be told.
            _ = &mut served => return,
            () = &mut quiet => return,
            () = &mut unread => return,
            _ = &mut stopped, if stops => {
                stops = false;
                served.as_mut().graceful_shutdown();
            }
        }
    }
}

#[cfg(test)]
mod tests;
