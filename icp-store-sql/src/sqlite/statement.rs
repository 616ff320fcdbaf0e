//! Statements over many rows, in few shapes, so that each stays prepared.
//!
//! Those of the hot path say `OR FAIL`: any failure undoes the whole transaction anyway, so that
//! SQLite need not keep a journal for undoing the statement alone.

use std::sync::Arc;

use sqlx::error::BoxDynError;
use sqlx::sqlite::{SqliteArguments, SqliteRow};
use sqlx::{Arguments as _, AssertSqlSafe, Encode, Sqlite, SqliteConnection, Type};

/// Statements that are sent to the connection's thread in one go, for each sending wakes a thread
/// and each answer another.
#[derive(Debug, Default)]
pub(crate) struct Script {
    sql: String,
    arguments: SqliteArguments,
    refused: Option<BoxDynError>,
    expected: usize,
}

impl Script {
    /// Adds a statement: `head`, then `count` rows of `columns` placeholders, then `tail`.
    pub(crate) fn rows(&mut self, head: &str, count: usize, columns: usize, tail: &str) {
        if !self.sql.is_empty() {
            self.sql.push(';');
        }
        write_rows(&mut self.sql, head, count, columns, tail);
    }

    /// Binds the next placeholder.
    pub(crate) fn bind<T>(&mut self, value: T) -> &mut Self
    where
        T: for<'q> Encode<'q, Sqlite> + Type<Sqlite>,
    {
        if let Err(error) = self.arguments.add(value) {
            self.refused.get_or_insert(error);
        }
        self
    }

    /// Counts `rows` more that are to change.
    pub(crate) fn expect(&mut self, rows: usize) {
        self.expected += rows;
    }

    /// Runs all statements; answers whether as many rows changed as were expected.
    pub(crate) async fn execute(self, conn: &mut SqliteConnection) -> Result<bool, sqlx::Error> {
        let expected = self.expected as u64;
        if self.sql.is_empty() {
            return Ok(expected == 0);
        }
        Ok(self.query()?.execute(conn).await?.rows_affected() == expected)
    }

    /// Runs one statement; answers how many rows changed.
    pub(crate) async fn changes(self, conn: &mut SqliteConnection) -> Result<u64, sqlx::Error> {
        Ok(self.query()?.execute(conn).await?.rows_affected())
    }

    pub(crate) async fn fetch_one(
        self,
        conn: &mut SqliteConnection,
    ) -> Result<SqliteRow, sqlx::Error> {
        self.query()?.fetch_one(conn).await
    }

    pub(crate) async fn fetch_all(
        self,
        conn: &mut SqliteConnection,
    ) -> Result<Vec<SqliteRow>, sqlx::Error> {
        self.query()?.fetch_all(conn).await
    }

    fn query<'q>(self) -> Result<sqlx::query::Query<'q, Sqlite, SqliteArguments>, sqlx::Error> {
        match self.refused {
            None => Ok(sqlx::query_with(AssertSqlSafe(self.sql), self.arguments)),
            Some(error) => Err(sqlx::Error::Encode(error)),
        }
    }
}

/// Counts of rows for which there are statements, so that those in use stay prepared.
const SIZES: [usize; 16] = [256, 192, 128, 96, 64, 48, 32, 24, 16, 12, 8, 6, 4, 3, 2, 1];

/// `items` in chunks of few sizes, for statements in which a row may occur once only.
pub(crate) fn exact<T>(mut items: &[T]) -> impl Iterator<Item = &[T]> {
    std::iter::from_fn(move || {
        let size = SIZES.into_iter().find(|size| *size <= items.len())?;
        let (head, tail) = items.split_at(size);
        items = tail;
        Some(head)
    })
}

/// `items` in chunks of few sizes, the last filled up by repeating its last item, for statements
/// in which a repeated row changes nothing.
pub(crate) fn padded<T>(items: &[T]) -> impl Iterator<Item = Vec<&T>> {
    items.chunks(SIZES[0]).map(|chunk| {
        let size = SIZES.into_iter().rev().find(|size| *size >= chunk.len());
        let missing = size.unwrap_or(chunk.len()) - chunk.len();
        chunk.iter().chain(std::iter::repeat_n(&chunk[chunk.len() - 1], missing)).collect()
    })
}

/// As [`padded`] for costly rows: at most one in eight is a repetition.
pub(crate) fn fitted<T>(mut items: &[T]) -> impl Iterator<Item = Vec<&T>> {
    std::iter::from_fn(move || {
        let count = items.len();
        let above = SIZES.into_iter().rev().find(|size| *size >= count);
        let size = above.filter(|size| (size - count) * 8 <= *size);
        let size = size.or_else(|| SIZES.into_iter().find(|size| *size <= count))?;
        let (head, tail) = items.split_at(size.min(count));
        items = tail;
        let last = head.last()?;
        Some(head.iter().chain(std::iter::repeat_n(last, size - head.len())).collect())
    })
}

/// A text to bind, in one allocation.
pub(crate) fn text(text: &str) -> Arc<str> {
    Arc::from(text)
}

/// A script of one statement.
pub(crate) fn values(head: &str, count: usize, columns: usize, tail: &str) -> Script {
    let mut script = Script::default();
    script.rows(head, count, columns, tail);
    script
}

fn write_rows(sql: &mut String, head: &str, rows: usize, columns: usize, tail: &str) {
    sql.reserve(head.len() + tail.len() + rows * (2 * columns + 2));
    sql.push_str(head);
    for row in 0..rows {
        sql.push_str(if row == 0 { "(" } else { ",(" });
        for column in 0..columns {
            sql.push_str(if column == 0 { "?" } else { ",?" });
        }
        sql.push(')');
    }
    sql.push_str(tail);
}

/// The text of [`values`].
#[cfg(test)]
pub(crate) fn rows(head: &str, rows: usize, columns: usize, tail: &str) -> String {
    values(head, rows, columns, tail).sql
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_have_few_sizes_and_lose_nothing() {
        for count in 0..200 {
            let items: Vec<usize> = (0..count).collect();
            let exact: Vec<&[usize]> = exact(&items).collect();
            assert_eq!(exact.concat(), items);
            assert!(exact.iter().all(|chunk| SIZES.contains(&chunk.len())));
            let mut padded: Vec<usize> = padded(&items).flatten().copied().collect();
            assert!(self::padded(&items).all(|chunk| SIZES.contains(&chunk.len())));
            padded.dedup();
            assert_eq!(padded, items);
            let mut fitted: Vec<usize> = fitted(&items).flatten().copied().collect();
            assert!(self::fitted(&items).all(|chunk| SIZES.contains(&chunk.len())));
            assert!(fitted.len() <= count + count / 7);
            fitted.dedup();
            assert_eq!(fitted, items);
        }
    }
}
