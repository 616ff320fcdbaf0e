//! A host with tables of its own in the database, one for each family of drivers.

use std::collections::BTreeSet;

use async_trait::async_trait;
use icp::event::Event;
use icp::store_mongo::MongoStore;
use icp::store_mongo::mongodb::Collection;
use icp::store_mongo::mongodb::bson::{Document, doc};
use sqlx::{Connection, MySqlConnection, PgConnection, SqliteConnection};

/// How a transaction ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum End {
    Commit,
    Rollback,
}

/// What a host does in its own transactions.
#[async_trait]
pub(crate) trait Host: Send {
    /// Makes the table, where it is not there.
    async fn prepare(&mut self);

    /// Begins, writes an order and the event of it, and ends as it is told.
    async fn order(&mut self, number: u64, event: &Event, end: End);

    /// The orders that were committed.
    async fn orders(&mut self) -> BTreeSet<u64>;
}

macro_rules! host {
    ($host:ident, $connection:ty, $begin:literal, $insert:literal, $family:ident) => {
        /// A host on a database of this family.
        #[derive(Debug)]
        pub(crate) struct $host($connection);

        impl $host {
            pub(crate) async fn open(url: &str) -> Self {
                Self(<$connection>::connect(url).await.unwrap())
            }
        }

        #[async_trait]
        impl Host for $host {
            async fn prepare(&mut self) {
                let table = "CREATE TABLE IF NOT EXISTS orders (number BIGINT PRIMARY KEY)";
                sqlx::query(table).execute(&mut self.0).await.unwrap();
            }

            async fn order(&mut self, number: u64, event: &Event, end: End) {
                let mut tx = self.0.begin_with($begin).await.unwrap();
                let order = sqlx::query($insert).bind(number.cast_signed());
                order.execute(&mut *tx).await.unwrap();
                icp::store_sql::$family::publish_in(&mut tx, event).await.unwrap();
                match end {
                    End::Commit => tx.commit().await.unwrap(),
                    End::Rollback => tx.rollback().await.unwrap(),
                }
            }

            async fn orders(&mut self) -> BTreeSet<u64> {
                let rows = sqlx::query_scalar::<_, i64>("SELECT number FROM orders");
                let rows = rows.fetch_all(&mut self.0).await.unwrap();
                rows.into_iter().map(i64::cast_unsigned).collect()
            }
        }
    };
}

host!(SqliteHost, SqliteConnection, "BEGIN IMMEDIATE", "INSERT INTO orders VALUES (?)", sqlite);
host!(PostgresHost, PgConnection, "BEGIN", "INSERT INTO orders VALUES ($1)", postgres);
host!(MySqlHost, MySqlConnection, "START TRANSACTION", "INSERT INTO orders VALUES (?)", mysql);

/// A host on MongoDB.
#[derive(Debug)]
pub(crate) struct MongoHost(MongoStore);

impl MongoHost {
    pub(crate) async fn open(url: &str) -> Self {
        Self(MongoStore::connect(url).await.unwrap())
    }

    fn table(&self) -> Collection<Document> {
        self.0.database().collection("orders")
    }
}

#[async_trait]
impl Host for MongoHost {
    async fn prepare(&mut self) {
        // A transaction does not make collections.
        let there = self.0.database().list_collection_names().await.unwrap();
        if !there.iter().any(|name| name == "orders") {
            self.0.database().create_collection("orders").await.unwrap();
        }
    }

    async fn order(&mut self, number: u64, event: &Event, end: End) {
        let mut session = self.0.client().start_session().await.unwrap();
        session.start_transaction().await.unwrap();
        let order = doc! { "_id": number.cast_signed() };
        self.table().insert_one(order).session(&mut session).await.unwrap();
        self.0.publish_in(&mut session, event).await.unwrap();
        match end {
            End::Commit => session.commit_transaction().await.unwrap(),
            End::Rollback => session.abort_transaction().await.unwrap(),
        }
    }

    async fn orders(&mut self) -> BTreeSet<u64> {
        let mut orders = self.table().find(doc! {}).await.unwrap();
        let mut numbers = BTreeSet::new();
        while orders.advance().await.unwrap() {
            let order = orders.deserialize_current().unwrap();
            numbers.insert(order.get_i64("_id").unwrap().cast_unsigned());
        }
        numbers
    }
}
