//! TLS as the client speaks it: the certificates it accepts, and HTTP/2 where both sides offer it.

use std::convert::Infallible;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::{Request, Response, Version, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt;

use super::super::*;
use super::support::{Act, Server};

const NAME: &str = "hooks.example.com";
const BOTH: &[&str] = &["h2", "http/1.1"];

struct Authority {
    der: Vec<u8>,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let der = params.self_signed(&key).unwrap().der().to_vec();
        Self { der, issuer: Issuer::new(params, key) }
    }

    fn issue(&self, names: &[&str], years: [i32; 2]) -> ServerConfig {
        let key = KeyPair::generate().unwrap();
        let names: Vec<_> = names.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(names).unwrap();
        [params.not_before, params.not_after] = years.map(|year| date_time_ymd(year, 1, 1));
        let chain = vec![params.signed_by(&key, &self.issuer).unwrap().der().clone()];
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap()
    }

    fn good(&self) -> ServerConfig {
        self.issue(&[NAME], [2000, 2099])
    }

    fn client(&self) -> Client {
        let loopback = [[127, 0, 0, 1].into()];
        let names = StaticResolver::new().with(NAME, loopback).with("other.example.com", loopback);
        Client::builder()
            .native_roots(false)
            .extra_root(self.der.clone())
            .resolver(names)
            .build()
            .unwrap()
    }
}

type Seen = Arc<Mutex<Vec<(Version, String)>>>;

/// A receiver behind TLS; it answers 200, or redirects where it has a location.
struct TlsServer {
    port: u16,
    connections: Arc<AtomicUsize>,
    seen: Seen,
    _tasks: JoinSet<()>,
}

impl TlsServer {
    async fn start(mut config: ServerConfig, alpn: &[&str], location: Option<String>) -> Self {
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (connections, seen) = (Arc::new(AtomicUsize::new(0)), Seen::default());
        let mut tasks = JoinSet::new();
        let (count, log) = (connections.clone(), seen.clone());
        tasks.spawn(async move {
            let mut open = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                let (acceptor, log, location) = (acceptor.clone(), log.clone(), location.clone());
                open.spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let service = service_fn(move |request| {
                        let response = answer(&request, &log, location.as_deref());
                        async move { Ok::<_, Infallible>(response) }
                    });
                    let _ = auto::Builder::new(TokioExecutor::new())
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        Self { port, connections, seen, _tasks: tasks }
    }

    fn post(&self, host: &str) -> EgressRequest {
        let url = format!("https://{host}:{}/a?b=c", self.port).parse().unwrap();
        let policy = AddressPolicy::builder().allow_loopback().ports([self.port]).build();
        EgressRequest::post(url, "{}", Arc::new(policy))
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    fn seen(&self) -> Vec<(Version, String)> {
        self.seen.lock().unwrap().clone()
    }
}

fn answer(
    request: &Request<Incoming>,
    log: &Seen,
    location: Option<&str>,
) -> Response<Full<Bytes>> {
    let host = request.uri().authority().map_or_else(
        || request.headers()[header::HOST].to_str().unwrap().to_owned(),
        ToString::to_string,
    );
    log.lock().unwrap().push((request.version(), host));
    let mut response = Response::new(Full::from("hello"));
    if let Some(location) = location {
        *response.status_mut() = StatusCode::TEMPORARY_REDIRECT;
        response.headers_mut().insert(header::LOCATION, location.parse().unwrap());
    }
    response
}

#[tokio::test]
async fn only_a_valid_certificate_of_a_trusted_authority_for_the_host_is_accepted() {
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let table = [
        (&ours, NAME, [2000, 2099], NAME, ""),
        (&ours, "*.example.com", [2000, 2099], NAME, ""),
        (&ours, "127.0.0.1", [2000, 2099], "127.0.0.1", ""),
        (&ours, "other.example.com", [2000, 2099], NAME, "not valid for name"),
        (&ours, NAME, [2000, 2099], "127.0.0.1", "not valid for name"),
        (&theirs, NAME, [2000, 2099], NAME, "UnknownIssuer"),
        (&ours, NAME, [2000, 2001], NAME, "expired"),
        (&ours, NAME, [2098, 2099], NAME, "not valid yet"),
    ];
    for (authority, subject, years, host, reason) in table {
        let server = TlsServer::start(authority.issue(&[subject], years), BOTH, None).await;
        let outcome = ours.client().oneshot(server.post(host)).await;
        let case = format!("{subject} {years:?} {host}: {outcome:?}");
        if reason.is_empty() {
            assert_eq!(&outcome.expect(&case).body[..], b"hello");
            continue;
        }
        let error = outcome.expect_err(&case);
        assert_eq!(error.class, FailureClass::Tls, "{case}");
        assert!(error.message.contains(reason), "{case}");
        assert_eq!(server.seen(), [], "{case}");
    }
}

#[tokio::test]
async fn two_requests_share_one_http2_connection() {
    let authority = Authority::new("ours");
    let server = TlsServer::start(authority.good(), BOTH, None).await;
    let client = authority.client();
    let mut request = server.post(NAME);
    request.headers.insert(header::HOST, "evil.example".parse().unwrap());
    let first = client.clone().oneshot(request.clone()).await.unwrap();
    assert!(first.timings.dns.is_some() && first.timings.connect.is_some());
    let (second, third) = tokio::join!(
        client.clone().oneshot(request.clone()),
        client.clone().oneshot(request.clone()),
    );
    for response in [second.unwrap(), third.unwrap()] {
        assert_eq!(&response.body[..], b"hello");
        assert_eq!((response.timings.dns, response.timings.connect), (None, None));
        assert_eq!(response.remote, first.remote);
    }
    let expected = (Version::HTTP_2, format!("{NAME}:{}", server.port));
    assert_eq!((server.seen(), server.connections()), (vec![expected; 3], 1));
}

#[tokio::test]
async fn without_http2_on_offer_the_call_is_http1() {
    let authority = Authority::new("ours");
    for alpn in [&["http/1.1"][..], &[]] {
        let server = TlsServer::start(authority.good(), alpn, None).await;
        authority.client().oneshot(server.post(NAME)).await.unwrap();
        let expected = (Version::HTTP_11, format!("{NAME}:{}", server.port));
        assert_eq!(server.seen(), [expected]);
    }
}

#[tokio::test]
async fn names_on_one_certificate_do_not_share_a_connection() {
    let authority = Authority::new("ours");
    let names = [NAME, "other.example.com"];
    let server = TlsServer::start(authority.issue(&names, [2000, 2099]), BOTH, None).await;
    let client = authority.client();
    for name in names {
        client.clone().oneshot(server.post(name)).await.unwrap();
    }
    assert_eq!(server.connections(), 2);
}

#[tokio::test]
async fn a_redirect_from_https_to_http_is_not_followed() {
    let authority = Authority::new("ours");
    let plain = Server::start(Act::Keep("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")).await;
    let location = Some(plain.url("/taken"));
    let server = TlsServer::start(authority.good(), BOTH, location).await;
    let response = authority.client().oneshot(server.post(NAME)).await.unwrap();
    assert_eq!(response.status, StatusCode::TEMPORARY_REDIRECT);
    assert_eq!((server.seen().len(), plain.connections()), (1, 0));
}
