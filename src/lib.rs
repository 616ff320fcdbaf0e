//! An embeddable integration control plane: signed webhooks that are never silently lost, in the
//! host's own process and on the host's own database.
//!
//! This crate re-exports the parts by feature and holds no logic: the engine is in
//! [`icp_core`], the SQL stores are in [`store_sql`] (features `sqlite`, `postgres` and `mysql`),
//! the MongoDB store is in `store_mongo` (feature `mongodb`), the HTTP API is in [`axum`] (feature
//! `axum`), the workers for programs in transformations are in `sandbox` (feature `sandbox`).
#![forbid(unsafe_code)]

pub use icp_core::*;

#[cfg(feature = "axum")]
pub use icp_axum as axum;
#[cfg(feature = "sandbox")]
pub use icp_sandbox as sandbox;
#[cfg(feature = "mongodb")]
pub use icp_store_mongo as store_mongo;
#[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]
pub use icp_store_sql as store_sql;
