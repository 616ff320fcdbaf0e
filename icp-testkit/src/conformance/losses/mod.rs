//! Operations of several writes on a server that is killed in the midst of them: what one answered
//! stands, whichever of its writes the server has lost.
//!
//! Behaviours are shown on a server that lives; these are for a test that can kill its own.

mod operations;

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use icp_core::Code;
use icp_core::error::Result;

use super::world::World;
use super::{BoxFuture, Fixture};

/// How often an operation is tried that the crash has cut off.
const TRIES: usize = 20;

/// One operation, and what has to be true after it.
#[derive(Clone, Copy, Debug)]
pub struct Operation {
    /// What it does.
    pub name: &'static str,
    /// Prepares an empty store, does it while `crash` is armed, and looks at what is there then;
    /// panics where something is missing.
    pub run: fn(Fixture, Crash) -> BoxFuture<()>,
}

/// The test's way to be told when to kill its server.
#[derive(Clone)]
pub struct Crash(Arc<dyn Fn(bool) + Send + Sync>);

impl Crash {
    /// `arm` is called with `true` before the operation, and with `false` after it.
    pub fn new(arm: impl Fn(bool) + Send + Sync + 'static) -> Self {
        Self(Arc::new(arm))
    }

    /// Does it until it is done; `done` is the code of what was done before.
    async fn during<T, F>(&self, done: Option<Code>, act: impl Fn() -> F)
    where
        F: Future<Output = Result<T>>,
    {
        (self.0)(true);
        for _ in 0..TRIES {
            match act().await.map_err(|error| error.code()) {
                Err(code) if Some(code) != done => assert_eq!(code, Code::StoreUnavailable),
                _ => return (self.0)(false),
            }
        }
        panic!("the server does not come back");
    }
}

impl fmt::Debug for Crash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Crash").finish_non_exhaustive()
    }
}

macro_rules! operations {
    ($($name:ident,)+) => {
        /// All of them.
        pub const OPERATIONS: &[Operation] = &[$(Operation {
            name: stringify!($name),
            run: |fixture, crash| Box::pin(operations::$name(World::new(fixture), crash)),
        },)+];
    };
}

operations! {
    a_publish,
    a_publish_handed_over,
    a_claim,
    an_outcome_with_a_notice,
    a_step_of_a_replay,
    a_round_of_a_letter,
    a_change_of_configuration,
    a_cancellation,
    an_erasure,
    a_pruning,
}
