//! Who asks: one request after the other on connections that stay open.

use std::time::Duration;

use crate::wire::Connection;
use crate::{Result, usage};

/// How many connections share a rate.
const PACED: u32 = 8;

/// What became of the requests.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    pub(super) requests: u64,
    pub(super) wall: Duration,
    /// p50, p95 and p99.
    pub(super) latency_ms: [f64; 3],
}

/// Sends `request` over `callers` connections, each as fast as it is answered.
pub(super) async fn ask(
    address: &str,
    request: &str,
    callers: usize,
    length: Duration,
) -> Result<Asked> {
    let end = usage::now() + length;
    gather(callers, |_| closed(address.to_owned(), request.to_owned(), end)).await
}

/// Sends `rate` requests a second, each at its moment; latency counts from that moment.
pub(super) async fn pace(
    address: &str,
    request: &str,
    rate: u32,
    length: Duration,
) -> Result<Asked> {
    let begin = usage::now();
    let gap = Duration::from_secs(1) * PACED / rate;
    gather(PACED as usize, |number| {
        let shift = gap * u32::try_from(number).unwrap_or_default() / PACED;
        open(address.to_owned(), request.to_owned(), begin + shift, gap, length)
    })
    .await
}

async fn gather<F>(callers: usize, caller: impl Fn(usize) -> F) -> Result<Asked>
where
    F: Future<Output = Result<Vec<f32>>> + Send + 'static,
{
    let begun = usage::now();
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..callers {
        tasks.spawn(caller(number));
    }
    let mut all = Vec::new();
    while let Some(times) = tasks.join_next().await {
        all.extend(times??);
    }
    let wall = usage::now() - begun;
    all.sort_unstable_by(f32::total_cmp);
    Ok(Asked {
        requests: all.len() as u64,
        wall,
        latency_ms: [50, 95, 99].map(|percent| {
            let rank = (all.len() * percent).div_ceil(100).saturating_sub(1);
            all.get(rank).copied().map(f64::from).unwrap_or_default()
        }),
    })
}

async fn closed(address: String, request: String, end: Duration) -> Result<Vec<f32>> {
    let mut connection = Connection::open(&address).await?;
    let mut times = Vec::new();
    loop {
        let begun = usage::now();
        if begun >= end {
            return Ok(times);
        }
        connection.ask(request.as_bytes()).await?;
        times.push(millis(usage::now() - begun));
    }
}

async fn open(
    address: String,
    request: String,
    begin: Duration,
    gap: Duration,
    length: Duration,
) -> Result<Vec<f32>> {
    let mut connection = Connection::open(&address).await?;
    let mut times = Vec::new();
    let mut count = 0;
    while gap * count < length {
        let scheduled = begin + gap * count;
        tokio::time::sleep(scheduled.saturating_sub(usage::now())).await;
        // A timer is some time late, which is not the server's.
        let scheduled = if count == 0 { usage::now() } else { scheduled };
        connection.ask(request.as_bytes()).await?;
        times.push(millis(usage::now().saturating_sub(scheduled)));
        count += 1;
    }
    Ok(times)
}

#[expect(clippy::cast_possible_truncation, reason = "milliseconds with three digits")]
fn millis(time: Duration) -> f32 {
    time.as_secs_f64() as f32 * 1000.0
}
