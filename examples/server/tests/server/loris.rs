//! Connections that say nothing, or say it slowly: they are ended, and others are served.
#![expect(clippy::unwrap_used, reason = "what a test needs fails by panicking")]

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::harness::{Folder, Server, http};

/// How long a connection may be idle here; the test sees each end.
const IDLE: (&str, &str) = ("ICP_IDLE_SECONDS", "1");
const PATIENCE: Duration = Duration::from_secs(60);
const IDLERS: usize = 400;
const DRIBBLERS: usize = 100;
/// How many of them open connections at once: more than a busy machine keeps waiting are dropped
/// before the server knows of them.
const WAVE: usize = 50;

/// Waits until the server hangs up; answers what it said before.
async fn hung_up(stream: &mut TcpStream) -> Vec<u8> {
    let mut said = Vec::new();
    // A reset is an end as well.
    let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut said)).await.unwrap();
    said
}

/// Returns once the server has taken all connections that were opened before.
async fn taken(url: &str) {
    // A new connection is taken after them.
    let answer = http().get(format!("{url}/health")).send().await.unwrap();
    assert!(answer.status().is_success());
}

#[tokio::test]
async fn who_says_nothing_or_dribbles_is_hung_up_on_and_others_are_served() {
    let folder = Folder::new();
    let server = Server::start(&folder, &[IDLE]).await;
    let address = server.url.trim_start_matches("http://").to_owned();
    let before = server.resident_kib();
    let client = http();
    let mut slow = JoinSet::new();
    for number in 0..IDLERS + DRIBBLERS {
        if number % WAVE == 0 {
            taken(&server.url).await;
        }
        let mut stream = TcpStream::connect(&address).await.unwrap();
        slow.spawn(async move {
            if number < IDLERS {
                return hung_up(&mut stream).await;
            }
            stream.write_all(b"GET /health HTTP/1.1\r\nhost: a\r\n").await.unwrap();
            let (mut read, mut write) = stream.into_split();
            let dribble = async {
                while write.write_all(b"x: y\r\n").await.is_ok() {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            };
            let mut said = Vec::new();
            let end = tokio::time::timeout(PATIENCE, read.read_to_end(&mut said));
            tokio::select! {
                ended = end => drop(ended.unwrap()),
                () = dribble => {}
            }
            said
        });
    }
    let (mut served, mut most) = (0, before);
    let begun = Instant::now();
    while !slow.is_empty() {
        let answer = client.get(format!("{}/health", server.url)).send().await.unwrap();
        assert!(answer.status().is_success());
        served += 1;
        most = most.max(server.resident_kib());
        while let Some(said) = slow.try_join_next() {
            assert!(said.unwrap().is_empty(), "nothing was asked");
        }
        assert!(begun.elapsed() < PATIENCE, "{} connections are still open", slow.len());
    }
    assert!(served > 10, "{served} were served beside them");
    assert!(most < before + (48 << 10), "memory went from {before} to {most} KiB");
    server.stop().await;
}

#[tokio::test]
async fn more_connections_than_there_is_room_for_wait_and_are_served() {
    let folder = Folder::new();
    let server = Server::start(&folder, &[IDLE, ("ICP_MAX_CONNECTIONS", "4")]).await;
    let address = server.url.trim_start_matches("http://").to_owned();
    let mut idle = Vec::new();
    for _ in 0..8 {
        idle.push(TcpStream::connect(&address).await.unwrap());
    }
    // It is its turn once those before it were hung up on.
    let answer = http().get(format!("{}/health", server.url)).send();
    let answer = tokio::time::timeout(PATIENCE, answer).await.unwrap().unwrap();
    assert!(answer.status().is_success());
    for stream in &mut idle {
        assert!(hung_up(stream).await.is_empty());
    }
    server.stop().await;
}

/// How long an answer may wait to be read here.
const UNREAD: (&str, &str) = ("ICP_UNREAD_SECONDS", "1");
/// Something long to read.
const DOCUMENT: &str = "/api/v1/openapi.json";
/// How many answers are asked for at once: together more than systems keep for a reader.
const ASKED: usize = 400;

#[tokio::test]
async fn who_asks_and_does_not_read_makes_room_for_others() {
    let folder = Folder::new();
    let server = Server::start(&folder, &[UNREAD, ("ICP_MAX_CONNECTIONS", "4")]).await;
    let address: SocketAddr = server.url.trim_start_matches("http://").parse().unwrap();
    let key = server.key.clone().unwrap();
    let document = http().get(format!("{}{DOCUMENT}", server.url)).bearer_auth(&key);
    let size = document.send().await.unwrap().bytes().await.unwrap().len();
    assert!(size > 100_000, "{size} bytes are too few to wait for a reader");
    let asked = format!("GET {DOCUMENT} HTTP/1.1\r\nhost: a\r\nx-api-key: {key}\r\n\r\n");
    let asked = asked.repeat(ASKED);
    let before = server.resident_kib();
    let mut unread = Vec::new();
    for _ in 0..4 {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4 << 10).unwrap();
        let mut stream = socket.connect(address).await.unwrap();
        stream.write_all(asked.as_bytes()).await.unwrap();
        unread.push(stream);
    }
    // They took all the room there is, so that as many others are answered, each on a connection
    // that stays, once all of them were given up.
    let mut others = Vec::new();
    for _ in 0..4 {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET /health HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        let mut said = [0; 12];
        let answer = stream.read_exact(&mut said);
        tokio::time::timeout(PATIENCE, answer).await.unwrap().unwrap();
        assert_eq!(&said, b"HTTP/1.1 200");
        others.push(stream);
    }
    let after = server.resident_kib();
    assert!(after < before + (48 << 10), "memory went from {before} to {after} KiB");
    server.stop().await;
}
