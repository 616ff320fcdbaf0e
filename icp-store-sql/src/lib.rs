//! icp-store-sql.
