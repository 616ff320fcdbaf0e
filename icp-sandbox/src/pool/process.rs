//! One worker as the host sees it: a child process and its pipes.

use std::io;
use std::num::NonZeroUsize;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use icp_core::transform::{Limits, Plan};
use lru::LruCache;
use rustix::process::{getpriority_process, setpriority_process};
use tokio::io::{AsyncReadExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::{Instant, timeout};

use crate::call::{Answer, Ask};
use crate::frame;
use crate::runner::SLOTS;
use crate::worker::ARGUMENT;

/// How long a worker may take to start, also on a machine that is very busy.
const START: Duration = Duration::from_secs(20);

/// How long the last words of a worker are waited for.
const LAST_WORDS: Duration = Duration::from_millis(20);

/// A running worker. Dropping it kills it.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    plans: LruCache<[u8; 32], usize>,
    asked: u64,
    born: Instant,
    calls: u32,
    /// Whether the last call brought its plan along.
    learnt: bool,
    yields: bool,
    retired: bool,
}

/// How the end of a worker looks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Death {
    /// It said that it had no memory left.
    Memory,
    /// It said that its stack ended.
    Stack,
    /// Anything else.
    Crash,
}

impl Process {
    /// Starts a worker, and waits until it is confined. It inherits nothing: no environment but a
    /// time zone, no directory, no descriptor beyond its pipes.
    pub(crate) async fn start(program: &std::path::Path, limits: &Limits) -> io::Result<Self> {
        let mut child = Command::new(program)
            .arg(ARGUMENT)
            .env_clear()
            .env("TZ", "UTC0")
            // One heap for its two threads keeps its address space small.
            .env("MALLOC_ARENA_MAX", "1")
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(io::ErrorKind::BrokenPipe.into());
        };
        let plans = LruCache::new(NonZeroUsize::new(SLOTS).unwrap_or(NonZeroUsize::MIN));
        let (born, output) = (Instant::now(), BufReader::new(output));
        let mut process = Self {
            child,
            input,
            output,
            plans,
            asked: 0,
            born,
            calls: 0,
            learnt: false,
            yields: false,
            retired: false,
        };
        let hello = frame::encode(&Ask::Limits(limits.clone()), &[])?;
        let ready = timeout(START, async {
            frame::send(&mut process.input, &hello).await?;
            frame::receive(&mut process.output, 0).await?.head::<Answer>()
        });
        match ready.await {
            Ok(Ok(Answer::Ready)) => Ok(process),
            Ok(Ok(_)) => Err(io::ErrorKind::InvalidData.into()),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        }
    }

    /// The frames that ask for something about a plan: the plan itself first, where the worker
    /// does not hold it. `ask` is given the number of the call and the slot of the plan.
    pub(crate) fn encode(
        &mut self,
        plan: &Plan,
        body: &[u8],
        ask: impl FnOnce(u64, usize) -> Ask,
    ) -> io::Result<(u64, Vec<u8>)> {
        let mut bytes = Vec::new();
        self.learnt = false;
        let slot = match self.plans.get(plan.digest()) {
            Some(slot) => *slot,
            None => {
                let slot = match self.plans.len() {
                    SLOTS => self.plans.pop_lru().map_or(0, |(_, slot)| slot),
                    free => free,
                };
                bytes = frame::encode(&Ask::Plan { slot }, plan.text().as_bytes())?;
                self.plans.put(*plan.digest(), slot);
                self.learnt = true;
                slot
            }
        };
        self.asked += 1;
        self.calls += 1;
        bytes.extend(frame::encode(&ask(self.asked, slot), body)?);
        Ok((self.asked, bytes))
    }

    /// Sends frames.
    pub(crate) async fn say(&mut self, bytes: &[u8]) -> io::Result<()> {
        frame::send(&mut self.input, bytes).await
    }

    /// Reads one answer, whose body has at most `most` bytes.
    pub(crate) async fn hear(&mut self, most: usize) -> io::Result<(Answer, Vec<u8>)> {
        let frame = frame::receive(&mut self.output, most).await?;
        Ok((frame.head()?, frame.body))
    }

    /// The processor time it took so far; none where the system does not tell.
    pub(crate) fn meter(&self) -> Option<Meter> {
        self.child.id().map(Meter)
    }

    /// Kills it, waits until the system let go of it, and tells how it went.
    pub(crate) async fn end(mut self) -> Death {
        let gone: Option<ExitStatus> = self.child.try_wait().ok().flatten();
        if gone.is_none() {
            let _ = self.child.kill().await;
        }
        let mut said = [0; 512];
        let read = match &mut self.child.stderr {
            // What it said is there by now; somebody else may hold the pipe open.
            Some(errors) => {
                let read = timeout(LAST_WORDS, errors.read(&mut said)).await;
                read.ok().and_then(Result::ok).unwrap_or(0)
            }
            None => 0,
        };
        let said = String::from_utf8_lossy(said.get(..read).unwrap_or_default());
        if said.contains("memory allocation of") || said.contains("out of memory") {
            Death::Memory
        } else if said.contains("overflowed its stack") {
            Death::Stack
        } else {
            Death::Crash
        }
    }

    /// Whether it is still there.
    pub(crate) fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Whether it yields to others.
    pub(crate) fn yields(&self) -> bool {
        self.yields
    }

    /// Notes that it yields to others from the last call on, and lets it take no further one;
    /// unless that brought its plan along, which else would be compiled for each call.
    pub(crate) fn has_yielded(&mut self) {
        self.yields = true;
        self.retired = !self.learnt;
    }

    /// Whether it has done enough.
    pub(crate) fn is_spent(&self, now: Instant) -> bool {
        if self.retired {
            return true;
        }
        let looks = self.calls.is_multiple_of(LOOK_EVERY);
        let held = if looks { self.meter().and_then(Meter::held) } else { None };
        spent(self.calls, now.duration_since(self.born), held.unwrap_or(0))
    }

    /// The process id, for tests and logs.
    pub(crate) fn id(&self) -> Option<u32> {
        self.child.id()
    }
}

/// By how much a worker is nicer to others once it yields: it gets a third of what they do.
const NICER: i32 = 5;

/// After how many calls the memory that a worker holds is looked at.
const LOOK_EVERY: u32 = 16;

/// Whether a worker has done enough: 10,000 calls, 10 minutes, or more than 64 MiB held.
fn spent(calls: u32, age: Duration, held: u64) -> bool {
    const CALLS: u32 = 10_000;
    const AGE: Duration = Duration::from_secs(600);
    const HELD: u64 = 64 << 20;
    calls >= CALLS || age >= AGE || held > HELD
}

/// Tells what a process takes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Meter(u32);

impl Meter {
    /// Processor time since it started.
    #[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd"))]
    pub(crate) fn cpu(self) -> Option<Duration> {
        let process = nix::unistd::Pid::from_raw(i32::try_from(self.0).ok()?);
        let clock = nix::time::ClockId::pid_cpu_clock_id(process).ok()?;
        clock.now().ok().map(Duration::from)
    }

    /// Processor time since it started, which this system does not tell of others.
    #[cfg(not(any(target_os = "linux", target_os = "android", target_os = "freebsd")))]
    pub(crate) fn cpu(self) -> Option<Duration> {
        None
    }

    /// Lets the process yield to others from now on, for good: only who is privileged can take that
    /// back. Each thread has a priority of its own, where the system tells them apart.
    pub(crate) fn lower(self) {
        let threads = std::fs::read_dir(format!("/proc/{}/task", self.0));
        let of = |name: std::ffi::OsString| name.to_str().and_then(|name| name.parse().ok());
        let numbers: Vec<i32> = match threads {
            Ok(threads) => threads.flatten().filter_map(|entry| of(entry.file_name())).collect(),
            Err(_) => i32::try_from(self.0).into_iter().collect(),
        };
        for thread in numbers.into_iter().filter_map(rustix::process::Pid::from_raw) {
            // What has just ended has none, and needs none.
            if let Ok(nice) = getpriority_process(Some(thread)) {
                let _ = setpriority_process(Some(thread), nice + NICER);
            }
        }
    }

    /// Memory it holds, in bytes.
    fn held(self) -> Option<u64> {
        let told = std::fs::read_to_string(format!("/proc/{}/statm", self.0)).ok()?;
        let pages: u64 = told.split(' ').nth(1)?.parse().ok()?;
        Some(pages * u64::try_from(rustix::param::page_size()).unwrap_or(4_096))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_is_renewed_by_calls_age_and_memory() {
        let (young, old) = (Duration::ZERO, Duration::from_secs(600));
        for (calls, age, held, expected) in [
            (0, young, 0, false),
            (9_999, old - Duration::from_nanos(1), 64 << 20, false),
            (10_000, young, 0, true),
            (u32::MAX, young, 0, true),
            (1, old, 0, true),
            (1, young, (64 << 20) + 1, true),
        ] {
            assert_eq!(spent(calls, age, held), expected, "{calls} {age:?} {held}");
        }
    }

    #[test]
    fn a_meter_tells_of_a_living_process_only() {
        let own = Meter(std::process::id());
        if cfg!(target_os = "linux") {
            assert!(own.held().unwrap() > 1 << 20);
            assert!(own.cpu().is_some());
        }
        assert!(Meter(u32::MAX).cpu().is_none() && Meter(u32::MAX).held().is_none());
    }
}
