//! A database server is killed, as by a crash or the loss of its machine, and comes back, while
//! engines work on it: nothing that was acknowledged is lost. On every server. MongoDB is killed too
//! right after single writes of an operation, as it has no transaction around them.
//!
//! The servers are the tests' own, started by `scripts/services` on ports of their own, so that
//! those of other tests live on. `ICP_RESTART_ROUNDS` says how often each is killed; without it
//! that is three times.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod server;
mod writes;

use std::sync::Arc;

use icp::store::Store;
use icp::store_mongo::MongoStore;
use icp::store_sql::mysql::MySqlStore;
use icp::store_sql::postgres::PostgresStore;
use icp_testkit::faults::{self, Fixture};
use icp_testkit::proxy::Proxy;
use libtest_mimic::{Arguments, Trial};

use server::{Kind, Server};

fn main() {
    let trials = Kind::ALL.map(|kind| {
        Trial::test(format!("{}::is_killed_under_load", kind.service()), move || {
            runtime().block_on(is_killed_under_load(kind));
            Ok(())
        })
    });
    let writes = Trial::test("mongo::is_killed_after_each_write", || {
        runtime().block_on(writes::lose_nothing());
        Ok(())
    });
    let repeats = Trial::test("mongo::keeps_what_is_repeated", || {
        runtime().block_on(writes::keep_what_is_repeated());
        Ok(())
    });
    let trials = trials.into_iter().chain([writes, repeats]).collect();
    libtest_mimic::run(&Arguments::from_args(), trials).exit();
}

async fn is_killed_under_load(kind: Kind) {
    let server = Arc::new(Server::start(kind).await);
    let url = server.url.clone();
    let direct = open(kind, &url).await.unwrap();
    let (proxy, _) = Proxy::in_front_of(&url).await;
    let again = move || {
        let url = url.clone();
        async move { open(kind, &url).await }
    };
    let fixture = Fixture::new(direct, proxy, again).guarded_by(Arc::clone(&server));
    let fixture = fixture.settling_within(kind.settling());
    let crash = || {
        let server = Arc::clone(&server);
        Box::pin(async move {
            server.run("kill").await;
            server.run("up").await;
        }) as faults::BoxFuture<()>
    };
    faults::survive_crashes(fixture, rounds(), crash).await;
}

async fn open(kind: Kind, url: &str) -> icp::Result<Arc<dyn Store>> {
    Ok(match kind {
        Kind::Postgres => Arc::new(PostgresStore::connect(url).await?),
        Kind::MariaDb => Arc::new(MySqlStore::connect(url).await?),
        Kind::Mongo => Arc::new(MongoStore::connect(url).await?),
    })
}

#[expect(clippy::disallowed_methods, reason = "the size of a test is told by its environment")]
fn rounds() -> u32 {
    std::env::var("ICP_RESTART_ROUNDS").map_or(3, |rounds| rounds.parse().unwrap())
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build().unwrap()
}
