//! Lookup tables: which value stands for which, configured for each organization.
//!
//! A table is a resource of the kind `lookup`. The index of a node holds each one compiled, so
//! that a transformation reads it without asking the store.

mod csv;
mod import;
mod json;
mod resolve;
mod rows;
mod snapshot;
mod spec;
mod stats;
mod table;
mod usage;

pub use import::{Import, ImportMode, ImportReport};
pub(crate) use resolve::resolve;
pub use resolve::{FoundEntry, MAX_RESOLVE, Resolve, Resolved};
pub use rows::{Format, RowProblem};
pub use snapshot::{LookupError, LookupView, Lookups};
pub use spec::{LookupEntry, LookupLimits, LookupSpec, MAX_REVERSE, Missing};
pub use stats::LookupStats;
pub use table::{Found, Table};
pub(crate) use usage::unusable;
