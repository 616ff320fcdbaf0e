//! Statements over many rows, in few shapes, so that each stays prepared.
//!
//! Those of the hot path say `OR FAIL`: any failure undoes the whole transaction anyway, so that
//! SQLite need not keep a journal for undoing the statement alone.

use std::borrow::Cow;
use std::sync::Arc;

use crate::error::{Failure, corrupt};
use crate::link::{Conn, Row};
use crate::value::{Bind, Value};

/// Statements that are run one after the other, with what is bound to them.
#[derive(Debug, Default)]
pub(crate) struct Script {
    sql: String,
    values: Vec<Value>,
    ends: Vec<(usize, usize)>,
    expected: usize,
}

impl Script {
    /// Adds a statement: `head`, then `count` rows of `columns` placeholders, then `tail`.
    pub(crate) fn rows(&mut self, head: &str, count: usize, columns: usize, tail: &str) {
        if !self.sql.is_empty() {
            self.ends.push((self.sql.len(), self.values.len()));
            self.sql.push(';');
        }
        write_rows(&mut self.sql, head, count, columns, tail);
    }

    /// Binds the next placeholder.
    pub(crate) fn bind(&mut self, value: impl Bind) -> &mut Self {
        self.values.push(value.value());
        self
    }

    /// Counts `rows` more that are to change.
    pub(crate) fn expect(&mut self, rows: usize) {
        self.expected += rows;
    }

    /// Whether rows are counted at all.
    #[cfg(feature = "mysql")]
    pub(crate) fn is_counted(&self) -> bool {
        self.expected > 0
    }

    /// How many statements there are.
    pub(crate) fn len(&self) -> u64 {
        if self.sql.is_empty() { 0 } else { self.ends.len() as u64 + 1 }
    }

    /// The text of all statements.
    pub(crate) fn sql(&self) -> &str {
        &self.sql
    }

    /// What is bound to all placeholders, in their order.
    #[cfg(any(feature = "mysql", feature = "postgres"))]
    pub(crate) fn values(&self) -> &[Value] {
        &self.values
    }

    pub(crate) fn into_values(self) -> Vec<Value> {
        self.values
    }

    /// The text of all statements, and what is bound to all placeholders.
    #[cfg(feature = "sqlite")]
    pub(crate) fn into_parts(self) -> (String, Vec<Value>) {
        (self.sql, self.values)
    }

    /// Each statement with what is bound to it.
    #[cfg(any(feature = "mysql", feature = "postgres"))]
    pub(crate) fn statements(&self) -> impl Iterator<Item = (&str, &[Value])> {
        let (mut sql, mut value) = (0, 0);
        let last = (self.sql.len(), self.values.len());
        self.ends.iter().copied().chain([last]).map(move |(sql_end, value_end)| {
            let part = (&self.sql[sql..sql_end], &self.values[value..value_end]);
            (sql, value) = (sql_end + 1, value_end);
            part
        })
    }

    /// Runs all statements; answers whether as many rows changed as were expected.
    pub(crate) async fn execute(self, conn: &mut Conn<'_>) -> Result<bool, Failure> {
        let expected = self.expected as u64;
        if self.sql.is_empty() {
            return Ok(expected == 0);
        }
        Ok(conn.execute(self).await? == expected)
    }

    /// Runs one statement; answers how many rows changed.
    pub(crate) async fn changes(self, conn: &mut Conn<'_>) -> Result<u64, Failure> {
        conn.execute(self).await
    }

    pub(crate) async fn fetch_all(self, conn: &mut Conn<'_>) -> Result<Vec<Row>, Failure> {
        conn.fetch(self).await
    }

    pub(crate) async fn fetch_optional(self, conn: &mut Conn<'_>) -> Result<Option<Row>, Failure> {
        Ok(conn.fetch(self).await?.into_iter().next())
    }

    pub(crate) async fn fetch_one(self, conn: &mut Conn<'_>) -> Result<Row, Failure> {
        let found = self.fetch_optional(conn).await?;
        Ok(found.ok_or_else(|| corrupt("a row is missing"))?)
    }
}

/// One statement, bound by and by.
#[must_use = "a statement does nothing until it is run"]
pub(crate) struct Statement(Script);

/// The statement `sql`.
pub(crate) fn statement(sql: impl Into<Cow<'static, str>>) -> Statement {
    Statement(Script { sql: sql.into().into_owned(), ..Script::default() })
}

impl Statement {
    /// Binds the next placeholder.
    pub(crate) fn bind(mut self, value: impl Bind) -> Self {
        self.0.bind(value);
        self
    }

    /// Adds to the text.
    pub(crate) fn push(&mut self, sql: &str) -> &mut Self {
        self.0.sql.push_str(sql);
        self
    }

    /// Adds a placeholder and binds it.
    pub(crate) fn push_bind(&mut self, value: impl Bind) -> &mut Self {
        self.0.sql.push('?');
        self.0.bind(value);
        self
    }

    /// The text.
    #[cfg(test)]
    pub(crate) fn sql(&self) -> &str {
        self.0.sql()
    }

    /// Answers how many rows changed.
    pub(crate) async fn execute(self, conn: &mut Conn<'_>) -> Result<u64, Failure> {
        self.0.changes(conn).await
    }

    pub(crate) async fn fetch_all(self, conn: &mut Conn<'_>) -> Result<Vec<Row>, Failure> {
        self.0.fetch_all(conn).await
    }

    pub(crate) async fn fetch_optional(self, conn: &mut Conn<'_>) -> Result<Option<Row>, Failure> {
        self.0.fetch_optional(conn).await
    }

    pub(crate) async fn fetch_one(self, conn: &mut Conn<'_>) -> Result<Row, Failure> {
        self.0.fetch_one(conn).await
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
