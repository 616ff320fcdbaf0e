//! One connection of a client and its server.

use std::sync::atomic::{AtomicBool, AtomicUsize};

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use super::pump::{self, Way};
use super::{Fault, Shared};

/// What both ways of a connection know of it.
#[derive(Debug, Default)]
pub(super) struct Link {
    /// How many bytes of the answer to the last request came.
    pub(super) answered: AtomicUsize,
    /// Whether the next answer is to be a reset.
    pub(super) cut: AtomicBool,
    /// Whether bytes were lost on it.
    pub(super) holed: AtomicBool,
}

/// A connection that is to be reset.
#[derive(Clone, Copy, Debug)]
pub(super) struct Broken;

/// Passes everything on, both ways, until the connection ends.
pub(super) async fn join(shared: &Shared, mut client: TcpStream) {
    let Ok(mut server) = TcpStream::connect(shared.upstream).await else {
        reset(&client);
        return;
    };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let ended = {
        let link = Link::default();
        let (client_in, client_out) = client.split();
        let (server_in, server_out) = server.split();
        let requests = pump::run(shared, &link, Way::Request, client_in, server_out);
        let answers = pump::run(shared, &link, Way::Answer, server_in, client_out);
        tokio::select! {
            ended = async { tokio::try_join!(requests, answers) } => ended.map(|_| ()),
            () = torn(shared, &link) => Err(Broken),
        }
    };
    if ended.is_err() {
        reset(&client);
        reset(&server);
    }
}

/// Keeps a connection that nothing comes out of, until the fault is over.
pub(super) async fn lose(shared: &Shared, mut client: TcpStream) {
    let mut state = shared.state.subscribe();
    let turn = state.borrow().turn;
    let over = async {
        let _ = state.wait_for(|state| state.turn != turn).await;
    };
    let swallow = async {
        let mut lost = [0; 4_096];
        while client.read(&mut lost).await.is_ok_and(|read| read > 0) {}
    };
    tokio::select! {
        () = over => {}
        () = swallow => {}
    }
    reset(&client);
}

/// Makes the end of `stream` a reset.
pub(super) fn reset(stream: &TcpStream) {
    // Without a linger time, closing sends a reset in place of an orderly end.
    let _ = stream.set_zero_linger();
}

/// Waits until the connection is reset from outside of it: by a fault, or by the end of one that
/// left a hole in it.
async fn torn(shared: &Shared, link: &Link) {
    let mut state = shared.state.subscribe();
    loop {
        match state.borrow_and_update().fault {
            Some(Fault::Reset) => {
                shared.apply();
                return;
            }
            Some(Fault::BlackHole | Fault::HalfClose) => {}
            _ if link.holed.load(std::sync::atomic::Ordering::Acquire) => return,
            _ => {}
        }
        if state.changed().await.is_err() {
            return;
        }
    }
}
