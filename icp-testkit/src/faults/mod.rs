//! The behaviours every store over a network must show while that network fails, as one registry
//! that each backend mounts.
//!
//! Real engines work on stores whose connections go through a [`Proxy`]; a [`Fault`] is set in the
//! middle, and healed; then the ledger is read. A backend's test target has `harness = false` and
//! one call of [`main`]. A store within this process is put behind a network with
//! [`Remote`](remote::Remote):
//!
//! ```no_run
//! use std::sync::Arc;
//!
//! use icp_core::store::MemoryStore;
//! use icp_testkit::faults::{self, remote};
//!
//! faults::main("memory", || remote::fixture(Arc::new(MemoryStore::new())));
//! ```
//!
//! With `ICP_FAULTS_FULL` set, faults last 30 s and 1,000 commits are cut, in place of 2 s and
//! 100.

mod clock;
mod commit;
mod connection;
mod crash;
mod ledger;
pub mod remote;
mod stage;

use std::any::Any;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use icp_core::Result;
use icp_core::store::Store;
use libtest_mimic::{Arguments, Trial};

pub use crash::survive_crashes;
pub use ledger::{Findings, Ledger, Receipt};

use crate::proxy::{Fault, Pattern, Proxy};

/// A future that a behaviour or a hook returns.
pub type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Opens a store.
pub type Open = dyn Fn() -> BoxFuture<Result<Arc<dyn Store>>> + Send + Sync;

/// Set where the suite runs at full size.
const FULL: &str = "ICP_FAULTS_FULL";

/// A fresh database, and the ways to it.
pub struct Fixture {
    /// A store on the database itself, for the checker.
    pub direct: Arc<dyn Store>,
    /// Opens another store on the same database, whose connections go through the proxy.
    pub through: Box<Open>,
    /// What stands between.
    pub proxy: Proxy,
    /// What tells the request that commits a write. Default: [`Pattern::commit`].
    pub commit: Pattern,
    /// How many commits are cut in a run that is not of full size. Default: those of
    /// [`Size::SMALL`]; fewer where the driver pauses after each.
    pub commits: u32,
    /// How long sweeps may take to set right what calls that were cut off have left. Default: no time
    /// at all, as where each call is one transaction.
    pub settling: Duration,
    /// Kept until the behaviour is over, for a temporary directory or a server.
    pub guard: Box<dyn Any + Send + Sync>,
}

impl Fixture {
    /// A fixture without a guard.
    pub fn new<F>(
        direct: Arc<dyn Store>,
        proxy: Proxy,
        through: impl Fn() -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Result<Arc<dyn Store>>> + Send + 'static,
    {
        let through = Box::new(move || Box::pin(through()) as BoxFuture<_>);
        Self {
            direct,
            through,
            proxy,
            commit: Pattern::commit(),
            commits: Size::SMALL.commits,
            settling: Duration::ZERO,
            guard: Box::new(()),
        }
    }

    /// Says what tells the request that commits a write.
    #[must_use]
    pub fn committing_with(mut self, commit: Pattern) -> Self {
        self.commit = commit;
        self
    }

    /// Says how many commits are cut in a run that is not of full size.
    #[must_use]
    pub fn cutting(mut self, commits: u32) -> Self {
        self.commits = commits;
        self
    }

    /// Says how long sweeps may take to set right what calls that were cut off have left.
    #[must_use]
    pub fn settling_within(mut self, time: Duration) -> Self {
        self.settling = time;
        self
    }

    /// Keeps `guard` until the behaviour is over.
    #[must_use]
    pub fn guarded_by(mut self, guard: impl Any + Send + Sync) -> Self {
        self.guard = Box::new(guard);
        self
    }

    /// Keeps `guard` too.
    fn beside(mut self, guard: impl Any + Send + Sync) -> Self {
        self.guard = Box::new((self.guard, guard));
        self
    }
}

impl fmt::Debug for Fixture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fixture").field("direct", &self.direct).finish_non_exhaustive()
    }
}

/// How much a behaviour does.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// How long a fault lasts.
    pub stretch: Duration,
    /// How many commits are cut.
    pub commits: u32,
    /// How long claims may take to go on after a fault.
    pub resume: Duration,
}

impl Size {
    /// What fits a run of all tests, on a machine of which others take most.
    pub const SMALL: Self =
        Self { stretch: Duration::from_secs(2), commits: 100, resume: Duration::from_secs(20) };
    /// What the goals are stated for.
    pub const FULL: Self =
        Self { stretch: Duration::from_secs(30), commits: 1_000, resume: Duration::from_secs(5) };
}

/// One thing every store does.
#[derive(Clone, Copy, Debug)]
pub struct Behaviour {
    /// What goes wrong and what is expected of it, as in `connection::reset`.
    pub name: &'static str,
    /// Shows it on a fresh store; panics where the store fails.
    pub run: fn(Fixture, Size) -> BoxFuture<()>,
}

macro_rules! registry {
    ($($noun:ident { $($name:ident,)+ })+) => {
        /// Every behaviour, by what goes wrong.
        pub const BEHAVIOURS: &[Behaviour] = &[$($(Behaviour {
            name: concat!(stringify!($noun), "::", stringify!($name)),
            run: |fixture, size| Box::pin($noun::$name(fixture, size)),
        },)+)+];
    };
}

registry! {
    connection {
        is_late,
        is_narrow,
        is_stalled,
        is_swallowed,
        is_reset,
        is_reset_with_each_request,
        is_reset_again_and_again,
        is_closed_by_half,
        is_cut_within_answers,
        is_closed_slowly,
        is_refused,
        is_lost_half_of_the_time,
        of_one_node_is_swallowed,
    }
    commit {
        that_arrived_is_told_as_transient_and_repeats_as_one,
        that_did_not_arrive_is_told_as_transient_and_repeats_as_one,
        of_unknown_outcome_repeats_by_event_id,
        is_cut_under_load,
    }
    clock {
        of_nodes_differ,
        of_one_node_jumps,
    }
}

/// Runs every behaviour against the fixtures that `factory` makes, each on its own, and exits the
/// process as a test harness does; takes the arguments of `cargo test`.
///
/// Behaviours are named `<backend>::<noun>::<behaviour>`.
pub fn main<F, Made>(backend: &str, factory: F)
where
    F: Fn() -> Made + Clone + Send + 'static,
    Made: Future<Output = Fixture> + Send,
{
    run(backend, factory, |_| true);
}

/// As [`main`], for a store within this process: the behaviours that need no network. `factory`
/// makes empty stores, each with what is kept until the behaviour is over.
pub fn main_embedded<F, Made, Guard>(backend: &str, factory: F)
where
    F: Fn() -> Made + Clone + Send + 'static,
    Made: Future<Output = (Arc<dyn Store>, Guard)> + Send,
    Guard: Any + Send + Sync,
{
    let factory = move || {
        let factory = factory.clone();
        async move {
            let (store, guard) = factory().await;
            remote::fixture(store).await.beside(guard)
        }
    };
    run(backend, factory, |behaviour| behaviour.name.starts_with("clock::"));
}

fn run<F, Made>(backend: &str, factory: F, fits: impl Fn(&Behaviour) -> bool)
where
    F: Fn() -> Made + Clone + Send + 'static,
    Made: Future<Output = Fixture> + Send,
{
    let full = is_full();
    let trial = |behaviour: &Behaviour| {
        let (factory, run) = (factory.clone(), behaviour.run);
        Trial::test(format!("{backend}::{}", behaviour.name), move || {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(4)
                .enable_all()
                .build()?;
            runtime.block_on(async {
                let fixture = factory().await;
                let small = Size { commits: fixture.commits, ..Size::SMALL };
                run(fixture, if full { Size::FULL } else { small }).await;
            });
            Ok(())
        })
    };
    let trials = BEHAVIOURS.iter().filter(|behaviour| fits(behaviour)).map(trial).collect();
    let mut arguments = Arguments::from_args();
    // They wait more than they work.
    arguments.test_threads.get_or_insert(4);
    libtest_mimic::run(&arguments, trials).exit();
}

#[expect(clippy::disallowed_methods, reason = "a test harness is told by its environment")]
fn is_full() -> bool {
    std::env::var(FULL).is_ok_and(|value| !value.is_empty() && value != "0")
}

#[cfg(test)]
mod tests;
