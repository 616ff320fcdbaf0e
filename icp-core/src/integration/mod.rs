//! Integrations: which events go where, and how.

pub mod auth;
pub mod filter;
pub mod pattern;
