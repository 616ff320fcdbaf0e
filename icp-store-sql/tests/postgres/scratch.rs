use crate::database::{AtEnd, fresh_name, run, server};

/// A database of its own.
pub(crate) struct Scratch {
    /// Its address.
    pub(crate) url: String,
    _drop: AtEnd,
}

impl Scratch {
    pub(crate) async fn database() -> Self {
        let (server, name) = (server(), fresh_name());
        run(&server, &format!("CREATE DATABASE {name}")).await;
        let (place, _) = server.rsplit_once('/').unwrap();
        let drop = AtEnd(format!("DROP DATABASE {name} WITH (FORCE)"));
        Self { url: format!("{place}/{name}"), _drop: drop }
    }
}
