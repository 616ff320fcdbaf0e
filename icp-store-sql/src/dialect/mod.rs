//! What the databases say differently.
//!
//! Statements are written once, in SQLite's words, with `?` or `?1` for what is bound. What the
//! others call by another name only is put into their words by [`Dialect::say`]; where they need
//! another statement, the noun that needs it asks which dialect it speaks.
//!
//! Two habits make that possible: the greater of two values is `MAX` and the lesser `MIN`, while
//! aggregates are `max` and `min`; and a truth is compared with 1 or 0, as it is kept. A third is for
//! SQLite: a bound limit is `LIMIT +?`, as without the plus the statement would be planned anew
//! each time it is run.

pub(crate) mod mysql;
mod postgres;

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
            Self::Postgres => postgres::say(sql),
            Self::MySql => mysql::say(sql, &[], mysql::Conflict::Skip).sql,
        }
    }

    /// Whether others write at the same time, so that what is read to be changed has to be locked.
    pub(crate) fn is_shared(self) -> bool {
        self != Self::Sqlite
    }

    /// What ends a read whose rows stay as they are until the transaction ends, so that they can
    /// be referred to.
    pub(crate) fn for_share(self) -> &'static str {
        match self {
            Self::Sqlite => "",
            Self::Postgres => " FOR KEY SHARE",
            Self::MySql => " LOCK IN SHARE MODE",
        }
    }

    /// As [`for_update`](Self::for_update), leaving out rows that another transaction is busy with.
    pub(crate) fn skip_locked(self) -> &'static str {
        if self.is_shared() { " FOR UPDATE SKIP LOCKED" } else { "" }
    }

    /// What ends a read whose rows this transaction may change.
    pub(crate) fn for_update(self) -> &'static str {
        if self.is_shared() { " FOR UPDATE" } else { "" }
    }
}
