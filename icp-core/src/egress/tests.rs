mod exchange;
mod leads;
mod names;
pub(crate) mod support;
mod tls;
pub(crate) mod vectors;

use std::net::SocketAddr;
use std::sync::Arc;

use tower::ServiceExt;

use super::*;
use support::Recorder;

async fn attempt(url: &str, resolver: StaticResolver) -> (FailureClass, Vec<SocketAddr>) {
    let log = Recorder::default();
    let client = Client::builder()
        .native_roots(false)
        .resolver(resolver)
        .dialer(log.clone())
        .build()
        .unwrap();
    let policy = Arc::new(AddressPolicy::strict());
    let request = EgressRequest::post(url.parse().unwrap(), "{}", policy);
    let class = client.into_transport().oneshot(request).await.unwrap_err().class;
    let dialed = log.dialed();
    (class, dialed)
}

#[tokio::test]
async fn one_denied_answer_refuses_all_and_a_judged_address_is_dialed() {
    let name = "http://hooks.example.com/";
    let [public, private] = ["8.8.8.8", "10.0.0.1"].map(|a| a.parse().unwrap());
    let mixed = StaticResolver::new().with("hooks.example.com", [public, private]);
    assert_eq!(attempt(name, mixed).await, (FailureClass::AddressDenied, vec![]));
    let empty = StaticResolver::new().with("hooks.example.com", []);
    assert_eq!(attempt(name, empty).await, (FailureClass::Dns, vec![]));
    assert_eq!(attempt(name, StaticResolver::new()).await, (FailureClass::Dns, vec![]));
    let good = StaticResolver::new().with("hooks.example.com", [public]);
    let expected = vec![SocketAddr::new(public, 80)];
    assert_eq!(attempt(name, good).await, (FailureClass::Connect, expected));
}

#[test]
fn debug_forms_hold_no_secret() {
    let url =
        "https://user:pa55-user@hooks.example.com:8443/pa55-path?key=pa55-query#pa55-fragment";
    let policy = Arc::new(AddressPolicy::strict());
    let mut request = EgressRequest::post(url.parse().unwrap(), "pa55-body", policy);
    request.headers.insert("authorization", "Bearer pa55-token".parse().unwrap());
    let response = EgressResponse {
        status: StatusCode::OK,
        headers: request.headers.clone(),
        body: request.body.clone(),
        truncated: false,
        timings: Timings::default(),
        remote: None,
    };
    let [request, response] =
        [format!("{request:?} {request:#?}"), format!("{response:?} {response:#?}")];
    for text in [&request, &response] {
        assert!(!text.contains("pa55"), "{text}");
        assert!(text.contains("authorization") && text.contains("9 bytes"), "{text}");
    }
    assert!(request.contains("POST, to: https://hooks.example.com:8443, "), "{request}");
}
