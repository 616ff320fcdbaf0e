//! icp-testkit.
