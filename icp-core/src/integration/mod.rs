//! Integrations: which events go, how they are shaped, where they are delivered.

pub mod auth;
