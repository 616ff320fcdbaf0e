//! Programs that mean harm: each ends with a code within bounds, and nobody else notices.

mod errors;
mod expressions;
mod loops;
mod memory;
mod names;
mod natives;
mod schemas;
mod sources;
mod starved;
mod watch;

use std::time::Duration;

use icp_core::transform::{Plan, TransformError};
use icp_sandbox::{Limits, Sandbox};
use tokio::time::timeout;

use self::watch::{Taken, watched};
use crate::fixture::{builder, function, org, outcome, run, script};

/// By the clock on the wall, far beyond what a machine that is idle needs: these run beside other
/// builds and tests. What a call may take is judged by processor time.
const PATIENCE: Duration = Duration::from_secs(30);

/// How exactly the system tells processor time.
const TICK: Duration = Duration::from_millis(10);

/// What a worker may hold beyond what it held before the program, in bytes: the heap of the
/// engine, and what is read and written around it.
const HELD: u64 = 32 << 20;

/// How programs that use too much end.
const STOPPED: &[&str] = &["!timeout", "!timeout_hard"];

/// How programs end that run into any bound.
const BOUNDED: &[&str] =
    &["!timeout", "!timeout_hard", "!memory", "!crashed", "!stack", "!runtime", "!output_invalid"];

/// What became of a hostile plan.
struct Met {
    found: Result<String, TransformError>,
    taken: Taken,
}

/// A sandbox with a villain and a neighbour in it.
struct Street {
    sandbox: Sandbox,
    neighbour: Option<u32>,
}

impl Street {
    async fn new() -> Self {
        Self::with(Limits::default()).await
    }

    async fn with(limits: Limits) -> Self {
        // Room for each that is met here, also where there is one processor.
        let sandbox = builder().limits(limits).workers(4).build().unwrap();
        let mut street = Self { sandbox, neighbour: None };
        street.greet("a fresh start").await;
        street.neighbour = street.worker_of("neighbour");
        street
    }

    fn worker_of(&self, name: &str) -> Option<u32> {
        let of = |(owner, pid)| if owner == org(name) { pid } else { None };
        self.sandbox.idle_workers().into_iter().find_map(of)
    }

    async fn greet(&self, after: &str) {
        let good = function("return payload.n + 1");
        assert_eq!(outcome(&self.sandbox, "neighbour", &good, r#"{"n":1}"#).await, "2", "{after}");
    }

    /// Runs a hostile plan: it ends with one of `codes` (a code, or the text it gives) and within
    /// 1.2 times its processor time; then the neighbour is answered right, by the worker it had.
    async fn meet(&self, name: &str, plan: &Plan, input: &str, codes: &[&str]) -> Met {
        // A worker that is there before, so that what the program takes can be watched.
        let begun = outcome(&self.sandbox, "villain", &script("return 1"), "{}").await;
        assert_eq!(begun, "1", "before {name}");
        let worker = self.worker_of("villain").unwrap();
        let call = timeout(PATIENCE, run(&self.sandbox, "villain", plan, input));
        let (found, taken) = watched(worker, call).await;
        let found = found.unwrap_or_else(|_| panic!("{name} did not end within {PATIENCE:?}"));
        let told = match &found {
            Ok(text) => text.clone(),
            Err(error) => format!("!{}", error.code),
        };
        assert!(codes.contains(&&*told), "{name}: {told:.80}, {taken:?}");
        let limits = self.sandbox.limits();
        let hard = Duration::from_millis(u64::from(limits.deadline_ms + limits.grace_ms));
        let most = hard * 6 / 5 + TICK + taken.late;
        assert!(taken.cpu <= most, "{name}: {told:.80}, {taken:?}");
        self.greet(&format!("after {name}")).await;
        assert_eq!(self.worker_of("neighbour"), self.neighbour, "after {name}");
        Met { found, taken }
    }

    /// Runs functions, one after the other.
    async fn meet_all(&self, codes: &[&str], bodies: &[(&str, &str)]) {
        for (name, body) in bodies {
            let met = self.meet(name, &function(body), "{}", codes).await;
            assert!(met.taken.held <= HELD, "{name}: {:?}", met.taken);
        }
    }
}
