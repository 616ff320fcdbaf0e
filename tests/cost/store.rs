//! Stores whose statements are counted.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use icp::store::Store;
use icp::store_mongo::MongoStore;
use icp::store_mongo::mongodb::event::EventHandler;
use icp::store_mongo::mongodb::event::command::CommandEvent;
use icp::store_mongo::mongodb::options::ClientOptions;
use icp::store_mongo::mongodb::{Client, Database as MongoDatabase};
use icp::store_sql::mysql::MySqlStore;
use icp::store_sql::postgres::PostgresStore;
use icp::store_sql::sqlite::SqliteStore;
use tempfile::TempDir;

use crate::database::{Database, Server};

/// A kind of database.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    Sqlite,
    Postgres,
    MySql,
    /// A replica set, which has change streams.
    MongoDb,
    /// A server that can only be polled.
    MongoDbAlone,
}

/// A store in an empty database of its own.
pub(crate) struct Counted {
    pub(crate) store: Arc<dyn Store>,
    count: Box<dyn Fn() -> u64 + Send + Sync>,
    _kept: Kept,
}

/// What goes with the database.
enum Kept {
    Folder { _folder: TempDir },
    Server { _database: Database },
    Mongo(MongoDatabase),
}

impl Counted {
    pub(crate) async fn fresh(kind: Kind) -> Self {
        match kind {
            Kind::Sqlite => {
                let folder = tempfile::tempdir().unwrap();
                let store = SqliteStore::open(folder.path().join("icp.db")).await.unwrap();
                let kept = Kept::Folder { _folder: folder };
                let counted = store.clone();
                Self::new(store, move || counted.statements(), kept)
            }
            Kind::Postgres => {
                let database = Database::create(Server::Postgres).await;
                let store = PostgresStore::connect(&database.url).await.unwrap();
                let kept = Kept::Server { _database: database };
                let counted = store.clone();
                Self::new(store, move || counted.statements(), kept)
            }
            Kind::MySql => {
                let database = Database::create(Server::MySql).await;
                let store = MySqlStore::connect(&database.url).await.unwrap();
                let kept = Kept::Server { _database: database };
                let counted = store.clone();
                Self::new(store, move || counted.statements(), kept)
            }
            Kind::MongoDb => Self::mongo("ICP_TEST_MONGODB_URL", "mongo").await,
            Kind::MongoDbAlone => {
                Self::mongo("ICP_TEST_MONGODB_STANDALONE_URL", "mongo-standalone").await
            }
        }
    }

    /// Counts the commands that the driver sends, those that wait for changes included.
    async fn mongo(variable: &str, service: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let serial = COUNT.fetch_add(1, Ordering::Relaxed);
        let mut options = ClientOptions::parse(needed(variable, service)).await.unwrap();
        let sent = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&sent);
        options.command_event_handler = Some(EventHandler::callback(move |event| {
            if matches!(event, CommandEvent::Started(_)) {
                sent.fetch_add(1, Ordering::Relaxed);
            }
        }));
        let client = Client::with_options(options).unwrap();
        let name = format!("icp_cost_{}_{serial}", std::process::id());
        let store = MongoStore::with_client(client.clone(), &name).await;
        let store =
            store.unwrap_or_else(|error| panic!("{error}; run `scripts/services up {service}`"));
        let kept = Kept::Mongo(client.database(&name));
        Self::new(store, move || counted.load(Ordering::Relaxed), kept)
    }

    fn new(
        store: impl Store + 'static,
        count: impl Fn() -> u64 + Send + Sync + 'static,
        kept: Kept,
    ) -> Self {
        Self { store: Arc::new(store), count: Box::new(count), _kept: kept }
    }

    /// How many statements were run so far.
    pub(crate) fn statements(&self) -> u64 {
        (self.count)()
    }
}

impl fmt::Debug for Counted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Counted").field(&self.store).finish()
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        if let Self::Mongo(database) = self {
            let gone = database.drop();
            let runtime = tokio::runtime::Handle::current();
            tokio::task::block_in_place(|| runtime.block_on(async { gone.await.unwrap() }));
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "tests are told by it where servers are")]
fn needed(variable: &str, service: &str) -> String {
    std::env::var(variable).unwrap_or_else(|_| {
        panic!(
            "{variable} is not set; run `scripts/services up {service}`, then \
             `eval \"$(scripts/services env)\"`"
        )
    })
}
