use std::convert::Infallible;

use axum::body::{Body, Bytes};
use axum::routing::{get, post};
use futures_util::stream::{self, Stream, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::time::Instant;

use super::*;

const IDLE: Duration = Duration::from_secs(10);
const UNREAD: Duration = Duration::from_secs(4);
/// More than fits between the two ends.
const LARGE: usize = 4 << 20;
const GET: &[u8] = b"GET /quick HTTP/1.1\r\nhost: a\r\n\r\n";

/// Parts without an end, as many as are asked for.
fn endless() -> impl Stream<Item = Result<Bytes, Infallible>> {
    stream::repeat_with(|| Ok(Bytes::from_static(&[b'x'; 16 << 10])))
}

/// A part now and then, rarer than anything else here is waited for.
fn events() -> impl Stream<Item = Result<Bytes, Infallible>> {
    stream::unfold((), |()| async {
        tokio::time::sleep(IDLE * 3).await;
        Some((Ok(Bytes::from_static(b"event")), ()))
    })
}

/// The other end of a connection, and its task.
fn connect(stopping: &watch::Sender<bool>) -> (DuplexStream, tokio::task::JoinHandle<()>) {
    let router = Router::new()
        .route("/quick", get(async || "quick"))
        .route("/slow", get(async || tokio::time::sleep(IDLE * 5).await))
        .route("/large", get(async || Bytes::from(vec![b'x'; LARGE])))
        .route("/endless", get(async || Body::from_stream(endless())))
        .route("/events", get(async || Body::from_stream(events())))
        .route("/whole", post(async |body: Bytes| body.len().to_string()));
    let (near, far) = duplex(64 << 10);
    let peer = SocketAddr::from(([127, 0, 0, 1], 1));
    let limits = Limits { connections: 1, idle: IDLE, unread: UNREAD };
    let served = connection(far, peer, router, limits, stopping.subscribe());
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

#[tokio::test(start_paused = true)]
async fn an_answer_that_nobody_reads_ends_its_connection() {
    for path in ["large", "endless"] {
        let stopping = watch::Sender::new(false);
        let (mut near, served) = connect(&stopping);
        let begun = Instant::now();
        let asked = format!("GET /{path} HTTP/1.1\r\nhost: a\r\n\r\n");
        near.write_all(asked.as_bytes()).await.unwrap();
        served.await.unwrap();
        assert_eq!(begun.elapsed().as_secs(), UNREAD.as_secs(), "{path}");
        let mut left = Vec::new();
        near.read_to_end(&mut left).await.unwrap();
        assert!(left.len() < LARGE, "{path}: {}", left.len());
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_read_slowly_is_written_to_its_end() {
    let stopping = watch::Sender::new(false);
    let (mut near, _served) = connect(&stopping);
    let begun = Instant::now();
    near.write_all(b"GET /large HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    let (mut read, mut part) = (0, vec![0; 64 << 10]);
    while read < LARGE {
        tokio::time::sleep(UNREAD - Duration::from_secs(1)).await;
        let count = near.read(&mut part).await.unwrap();
        assert_ne!(count, 0, "broken off after {read} bytes");
        read += count;
    }
    assert!(begun.elapsed() > UNREAD * 10);
}

#[tokio::test(start_paused = true)]
async fn a_stream_on_which_nothing_happens_is_not_taken_for_unread() {
    let stopping = watch::Sender::new(false);
    let (mut near, _served) = connect(&stopping);
    near.write_all(b"GET /events HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    for _ in 0..5 {
        until(&mut near, "event").await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_without_room_by_http_2_ends_its_connection() {
    let stopping = watch::Sender::new(false);
    let (near, served) = connect(&stopping);
    let mut sender = by_http_2(near).await;
    let ask = |path: &str| Request::get(format!("http://a/{path}")).body(Body::empty()).unwrap();
    let begun = Instant::now();
    // Held, so that the client neither reads it nor gives it up.
    let unread = sender.send_request(ask("endless")).await.unwrap();
    // The connection itself is not in its way.
    tokio::time::sleep(UNREAD / 2).await;
    assert!(sender.send_request(ask("quick")).await.unwrap().status().is_success());
    served.await.unwrap();
    let took = begun.elapsed();
    assert!(took >= UNREAD && took <= UNREAD * 2, "{took:?}");
    drop(unread);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_read_slowly_by_http_2_is_written_to_its_end() {
    let stopping = watch::Sender::new(false);
    let (near, _served) = connect(&stopping);
    let mut sender = by_http_2(near).await;
    let ask = Request::get("http://a/large").body(Body::empty()).unwrap();
    let answer = Body::new(sender.send_request(ask).await.unwrap().into_body());
    let (mut answer, mut read) = (answer.into_data_stream(), 0);
    while let Some(part) = answer.next().await {
        read += part.unwrap().len();
        // A window of so many bytes is given back whole.
        if read % WINDOW == 0 {
            tokio::time::sleep(UNREAD / 2).await;
        }
    }
    assert_eq!(read, LARGE);
}

const WINDOW: usize = 16 << 10;

async fn by_http_2(near: DuplexStream) -> hyper::client::conn::http2::SendRequest<Body> {
    let mut builder = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
    let builder = builder.initial_stream_window_size(u32::try_from(WINDOW).unwrap());
    let (sender, connection) = builder.handshake(TokioIo::new(near)).await.unwrap();
    #[expect(clippy::disallowed_methods, reason = "the test is the host of its client")]
    tokio::spawn(connection);
    sender
}
