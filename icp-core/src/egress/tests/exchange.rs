use std::time::Duration;

use http::{HeaderValue, header};
use tower::ServiceExt;

use super::super::*;
use super::support::{Act, Server};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";

fn client() -> Client {
    Client::builder().native_roots(false).build().unwrap()
}

fn loopback() -> Arc<AddressPolicy> {
    Arc::new(AddressPolicy::builder().allow_loopback().build())
}

fn post(url: &str) -> EgressRequest {
    EgressRequest::post(url.parse().unwrap(), "a\0b\r\nc", loopback())
}

async fn send(client: &Client, request: EgressRequest) -> Result<EgressResponse, EgressError> {
    client.clone().oneshot(request).await
}

async fn class(act: Act, timeouts: Timeouts) -> FailureClass {
    let server = Server::start(act).await;
    let mut request = post(&server.url("/"));
    request.timeouts = timeouts;
    send(&client(), request).await.unwrap_err().class
}

#[tokio::test]
async fn requests_arrive_exactly_and_share_a_connection() {
    let server = Server::start(Act::Keep(OK)).await;
    let client = client();
    for _ in 0..2 {
        let mut request = post(&server.url("/a?b=c#d"));
        for (name, value) in [
            (header::HOST, "evil.example"),
            (header::CONTENT_LENGTH, "1"),
            (header::TRANSFER_ENCODING, "chunked"),
        ] {
            request.headers.insert(name, HeaderValue::from_static(value));
        }
        let response = send(&client, request).await.unwrap();
        assert_eq!((response.status.as_u16(), &response.body[..]), (200, &b"hello"[..]));
        assert!(!response.truncated);
        assert_eq!(response.remote, Some(server.address));
    }
    let expected = format!(
        "POST /a?b=c HTTP/1.1\r\nhost: {}\r\ncontent-length: 6\r\n\r\na\0b\r\nc",
        server.address
    );
    for request in server.requests() {
        let mut parts: Vec<_> = request.split("\r\n").collect();
        parts[1..3].sort_by_key(|line| !line.starts_with("host"));
        assert_eq!(parts.join("\r\n"), expected);
    }
    assert_eq!((server.requests().len(), server.connections()), (2, 1));
}

#[tokio::test]
async fn a_policy_does_not_reuse_the_connections_of_another() {
    let server = Server::start(Act::Keep(OK)).await;
    let client = client();
    send(&client, post(&server.url("/"))).await.unwrap();
    let mut request = post(&server.url("/"));
    request.policy = Arc::new(
        AddressPolicy::builder().allow_loopback().deny("10.0.0.1".parse().unwrap()).build(),
    );
    send(&client, request.clone()).await.unwrap();
    assert_eq!(server.connections(), 2);
    request.policy = Arc::new(AddressPolicy::strict());
    assert_eq!(send(&client, request).await.unwrap_err().class, FailureClass::AddressDenied);
    assert_eq!(server.requests().len(), 2);
}

#[tokio::test]
async fn a_closed_idle_connection_is_replaced() {
    let server = Server::start(Act::Close(OK)).await;
    let client = client();
    for _ in 0..3 {
        assert!(send(&client, post(&server.url("/"))).await.is_ok());
        server.closed.notified().await;
    }
    assert_eq!(server.connections(), 3);
}

#[tokio::test]
async fn a_compressed_body_is_passed_as_it_is() {
    let packed =
        "HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 4\r\n\r\n\x1f\x0b\x08\0";
    let server = Server::start(Act::Keep(packed)).await;
    let response = send(&client(), post(&server.url("/"))).await.unwrap();
    assert_eq!(response.headers[header::CONTENT_ENCODING], "gzip");
    assert_eq!(&response.body[..], b"\x1f\x0b\x08\0");
}

#[tokio::test]
async fn an_endless_body_is_cut_and_its_connection_dropped() {
    let head = "HTTP/1.1 200 OK\r\n\r\n";
    let server = Server::start(Act::Endless(head, &[b'x'; 4096])).await;
    let response = send(&client(), post(&server.url("/"))).await.unwrap();
    assert!(response.truncated);
    assert_eq!(response.body.len(), DEFAULT_RESPONSE_LIMIT);
    // The receiver's write fails only once the connection is gone.
    server.closed.notified().await;
}

#[tokio::test]
async fn each_limit_names_its_phase() {
    let short = Duration::from_millis(60);
    let headers = Timeouts { headers: short, ..Timeouts::default() };
    let body = Timeouts { body: short, ..Timeouts::default() };
    let total = Timeouts { total: short, ..Timeouts::default() };
    let drip = Act::Endless("HTTP/1.1 200 OK\r\n\r\n", b"x");
    let table = [
        (Act::Silent(""), headers, Phase::Headers),
        (Act::Silent("HTTP/1.1 200 OK\r\nslow"), headers, Phase::Headers),
        (drip, body, Phase::Body),
        (Act::Silent(""), total, Phase::Total),
        (drip, total, Phase::Total),
    ];
    for (act, timeouts, phase) in table {
        assert_eq!(class(act, timeouts).await, FailureClass::Timeout(phase));
    }
}

#[tokio::test]
async fn failures_have_their_class() {
    let big: &'static str =
        Box::leak(format!("HTTP/1.1 200 OK\r\na: {}\r\n\r\n", "x".repeat(40_000)).into_boxed_str());
    let many: &'static str =
        Box::leak(format!("HTTP/1.1 200 OK\r\n{}\r\n", "a: b\r\n".repeat(101)).into_boxed_str());
    let table = [
        (Act::Close("SSH-2.0-OpenSSH\r\n\r\n"), FailureClass::Protocol),
        (Act::Keep(big), FailureClass::Protocol),
        (Act::Keep(many), FailureClass::Protocol),
        (
            Act::Close("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n"),
            FailureClass::Protocol,
        ),
        (Act::Close(""), FailureClass::Reset),
        (Act::Reset(""), FailureClass::Reset),
        (Act::Reset("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc"), FailureClass::Reset),
        (Act::Close("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc"), FailureClass::Reset),
    ];
    for (index, (act, expected)) in table.into_iter().enumerate() {
        assert_eq!(class(act, Timeouts::default()).await, expected, "{index}");
    }
    let refused = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let outcome = send(&client(), post(&format!("http://{refused}/"))).await;
    assert_eq!(outcome.unwrap_err().class, FailureClass::Connect);
}

#[tokio::test]
async fn endless_limits_do_not_overflow() {
    let server = Server::start(Act::Keep(OK)).await;
    let mut request = post(&server.url("/"));
    let forever = Duration::MAX;
    request.timeouts =
        Timeouts { connect: forever, headers: forever, body: forever, total: forever };
    assert!(send(&client(), request).await.is_ok());
}
