//! Roles of their own, which may log in and nothing else.

use crate::database::{AtEnd, fresh_name, run, server};

/// A role, which goes when this does. What it was granted has to go before.
pub(crate) struct Role {
    pub(crate) name: String,
    _drop: AtEnd,
}

impl Role {
    pub(crate) async fn create() -> Self {
        let name = format!("icp_{}", fresh_name());
        run(&server(), &format!("CREATE ROLE {name} LOGIN PASSWORD 'pw'")).await;
        Self { _drop: AtEnd(format!("DROP ROLE {name}")), name }
    }

    /// `url` for this role.
    pub(crate) fn log_in(&self, url: &str) -> String {
        let (_, place) = url.split_once('@').unwrap();
        format!("postgres://{}:pw@{place}", self.name)
    }
}
