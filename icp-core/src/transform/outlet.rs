//! The way out for programs.

use std::fmt;
use std::sync::Arc;

use crate::egress::{AddressPolicy, Transport};

/// How a transformer sends the requests of programs.
#[derive(Clone)]
pub struct Outlet {
    /// The guarded client.
    pub transport: Transport,
    /// What the organization may reach.
    pub policy: Arc<AddressPolicy>,
}

impl fmt::Debug for Outlet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outlet").field("policy", &self.policy).finish_non_exhaustive()
    }
}
