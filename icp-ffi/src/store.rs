//! Opens what the settings name: the store, and the keys that seal its secrets.

use std::future::Future;
use std::io::{ErrorKind, Write};
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;

use icp::access::OrganizationSpec;
use icp::resource::Spec;
use icp::secret::{LocalKeys, SystemEntropy};
use icp::store::{MemoryStore, Store};
use icp::{Code, Error, Result};

use crate::location::{Backend, Location};
use crate::settings::{Settings, Synchronous};

type Closing = Pin<Box<dyn Future<Output = Result<()>> + Send>>;

/// An open store, and how to close it.
pub(crate) struct Opened {
    pub(crate) store: Arc<dyn Store>,
    closing: Closing,
}

impl Opened {
    fn new(store: impl Store, closing: impl Future<Output = Result<()>> + Send + 'static) -> Self {
        Self { store: Arc::new(store), closing: Box::pin(closing) }
    }

    /// Closes its connections; call it when the engine has stopped.
    pub(crate) async fn close(self) -> Result<()> {
        self.closing.await
    }
}

/// Opens the store. What a driver says is told without the password.
pub(crate) async fn open(settings: &Settings) -> Result<Opened> {
    let at = &settings.store;
    let opened = match at {
        Location::Memory => Ok(Opened::new(MemoryStore::new(), async { Ok(()) })),
        Location::Sqlite(path) => sqlite(path, settings.synchronous).await,
        Location::Server(Backend::Postgres, url) => postgres(url.expose()).await,
        Location::Server(Backend::MySql, url) => mysql(url.expose()).await,
        Location::Server(Backend::MongoDb, url) => mongodb(url.expose()).await,
    };
    opened.map_err(|error| Error::new(error.code(), at.masked(&error.to_string())))
}

#[cfg(feature = "sqlite")]
async fn sqlite(path: &Path, synchronous: Synchronous) -> Result<Opened> {
    use icp::store_sql::sqlite::{SqliteStore, Synchronous as On};
    let on = match synchronous {
        Synchronous::Full => On::Full,
        Synchronous::Normal => On::Normal,
    };
    #[cfg(all(target_os = "linux", target_pointer_width = "64"))]
    crate::locks::install();
    let store = SqliteStore::builder(path).synchronous(on).open().await?;
    let closing = store.clone();
    Ok(Opened::new(store, async move { closing.close().await }))
}

#[cfg(not(feature = "sqlite"))]
async fn sqlite(_: &Path, _: Synchronous) -> Result<Opened> {
    Err(not_built_in("sqlite"))
}

#[cfg(feature = "postgres")]
async fn postgres(url: &str) -> Result<Opened> {
    let store = icp::store_sql::postgres::PostgresStore::connect(url).await?;
    let closing = store.clone();
    Ok(Opened::new(store, async move { closing.close().await }))
}

#[cfg(not(feature = "postgres"))]
async fn postgres(_: &str) -> Result<Opened> {
    Err(not_built_in("postgres"))
}

#[cfg(feature = "mysql")]
async fn mysql(url: &str) -> Result<Opened> {
    let store = icp::store_sql::mysql::MySqlStore::connect(url).await?;
    let closing = store.clone();
    Ok(Opened::new(store, async move { closing.close().await }))
}

#[cfg(not(feature = "mysql"))]
async fn mysql(_: &str) -> Result<Opened> {
    Err(not_built_in("mysql"))
}

#[cfg(feature = "mongodb")]
async fn mongodb(url: &str) -> Result<Opened> {
    let store = icp::store_mongo::MongoStore::connect(url).await?;
    let client = store.client().clone();
    let closing = async move {
        client.shutdown().await;
        Ok(())
    };
    Ok(Opened::new(store, closing))
}

#[cfg(not(feature = "mongodb"))]
async fn mongodb(_: &str) -> Result<Opened> {
    Err(not_built_in("mongodb"))
}

#[cfg(not(all(feature = "sqlite", feature = "postgres", feature = "mysql", feature = "mongodb")))]
fn not_built_in(name: &str) -> Error {
    let message = format!("this build has no store for {name}; build with the feature `{name}`");
    Error::new(Code::Unsupported, message)
}

/// The keys of the settings; none where they name none.
pub(crate) async fn keys(settings: &Settings, store: &dyn Store) -> Result<Option<LocalKeys>> {
    if let Some(text) = &settings.keys {
        return LocalKeys::parse(text.expose()).map(Some);
    }
    match (&settings.key_file, &settings.store) {
        (Some(path), _) => key_file(path, store).await.map(Some),
        (None, Location::Memory) => LocalKeys::generate("memory", &SystemEntropy).map(Some),
        (None, _) => Ok(None),
    }
}

/// The keys in the file; a fresh one, written first, where there is no file and the store holds
/// nothing yet: with another key nothing that is sealed in one that does could be opened.
async fn key_file(path: &Path, store: &dyn Store) -> Result<LocalKeys> {
    match std::fs::read_to_string(path) {
        Ok(text) => return LocalKeys::parse(&text),
        Err(fault) if fault.kind() == ErrorKind::NotFound => {}
        Err(fault) => return Err(unusable(path, "cannot be read", fault)),
    }
    if !store.resources_of_all(OrganizationSpec::KIND, None, 1).await?.is_empty() {
        let message = format!(
            "the key file `{}` is missing, and the store has secrets that are sealed with it; put \
             it back",
            path.display()
        );
        return Err(Error::new(Code::KeyUnreadable, message));
    }
    let keys = LocalKeys::generate("k1", &SystemEntropy)?;
    write(path, keys.to_text().expose())
        .map_err(|fault| unusable(path, "cannot be made; check its directory", fault))?;
    Ok(keys)
}

fn write(path: &Path, text: &str) -> std::io::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

fn unusable(path: &Path, what: &str, fault: std::io::Error) -> Error {
    let message = format!("the key file `{}` {what}", path.display());
    Error::new(Code::KeyUnreadable, message).caused_by(fault)
}
