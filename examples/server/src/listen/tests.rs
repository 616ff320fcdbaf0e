use axum::routing::{get, post};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::time::Instant;

use super::*;

const IDLE: Duration = Duration::from_secs(10);
const GET: &[u8] = b"GET /quick HTTP/1.1\r\nhost: a\r\n\r\n";

/// The other end of a connection, and its task.
fn connect(stopping: &watch::Sender<bool>) -> (DuplexStream, tokio::task::JoinHandle<()>) {
    let router = Router::new()
        .route("/quick", get(async || "quick"))
        .route("/slow", get(async || tokio::time::sleep(IDLE * 5).await))
        .route("/whole", post(async |body: Bytes| body.len().to_string()));
    let (near, far) = duplex(64 << 10);
    let peer = SocketAddr::from(([127, 0, 0, 1], 1));
    let served = connection(far, peer, router, IDLE, stopping.subscribe());
    #[expect(clippy::disallowed_methods, reason = "the test is the host of its server")]
    let served = tokio::spawn(served);
    (near, served)
}

/// What comes until `end`, which is part of the answer.
async fn until(stream: &mut DuplexStream, end: &str) -> String {
    let mut read = Vec::new();
    while !String::from_utf8_lossy(&read).contains(end) {
        assert_ne!(stream.read_buf(&mut read).await.unwrap(), 0);
    }
    String::from_utf8(read).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_connection_without_a_word_is_closed() {
    for said in ["", "G", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
        let stopping = watch::Sender::new(false);
        let (mut near, served) = connect(&stopping);
        let begun = Instant::now();
        near.write_all(said.as_bytes()).await.unwrap();
        served.await.unwrap();
        assert_eq!(begun.elapsed().as_secs(), IDLE.as_secs(), "{said:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn header_fields_that_dribble_are_not_waited_for() {
    let stopping = watch::Sender::new(false);
    let (mut near, served) = connect(&stopping);
    let begun = Instant::now();
    near.write_all(b"GET /quick HTTP/1.1\r\nhost: a\r\n").await.unwrap();
    let mut sent = 0;
    while near.write_all(b"x: y\r\n").await.is_ok() {
        sent += 1;
        tokio::time::sleep(Duration::from_millis(900)).await;
    }
    served.await.unwrap();
    assert!(sent > 5 && begun.elapsed() < IDLE + Duration::from_secs(2), "{sent}");
}

#[tokio::test(start_paused = true)]
async fn what_is_under_way_is_not_idle_and_what_follows_counts_anew() {
    let stopping = watch::Sender::new(false);
    let (mut near, served) = connect(&stopping);
    let begun = Instant::now();
    near.write_all(b"GET /slow HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    until(&mut near, "\r\n\r\n").await;
    assert_eq!(begun.elapsed().as_secs(), 50);
    for _ in 0..5 {
        tokio::time::sleep(IDLE - Duration::from_secs(1)).await;
        near.write_all(GET).await.unwrap();
        until(&mut near, "quick").await;
    }
    let quiet = Instant::now();
    served.await.unwrap();
    assert_eq!(quiet.elapsed().as_secs(), IDLE.as_secs());
}

#[tokio::test(start_paused = true)]
async fn a_stop_ends_what_is_idle_at_once_and_the_rest_when_it_is_done() {
    let stopping = watch::Sender::new(false);
    let (mut idle, idle_served) = connect(&stopping);
    idle.write_all(GET).await.unwrap();
    until(&mut idle, "quick").await;
    let (mut busy, busy_served) = connect(&stopping);
    busy.write_all(b"GET /slow HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let begun = Instant::now();
    stopping.send_replace(true);
    idle_served.await.unwrap();
    assert_eq!(begun.elapsed().as_secs(), 0);
    let answer = until(&mut busy, "\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    busy_served.await.unwrap();
}
