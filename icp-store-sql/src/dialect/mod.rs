//! What the databases say differently.

/// A family of databases that speak alike.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Dialect {
    /// SQLite 3.
    Sqlite,
}

impl Dialect {
    /// A statement in the words of the dialect.
    pub(crate) fn say(self, sql: &str) -> String {
        match self {
            Self::Sqlite => sql.to_owned(),
        }
    }
}
