use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::StreamExt;
use icp_core::error::Result;
use icp_core::store::{Store, StoreInfo};
use mongodb::bson::{Document, doc};
use mongodb::change_stream::ChangeStream;
use mongodb::change_stream::event::ChangeStreamEvent;
use mongodb::options::{
    Acknowledgment, CollectionOptions, ReadConcern, ReadPreference, SelectionCriteria, WriteConcern,
};
use mongodb::{Client, Collection, Database};
use tokio::sync::{Mutex, Notify};

use super::config::{self, Builder};
use super::error::told;

/// A store in one MongoDB database.
///
/// Any number of processes may use the same database. Cloning is cheap and shares the
/// connections.
#[derive(Clone)]
pub struct MongoStore(pub(crate) Arc<Shared>);

pub(crate) struct Shared {
    pub(crate) client: Client,
    pub(crate) db: Database,
    pub(crate) prefix: String,
    /// Whether the server has transactions and change streams.
    pub(crate) replicated: bool,
    pub(crate) hint: Notify,
    pub(crate) claiming: Mutex<()>,
    pub(crate) watch: Mutex<Option<ChangeStream<ChangeStreamEvent<Document>>>>,
}

impl MongoStore {
    /// Connects to the server at `url` with the defaults of [`MongoStore::builder`].
    ///
    /// # Errors
    ///
    /// As [`Builder::connect`].
    pub async fn connect(url: impl Into<String>) -> Result<Self> {
        Self::builder(url).connect().await
    }

    /// The settings of a store on the server at `url`, as in
    /// `mongodb://127.0.0.1:27017/app?replicaSet=rs0`.
    pub fn builder(url: impl Into<String>) -> Builder {
        Builder::new(url.into())
    }

    /// A store in `database` of the host's own client, with collections that begin with `icp_`.
    ///
    /// # Errors
    ///
    /// As [`Builder::connect`].
    pub async fn with_client(client: Client, database: &str) -> Result<Self> {
        told("open the store", config::with_client(client, database).await)
    }

    /// The client, whose sessions [`publish_in`](Self::publish_in) takes.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.0.client
    }

    /// The database of the store.
    #[must_use]
    pub fn database(&self) -> &Database {
        &self.0.db
    }

    /// Tells the engine of this process that a host transaction with outbox rows was committed.
    ///
    /// Never needed for correctness: without it the rows are found by the change stream or the
    /// next poll.
    pub fn hint(&self) {
        self.0.hint.notify_one();
    }

    pub(crate) fn name(&self, noun: &str) -> String {
        format!("{}{noun}", self.0.prefix)
    }

    /// A collection whose writes outlive the loss of a member and of power.
    pub(crate) fn lasting(&self, noun: &str) -> Collection<Document> {
        let concern = WriteConcern::builder().w(Acknowledgment::Majority).journal(true).build();
        self.collection(noun, concern)
    }

    /// A collection whose writes may be lost when a member is, while later ones of the same call
    /// reach the member that takes its place. So they are for what is found undone without a word
    /// of them, as what lanes are told, ends of lists, and marks without which nothing happens,
    /// and for what may be forgotten, as how much of a rate was used.
    pub(crate) fn light(&self, noun: &str) -> Collection<Document> {
        let concern = WriteConcern::builder().w(Acknowledgment::Nodes(1)).build();
        self.collection(noun, concern)
    }

    /// A collection to read what cannot be undone any more, as a host's transaction may be until the
    /// majority has it.
    pub(crate) fn committed(&self, noun: &str) -> Collection<Document> {
        let concern =
            if self.0.replicated { ReadConcern::majority() } else { ReadConcern::local() };
        let options = CollectionOptions::builder().read_concern(concern);
        let primary = SelectionCriteria::ReadPreference(ReadPreference::Primary);
        let options = options.selection_criteria(primary).build();
        self.0.db.collection_with_options(&self.name(noun), options)
    }

    fn collection(&self, noun: &str, concern: WriteConcern) -> Collection<Document> {
        let options = CollectionOptions::builder()
            .write_concern(concern)
            .read_concern(ReadConcern::local())
            .selection_criteria(SelectionCriteria::ReadPreference(ReadPreference::Primary))
            .build();
        self.0.db.collection_with_options(&self.name(noun), options)
    }

    /// Waits for the next row of the outbox; for ever where the server cannot tell.
    async fn stirred(&self) {
        let mut watch = self.0.watch.lock().await;
        if watch.is_none() && self.0.replicated {
            let inserts = doc! { "$match": { "operationType": "insert" } };
            *watch = self.committed(OUTBOX).watch().pipeline([inserts]).await.ok();
        }
        if let Some(stream) = watch.as_mut() {
            match stream.next().await {
                Some(Ok(_)) => return,
                _ => *watch = None,
            }
        }
        drop(watch);
        std::future::pending::<()>().await;
    }
}

impl fmt::Debug for MongoStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MongoStore")
            .field("database", &self.0.db.name())
            .field("prefix", &self.0.prefix)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl Store for MongoStore {
    fn info(&self) -> StoreInfo {
        StoreInfo::new("mongodb", true, self.0.replicated)
    }

    async fn ping(&self) -> Result<()> {
        let ping = async {
            let now = doc! { "$set": { "pinged": true } };
            self.lasting(META).update_one(doc! { "_id": "ping" }, now).upsert(true).await?;
            Ok(())
        };
        told("ping", ping.await)
    }

    async fn wakeup(&self) {
        tokio::select! {
            () = self.0.hint.notified() => {}
            () = self.stirred() => {}
        }
    }
}

pub(crate) const AUDIT: &str = "audit";
pub(crate) const AUDIT_HEAD: &str = "audit_head";
pub(crate) const COMMIT: &str = "commit";
pub(crate) const DELIVERY: &str = "delivery";
pub(crate) const EVENT: &str = "event";
pub(crate) const LANE: &str = "lane";
pub(crate) const META: &str = "meta";
pub(crate) const METER: &str = "meter";
pub(crate) const OUTBOX: &str = "outbox";
pub(crate) const REPLAY: &str = "replay";
pub(crate) const RESOURCE: &str = "resource";
pub(crate) const REST: &str = "rest";
pub(crate) const ROLLUP: &str = "rollup";
pub(crate) const ROLLUP_FAILURE: &str = "rollup_failure";
pub(crate) const SESSION: &str = "session";
pub(crate) const SLOT: &str = "slot";
pub(crate) const VERSION: &str = "version";
