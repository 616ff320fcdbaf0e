//! icp.
