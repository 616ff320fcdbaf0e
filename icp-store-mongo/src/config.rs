use std::sync::Arc;
use std::time::Duration;

use icp_core::error::{Code, Error, Result, Violation};
use mongodb::bson::doc;
use mongodb::options::ClientOptions;
use mongodb::{Client, Database};
use tokio::sync::{Mutex, Notify};

use super::error::{Failure, told};
use super::finish;
use super::migrate::{self, Migrations};
use super::store::{MongoStore, Shared};

/// Settings of a [`MongoStore`].
#[derive(Clone, Debug)]
#[must_use = "a store is made by `connect`"]
pub struct Builder {
    url: String,
    database: Option<String>,
    prefix: String,
    pool_size: Option<u32>,
    patience: Option<Duration>,
    migrate: bool,
}

/// What the names of collections begin with where nothing else is said.
const PREFIX: &str = "icp_";
const DATABASE: &str = "icp";

impl Builder {
    pub(crate) fn new(url: String) -> Self {
        Self {
            url,
            database: None,
            prefix: PREFIX.to_owned(),
            pool_size: None,
            patience: None,
            migrate: true,
        }
    }

    /// The database. Default: the one the address names, else `icp`.
    pub fn database(mut self, name: impl Into<String>) -> Self {
        self.database = Some(name.into());
        self
    }

    /// What the names of all collections begin with, so that they can lie in a host's own
    /// database. Letters, digits and `_`. Default `icp_`.
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// The most connections to each server. Default: what the address says, else 10.
    pub fn pool_size(mut self, connections: u32) -> Self {
        self.pool_size = Some(connections.max(1));
        self
    }

    /// How long a call waits for a server that takes it; zero is refused. Default: what the address says as
    /// `serverSelectionTimeoutMS`, else 5 s.
    pub fn server_selection_timeout(mut self, timeout: Duration) -> Self {
        self.patience = Some(timeout);
        self
    }

    /// Whether [`connect`](Self::connect) makes the indexes that are missing. Default: yes.
    ///
    /// Where it does not, they are made by [`Migrations::apply`], for example by another user before
    /// the deployment, and `connect` answers [`StoreOutdated`](Code::StoreOutdated) until they are.
    pub fn migrate(mut self, migrate: bool) -> Self {
        self.migrate = migrate;
        self
    }

    /// Connects to look at what there is, or to make it apart.
    ///
    /// # Errors
    ///
    /// As for [`connect`](Self::connect), where the reason is not what there is.
    pub async fn migrations(self) -> Result<Migrations> {
        told("migrate", self.reach().await).map(Migrations::new)
    }

    /// Connects, makes the collections where they are missing, and brings their indexes up to
    /// date. Collections of others in the same database are left alone.
    ///
    /// # Errors
    ///
    /// [`ConfigInvalid`](Code::ConfigInvalid) for an address or prefix that is none;
    /// [`StoreUnavailable`](Code::StoreUnavailable) where no server answers in time, the replica
    /// set has no primary, or the login is refused; [`StoreReadOnly`](Code::StoreReadOnly) where
    /// the user may not write; [`StoreForeign`](Code::StoreForeign) where an index of ours has other
    /// keys; [`StoreOutdated`](Code::StoreOutdated) where something is missing and is not to be
    /// made; [`StoreTooNew`](Code::StoreTooNew) where a newer version of this library made the
    /// collections.
    pub async fn connect(self) -> Result<MongoStore> {
        told("open the store", self.open().await)
    }

    async fn open(self) -> Result<MongoStore, Failure> {
        let migrate = self.migrate;
        prepare(self.reach().await?, migrate).await
    }

    async fn reach(self) -> Result<MongoStore, Failure> {
        if self.patience.is_some_and(|patience| patience.is_zero()) {
            let pointer = "/server_selection_timeout";
            let violation = Violation::new(pointer, "out_of_range", "must be longer than zero");
            return Err(Error::violations(Code::ConfigInvalid, vec![violation]).into());
        }
        let mut options = ClientOptions::parse(&self.url).await?;
        options.app_name.get_or_insert_with(|| "icp".to_owned());
        options.max_pool_size = self.pool_size.or(options.max_pool_size);
        let patience = self.patience.or(options.server_selection_timeout);
        options.server_selection_timeout = Some(patience.unwrap_or(Duration::from_secs(5)));
        options.connect_timeout.get_or_insert(Duration::from_secs(5));
        let named = self.database.or_else(|| options.default_database.clone());
        let client = Client::with_options(options)?;
        let db = client.database(&named.unwrap_or_else(|| DATABASE.to_owned()));
        greet(client, db, self.prefix).await
    }
}

/// A store on the host's own client.
pub(crate) async fn with_client(client: Client, database: &str) -> Result<MongoStore, Failure> {
    let db = client.database(database);
    prepare(greet(client, db, PREFIX.to_owned()).await?, true).await
}

/// Finds out what the server can do.
async fn greet(client: Client, db: Database, prefix: String) -> Result<MongoStore, Failure> {
    let legal = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if prefix.is_empty() || prefix.len() > 64 || !prefix.chars().all(legal) {
        let message = "the prefix of collections is 1 to 64 letters, digits and `_`";
        return Err(Error::new(Code::ConfigInvalid, message).into());
    }
    let hello = db.run_command(doc! { "hello": 1 }).await?;
    let replicated =
        hello.contains_key("setName") || hello.get_str("msg").is_ok_and(|msg| msg == "isdbgrid");
    if hello.get_i32("maxWireVersion").unwrap_or_default() < OLDEST_WIRE {
        let message = "the server is older than mongodb 5; update it";
        return Err(Error::new(Code::Unsupported, message).into());
    }
    Ok(MongoStore(Arc::new(Shared {
        client,
        db,
        prefix,
        replicated,
        hint: Notify::new(),
        claiming: Mutex::new(()),
        watch: Mutex::new(None),
    })))
}

async fn prepare(store: MongoStore, migrate: bool) -> Result<MongoStore, Failure> {
    if migrate {
        migrate::apply(&store).await?;
    } else {
        migrate::require(&store).await?;
    }
    finish::all(&store, finish::Which::All, usize::MAX).await?;
    Ok(store)
}

/// The wire version of MongoDB 5.0.
const OLDEST_WIRE: i32 = 13;
