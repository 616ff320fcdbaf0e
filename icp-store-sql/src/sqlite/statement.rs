//! Statements over many rows, in few shapes, so that each stays prepared.
//!
//! Those of the hot path say `OR FAIL`: any failure undoes the whole transaction anyway, so that
//! SQLite need not keep a journal for undoing the statement alone.

use std::sync::Arc;

use sqlx::sqlite::SqliteArguments;
use sqlx::{AssertSqlSafe, Sqlite};

pub(crate) type Query<'q> = sqlx::query::Query<'q, Sqlite, SqliteArguments>;

/// A count within a factor of two of a power of two takes at most two statements; the shapes of
/// the statements in use stay in the connection's cache.
const SIZES: [usize; 24] =
    [256, 192, 128, 96, 64, 56, 48, 40, 32, 28, 24, 20, 16, 14, 12, 10, 8, 7, 6, 5, 4, 3, 2, 1];

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

/// A text to bind, in one allocation.
pub(crate) fn text(text: &str) -> Arc<str> {
    Arc::from(text)
}

/// `head`, then `count` rows of `columns` placeholders, then `tail`.
pub(crate) fn values<'q>(head: &str, count: usize, columns: usize, tail: &str) -> Query<'q> {
    sqlx::query(AssertSqlSafe(rows(head, count, columns, tail)))
}

/// The text of [`values`].
pub(crate) fn rows(head: &str, rows: usize, columns: usize, tail: &str) -> String {
    let mut sql = String::with_capacity(head.len() + tail.len() + rows * (2 * columns + 2));
    sql.push_str(head);
    for row in 0..rows {
        sql.push_str(if row == 0 { "(" } else { ",(" });
        for column in 0..columns {
            sql.push_str(if column == 0 { "?" } else { ",?" });
        }
        sql.push(')');
    }
    sql.push_str(tail);
    sql
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
        }
    }
}
