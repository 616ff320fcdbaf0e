//! What the server's error codes mean.

use icp_core::error::Code;
use sqlx::error::DatabaseError;

/// What to do about `fault`.
pub(crate) fn judge(_fault: &dyn DatabaseError) -> (Code, &'static str) {
    (Code::Internal, "the database refused a statement; report this defect")
}

/// Whether the transaction was undone because it met another: it can be run again.
pub(crate) fn is_passing(fault: &dyn DatabaseError) -> bool {
    matches!(fault.code().as_deref(), Some("40001" | "40P01"))
}
