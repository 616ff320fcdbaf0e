//! What a name leads to: private answers in every disguise, failing lookups, and rebinding.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::time::Duration;

use tower::ServiceExt;

use super::super::*;
use super::support::{Act, Recorder, Sequence, Server};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";

fn client(resolver: impl Resolver + 'static, log: &Recorder) -> ClientBuilder {
    Client::builder().native_roots(false).resolver(resolver).dialer(log.clone())
}

fn post(url: &str, policy: AddressPolicy) -> EgressRequest {
    EgressRequest::post(url.parse().unwrap(), "{}", Arc::new(policy))
}

async fn class(
    resolver: impl Resolver + 'static,
    url: &str,
    policy: AddressPolicy,
    log: &Recorder,
) -> FailureClass {
    let client = client(resolver, log).build().unwrap();
    client.oneshot(post(url, policy)).await.unwrap_err().class
}

#[tokio::test]
async fn a_public_name_that_spells_a_private_address_is_denied() {
    let table = [
        ("127.0.0.1.nip.io", "127.0.0.1"),
        ("app.127-0-0-1.sslip.io", "127.0.0.1"),
        ("7f000001.nip.io", "127.0.0.1"),
        ("localtest.me", "127.0.0.1"),
        ("localtest.me", "::1"),
        ("anything.lvh.me", "127.0.0.1"),
        ("10-0-0-1.sslip.io", "10.0.0.1"),
        ("169.254.169.254.nip.io", "169.254.169.254"),
    ];
    for (name, address) in table {
        let names = StaticResolver::new().with(name, [address.parse().unwrap()]);
        let log = Recorder::default();
        let url = format!("https://{name}/");
        let outcome = class(names, &url, AddressPolicy::strict(), &log).await;
        assert_eq!((outcome, log.dialed()), (FailureClass::AddressDenied, vec![]), "{name}");
    }
}

/// A zone with aliases, followed as a recursive resolver does.
struct Zone {
    aliases: HashMap<&'static str, &'static str>,
    addresses: HashMap<&'static str, IpAddr>,
}

#[async_trait::async_trait]
impl Resolver for Zone {
    async fn resolve(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        let mut name = host;
        while let Some(next) = self.aliases.get(name) {
            name = next;
        }
        Ok(self.addresses.get(name).copied().into_iter().collect())
    }
}

#[tokio::test]
async fn an_alias_is_judged_by_the_address_at_its_end() {
    let table = [
        ("10.0.0.1", FailureClass::AddressDenied),
        ("127.0.0.1", FailureClass::AddressDenied),
        ("fd00::1", FailureClass::AddressDenied),
        ("8.8.8.8", FailureClass::Connect),
    ];
    for (address, expected) in table {
        let zone = Zone {
            aliases: [
                ("hooks.example.com", "edge.example.net"),
                ("edge.example.net", "db.internal"),
            ]
            .into(),
            addresses: [("db.internal", address.parse().unwrap())].into(),
        };
        let log = Recorder::default();
        let outcome =
            class(zone, "https://hooks.example.com/", AddressPolicy::strict(), &log).await;
        assert_eq!(outcome, expected, "{address}");
        assert_eq!(log.dialed().len(), usize::from(expected == FailureClass::Connect), "{address}");
    }
}

#[tokio::test]
async fn the_hosts_own_listeners_are_out_of_reach() {
    let listener = Server::start(Act::Keep(OK)).await;
    let port = listener.address.port();
    // What a host adds for its public face: the engine cannot know it.
    let policy = |port: u16| {
        AddressPolicy::builder()
            .ports([80, 443, 8080, 8443, port])
            .deny("icp.example.com".parse().unwrap())
            .deny("198.41.0.4".parse().unwrap())
            .build()
    };
    let hosts = [
        "127.0.0.1",
        "0.0.0.0",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "localhost",
        "admin.localhost",
        "gateway.default.svc",
        "10.96.0.10",
        "icp.example.com",
        "198.41.0.4",
        "[::ffff:198.41.0.4]",
        "alias.example.net",
    ];
    for host in hosts {
        let names = StaticResolver::new().with("alias.example.net", [[198, 41, 0, 4].into()]);
        let client = Client::builder().native_roots(false).resolver(names).build().unwrap();
        let request = post(&format!("http://{host}:{port}/"), policy(port));
        let outcome = client.oneshot(request).await;
        assert_eq!(outcome.unwrap_err().class, FailureClass::AddressDenied, "{host}");
    }
    assert_eq!(listener.connections(), 0);
}

/// Answers with a public address after a while.
struct Slow(Duration);

#[async_trait::async_trait]
impl Resolver for Slow {
    async fn resolve(&self, _: &str) -> io::Result<Vec<IpAddr>> {
        tokio::time::sleep(self.0).await;
        Ok(vec![[8, 8, 8, 8].into()])
    }
}

struct Failing(io::ErrorKind);

#[async_trait::async_trait]
impl Resolver for Failing {
    async fn resolve(&self, _: &str) -> io::Result<Vec<IpAddr>> {
        Err(self.0.into())
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_or_failing_lookup_ends_the_call() {
    let url = "https://hooks.example.com/";
    let (log, limit) = (Recorder::default(), Timeouts::default().connect);
    for time in [limit + Duration::from_millis(10), Duration::from_secs(86_400)] {
        let outcome = class(Slow(time), url, AddressPolicy::strict(), &log).await;
        assert_eq!(outcome, FailureClass::Timeout(Phase::Connect), "{time:?}");
    }
    for kind in [io::ErrorKind::NotFound, io::ErrorKind::TimedOut, io::ErrorKind::Other] {
        let outcome = class(Failing(kind), url, AddressPolicy::strict(), &log).await;
        assert_eq!(outcome, FailureClass::Dns, "{kind}");
    }
    assert_eq!(log.dialed(), []);
    let in_time = Slow(limit - Duration::from_millis(10));
    let outcome = class(in_time, url, AddressPolicy::strict(), &log).await;
    assert_eq!((outcome, log.dialed().len()), (FailureClass::Connect, 1));
}

#[tokio::test]
async fn a_rebound_name_keeps_its_open_connection_and_gets_no_new_one() {
    let server = Server::start(Act::Times(2, OK)).await;
    let log = Recorder::leading_to(server.address);
    let client = client(Sequence::new(&[&["8.8.8.8"], &["10.0.0.1"]]), &log).build().unwrap();
    let request = post("http://hooks.example.com/", AddressPolicy::strict());
    for _ in 0..2 {
        assert_eq!(client.clone().oneshot(request.clone()).await.unwrap().status, 200);
    }
    server.closed.notified().await;
    let error = client.oneshot(request).await.unwrap_err();
    assert_eq!(error.class, FailureClass::AddressDenied);
    assert_eq!(log.dialed(), ["8.8.8.8:80".parse().unwrap()]);
    assert_eq!((server.requests().len(), server.connections()), (2, 1));
}

#[tokio::test]
async fn a_rebound_name_is_denied_once_its_idle_connection_is_dropped() {
    let server = Server::start(Act::Keep(OK)).await;
    let log = Recorder::leading_to(server.address);
    let client = client(Sequence::new(&[&["8.8.8.8"], &["10.0.0.1"]]), &log)
        .idle_timeout(Duration::from_millis(1))
        .build()
        .unwrap();
    let request = post("http://hooks.example.com/", AddressPolicy::strict());
    assert!(client.clone().oneshot(request.clone()).await.is_ok());
    // The receiver sees the end only once the pool has let go of the connection.
    server.closed.notified().await;
    let error = client.oneshot(request).await.unwrap_err();
    assert_eq!(error.class, FailureClass::AddressDenied);
    assert_eq!((log.dialed().len(), server.requests().len()), (1, 1));
}
