//! What the server's error codes mean.

use icp_core::error::Code;
use sqlx::error::DatabaseError;

/// What to do about `fault`.
pub(crate) fn judge(_fault: &dyn DatabaseError) -> (Code, &'static str) {
    (Code::Internal, "the database refused a statement; report this defect")
}
