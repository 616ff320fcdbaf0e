//! Databases of a test's own, within the servers that `scripts/services up` starts.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use icp::store::Store;
use icp::store_mongo::MongoStore;
use icp::store_mongo::mongodb::Client;
use icp::store_mongo::mongodb::bson::{Document, doc};
use icp::store_sql::mysql::MySqlStore;
use icp::store_sql::postgres::PostgresStore;
use sqlx::{AssertSqlSafe, Connection, Executor, MySqlConnection, PgConnection};

static COUNT: AtomicU32 = AtomicU32::new(0);
/// MongoDB's databases that are empty again. The server keeps the files of one that is dropped for
/// minutes, and each has many.
static EMPTY: Mutex<Vec<String>> = Mutex::new(Vec::new());

type Failed = Box<dyn std::error::Error + Send + Sync>;

/// An empty database, which goes when this does.
#[derive(Debug)]
pub(crate) struct Database {
    pub(crate) url: String,
    name: String,
    server: Server,
}

/// A server, with the variable that tells where it is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Server {
    Postgres,
    MySql,
    MongoDb,
}

impl Server {
    fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::Postgres => ("postgres", "ICP_TEST_POSTGRES_URL"),
            Self::MySql => ("mariadb", "ICP_TEST_MYSQL_URL"),
            Self::MongoDb => ("mongo", "ICP_TEST_MONGODB_URL"),
        }
    }

    #[expect(clippy::disallowed_methods, reason = "tests are told by it where servers are")]
    fn url(self) -> String {
        let (service, variable) = self.names();
        std::env::var(variable).unwrap_or_else(|_| {
            panic!(
                "{variable} is not set; run `scripts/services up {service}`, then \
                 `eval \"$(scripts/services env)\"`"
            )
        })
    }

    async fn create(self, name: &str) -> Result<(), Failed> {
        let sql = AssertSqlSafe(format!("CREATE DATABASE {name}"));
        match self {
            Self::Postgres => {
                PgConnection::connect(&self.url()).await?.execute(sql).await?;
            }
            Self::MySql => {
                MySqlConnection::connect(&self.url()).await?.execute(sql).await?;
            }
            // It is made by the first write.
            Self::MongoDb => {}
        }
        Ok(())
    }

    async fn remove(self, name: &str) -> Result<(), Failed> {
        match self {
            Self::Postgres => {
                let sql = AssertSqlSafe(format!("DROP DATABASE {name} WITH (FORCE)"));
                PgConnection::connect(&self.url()).await?.execute(sql).await?;
            }
            Self::MySql => {
                let sql = AssertSqlSafe(format!("DROP DATABASE {name}"));
                MySqlConnection::connect(&self.url()).await?.execute(sql).await?;
            }
            Self::MongoDb => {
                let database = Client::with_uri_str(self.url()).await?.database(name);
                if std::thread::panicking() {
                    // What a failed test has left running still writes to it.
                    return Ok(database.drop().await?);
                }
                for collection in database.list_collection_names().await? {
                    database.collection::<Document>(&collection).delete_many(doc! {}).await?;
                }
                EMPTY.lock().unwrap().push(name.to_owned());
            }
        }
        Ok(())
    }
}

impl Database {
    pub(crate) async fn create(server: Server) -> Self {
        let again = match server {
            Server::MongoDb => EMPTY.lock().unwrap().pop(),
            Server::Postgres | Server::MySql => None,
        };
        let name = again.unwrap_or_else(|| {
            format!("icp_{}_{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
        });
        if let Err(error) = server.create(&name).await {
            panic!("{error}; is it there? run `scripts/services up {}`", server.names().0);
        }
        let url = server.url();
        let (host, rest) = url.rsplit_once('/').unwrap();
        let options = rest.find('?').map_or("", |at| &rest[at..]);
        Self { url: format!("{host}/{name}{options}"), name, server }
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let runtime = tokio::runtime::Handle::current();
        let gone = self.server.remove(&self.name);
        tokio::task::block_in_place(|| runtime.block_on(gone)).unwrap();
    }
}

/// A store in the database at `url`.
pub(crate) async fn connect(url: &str) -> Arc<dyn Store> {
    match url.split_once(':') {
        Some(("postgres", _)) => Arc::new(PostgresStore::connect(url).await.unwrap()),
        Some(("mysql", _)) => Arc::new(MySqlStore::connect(url).await.unwrap()),
        Some(("mongodb", _)) => Arc::new(MongoStore::connect(url).await.unwrap()),
        _ => panic!("there is no store for {url}"),
    }
}
