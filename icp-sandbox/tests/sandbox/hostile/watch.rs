//! What a process takes while a call is under way.

use std::fs::read_to_string;
use std::future::Future;
use std::time::Duration;

use tokio::time::{Instant, sleep};

/// How often it is looked at.
const EVERY: Duration = Duration::from_millis(2);

/// What a worker took during a call, as far as it was seen.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Taken {
    /// Processor time.
    pub(super) cpu: Duration,
    /// The most memory beyond what it had, in bytes.
    pub(super) held: u64,
    /// How late the host itself was at most: nobody kills a worker in a time in which nobody runs.
    pub(super) late: Duration,
}

/// Waits for a call and looks at the process meanwhile. Nothing is seen where the system does not
/// tell.
pub(super) async fn watched<T>(process: u32, call: impl Future<Output = T>) -> (T, Taken) {
    tokio::pin!(call);
    let mut taken = Taken::default();
    let before = (cpu(process).unwrap_or_default(), held(process).unwrap_or_default());
    let mut look = |late: Duration| {
        taken.late = late.max(taken.late);
        if let (Some(cpu), Some(held)) = (cpu(process), held(process)) {
            taken.cpu = taken.cpu.max(cpu.saturating_sub(before.0));
            taken.held = taken.held.max(held.saturating_sub(before.1));
        }
    };
    loop {
        let began = Instant::now();
        tokio::select! {
            biased;
            done = &mut call => {
                look(Duration::ZERO);
                return (done, taken);
            }
            () = sleep(EVERY) => look(began.elapsed().saturating_sub(EVERY)),
        }
    }
}

/// Processor time of all threads, in whole ticks of the system.
fn cpu(process: u32) -> Option<Duration> {
    let told = read_to_string(format!("/proc/{process}/stat")).ok()?;
    let mut fields = told.rsplit_once(')')?.1.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u64>().ok();
    let ticks = ticks()? + ticks()?;
    Some(Duration::from_millis(ticks * 1_000 / rustix::param::clock_ticks_per_second()))
}

/// The most memory that was ever resident, in bytes.
fn held(process: u32) -> Option<u64> {
    let told = read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = told.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().trim_end_matches(" kB").parse::<u64>().ok()? << 10)
}
