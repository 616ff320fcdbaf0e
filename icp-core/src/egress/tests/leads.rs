//! What a receiver or the environment says to lead the client elsewhere, with real listeners.

use std::time::Duration;

use http::header;
use tower::ServiceExt;

use super::super::*;
use super::support::{Act, Server};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
const TARGET: &str = "ICP_EGRESS_TEST_TARGET";

fn redirect(status: u16, location: &str) -> Act {
    let head = format!("HTTP/1.1 {status} Moved\r\nlocation: {location}\r\n");
    Act::Keep(format!("{head}content-length: 0\r\n\r\n").leak())
}

// Every listener may be reached, so that only the client's own refusal keeps it from following.
async fn send(url: &str) -> Result<EgressResponse, EgressError> {
    let port = url.rsplit(':').next().unwrap().trim_matches('/').parse().unwrap();
    let names = StaticResolver::new().with("hooks.example.com", [[127, 0, 0, 1].into()]);
    let client = Client::builder().native_roots(false).resolver(names).build().unwrap();
    let policy = AddressPolicy::builder().allow_loopback().ports([port]).build();
    let mut request = EgressRequest::post(url.parse().unwrap(), "{}", Arc::new(policy));
    request.timeouts.total = Duration::from_secs(60);
    client.oneshot(request).await
}

#[tokio::test]
async fn a_redirect_is_an_answer() {
    for status in [301, 302, 303, 307, 308] {
        let second = Server::start(Act::Keep(OK)).await;
        let location = second.url("/taken");
        let first = Server::start(redirect(status, &location)).await;
        let response = send(&first.url("/")).await.unwrap();
        assert_eq!(response.status, status);
        assert_eq!(response.headers[header::LOCATION], location);
        assert_eq!((first.requests().len(), second.connections()), (1, 0), "{status}");
    }
}

#[tokio::test]
async fn a_chain_of_thirty_hops_ends_at_the_first() {
    let mut first = Server::start(Act::Keep(OK)).await;
    let mut rest = Vec::new();
    for _ in 0..30 {
        let hop = Server::start(redirect(302, &first.url("/"))).await;
        rest.push(std::mem::replace(&mut first, hop));
    }
    assert_eq!(send(&first.url("/")).await.unwrap().status, 302);
    assert_eq!(first.requests().len(), 1);
    assert!(rest.iter().all(|hop| hop.connections() == 0));
}

// Runs itself anew, as the environment of a running process is not to be changed.
#[tokio::test]
async fn a_proxy_in_the_environment_is_not_used() {
    if let Some(target) = std::env::var_os(TARGET) {
        let port = target.into_string().unwrap();
        let plain = send(&format!("http://hooks.example.com:{port}/")).await;
        assert_eq!(plain.unwrap().status, 200);
        let tls = send(&format!("https://hooks.example.com:{port}/")).await;
        assert_eq!(tls.unwrap_err().class, FailureClass::Tls);
        return;
    }
    let target = Server::start(Act::Close(OK)).await;
    let proxy = Server::start(Act::Close(OK)).await;
    let (_, module) = module_path!().split_once("::").unwrap();
    let mut child = tokio::process::Command::new(std::env::current_exe().unwrap());
    child.arg(format!("{module}::a_proxy_in_the_environment_is_not_used")).arg("--exact");
    child.env(TARGET, target.address.port().to_string());
    for name in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"] {
        child.env(name, proxy.url("")).env(name.to_lowercase(), proxy.url(""));
    }
    child.env_remove("NO_PROXY").env_remove("no_proxy");
    let output = child.output().await.unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
    assert_eq!((target.connections(), proxy.connections()), (2, 0));
}
