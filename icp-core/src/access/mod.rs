//! Who may do what: organizations, API keys.

mod store;

pub use store::{AccessStore, ApiKeyRecord};
