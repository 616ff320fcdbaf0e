//! Receivers on loopback, a dialer that records which sockets were asked for, and scripted lookups.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::super::*;

/// Records every dialed address, and connects to `to` in its place where there is one.
#[derive(Clone, Default)]
pub(crate) struct Recorder {
    log: Arc<Mutex<Vec<SocketAddr>>>,
    to: Option<SocketAddr>,
}

impl Recorder {
    pub(super) fn leading_to(to: SocketAddr) -> Self {
        Self { to: Some(to), ..Self::default() }
    }

    pub(crate) fn dialed(&self) -> Vec<SocketAddr> {
        self.log.lock().unwrap().clone()
    }
}

#[async_trait::async_trait]
impl Dial for Recorder {
    async fn dial(&self, address: SocketAddr) -> io::Result<TcpStream> {
        self.log.lock().unwrap().push(address);
        match self.to {
            Some(to) => TcpStream::connect(to).await,
            None => Err(io::ErrorKind::ConnectionRefused.into()),
        }
    }
}

/// Gives one list of answers for each lookup, and an error once they are used up.
pub(crate) struct Sequence(Mutex<VecDeque<Vec<IpAddr>>>);

impl Sequence {
    pub(crate) fn new(answers: &[&[&str]]) -> Self {
        let parse = |list: &&[&str]| list.iter().map(|text| text.parse().unwrap()).collect();
        Self(Mutex::new(answers.iter().map(parse).collect()))
    }
}

#[async_trait::async_trait]
impl Resolver for Sequence {
    async fn resolve(&self, _: &str) -> io::Result<Vec<IpAddr>> {
        self.0.lock().unwrap().pop_front().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

/// What a receiver does once it has read a request.
#[derive(Clone, Copy)]
pub(super) enum Act {
    /// Writes this and keeps the connection.
    Keep(&'static str),
    /// Writes this and closes the connection.
    Close(&'static str),
    /// Writes this to so many requests, then closes the connection.
    Times(usize, &'static str),
    /// Writes this, then closes so that the peer sees a reset.
    Reset(&'static str),
    /// Writes this head, then this piece for as long as the peer reads.
    Endless(&'static str, &'static [u8]),
    /// Writes this and then nothing more.
    Silent(&'static str),
}

/// A receiver that answers every request alike.
pub(super) struct Server {
    pub(super) address: SocketAddr,
    pub(super) connections: Arc<AtomicUsize>,
    pub(super) requests: Arc<Mutex<Vec<String>>>,
    pub(super) closed: Arc<tokio::sync::Notify>,
    _tasks: JoinSet<()>,
}

impl Server {
    pub(super) async fn start(act: Act) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let requests = Arc::new(Mutex::new(Vec::new()));
        let closed = Arc::new(tokio::sync::Notify::new());
        let mut tasks = JoinSet::new();
        let (count, seen, gone) = (connections.clone(), requests.clone(), closed.clone());
        tasks.spawn(async move {
            let mut open = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                let (seen, gone) = (seen.clone(), gone.clone());
                open.spawn(async move {
                    let _ = serve(stream, act, &seen).await;
                    gone.notify_one();
                });
            }
        });
        Self { address, connections, requests, closed, _tasks: tasks }
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(super) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    pub(super) fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

async fn serve(mut stream: TcpStream, act: Act, seen: &Mutex<Vec<String>>) -> io::Result<()> {
    let mut answered = 0;
    while let Some(request) = read_request(&mut stream).await? {
        seen.lock().unwrap().push(request);
        answered += 1;
        match act {
            Act::Keep(text) => stream.write_all(text.as_bytes()).await?,
            Act::Times(times, text) if answered < times => {
                stream.write_all(text.as_bytes()).await?;
            }
            Act::Close(text) | Act::Times(_, text) => {
                stream.write_all(text.as_bytes()).await?;
                stream.shutdown().await?;
                // The end of the peer's side shows that it has seen ours.
                stream.read_to_end(&mut Vec::new()).await?;
                return Ok(());
            }
            Act::Reset(text) => {
                stream.write_all(text.as_bytes()).await?;
                return stream.set_zero_linger();
            }
            Act::Endless(head, piece) => {
                stream.write_all(head.as_bytes()).await?;
                loop {
                    stream.write_all(piece).await?;
                    if piece.len() < 16 {
                        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
                    }
                }
            }
            Act::Silent(text) => {
                stream.write_all(text.as_bytes()).await?;
                std::future::pending::<()>().await;
            }
        }
    }
    Ok(())
}

async fn read_request(stream: &mut TcpStream) -> io::Result<Option<String>> {
    let mut text = Vec::new();
    loop {
        // A TLS greeting is no request.
        if text.first() == Some(&0x16) {
            return Ok(None);
        }
        if let Some(end) = text.windows(4).position(|w| w == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&text[..end]).to_lowercase();
            let length = head.lines().find_map(|l| l.strip_prefix("content-length: "));
            let length = length.map_or(0, |n| n.parse::<usize>().unwrap());
            if text.len() >= end + 4 + length {
                return Ok(Some(String::from_utf8_lossy(&text).into_owned()));
            }
        }
        if stream.read_buf(&mut text).await? == 0 {
            return Ok(None);
        }
    }
}
