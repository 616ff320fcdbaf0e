use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinSet;

use super::fault::Welcome;
use super::{Fault, Shared, link};

const BACKLOG: u32 = 1_024;

/// A port that stays ours while nobody listens on it, so that connections to it are refused.
#[derive(Debug)]
pub(super) struct Port {
    address: SocketAddr,
    _reserved: TcpSocket,
}

impl Port {
    pub(super) fn take() -> io::Result<Self> {
        let reserved = bound(SocketAddr::from(([127, 0, 0, 1], 0)))?;
        Ok(Self { address: reserved.local_addr()?, _reserved: reserved })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(super) fn listen(&self) -> io::Result<TcpListener> {
        bound(self.address)?.listen(BACKLOG)
    }
}

fn bound(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.set_reuseport(true)?;
    socket.bind(address)?;
    Ok(socket)
}

/// Takes connections, but for as long as they are refused.
pub(super) async fn accept(shared: Arc<Shared>, port: Port, listener: TcpListener) {
    let mut listener = Some(listener);
    let mut state = shared.state.subscribe();
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        if matches!(state.borrow_and_update().fault, Some(Fault::Refused)) {
            listener = None;
        } else if listener.is_none() {
            listener = port.listen().ok();
        }
        let Some(open) = &listener else {
            if state.changed().await.is_err() {
                return;
            }
            continue;
        };
        tokio::select! {
            accepted = open.accept() => {
                if let Ok((client, _)) = accepted {
                    connections.spawn(serve(Arc::clone(&shared), client));
                }
            }
            changed = state.changed() => if changed.is_err() { return },
        }
    }
}

async fn serve(shared: Arc<Shared>, client: TcpStream) {
    let count = shared.accepted.fetch_add(1, Ordering::AcqRel);
    let _open = Open::new(&shared);
    let welcome = shared.state.borrow().fault.as_ref().map(|fault| fault.welcome(count));
    match welcome.unwrap_or(Welcome::Take) {
        Welcome::Take => link::join(&shared, client).await,
        Welcome::Reset => {
            shared.apply();
            link::reset(&client);
        }
        Welcome::Lose => {
            shared.apply();
            link::lose(&shared, client).await;
        }
    }
}

/// Counts a connection for as long as it is open.
struct Open<'a>(&'a Shared);

impl<'a> Open<'a> {
    fn new(shared: &'a Shared) -> Self {
        shared.open.fetch_add(1, Ordering::AcqRel);
        Self(shared)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::AcqRel);
    }
}
