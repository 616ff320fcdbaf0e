//! What programs ask of their host: lookups and requests, and what they know of the event.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use icp_core::egress::{
    AddressPolicy, Client, EgressError, EgressRequest, EgressResponse, FailureClass, Timings,
    Transport,
};
use icp_core::transform::{Limits, Outcome, Outlet, Plan, Transformer};
use icp_sandbox::InProcess;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::fixture::{builder, function, outcome, plan, report_through, run, sandbox};

/// Requests that a fake client got.
type Seen = Arc<Mutex<Vec<EgressRequest>>>;

/// A client that answers by the path of the address.
fn client() -> (Outlet, Seen) {
    let seen = Seen::default();
    let record = Arc::clone(&seen);
    let service = tower::service_fn(move |request: EgressRequest| {
        let path = request.url.path().to_owned();
        record.lock().unwrap().push(request);
        async move {
            let (status, body) = match path.as_str() {
                "/refused" => return Err(failed(FailureClass::AddressDenied)),
                "/down" => return Err(failed(FailureClass::Connect)),
                "/missing" => (404, "no such thing"),
                "/bytes" => (200, "\u{0}\u{1}é"),
                _ => (200, r#"{"rate": 1.25}"#),
            };
            let mut response = EgressResponse {
                status: http::StatusCode::from_u16(status).unwrap(),
                headers: http::HeaderMap::new(),
                body: body.into(),
                truncated: false,
                timings: Timings::default(),
                remote: None,
            };
            response.headers.insert("X-Rate-Day", "monday".parse().unwrap());
            Ok::<_, EgressError>(response)
        }
    });
    (Outlet { transport: Transport::new(service), policy: Arc::default() }, seen)
}

fn failed(class: FailureClass) -> EgressError {
    EgressError::new(class, format!("the peer said {class}"))
}

/// A program that may send.
fn sending(body: &str) -> Plan {
    let source = format!("async function transform(payload, {{ http }}) {{\n{body}\n}}");
    plan(json!([{ "javascript": { "source": source, "http": true } }]))
}

async fn through(outlet: Option<&Outlet>, plan: &Plan) -> Result<String, (String, bool)> {
    through_limits(Limits::default(), outlet, plan).await
}

async fn through_limits(
    limits: Limits,
    outlet: Option<&Outlet>,
    plan: &Plan,
) -> Result<String, (String, bool)> {
    let sandbox = builder().limits(limits).build().unwrap();
    match report_through(&sandbox, "acme", plan, "{}", outlet).await {
        Ok(report) => match report.outcome {
            Outcome::Value(bytes) => Ok(String::from_utf8(bytes.into()).unwrap()),
            Outcome::Dropped { reason } => Ok(format!("dropped: {reason}")),
        },
        Err(error) => Err((format!("{}: {}", error.code, error.message), error.retryable)),
    }
}

async fn finds(transformer: &impl Transformer) {
    for (source, expected) in [
        ("context.lookup('countries', 'DE')", json!("Germany")),
        ("context.lookup('countries', 'FR', 'elsewhere')", json!("elsewhere")),
        ("context.lookup('countries', 'FR', null)", Value::Null),
        ("context.lookup('plans', 2).seats", json!(50)),
        ("context.lookup('plans', '3')", json!("3")),
        ("context.lookup('plans', '3', undefined)", json!("3")),
        ("context.reverseLookup('plans', 'pro', 'name')", json!("2")),
        ("context.reverseLookup('plans', 'none', 'name', 'free')", json!("free")),
        ("payload.map((code) => context.lookup('countries', code))", json!(["Germany", "Germany"])),
    ] {
        let plan = function(&format!("return {source}"));
        let found = run(transformer, "acme", &plan, r#"["DE","DE"]"#).await.unwrap();
        assert_eq!(found, expected.to_string(), "{source}");
    }
    for (language, source, expected) in [
        ("jsonata", "$tableLookup('countries', code)", json!("Germany")),
        ("jsonata", "$tableLookup('countries', 'FR', 'elsewhere')", json!("elsewhere")),
        ("jsonata", "$reverseLookup('plans', 'pro', 'name')", json!("2")),
        ("jsonata", "{ 'seats': $tableLookup('plans', 1).seats }", json!({ "seats": 5 })),
        ("jsonata", "$lookup($, 'code')", json!("DE")),
        ("jmespath", "lookup('countries', code)", json!("Germany")),
        ("jmespath", "lookup('countries', 'FR', `null`)", Value::Null),
        ("jmespath", "reverse_lookup('plans', 'pro', 'name')", json!("2")),
        ("jmespath", "{ seats: lookup('plans', `1`).seats }", json!({ "seats": 5 })),
    ] {
        let step = json!([{ language: { "source": source } }]);
        let found = run(transformer, "acme", &plan(step), r#"{"code":"DE"}"#).await.unwrap();
        assert_eq!(found, expected.to_string(), "{source}");
    }
}

#[tokio::test]
async fn every_language_looks_up() {
    finds(&sandbox()).await;
    finds(&InProcess::start(Limits::default()).unwrap()).await;
}

#[tokio::test]
async fn what_is_not_found_fails_with_its_own_code() {
    let sandbox = sandbox();
    for (language, source, code, retryable) in [
        ("javascript", "return context.lookup('countries', 'FR')", "lookup_missing", true),
        ("javascript", "return context.lookup('nothing', 'FR')", "lookup_unknown", true),
        ("javascript", "return context.lookup('a b', 'FR')", "lookup_unknown", true),
        ("javascript", "return context.reverseLookup('plans', 1)", "lookup_not_reversible", false),
        ("javascript", "return context.lookup('x'.repeat(5000), 1)", "lookup_unknown", true),
        ("javascript", "return context.lookup('plans')", "runtime", false),
        (
            "javascript",
            "try { context.lookup('no', 1) } catch {} throw Error('x')",
            "runtime",
            false,
        ),
        ("jsonata", "$tableLookup('countries', 'FR')", "lookup_missing", true),
        ("jsonata", "$tableLookup('countries')", "runtime", false),
        ("jmespath", "lookup('countries', 'FR')", "lookup_missing", true),
        ("jmespath", "lookup('countries')", "runtime", false),
    ] {
        let plan = plan(json!([{ language: { "source": source } }]));
        let error = run(&sandbox, "acme", &plan, "{}").await.unwrap_err();
        assert_eq!((error.code, error.retryable), (code, retryable), "{source}: {error}");
        assert_eq!(error.pointer, Some(format!("/transform/0/{language}/source")), "{source}");
    }
    let caught =
        "try { context.lookup('countries', 'FR') } catch (e) { return [e.code, e.message] }";
    let caught = run(&sandbox, "acme", &function(caught), "{}").await.unwrap();
    assert!(caught.starts_with(r#"["lookup_missing","the lookup table `countries` has no entry"#));
}

#[tokio::test]
async fn questions_are_counted() {
    let mut limits = Limits::default();
    limits.host_calls = 10;
    let sandbox = builder().limits(limits).build().unwrap();
    let ask = |times: u32| {
        function(&format!("for (let i = 0; i < {times}; i++) context.lookup('plans', i); return 1"))
    };
    assert_eq!(outcome(&sandbox, "acme", &ask(10), "{}").await, "1");
    assert_eq!(outcome(&sandbox, "acme", &ask(11), "{}").await, "!too_many_host_calls");
    let stubborn = "for (;;) try { context.lookup('plans', 1) } catch {}";
    let code = outcome(&sandbox, "acme", &function(stubborn), "{}").await;
    assert!(code.starts_with("!timeout"), "{code}");
    assert_eq!(outcome(&sandbox, "other", &ask(1), "{}").await, "1");
}

#[tokio::test]
async fn programs_know_the_event_and_the_constants() {
    let sandbox = sandbox();
    let expected = json!({
        "event": {
            "id": "evt_01G70R40R30E1G60R30E1G60R3", "type": "order.paid",
            "receivedAt": "2026-11-21T03:45:00.123Z", "attempt": 1,
        },
        "integration": { "id": "int_1", "name": "Orders" },
        "org": { "id": "acme" },
        "vars": { "channel": "#orders", "nested": { "on": true } },
    });
    for step in [
        json!({ "javascript": { "source": "return JSON.parse(JSON.stringify(context))" } }),
        json!({ "jsonata": { "source": "$context" } }),
    ] {
        let known = run(&sandbox, "acme", &plan(json!([step])), "{}").await.unwrap();
        let mut known: Value = serde_json::from_str(&known).unwrap();
        known.as_object_mut().unwrap().remove("base64");
        known["event"]["id"] = expected["event"]["id"].clone();
        assert_eq!(known, expected, "{step}");
    }
    let frozen = "'use strict'; try { context.vars.nested.on = 1 } catch (e) { return e.name }";
    assert_eq!(outcome(&sandbox, "acme", &function(frozen), "{}").await, r#""TypeError""#);
}

#[tokio::test]
async fn requests_go_through_the_hosts_client() {
    let (outlet, seen) = client();
    let plan = sending(
        "const got = await http.get('https://api.example.com/rates?a=1', {
           params: { day: 'mon day', none: undefined }, headers: { 'X-Key': 7 }, timeout: 2000,
         });
         const posted = await http.post('https://api.example.com/missing', { n: 1 });
         const bytes = await http.getBuffer('https://api.example.com/bytes');
         return [got.ok, got.json().rate, got.headers['x-rate-day'], posted.status, posted.ok,
                 posted.body, bytes];",
    );
    let made = through(Some(&outlet), &plan).await.unwrap();
    assert_eq!(made, r#"[true,1.25,"monday",404,false,"no such thing","AAHDqQ=="]"#);
    let seen = seen.lock().unwrap();
    let sent: Vec<_> = seen.iter().map(|r| format!("{} {}", r.method, r.url)).collect();
    assert_eq!(
        sent,
        [
            "GET https://api.example.com/rates?a=1&day=mon%20day",
            "POST https://api.example.com/missing",
            "GET https://api.example.com/bytes",
        ]
    );
    assert_eq!(seen[0].headers["x-key"], "7");
    assert_eq!(seen[0].timeouts.total, Duration::from_secs(2));
    assert_eq!(seen[1].headers["content-type"], "application/json");
    assert_eq!(seen[1].body, r#"{"n":1}"#);
    assert!(seen[1].timeouts.total <= Duration::from_secs(10));
}

#[tokio::test]
async fn requests_are_refused_counted_and_bounded() {
    let (outlet, seen) = client();
    let once = |call: &str| sending(&format!("return (await http.{call}).status"));
    for (call, code, retryable) in [
        ("get('https://a.example/refused')", "http_refused", false),
        ("get('https://a.example/down')", "http_failed", true),
        ("get('not an address')", "http_refused", false),
        ("get('https://a.example/', { headers: { 'a b': 1 } })", "http_refused", false),
        ("get('https://a.example/', { headers: { a: '\\n' } })", "http_refused", false),
        ("get('https://a.example/', { timeout: 'soon' })", "runtime", false),
        ("post('https://a.example/', 'x'.repeat(300000))", "http_refused", false),
        ("get('https://a.example/' + 'x'.repeat(30000))", "http_refused", false),
    ] {
        let failed = through(Some(&outlet), &once(call)).await.unwrap_err();
        assert!(failed.0.starts_with(&format!("{code}: ")), "{call}: {}", failed.0);
        assert_eq!(failed.1, retryable, "{call}");
    }
    let plain = once("get('https://a.example/')");
    let (code, _) = through(None, &plain).await.unwrap_err();
    assert!(code.starts_with("http_not_granted: "), "{code}");
    let without = function("return typeof context.http");
    assert_eq!(through(Some(&outlet), &without).await.unwrap(), r#""undefined""#);

    seen.lock().unwrap().clear();
    let all =
        sending("for (let i = 0; i < 9; i++) await http.get('https://a.example/'); return 'done'");
    let (code, _) = through(Some(&outlet), &all).await.unwrap_err();
    assert!(code.starts_with("http_refused: Error: the plan sent 5 requests"), "{code}");
    assert_eq!(seen.lock().unwrap().len(), 5);
}

#[tokio::test]
async fn a_granted_program_reaches_what_the_policy_allows_and_no_more() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let served = async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut head = [0; 1_024];
        let read = socket.read(&mut head).await.unwrap();
        let answer = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello";
        socket.write_all(answer.as_bytes()).await.unwrap();
        String::from_utf8_lossy(&head[..read]).into_owned()
    };
    let transport = Client::builder().build().unwrap().into_transport();
    let strict = Outlet { transport: transport.clone(), policy: Arc::new(AddressPolicy::strict()) };
    let plan = sending(&format!("return (await http.get('http://127.0.0.1:{port}/a')).body"));
    let (code, retryable) = through(Some(&strict), &plan).await.unwrap_err();
    assert!(code.starts_with("http_refused: ") && !retryable, "{code}");
    let policy = Arc::new(AddressPolicy::builder().allow_loopback().build());
    let open = Outlet { transport, policy };
    let (made, served) = tokio::join!(through(Some(&open), &plan), served);
    assert_eq!(made.unwrap(), r#""hello""#);
    assert!(served.starts_with("GET /a HTTP/1.1\r\n"));
}

/// A client that answers when it is told to.
fn slow(gate: Arc<tokio::sync::Semaphore>) -> Outlet {
    let service = tower::service_fn(move |_: EgressRequest| {
        let gate = Arc::clone(&gate);
        async move {
            gate.acquire().await.unwrap().forget();
            Err::<EgressResponse, _>(failed(FailureClass::Connect))
        }
    });
    Outlet { transport: Transport::new(service), policy: Arc::default() }
}

#[tokio::test]
async fn a_call_that_waits_for_others_holds_up_nobody() {
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    let outlet = slow(Arc::clone(&gate));
    // One place for all organizations.
    let sandbox = builder().workers(1).build().unwrap();
    let waiting =
        sending("try { await http.get('https://a.example/') } catch { return 'went on' }");
    let waits = report_through(&sandbox, "slow", &waiting, "{}", Some(&outlet));
    let others = async {
        for name in ["a", "b", "c"] {
            assert_eq!(outcome(&sandbox, name, &function("return 1"), "{}").await, "1");
        }
        gate.add_permits(1);
        Ok::<_, Infallible>(())
    };
    let (waited, others) = tokio::join!(biased; waits, others);
    others.unwrap();
    assert_eq!(waited.unwrap().outcome, Outcome::Value(r#""went on""#.into()));
}

#[tokio::test]
async fn a_request_under_way_ends_with_its_call() {
    let outlet = slow(Arc::new(tokio::sync::Semaphore::new(0)));
    let sandbox = builder().workers(1).build().unwrap();
    let plan = sending("await http.get('https://a.example/'); return 1");
    let call = report_through(&sandbox, "acme", &plan, "{}", Some(&outlet));
    assert!(tokio::time::timeout(Duration::from_millis(300), call).await.is_err());
    assert_eq!(outcome(&sandbox, "acme", &function("return 1"), "{}").await, "1");
}

#[tokio::test]
async fn helpers_are_there_where_they_are_asked_for() {
    let sandbox = sandbox();
    let helped = |source: &str, helpers: Value| {
        let source = format!("function transform(payload) {{ return {source} }}");
        plan(json!([{ "javascript": { "source": source, "helpers": helpers } }]))
    };
    let india = json!({ "utc_offset": "+05:30", "country_code": "91" });
    for (source, helpers, expected) in [
        ("epoch('2026-04-03T10:15:00Z')", json!({}), "1775211300"),
        ("epoch('2026-04-03T10:15:00+05:30')", json!({}), "1775191500"),
        ("epoch('2026-04-03 10:15')", india.clone(), "1775191500"),
        ("epoch('03/04/2026 10:15')", json!({}), "1775211300"),
        ("epoch('04/03/2026 10:15')", json!({ "date_order": "month_first" }), "1775211300"),
        ("epoch('3-Apr-2026 10:15 PM')", json!({}), "1775254500"),
        ("epoch('31/02/2026')", json!({}), "null"),
        ("epoch('yesterday')", json!({}), "null"),
        ("epoch(1775211300)", json!({}), "1775211300"),
        ("epoch(1775211300123)", json!({}), "1775211300"),
        ("epoch('1775211300123')", json!({}), "1775211300"),
        ("epoch(new Date(1775211300123))", json!({}), "1775211300"),
        ("datetime('03/04/2026', '10:15 am')", india.clone(), r#""2026-04-03T10:15:00+05:30""#),
        ("datetime('2026-04-03', '24:15')", json!({}), "null"),
        ("datetime('2026-04-03', '10:15', '-03:00')", json!({}), r#""2026-04-03T10:15:00-03:00""#),
        (
            "[uppercase('aé'), lowercase('AÉ'), trim(' a '), trim(null)]",
            json!({}),
            r#"["AÉ","aé","a",""]"#,
        ),
        ("formatPhone('098765 43210')", india.clone(), r#""+919876543210""#),
        ("formatPhone('+1 (555) 010-9999')", india.clone(), r#""+15550109999""#),
        ("formatPhone('0044 20 7946 0000')", json!({}), r#""+442079460000""#),
        ("formatPhone('98765 43210')", json!({}), r#""9876543210""#),
        ("get(payload, 'lines[1].sku', 0)", json!({}), r#""b""#),
        ("get(payload, 'lines[7].sku', 'none')", json!({}), r#""none""#),
        ("lookup('countries', 'DE')", json!({}), r#""Germany""#),
        (
            "[lookupName('plans', 2), lookupName('countries', 'DE')]",
            json!({}),
            r#"["pro","Germany"]"#,
        ),
        ("reverseLookup('plans', 'pro', 'name')", json!({}), r#""2""#),
        ("typeof http", json!({}), r#""undefined""#),
    ] {
        let input = r#"{"lines":[{"sku":"a"},{"sku":"b"}]}"#;
        let made = run(&sandbox, "acme", &helped(source, helpers), input).await;
        assert_eq!(made.as_deref(), Ok(expected), "{source}");
    }
    assert_eq!(
        outcome(&sandbox, "acme", &function("return typeof epoch"), "{}").await,
        r#""undefined""#
    );
}
