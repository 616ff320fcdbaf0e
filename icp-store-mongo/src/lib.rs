//! The MongoDB store for icp: MongoDB 5 and newer, replica set or standalone.
//!
//! ```no_run
//! # async fn run() -> icp_core::Result<()> {
//! use icp_store_mongo::MongoStore;
//!
//! let store = MongoStore::connect("mongodb://127.0.0.1:27017/app?replicaSet=rs0").await?;
//! # Ok(()) }
//! ```
//!
//! No operation needs a transaction of the server: each has one write of one document that commits
//! it, and what follows is repeatable and brought to its end by whoever finds it undone. Only a
//! host's own [`publish_in`](MongoStore::publish_in) takes part in a transaction, the host's.
#![forbid(unsafe_code)]

mod access;
mod analytics;
mod audit;
mod batch;
mod cancel;
mod claim;
mod commit;
mod config;
mod delivery;
mod effect;
mod erasure;
mod error;
mod event;
mod finish;
#[cfg(test)]
mod fixture;
mod hand_over;
mod handle;
mod health;
mod index;
mod ingest;
mod known;
mod lane;
mod lease;
mod letter;
mod meter;
mod migrate;
mod note;
mod outbox;
mod place;
#[cfg(test)]
mod plan;
mod queue;
mod replay;
mod rescue;
mod resource;
mod rest;
mod retention;
mod row;
mod scan;
mod schema;
mod settle;
mod sight;
mod sleep;
mod slot;
mod stay;
mod step;
mod store;
mod turn;
mod unreadable;

pub use config::Builder;
pub use migrate::{MigrationStatus, Migrations, PlannedMigration};
pub use mongodb;
pub use store::MongoStore;
