//! What a server must survive: bombs, floods and requests that two readers would read apart.

#![expect(clippy::unwrap_used, reason = "what a test needs fails by panicking")]

use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::Request;
use flate2::Compression;
use flate2::write::GzEncoder;
use futures_util::stream;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::harness::Api;

const ORGS: &str = "/api/v1/organizations";
const MIB: usize = 1 << 20;

fn post(api: &Api, path: &str, media: &str, body: Body) -> Request<Body> {
    Request::post(path)
        .header("x-api-key", &api.key)
        .header("content-type", media)
        .body(body)
        .unwrap()
}

/// A body of `chunks` chunks of `chunk`, and how many of them were taken.
fn counted(chunk: Bytes, chunks: usize) -> (Body, Arc<AtomicUsize>) {
    let taken = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&taken);
    let chunks = stream::iter((0..chunks).map(move |_| {
        count.fetch_add(1, Ordering::Relaxed);
        Ok::<_, std::io::Error>(chunk.clone())
    }));
    (Body::from_stream(chunks), taken)
}

#[tokio::test]
async fn a_body_of_a_hundred_mebibytes_is_left_where_the_limit_is() {
    let api = Api::new().await;
    let (body, taken) = counted(Bytes::from(vec![b' '; MIB]), 100);
    let answer = api.raw(post(&api, ORGS, "application/json", body)).await;
    answer.problem(413, "body_too_large");
    assert!(taken.load(Ordering::Relaxed) < 20, "{taken:?} MiB were taken");
}

#[tokio::test]
async fn what_unpacks_a_thousandfold_is_left_where_the_limit_is() {
    let api = Api::new().await;
    let mut packed = GzEncoder::new(Vec::new(), Compression::best());
    packed.write_all(&vec![b' '; 64 * MIB]).unwrap();
    let packed = packed.finish().unwrap();
    assert!(packed.len() * 900 < 64 * MIB);
    // Twenty such members, one after the other: 1.2 GiB.
    let (body, taken) = counted(Bytes::from(packed), 20);
    let mut request = post(&api, ORGS, "application/json", body);
    request.headers_mut().insert("content-encoding", "gzip".parse().unwrap());
    api.raw(request).await.problem(413, "body_too_large");
    assert!(taken.load(Ordering::Relaxed) <= 2);
}

#[tokio::test]
async fn what_is_nested_deeply_is_refused() {
    let api = Api::with_orders().await;
    let (open, close) = ("[".repeat(200_000), "]".repeat(200_000));
    let objects = "{\"a\":".repeat(100_000);
    for body in [format!("{open}{close}"), open, objects] {
        let answer = api.raw(post(&api, ORGS, "application/json", Body::from(body.clone()))).await;
        answer.problem(400, "body_malformed");
        let spec = format!("{{\"spec\":{body}");
        let answer = api.raw(post(&api, ORGS, "application/json", Body::from(spec))).await;
        answer.problem(400, "body_malformed");
        let import = format!("{ORGS}/acme/import");
        for media in ["application/json", "application/yaml"] {
            let answer = api.raw(post(&api, &import, media, Body::from(body.clone()))).await;
            answer.problem(400, "body_malformed");
        }
    }
}

#[tokio::test]
async fn floods_of_header_fields_and_endless_addresses_are_refused() {
    let api = Api::new().await;
    let mut many = Request::get("/health");
    for n in 0..10_000 {
        many = many.header(format!("x-{n}"), "y");
    }
    let answer = api.raw(many.body(Body::empty()).unwrap()).await;
    answer.problem(431, "headers_too_large");
    let long = Request::get("/health").header("x-long", "y".repeat(33 << 10));
    let answer = api.raw(long.body(Body::empty()).unwrap()).await;
    answer.problem(431, "headers_too_large");
    let path = format!("/health?{}", "x".repeat(17 << 10));
    let answer = api.raw(Request::get(path).body(Body::empty()).unwrap()).await;
    answer.problem(414, "address_too_long");
}

async fn listen(api: &Api) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = api.router.clone();
    #[expect(clippy::disallowed_methods, reason = "the server ends with the test's runtime")]
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

/// What the server says until it hangs up, once nothing more is sent.
async fn say(address: SocketAddr, bytes: &[u8]) -> String {
    let mut socket = TcpStream::connect(address).await.unwrap();
    // The server may hang up before it has read all.
    let _ = socket.write_all(bytes).await;
    let _ = socket.shutdown().await;
    let mut answer = Vec::new();
    let _ = socket.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn requests_that_could_be_read_apart_are_not_answered_twice() {
    let api = Api::new().await;
    let address = listen(&api).await;
    let inner = format!(
        "POST {ORGS} HTTP/1.1\r\nhost: a\r\nx-api-key: {}\r\ncontent-type: application/json\r\ncontent-length: 30\r\n\r\n{{\"id\":\"smuggled\",\"spec\":{{}}}}   ",
        api.key
    );
    let length = inner.len();
    let head = "POST /health HTTP/1.1\r\nhost: a\r\n";
    let whole = |fields: &str, body: &str| format!("{head}{fields}\r\n{body}");
    let cases = [
        whole("content-length: 0\r\ncontent-length: 5\r\n", &inner),
        whole("content-length: 0, 5\r\n", &inner),
        whole("content-length: +0\r\n", &inner),
        whole("content-length: -1\r\n", &inner),
        whole("content-length: 0x0\r\n", &inner),
        whole("content-length: 99999999999999999999999\r\n", &inner),
        whole(&format!("transfer-encoding: xchunked\r\ncontent-length: {length}\r\n"), &inner),
        whole("transfer-encoding: chunked, identity\r\n", &format!("0\r\n\r\n{inner}")),
        whole("transfer-encoding : chunked\r\n", &format!("0\r\n\r\n{inner}")),
        whole(" transfer-encoding: chunked\r\n", &format!("0\r\n\r\n{inner}")),
        whole("transfer-encoding: chunked\r\n", &format!("x\r\n{inner}")),
        whole("transfer-encoding: chunked\r\n", &format!("-1\r\n{inner}")),
        whole("transfer-encoding: chunked\r\n", &format!("ffffffffffffffffff\r\n{inner}")),
        whole("transfer-encoding: chunked\r\n", &format!("1;\n\r\nxx{inner}")),
        whole("x: a\r\n b: c\r\n", &inner),
        whole("x: a\0b\r\n", &inner),
        whole("x: a\rb: c\r\n", &inner),
        whole("content-length\r\n", &inner),
        whole(": x\r\n", &inner),
        format!("POST /health HTTP/9.9\r\nhost: a\r\n\r\n{inner}"),
        format!("POST /health\r\n{inner}"),
        format!("POST /hea lth HTTP/1.1\r\nhost: a\r\n\r\n{inner}"),
        format!("PO\tST /health HTTP/1.1\r\nhost: a\r\n\r\n{inner}"),
        format!("{head}content-length: {length}\r\n\r\n{inner}"),
    ];
    for case in &cases {
        let answer = say(address, case.as_bytes()).await;
        let answers = answer.matches("HTTP/1.1 ").count();
        assert!(answers <= 1, "{case:?}: {answer}");
        assert!(!answer.contains("HTTP/1.1 2"), "{case:?}: {answer}");
    }
    api.get(&format!("{ORGS}/smuggled")).await.problem(404, "resource_not_found");
    // The request itself is fine, and the server still answers.
    let answer = say(address, inner.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
}

#[tokio::test]
async fn chunked_wins_over_a_length_and_ends_the_connection() {
    let api = Api::new().await;
    let address = listen(&api).await;
    let smuggled = "GET /metrics HTTP/1.1\r\nhost: a\r\n\r\n";
    let request = format!(
        "POST /health HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n{smuggled}"
    );
    let answer = say(address, request.as_bytes()).await;
    assert!(answer.matches("HTTP/1.1 ").count() <= 2, "{answer}");
    assert!(!answer.contains("HTTP/1.1 200"), "{answer}");
}

#[tokio::test]
async fn line_breaks_do_not_get_into_answers() {
    let api = Api::with_orders().await;
    let address = listen(&api).await;
    for path in [
        "/%0d%0aset-cookie:%20a=b",
        "/api/v1/organizations/a%0d%0ax-evil:%201",
        "/health?%0d%0ax-evil:%201",
    ] {
        let request = format!(
            "GET {path} HTTP/1.1\r\nhost: a\r\nx-api-key: {}\r\nx-request-id: r\r\nconnection: close\r\n\r\n",
            api.key
        );
        let answer = say(address, request.as_bytes()).await;
        let head = answer.split("\r\n\r\n").next().unwrap().to_lowercase();
        assert!(!head.contains("\r\nset-cookie") && !head.contains("\r\nx-evil"), "{head}");
    }
    let flood: String = (0..10_000).map(|n| format!("x-{n}: y\r\n")).collect();
    let request = format!("GET /health HTTP/1.1\r\nhost: a\r\n{flood}\r\n");
    let answer = say(address, request.as_bytes()).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431"), "{answer}");
    let answer =
        say(address, b"GET /health HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[tokio::test(start_paused = true)]
async fn a_body_that_dribbles_is_not_waited_for() {
    let api = Api::new().await;
    let dribble = stream::unfold((), |()| async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        Some((Ok::<_, std::io::Error>(Bytes::from_static(b" ")), ()))
    });
    let begun = tokio::time::Instant::now();
    let request = post(&api, ORGS, "application/json", Body::from_stream(dribble));
    api.raw(request).await.problem(408, "body_too_slow");
    assert!(begun.elapsed() < Duration::from_secs(35), "{:?}", begun.elapsed());
}
