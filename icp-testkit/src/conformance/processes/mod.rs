//! What a store keeps to where several processes work on it at the same time.
//!
//! Tasks of one process share its connections, its locks and what it keeps in memory; processes
//! share the database only. A backend's test target has `harness = false` and one call of [`main`],
//! which is also what the processes run that it starts:
//!
//! ```no_run
//! use std::sync::Arc;
//!
//! use icp_core::store::{MemoryStore, Store};
//! use icp_testkit::conformance::processes::{self, Database};
//!
//! # struct MyStore;
//! # impl MyStore { async fn connect(_: &str) -> MemoryStore { MemoryStore::new() } }
//! processes::main(
//!     "mystore",
//!     || async { Database::at("mystore://localhost/fresh") },
//!     |address| async move { Arc::new(MyStore::connect(&address).await) as Arc<dyn Store> },
//! );
//! ```

mod claims;
mod crew;
mod keys;
mod order;
mod writes;

use std::any::Any;
use std::fmt;
use std::future::Future;
use std::sync::Arc;

use icp_core::store::Store;
use libtest_mimic::{Arguments, Trial};

use super::world::World;
use super::{BoxFuture, Fixture};
use crew::{Hand, Told};

/// How many processes work at the same time.
const PROCESSES: usize = 4;

/// A fresh database for one behaviour.
pub struct Database {
    /// What a process is told to open it.
    pub address: String,
    /// Kept until the behaviour is over, for a temporary directory or a server.
    pub guard: Box<dyn Any + Send + Sync>,
}

impl Database {
    /// A database that nothing has to be kept for.
    pub fn at(address: impl Into<String>) -> Self {
        Self { address: address.into(), guard: Box::new(()) }
    }

    /// Keeps `guard` until the behaviour is over.
    #[must_use]
    pub fn guarded_by(mut self, guard: impl Any + Send + Sync) -> Self {
        self.guard = Box::new(guard);
        self
    }
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Database").finish_non_exhaustive()
    }
}

/// One thing that processes do together: what is put into the database first, what each of them
/// does, and what must have come of it.
#[derive(Clone, Copy)]
struct Behaviour {
    name: &'static str,
    prepare: for<'a> fn(&'a World) -> Step<'a>,
    act: for<'a> fn(&'a World, Hand) -> Step<'a>,
    check: for<'a> fn(&'a World, &'a [Told]) -> Step<'a>,
}

type Step<'a> = std::pin::Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

macro_rules! registry {
    ($($noun:ident::$name:ident,)+) => {
        const BEHAVIOURS: &[Behaviour] = &[$(Behaviour {
            name: concat!(stringify!($noun), "::", stringify!($name)),
            prepare: |world| Box::pin($noun::prepare(world)),
            act: |world, hand| Box::pin($noun::act(world, hand)),
            check: |world, told| Box::pin($noun::check(world, told)),
        },)+];
    };
}

registry! {
    claims::of_processes_take_every_delivery_once,
    keys::of_processes_make_one_event_each,
    order::holds_across_processes,
    writes::of_processes_are_in_one_order_that_all_see,
}

/// Runs every behaviour against the databases that `create` makes and `open` opens, each on its
/// own and with several processes, and exits the process as a test harness does; takes the
/// arguments of `cargo test`.
///
/// Behaviours are named `<backend>::<noun>::<behaviour>`.
pub fn main<C, Created, O, Opened>(backend: &str, create: C, open: O)
where
    C: Fn() -> Created + Clone + Send + 'static,
    Created: Future<Output = Database> + Send,
    O: Fn(String) -> Opened + Clone + Send + Sync + 'static,
    Opened: Future<Output = Arc<dyn Store>> + Send + 'static,
{
    if let Some(hand) = Hand::of_this_process() {
        runtime().block_on(crew::play(hand, &open));
        return;
    }
    let trial = |behaviour: &'static Behaviour| {
        let (create, open) = (create.clone(), open.clone());
        Trial::test(format!("{backend}::{}", behaviour.name), move || {
            runtime().block_on(async { show(behaviour, create().await, &open).await });
            Ok(())
        })
    };
    let trials = BEHAVIOURS.iter().map(trial).collect();
    libtest_mimic::run(&Arguments::from_args(), trials).exit();
}

async fn show<O, Opened>(behaviour: &Behaviour, database: Database, open: &O)
where
    O: Fn(String) -> Opened,
    Opened: Future<Output = Arc<dyn Store>>,
{
    let store = open(database.address.clone()).await;
    let world = world(store, PROCESSES);
    (behaviour.prepare)(&world).await;
    let told = crew::work(behaviour.name, &database.address).await;
    (behaviour.check)(&world, &told).await;
    world.assert_clean().await;
    drop(world);
    drop(database.guard);
}

/// The store as process number `number` sees it.
fn world(store: Arc<dyn Store>, number: usize) -> World {
    let outbox = |_| -> BoxFuture<()> { Box::pin(std::future::ready(())) };
    World::numbered(Fixture::new(store, outbox), number)
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build().unwrap()
}
