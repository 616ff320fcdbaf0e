//! Opens the store that the settings name.

use std::error::Error as _;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use icp::store::Store;
use icp::{Code, Error, Result};

use crate::config::Config;
use crate::location::{Location, Scheme};

type Closing = Pin<Box<dyn Future<Output = Result<()>> + Send>>;

/// An open store, and how to close it.
pub(crate) struct Opened {
    pub(crate) store: Arc<dyn Store>,
    closing: Closing,
}

impl Opened {
    /// Closes its connections; call it when the engine has stopped.
    pub(crate) async fn close(self) -> Result<()> {
        self.closing.await
    }
}

/// Opens the store at `config.store_url`.
pub(crate) async fn open(config: &Config) -> Result<Opened> {
    let opened = match &config.store_url {
        #[cfg(feature = "sqlite")]
        Location::Sqlite(path) => sqlite(path, config).await,
        #[cfg(feature = "postgres")]
        Location::Server(Scheme::Postgres, address) => postgres(address.expose()).await,
        #[cfg(feature = "mysql")]
        Location::Server(Scheme::MySql, address) => mysql(address.expose()).await,
        #[cfg(feature = "mongodb")]
        Location::Server(Scheme::MongoDb, address) => mongodb(address.expose()).await,
        other => Err(not_built_in(other.scheme())),
    };
    opened.map_err(|error| about(&config.store_url, &error))
}

#[cfg(feature = "sqlite")]
async fn sqlite(path: &std::path::Path, config: &Config) -> Result<Opened> {
    use crate::config::Sync;
    use icp::store_sql::sqlite::{SqliteStore, Synchronous};

    let synchronous = match config.synchronous {
        Sync::Full => Synchronous::Full,
        Sync::Normal => Synchronous::Normal,
    };
    let store = SqliteStore::builder(path).synchronous(synchronous).open().await?;
    let closing = store.clone();
    Ok(Opened { store: Arc::new(store), closing: Box::pin(async move { closing.close().await }) })
}

#[cfg(feature = "postgres")]
async fn postgres(url: &str) -> Result<Opened> {
    let store = icp::store_sql::postgres::PostgresStore::connect(url).await?;
    let closing = store.clone();
    Ok(Opened { store: Arc::new(store), closing: Box::pin(async move { closing.close().await }) })
}

#[cfg(feature = "mysql")]
async fn mysql(url: &str) -> Result<Opened> {
    let store = icp::store_sql::mysql::MySqlStore::connect(url).await?;
    let closing = store.clone();
    Ok(Opened { store: Arc::new(store), closing: Box::pin(async move { closing.close().await }) })
}

#[cfg(feature = "mongodb")]
async fn mongodb(url: &str) -> Result<Opened> {
    let store = icp::store_mongo::MongoStore::connect(url).await?;
    let client = store.client().clone();
    let closing = async move {
        client.shutdown().await;
        Ok(())
    };
    Ok(Opened { store: Arc::new(store), closing: Box::pin(closing) })
}

/// What is said of a store that was left out of this build.
pub(crate) fn not_built_in(scheme: Scheme) -> Error {
    let name = scheme.name();
    let message = format!("this build has no store for {name}; build with the feature `{name}`");
    Error::new(Code::Unsupported, message)
}

/// Says which store it is. A driver may repeat what it was given, so the password is masked in
/// what it says.
pub(crate) fn about(location: &Location, error: &Error) -> Error {
    let message = format!("the store `{location}`: {}", location.masked(error.message()));
    let about = Error::new(error.code(), message);
    let causes: Vec<_> = std::iter::successors(error.source(), |&cause| cause.source())
        .map(|cause| location.masked(&cause.to_string()))
        .collect();
    if causes.is_empty() { about } else { about.caused_by(causes.join(": ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(url: &str) -> Config {
        Config { store_url: url.to_owned().try_into().unwrap(), ..Config::default() }
    }

    #[test]
    fn a_store_that_is_not_built_in_names_its_feature() {
        let error = not_built_in(Scheme::Postgres);
        assert_eq!(error.code(), Code::Unsupported);
        assert!(
            error.message().contains("no store for postgres; build with the feature `postgres`")
        );
    }

    #[test]
    fn a_failure_names_the_store_and_no_password() {
        let location = at("postgres://icp:hush@db/icp").store_url;
        let driver = Error::new(Code::StoreUnavailable, "cannot use postgres://icp:hush@db/icp")
            .caused_by("no login with hush");
        let shown = about(&location, &Error::new(Code::StoreLocked, "wait").caused_by(driver));
        assert_eq!(shown.code(), Code::StoreLocked);
        assert_eq!(shown.message(), "the store `postgres://icp:***@db/icp`: wait");
        let cause = shown.source().unwrap().to_string();
        assert!(
            cause.ends_with("cannot use postgres://icp:***@db/icp: no login with ***"),
            "{cause}"
        );
        let alone = about(&location, &Error::new(Code::StoreLocked, "wait for hush"));
        assert!(alone.source().is_none() && alone.message().ends_with("wait for ***"));
    }

    #[cfg(feature = "sqlite")]
    #[tokio::test]
    async fn a_file_is_opened_and_closed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("icp.db");
        let opened = open(&at(&format!("sqlite:{}", path.display()))).await.unwrap();
        assert_eq!(opened.store.info().backend, "sqlite");
        opened.store.ping().await.unwrap();
        opened.close().await.unwrap();
        assert!(path.exists());
    }
}
