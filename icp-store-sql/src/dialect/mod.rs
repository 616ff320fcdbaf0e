//! What the databases say differently.
//!
//! Statements are written once, in SQLite's words, with `?` or `?1` for what is bound. What the
//! others call by another name only is put into their words by [`Dialect::say`]; where they need
//! another statement, the noun that needs it asks which dialect it speaks.

pub(crate) mod mysql;

/// A family of databases that speak alike.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Dialect {
    /// SQLite 3.
    Sqlite,
    /// PostgreSQL 13 or later.
    Postgres,
    /// MySQL 8, MariaDB 10.6 or later.
    MySql,
}

impl Dialect {
    /// A statement in the words of the dialect.
    pub(crate) fn say(self, sql: &str) -> String {
        match self {
            Self::Sqlite => sql.to_owned(),
            Self::MySql => mysql::say(sql, &[], mysql::Conflict::Skip).sql,
            Self::Postgres => numbered(sql),
        }
    }
}

/// With `$1` for `?` and for `?1`.
fn numbered(sql: &str) -> String {
    let mut said = String::with_capacity(sql.len() + 64);
    let mut count = 0;
    let mut parts = sql.split('?');
    said.extend(parts.next());
    for part in parts {
        said.push('$');
        if !part.starts_with(|c: char| c.is_ascii_digit()) {
            count += 1;
            said.push_str(&count.to_string());
        }
        said.push_str(part);
    }
    said
}
