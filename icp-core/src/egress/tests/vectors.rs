//! The corpus of forged targets, judged at the socket: no denied address is ever dialed.

use tower::ServiceExt;

use super::super::*;
use super::support::{Act, Recorder, Sequence, Server};

// Refused by the text of the URL alone, with the rule that does it; `unparsed` never becomes a URL.
#[rustfmt::skip]
pub(crate) const URLS: &[(&str, &[&str])] = &[
    // Forms of an IPv4 address.
    ("loopback", &[
        "http://127.0.0.1/", "http://127.1/", "http://127.0.1/", "http://2130706433/",
        "http://0x7f000001/", "http://0x7f.0x0.0x0.0x1/", "http://0177.0.0.1/",
        "http://00177.0.0.1/", "http://017700000001/", "http://0x7f.1/", "http://127.0.0.1./",
        "http://127.000.000.001/", "http://①②⑦.⓪.⓪.①/", "http://127。0。0。1/", "http://１２７.０.０.１/",
        "http://%31%32%37.0.0.1/", "http://１27.0．0.1/", "\u{1}http://127.0.0.1/",
        "http://127.0.\t0.1/",
    ]),
    ("this_network", &["http://0/", "http://0.0.0.0/", "http://0.1.2.3/"]),
    ("private_network", &["http://10.1/"]),
    ("metadata", &["http://169.254.43518/"]),
    // Ranges of IPv4.
    ("this_network", &["http://0.255.0.1/"]),
    ("private_network", &[
        "http://10.255.255.255/", "http://172.16.0.1/", "http://172.31.255.255/",
        "http://192.168.1.1/",
    ]),
    ("shared_network", &["http://100.64.0.1/"]),
    ("loopback", &["http://127.255.255.254/"]),
    ("link_local", &["http://169.254.1.1/"]),
    ("protocol_assignments", &["http://192.0.0.1/"]),
    ("documentation", &["http://192.0.2.1/", "http://198.51.100.1/", "http://203.0.113.1/"]),
    ("relay_anycast", &["http://192.88.99.1/"]),
    ("benchmark_network", &["http://198.19.255.1/"]),
    ("multicast", &["http://224.0.0.1/"]),
    ("reserved", &["http://240.0.0.1/", "http://255.255.255.255/"]),
    ("metadata", &["http://100.100.100.200/"]),
    // Metadata services.
    ("metadata", &[
        "http://169.254.169.254/", "http://2852039166/", "http://0xa9fea9fe/",
        "http://[::ffff:a9fe:a9fe]/", "http://169.254.170.2/", "http://192.0.0.192/",
        "http://[fd00:ec2::254]/", "http://[fd00:ec2::23]/", "http://metadata.google.internal/",
    ]),
    ("single_label", &["http://instance-data/"]),
    // IPv6.
    ("loopback", &[
        "http://[::1]/", "http://[0:0:0:0:0:0:0:1]/", "http://[::ffff:127.0.0.1]/",
        "http://[::ffff:7f00:1]/",
    ]),
    ("this_network", &["http://[::]/"]),
    ("metadata", &["http://[::ffff:169.254.169.254]/"]),
    ("private_network", &["http://[::ffff:10.0.0.1]/", "http://[fc00::1]/", "http://[fdff::1]/"]),
    ("not_global", &[
        "http://[::127.0.0.1]/", "http://[::8.8.8.8]/", "http://[64:ff9b::7f00:1]/",
        "http://[64:ff9b::808:808]/", "http://[64:ff9b:1::a00:1]/", "http://[::ffff:0:127.0.0.1]/",
        "http://[100::1]/", "http://[5f00::1]/",
    ]),
    ("tunnel", &[
        "http://[2002:7f00:1::]/", "http://[2002:808:808::1]/", "http://[fe80::5efe:a00:1]/",
        "http://[2600::5efe:a00:1]/", "http://[2600::200:5efe:a00:1]/",
    ]),
    ("protocol_assignments", &["http://[2001:0:7f00:1::]/", "http://[2001:10::1]/"]),
    ("link_local", &["http://[fe80::1]/", "http://[febf::1]/"]),
    ("unparsed", &["http://[fe80::1%25eth0]/"]),
    ("site_local", &["http://[fec0::1]/"]),
    ("multicast", &["http://[ff02::1]/"]),
    ("documentation", &["http://[2001:db8::1]/", "http://[3fff::1]/"]),
    // Tricks of writing.
    ("userinfo", &[
        "http://a@8.8.8.8/", "http://user:pass@8.8.8.8/", "http://8.8.8.8 @127.0.0.1/",
        "http:\\\\8.8.8.8@127.0.0.1/",
    ]),
    ("loopback", &[
        "http://127.0.0.1#@8.8.8.8/", "http://127.0.0.1\\@8.8.8.8/", "http:127.0.0.1/",
        "http:/\\127.0.0.1/",
    ]),
    ("unparsed", &["//127.0.0.1/", "http://127.0.0.1\0.example.com/"]),
    ("scheme", &[
        "file:///etc/passwd", "gopher://8.8.8.8/", "ftp://8.8.8.8/", "dict://8.8.8.8/",
        "unix:/var/run/docker.sock", "jar:http://8.8.8.8!/",
    ]),
    ("port", &[
        "http://8.8.8.8:22/", "http://8.8.8.8:25/", "http://8.8.8.8:6379/", "http://8.8.8.8:2375/",
    ]),
    ("single_label", &["HTTP://LOCALHOST/", "http://ⓛⓞⓒⓐⓛⓗⓞⓢⓣ/"]),
    // Names.
    ("single_label", &["http://localhost/", "http://intranet/", "http://localhost:8080/"]),
    ("name_malformed", &["http://localhost./"]),
    ("private_name", &[
        "http://sub.localhost/", "http://printer.local/", "http://db.internal/",
        "http://api.default.svc/", "http://api.default.svc.cluster.local/",
        "http://host.docker.internal/", "http://router.lan/",
    ]),
    ("loopback", &["http://127.0.0.1:8443/"]),
];

// One list of answers for each lookup; the last request is refused.
#[rustfmt::skip]
pub(crate) const LOOKUPS: &[&[&[&str]]] = &[
    &[&["8.8.8.8"], &["10.0.0.1"]], &[&["8.8.8.8"], &["127.0.0.1"]],
    &[&["8.8.8.8", "10.0.0.1"]], &[&["8.8.8.8", "fd00::1"]], &[&["fd00::1"]], &[&["127.0.0.1"]],
    &[&["172.20.0.10"]], &[&["::ffff:10.0.0.1"]], &[&["64:ff9b::a00:1"]],
    &[&["2606:4700::1111", "169.254.169.254"]], &[&[]],
];

// What a public receiver says to lead the client elsewhere.
#[rustfmt::skip]
const ANSWERS: &[&str] = &[
    "301 M\r\nlocation: http://169.254.169.254/\r\n", "302 F\r\nlocation: http://127.0.0.1/\r\n",
    "303 S\r\nlocation: http://10.0.0.1/\r\n", "307 T\r\nlocation: http://[::1]/\r\n",
    "308 P\r\nlocation: http://localhost/\r\n", "302 F\r\nlocation: file:///etc/passwd\r\n",
    "302 F\r\nlocation: http://hooks.example.com/again\r\n", "302 F\r\nlocation: /next\r\n",
    "302 F\r\nlocation: //10.0.0.1/\r\n", "300 M\r\nlocation: http://10.0.0.1/\r\n",
    "200 OK\r\nalt-svc: h2=\"10.0.0.1:443\"\r\n", "200 OK\r\nrefresh: 0; url=http://10.0.0.1/\r\n",
    "305 U\r\nlocation: http://10.0.0.1:3128/\r\n",
];

// Put as the subdomain of a template whose host is held to its suffix.
#[rustfmt::skip]
const PARTS: &[(&str, &[&str])] = &[
    ("not_listed", &[
        "evil.com/", "evil.com#", "evil.com?", "evil.com\\", "evil.com:443/", "evil.com\n/",
        "[::1]/", "evil%2ecom/",
    ]),
    ("userinfo", &["a@evil.com", "a@evil.com/"]),
    ("name_malformed", &[".."]),
    ("unparsed", &["evil.com%2f"]),
];

async fn send(
    url: &str,
    policy: AddressPolicy,
    answers: &[&[&str]],
    log: &Recorder,
    times: usize,
) -> Result<EgressResponse, FailureClass> {
    let Ok(url) = url.parse() else { return Err(FailureClass::UrlInvalid) };
    let resolver = Sequence::new(answers);
    let builder = Client::builder().native_roots(false).resolver(resolver).dialer(log.clone());
    let client = builder.build().unwrap();
    let request = EgressRequest::post(url, "{}", Arc::new(policy));
    for _ in 1..times {
        let _ = client.clone().oneshot(request.clone()).await;
    }
    client.oneshot(request).await.map_err(|error| error.class)
}

fn class(rule: &str) -> FailureClass {
    match rule {
        "unparsed" | "scheme" | "userinfo" => FailureClass::UrlInvalid,
        _ => FailureClass::AddressDenied,
    }
}

async fn assert_refused(url: &str, policy: AddressPolicy, rule: &str) {
    let judged = url.parse().map_or("unparsed", |url| {
        policy.check_url(&url).map_or_else(|denied| denied.rule, |_| "not refused")
    });
    assert_eq!(judged, rule, "{url:?}");
    let log = Recorder::default();
    let outcome = send(url, policy, &[&["8.8.8.8"]], &log, 1).await;
    assert_eq!(outcome.unwrap_err(), class(rule), "{url:?}");
    assert_eq!(log.dialed(), [], "{url:?}");
}

#[tokio::test]
async fn no_socket_opens_to_a_denied_address() {
    let strict = AddressPolicy::strict;
    let mut count = 0;
    for (rule, urls) in URLS {
        for url in *urls {
            assert_refused(url, strict(), rule).await;
            count += 1;
        }
    }
    for (rule, parts) in PARTS {
        for part in *parts {
            let only = "*.example.com".parse().unwrap();
            let policy = AddressPolicy::builder().restrict_to(only).build();
            let url = format!("https://{part}.example.com/token");
            assert_refused(&url, policy, rule).await;
            count += 1;
        }
    }
    let public: SocketAddr = "8.8.8.8:80".parse().unwrap();
    for answers in LOOKUPS {
        let log = Recorder::default();
        let outcome =
            send("http://hooks.example.com/", strict(), answers, &log, answers.len()).await;
        let expected = match answers[0] {
            [] => FailureClass::Dns,
            _ => FailureClass::AddressDenied,
        };
        assert_eq!(outcome.unwrap_err(), expected, "{answers:?}");
        assert_eq!(log.dialed(), vec![public; answers.len() - 1], "{answers:?}");
        count += 1;
    }
    for answer in ANSWERS {
        let text = format!("HTTP/1.1 {answer}content-length: 0\r\n\r\n").leak();
        let server = Server::start(Act::Keep(text)).await;
        let log = Recorder::leading_to(server.address);
        let url = "http://hooks.example.com/";
        let response = send(url, strict(), &[&["8.8.8.8"]], &log, 2).await.unwrap();
        assert_eq!(response.status.as_str(), &answer[..3]);
        assert_eq!(log.dialed(), [public], "{answer}");
        assert_eq!(server.requests().len(), 2, "{answer}");
        count += 1;
    }
    assert!(count >= 148, "{count}");
}

#[tokio::test]
async fn every_public_target_reaches_the_dialer() {
    let mut urls = Vec::new();
    #[rustfmt::skip]
    let hosts = [
        "8.8.8.8", "1.1.1.1", "9.255.255.255", "11.0.0.1", "100.63.255.255", "100.128.0.1",
        "126.255.255.255", "128.0.0.1", "169.253.1.1", "169.255.0.1", "172.15.0.1", "172.32.0.1",
        "192.0.1.1", "192.167.1.1", "192.169.0.1", "198.17.0.1", "198.20.0.1", "223.255.255.255",
        "[2606:4700::1111]", "[2001:4860::8888]", "[2600::1]", "[2a00:1450::1]", "[2400:cb00::1]",
        "[::ffff:8.8.8.8]", "[2003::1]", "[3ffe::1]", "[2001:200::1]", "134744072", "0x08080808",
        "hooks.example.com", "EXAMPLE.com", "bücher.example", "a.b.c.d.example", "local.example",
        "localhost.example", "internal.example", "xn--80ak6aa92e.com", "x--y.example",
    ];
    urls.extend(hosts.map(|host| format!("https://{host}/a?b=c")));
    for port in ["80", "8080", "8443"] {
        urls.push(format!("http://hooks.example.com:{port}/"));
    }
    assert!(urls.len() >= 40);
    for url in &urls {
        let log = Recorder::default();
        let outcome = send(url, AddressPolicy::strict(), &[&["8.8.8.8"]], &log, 1).await;
        assert_eq!(outcome.unwrap_err(), FailureClass::Connect, "{url}");
        assert_eq!(log.dialed().len(), 1, "{url}");
    }
}
