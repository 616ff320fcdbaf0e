//! The receiver: a process of its own, so that its CPU does not count as the engine's.
//!
//! `/ok/<n>` answers at once, `/slow/<n>` after 5 seconds, `/stall/<n>` after 20, `/stats` tells
//! what came in since the last `/reset`. From `/down` to `/up` every message is answered 503.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::convert::Infallible;
use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{HeaderMap, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use icp::secret::SecretString;
use icp::signing::standard::StandardVerifier;
use icp::signing::{KeyRing, Verifier};
use icp::time::{Clock, SystemClock};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;

use crate::{Result, engine::SECRET, usage};

/// How long a stalled endpoint takes.
pub(crate) const STALL: Duration = Duration::from_secs(20);

/// How long a slow endpoint takes.
const SLOW: Duration = Duration::from_secs(5);
/// The header fields that have a message's id, by product.
const IDS: [&str; 3] = ["webhook-id", "svix-id", "x-outpost-event-id"];
/// Those that a signature is checked by, and what Svix calls them.
const STANDARD: [(&str, &str); 3] = [
    ("webhook-id", "svix-id"),
    ("webhook-timestamp", "svix-timestamp"),
    ("webhook-signature", "svix-signature"),
];
/// One signature in so many is checked.
const CHECKED: u64 = 20;

/// What came in.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(crate) struct Stats {
    /// Requests.
    pub(crate) requests: u64,
    /// Different messages.
    pub(crate) distinct: u64,
    /// Of these, those to endpoints that answer at once.
    #[serde(default)]
    pub(crate) healthy: u64,
    /// Signatures that were checked and are wrong.
    #[serde(default)]
    pub(crate) forged: u64,
    /// Milliseconds from scheduled to received on endpoints that answer at once: p50, p95, p99.
    pub(crate) latency_ms: [f64; 3],
    /// Requests of each path, in the order of paths.
    pub(crate) by_path: Vec<u64>,
    /// CPU seconds of the receiver.
    pub(crate) cpu: f64,
}

#[derive(Debug, Default)]
struct Seen {
    requests: u64,
    requests_to: BTreeMap<String, u64>,
    ids: HashMap<String, HashSet<String>>,
    latencies: Vec<f32>,
    forged: u64,
    down: bool,
    cpu: Duration,
}

impl Seen {
    /// Different messages that came to these paths.
    fn distinct(&self, to: impl Fn(&str) -> bool) -> u64 {
        let ids = self.ids.iter().filter(|(path, _)| to(path));
        ids.map(|(_, ids)| ids.len() as u64).sum()
    }
}

/// A started receiver; ends with this value.
#[derive(Debug)]
pub(crate) struct Receiver {
    child: Child,
    /// `http://127.0.0.1:<port>`.
    pub(crate) base: String,
}

impl Receiver {
    pub(crate) fn start() -> Result<Self> {
        let mut child = std::process::Command::new(std::env::current_exe()?)
            .arg("receiver")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        let out = child.stdout.take().ok_or("the receiver has no output")?;
        BufReader::new(out).read_line(&mut line)?;
        Ok(Self { child, base: line.trim().to_owned() })
    }

    pub(crate) async fn reset(&self) -> Result<()> {
        crate::bare::get(&format!("{}/reset", self.base)).await.map(drop)
    }

    /// Refuses every message, or takes them again.
    pub(crate) async fn down(&self, down: bool) -> Result<()> {
        let path = if down { "down" } else { "up" };
        crate::bare::get(&format!("{}/{path}", self.base)).await.map(drop)
    }

    pub(crate) async fn stats(&self) -> Result<Stats> {
        Ok(serde_json::from_slice(&crate::bare::get(&format!("{}/stats", self.base)).await?)?)
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Serves until the parent goes away.
#[expect(clippy::print_stdout, reason = "tells the parent its address")]
pub(crate) async fn serve() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("http://{}", listener.local_addr()?);
    let seen = Arc::new(Mutex::new(Seen { cpu: usage::cpu(), ..Seen::default() }));
    let mut server = hyper::server::conn::http1::Builder::new();
    server.timer(TokioTimer::new());
    let mut tasks = tokio::task::JoinSet::new();
    let parent = tokio::task::spawn_blocking(|| std::io::stdin().read_line(&mut String::new()));
    tokio::pin!(parent);
    loop {
        let (stream, _) = tokio::select! {
            accepted = listener.accept() => accepted?,
            _ = &mut parent => return Ok(()),
            Some(_) = tasks.join_next() => continue,
        };
        stream.set_nodelay(true)?;
        let seen = Arc::clone(&seen);
        let server = server.clone();
        tasks.spawn(async move {
            let service = service_fn(move |request| answer(Arc::clone(&seen), request));
            let _ = server.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn answer(
    seen: Arc<Mutex<Seen>>,
    request: Request<Incoming>,
) -> std::result::Result<Response<Full<Bytes>>, Infallible> {
    let path = request.uri().path().to_owned();
    let reply = |body: Bytes| Ok(Response::new(Full::new(body)));
    match path.as_str() {
        "/stats" => return reply(stats(&seen).into()),
        "/reset" => {
            *lock(&seen) = Seen { cpu: usage::cpu(), ..Seen::default() };
            return reply(Bytes::new());
        }
        "/down" | "/up" => {
            lock(&seen).down = path == "/down";
            return reply(Bytes::new());
        }
        _ => {}
    }
    let headers = request.headers().clone();
    let id = IDS.into_iter().find_map(|name| headers.get(name)?.to_str().ok()).map(str::to_owned);
    let body = request.into_body().collect().await;
    let body = body.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let received = usage::now();
    let pause = pause(&path);
    {
        let mut seen = lock(&seen);
        if seen.down {
            let mut refused = Response::new(Full::default());
            *refused.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
            return Ok(refused);
        }
        seen.requests += 1;
        if seen.requests.is_multiple_of(CHECKED) && forged(&headers, &body) {
            seen.forged += 1;
        }
        *seen.requests_to.entry(path.clone()).or_default() += 1;
        if let Some(id) = id {
            seen.ids.entry(path).or_default().insert(id);
        }
        if pause.is_zero()
            && let Some(scheduled) = scheduled(&body)
        {
            #[expect(clippy::cast_possible_truncation, reason = "milliseconds with three digits")]
            let millis = received.saturating_sub(scheduled).as_secs_f64() as f32 * 1000.0;
            seen.latencies.push(millis);
        }
    }
    if !pause.is_zero() {
        tokio::time::sleep(pause).await;
    }
    reply(Bytes::new())
}

/// How long the endpoint at this path takes.
fn pause(path: &str) -> Duration {
    match path.split('/').nth(1) {
        Some("stall") => STALL,
        Some("slow") => SLOW,
        _ => Duration::ZERO,
    }
}

/// Whether the request has a signature by Standard Webhooks that is not right.
fn forged(headers: &HeaderMap, body: &[u8]) -> bool {
    let mut standard = HeaderMap::new();
    for (name, other) in STANDARD {
        let Some(value) = headers.get(name).or_else(|| headers.get(other)) else { return false };
        standard.insert(name, value.clone());
    }
    let ring = KeyRing::new([(SecretString::from(SECRET), None)]);
    let verifier = ring.and_then(|ring| StandardVerifier::new(&ring));
    !verifier.is_ok_and(|verifier| verifier.verify(&standard, body, SystemClock.now()).is_ok())
}

fn lock(seen: &Mutex<Seen>) -> std::sync::MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

fn stats(seen: &Mutex<Seen>) -> Vec<u8> {
    let mut seen = lock(seen);
    seen.latencies.sort_unstable_by(f32::total_cmp);
    let stats = Stats {
        requests: seen.requests,
        distinct: seen.distinct(|_| true),
        healthy: seen.distinct(|path| pause(path).is_zero()),
        forged: seen.forged,
        latency_ms: [50, 95, 99].map(|p| percentile(&seen.latencies, p)),
        by_path: seen.requests_to.values().copied().collect(),
        cpu: (usage::cpu() - seen.cpu).as_secs_f64(),
    };
    serde_json::to_vec(&stats).unwrap_or_default()
}

fn percentile(sorted: &[f32], percent: usize) -> f64 {
    let rank = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    sorted.get(rank).copied().map(f64::from).unwrap_or_default()
}

/// The moment in the body's field `"at":<microseconds>`, which is one of its first.
fn scheduled(body: &[u8]) -> Option<Duration> {
    const FIELD: &[u8] = b"\"at\":";
    let digits =
        &body[body.windows(FIELD.len()).position(|window| window == FIELD)? + FIELD.len()..];
    let end = digits.iter().position(|b| !b.is_ascii_digit())?;
    let micros: u64 = std::str::from_utf8(&digits[..end]).ok()?.parse().ok()?;
    (micros > 0).then(|| Duration::from_micros(micros))
}
