//! Integrations: which events go where.

pub mod pattern;
