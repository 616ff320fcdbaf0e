//! icp-axum.
