//! A peer that vanishes without a word, as the guarded client meets it behind the proxy.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use http_body_util::Full;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use icp_core::egress::{
    AddressPolicy, Client, EgressError, EgressRequest, EgressResponse, FailureClass,
};
use icp_testkit::proxy::{Fault, Proxy};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_rustls::rustls::{ServerConfig, crypto};
use tower::ServiceExt;

const QUIET: Duration = Duration::from_millis(200);
const PATIENCE: Duration = Duration::from_millis(300);
/// Longer than any of this takes: no request fails by its own limits.
const NEVER: Duration = Duration::from_secs(600);

/// A receiver that speaks HTTP/2 behind TLS, and the authority that vouches for it.
struct Receiver {
    address: SocketAddr,
    authority: Vec<u8>,
    _tasks: JoinSet<()>,
}

impl Receiver {
    async fn start() -> Self {
        let (authority, config) = certificates();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut open = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                open.spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let service = service_fn(|request: http::Request<_>| async move {
                        let _: hyper::body::Incoming = request.into_body();
                        Ok::<_, Infallible>(Response::new(Full::<Bytes>::from("hello")))
                    });
                    let _ = auto::Builder::new(TokioExecutor::new())
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        Self { address, authority, _tasks: tasks }
    }
}

fn certificates() -> (Vec<u8>, ServerConfig) {
    let (root, key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = params.self_signed(&root).unwrap().der().to_vec();
    let issuer = Issuer::new(params, root);
    let leaf = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    let chain = vec![leaf.signed_by(&key, &issuer).unwrap().der().clone()];
    let mut config =
        ServerConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, PrivateKeyDer::try_from(key.serialize_der()).unwrap())
            .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    (authority, config)
}

async fn post(client: &Client, to: SocketAddr) -> Result<EgressResponse, EgressError> {
    let policy = AddressPolicy::builder().allow_loopback().ports([to.port()]).build();
    let url = format!("https://{to}/").parse().unwrap();
    let mut request = EgressRequest::post(url, "{}", Arc::new(policy));
    let timeouts = &mut request.timeouts;
    (timeouts.connect, timeouts.headers, timeouts.body, timeouts.total) =
        (NEVER, NEVER, NEVER, NEVER);
    tokio::time::timeout(Duration::from_secs(30), client.clone().oneshot(request)).await.unwrap()
}

#[tokio::test]
async fn a_vanished_peer_is_left_for_a_new_connection() {
    let receiver = Receiver::start().await;
    let proxy = Proxy::start(receiver.address).await;
    let client = Client::builder()
        .native_roots(false)
        .extra_root(receiver.authority.clone())
        .keep_alive(QUIET, PATIENCE)
        .build()
        .unwrap();
    for _ in 0..2 {
        assert_eq!(&post(&client, proxy.addr()).await.unwrap().body[..], b"hello");
    }
    assert_eq!(proxy.counts().accepted, 1, "one connection for both");

    proxy.set(Fault::BlackHole);
    let (first, second) = tokio::join!(post(&client, proxy.addr()), post(&client, proxy.addr()));
    for lost in [first, second] {
        assert_eq!(lost.unwrap_err().class, FailureClass::Reset);
    }
    assert_eq!(proxy.counts().accepted, 1, "they were lost on the pooled connection");

    let renewed = async {
        while proxy.counts().accepted < 2 {
            tokio::task::yield_now().await;
        }
        proxy.heal();
    };
    // What began in the hole may be lost with it.
    let (_, ()) = tokio::join!(post(&client, proxy.addr()), renewed);
    assert_eq!(&post(&client, proxy.addr()).await.unwrap().body[..], b"hello");
}

#[tokio::test]
async fn a_slow_peer_keeps_its_connection() {
    let receiver = Receiver::start().await;
    let proxy = Proxy::start(receiver.address).await;
    let client = Client::builder()
        .native_roots(false)
        .extra_root(receiver.authority.clone())
        .keep_alive(QUIET, Duration::from_secs(20))
        .build()
        .unwrap();
    post(&client, proxy.addr()).await.unwrap();
    let (delay, jitter) = (QUIET * 3, Duration::ZERO);
    proxy.set(Fault::Latency { delay, jitter, seed: 1 });
    post(&client, proxy.addr()).await.unwrap();
    assert_eq!(proxy.counts().accepted, 1);
}
