use std::future::pending;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::Instant;
use tower::layer::{layer_fn, util::Identity};
use tower::service_fn;
use tracing_subscriber::fmt::format::FmtSpan;

use super::super::AddressPolicy;
use super::*;

fn request(total: Duration) -> EgressRequest {
    let url = "https://hooks.example.com:8443/pa55-path?key=pa55-query".parse().unwrap();
    let mut request = EgressRequest::post(url, "pa55-body", Arc::new(AddressPolicy::strict()));
    request.headers.insert("authorization", "Bearer pa55-token".parse().unwrap());
    request.timeouts.total = total;
    request
}

fn answer(status: u16) -> EgressResponse {
    let mut headers = http::HeaderMap::new();
    headers.insert("set-cookie", "pa55-cookie".parse().unwrap());
    EgressResponse {
        status: status.try_into().unwrap(),
        headers,
        body: "pa55-answer".into(),
        truncated: false,
        timings: Timings::default(),
        remote: None,
    }
}

fn hung() -> Transport {
    Transport::new(service_fn(|_| pending::<Result<EgressResponse, EgressError>>()))
}

fn answering(status: u16) -> Transport {
    Transport::new(service_fn(move |_| async move { Ok(answer(status)) }))
}

// A timer fires at the first whole millisecond that is not too early.
fn assert_about(elapsed: Duration, expected: Duration) {
    assert!((expected..expected + Duration::from_millis(2)).contains(&elapsed), "{elapsed:?}");
}

#[tokio::test(start_paused = true)]
async fn a_hung_service_or_layer_ends_at_the_deadline() {
    let total = Duration::from_secs(3);
    let table = [
        stack(hung(), 1, Identity::new()),
        stack(answering(200), 1, layer_fn(|_: Transport| hung())),
    ];
    for transport in table {
        let begun = Instant::now();
        let error = transport.oneshot(request(total)).await.unwrap_err();
        assert_about(begun.elapsed(), total);
        assert_eq!(error.class, FailureClass::Timeout(Phase::Total));
        assert_eq!(error.timings.total, Some(total));
    }
}

#[tokio::test(start_paused = true)]
async fn waiting_for_a_place_counts_against_the_deadline() {
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = calls.clone();
    let base = Transport::new(service_fn(move |_| {
        counted.fetch_add(1, Ordering::SeqCst);
        pending()
    }));
    let transport = stack(base, 1, Identity::new());
    let begun = Instant::now();
    let first = transport.clone().oneshot(request(Duration::from_secs(60)));
    let second = async {
        let outcome = transport.clone().oneshot(request(Duration::from_secs(1))).await;
        (outcome.unwrap_err().class, begun.elapsed())
    };
    let (_, (class, elapsed)) = tokio::join!(first, second);
    assert_eq!(class, FailureClass::Timeout(Phase::Total));
    assert_about(elapsed, Duration::from_secs(1));
    assert_eq!(calls.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn no_more_calls_than_allowed_run_at_once() {
    let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (now, peak) = (running.clone(), most.clone());
    let base = Transport::new(service_fn(move |_| {
        peak.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        let now = now.clone();
        async move {
            tokio::time::sleep(Duration::from_secs(1)).await;
            now.fetch_sub(1, Ordering::SeqCst);
            Ok(answer(200))
        }
    }));
    let transport = stack(base, 3, Identity::new());
    let begun = Instant::now();
    let calls = (0..10).map(|_| transport.clone().oneshot(request(Duration::from_secs(60))));
    assert!(join_all(calls).await.iter().all(Result::is_ok));
    // Ten calls, three at a time: not one place stayed empty.
    let elapsed = begun.elapsed().as_millis();
    assert!((4000..4020).contains(&elapsed), "{elapsed}");
    assert_eq!((most.load(Ordering::SeqCst), running.load(Ordering::SeqCst)), (3, 0));
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(data)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn the_trace_names_host_and_outcome_and_holds_no_secret() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_span_events(FmtSpan::FULL)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    // With one subscriber alone, a call site first met on another test's thread would ask that
    // thread's, which is none, and be off for good; with two it asks them all.
    let _second = tracing::Dispatch::new(tracing_subscriber::registry());
    let failing = Transport::new(service_fn(|_| async {
        Err(EgressError::new(FailureClass::Tls, "tls handshake: certificate expired"))
    }));
    for (base, ok) in [(answering(418), true), (failing, false)] {
        let outcome =
            stack(base, 1, Identity::new()).oneshot(request(Duration::from_secs(1))).await;
        assert_eq!(outcome.is_ok(), ok);
    }
    let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    for part in ["POST", "https", "hooks.example.com", "8443", "418", "tls_failed", "expired"] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
    assert!(!text.contains("pa55"), "{text}");
}
