//! SQL stores for icp.
//!
//! | store | for | feature |
//! |---|---|---|
//! | [`sqlite::SqliteStore`] | one machine, one file, any number of processes | `sqlite` |
//! | [`postgres::PostgresStore`] | any number of nodes on PostgreSQL 13 or later | `postgres` |
//! | [`mysql::MySqlStore`] | any number of nodes on MySQL 8 or MariaDB 10.6 and later | `mysql` |
#![forbid(unsafe_code)]

mod access;
mod analytics;
mod aside;
mod audit;
mod cancel;
mod claim;
mod delivery;
mod dialect;
mod erasure;
mod error;
mod event;
mod family;
mod handle;
mod health;
#[cfg(any(feature = "mysql", feature = "postgres"))]
mod held;
mod ingest;
mod lane;
mod letter;
mod link;
mod meter;
mod migrate;
#[cfg(feature = "mysql")]
pub mod mysql;
mod names;
mod note;
mod outbox;
#[cfg(all(test, any(feature = "mysql", feature = "postgres")))]
mod plan;
#[cfg(feature = "postgres")]
pub mod postgres;
mod replay;
mod rescue;
mod resource;
mod rest;
mod retention;
mod row;
mod scope;
mod session;
mod settle;
mod sight;
mod slot;
#[cfg(feature = "sqlite")]
pub mod sqlite;
mod statement;
mod store;
mod value;

pub use dialect::Dialect;
pub use family::Family;
pub use migrate::{MigrationStatus, Migrations, PlannedMigration};
pub use names::Names;
pub use outbox::{OutboxInsert, outbox_insert, outbox_insert_into};
pub use store::SqlStore;
pub use value::Value;
