//! SQL stores for icp.
//!
//! | store | for | feature |
//! |---|---|---|
//! | [`sqlite::SqliteStore`] | one machine, one file, any number of processes | `sqlite` |
#![forbid(unsafe_code)]

#[cfg(feature = "sqlite")]
pub mod sqlite;
