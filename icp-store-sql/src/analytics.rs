//! Sums of outcomes, each of an organization, an integration and an hour or day.

use std::fmt::Write;

use async_trait::async_trait;
use icp_core::analytics::{
    AnalyticsStore, Counted, Counts, FailureCount, Grain, Rollup, RollupBatch, RollupBy, RollupKey,
    RollupQuery,
};
use icp_core::error::Result;
use icp_core::id::OrgId;
use icp_core::retention::{Prune, Pruned, RollupCutoffs};
use sqlx::Database;

use crate::dialect::Dialect;
use crate::error::{Failure, corrupt};
use crate::link::{Conn, Row};
use crate::retention::limit as rows_of;
use crate::row;
use crate::scope::Scope;
use crate::statement::{Script, Statement, exact, statement, text};
use crate::store::{SqlStore, commit, read};

#[async_trait]
impl<D: Database> AnalyticsStore for SqlStore<D> {
    async fn add_rollups(&self, batch: &RollupBatch) -> Result<()> {
        commit!(self, Scope::Node, "add statistics", |tx| add(tx, batch).await)
    }

    async fn rollups(&self, org: &OrgId, query: &RollupQuery) -> Result<Vec<Rollup>> {
        read!(self, Scope::Of(org), "sum up statistics", |conn| sums(conn, org, query).await)
    }

    async fn rolled_failures(
        &self,
        org: &OrgId,
        query: &RollupQuery,
        limit: usize,
    ) -> Result<Vec<FailureCount>> {
        read!(self, Scope::Of(org), "sum up failures", |conn| {
            failures(conn, org, query, limit).await
        })
    }
}

/// How long a session that is gone is remembered, in milliseconds: no batch of it comes later.
const REMEMBERED: i64 = 86_400_000;

pub(crate) const KNOW: &str = "INSERT INTO icp_rollup_seen (session, sequence, at) \
     VALUES (?, 0, ?) ON CONFLICT (session) DO NOTHING";
pub(crate) const SEE: &str =
    "UPDATE icp_rollup_seen SET sequence = ?, at = ? WHERE session = ? AND sequence < ?";
pub(crate) const FORGET_SEEN: &str = "DELETE FROM icp_rollup_seen WHERE at < ?";

async fn add(conn: &mut Conn<'_>, batch: &RollupBatch) -> Result<(), Failure> {
    let (session, now) = (batch.session.to_bytes().to_vec(), batch.now.as_millis());
    statement(KNOW).bind(session.clone()).bind(now).execute(&mut *conn).await?;
    let sequence = batch.sequence.cast_signed();
    let new = statement(SEE)
        .bind(sequence)
        .bind(now)
        .bind(session)
        .bind(sequence)
        .execute(&mut *conn)
        .await?;
    if new == 0 {
        return Ok(());
    }
    let rows: Vec<_> = batch.rows().into_iter().collect();
    let mut script = Script::default();
    put(&mut script, &rows);
    put_failures(&mut script, &rows);
    script.execute(&mut *conn).await?;
    statement(FORGET_SEEN).bind(now - REMEMBERED).execute(conn).await?;
    Ok(())
}

/// The columns that tell rows apart.
const KEY: &str = "org, grain, begins, integration";

/// Adds to the sums that are there, and to nothing where there are none.
pub(crate) fn put_sql() -> (String, String) {
    let head = format!("INSERT INTO icp_rollup ({KEY}, {}) VALUES ", Counts::NAMES.join(", "));
    let mut tail = format!(" ON CONFLICT ({KEY}) DO UPDATE SET ");
    for (at, name) in Counts::NAMES.iter().enumerate() {
        let comma = if at == 0 { "" } else { ", " };
        // Writing to a string does not fail.
        let _ = write!(tail, "{comma}{name} = icp_rollup.{name} + excluded.{name}");
    }
    (head, tail)
}

fn put(script: &mut Script, rows: &[(RollupKey, Counted)]) {
    let (head, tail) = put_sql();
    for chunk in exact(rows) {
        script.rows(&head, chunk.len(), 4 + Counts::LEN, &tail);
        for (key, counted) in chunk {
            bind_key(script, key);
            for number in counted.counts.numbers() {
                script.bind(number.cast_signed());
            }
        }
    }
}

pub(crate) const PUT_FAILURES: (&str, &str) = (
    "INSERT INTO icp_rollup_failure (org, grain, begins, integration, class, failures) VALUES ",
    " ON CONFLICT (org, grain, begins, integration, class) DO UPDATE SET \
     failures = icp_rollup_failure.failures + excluded.failures",
);

fn put_failures(script: &mut Script, rows: &[(RollupKey, Counted)]) {
    let of_row = |(key, counted): &(RollupKey, Counted)| {
        let classes = counted.failures.iter();
        classes.map(|(class, count)| (key.clone(), class.clone(), *count)).collect::<Vec<_>>()
    };
    let failures: Vec<_> = rows.iter().flat_map(of_row).collect();
    for chunk in exact(&failures) {
        script.rows(PUT_FAILURES.0, chunk.len(), 6, PUT_FAILURES.1);
        for (key, class, count) in chunk {
            bind_key(script, key);
            script.bind(class.clone()).bind(count.cast_signed());
        }
    }
}

fn bind_key(script: &mut Script, key: &RollupKey) {
    script
        .bind(key.org.shared())
        .bind(grain(key.grain))
        .bind(key.begins.as_millis())
        .bind(key.integration.shared());
}

const fn grain(grain: Grain) -> i64 {
    match grain {
        Grain::Hour => 0,
        Grain::Day => 1,
    }
}

/// What a sum is read as: databases make more of it than the numbers had.
fn integer(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::Postgres => "BIGINT",
        Dialect::Sqlite | Dialect::MySql => "INTEGER",
    }
}

pub(crate) fn sums_sql(dialect: Dialect, by: RollupBy) -> String {
    let mut sql = format!("SELECT {}", column(by));
    for name in Counts::NAMES {
        let _ = write!(sql, ", CAST(sum({name}) AS {})", integer(dialect));
    }
    sql.push_str(" FROM icp_rollup WHERE org = ? AND grain = ? AND begins >= ? AND begins < ?");
    sql
}

const fn column(by: RollupBy) -> &'static str {
    match by {
        RollupBy::Time => "begins",
        RollupBy::Integration => "integration",
    }
}

fn asked(sql: String, org: &OrgId, query: &RollupQuery) -> Statement {
    let mut asked = statement(sql)
        .bind(org.shared())
        .bind(grain(query.grain))
        .bind(query.since.as_millis())
        .bind(query.until.as_millis());
    if let Some(integration) = &query.integration {
        asked.push(" AND integration = ").push_bind(integration.shared());
    }
    asked
}

async fn sums(
    conn: &mut Conn<'_>,
    org: &OrgId,
    query: &RollupQuery,
) -> Result<Vec<Rollup>, Failure> {
    let by = column(query.by);
    let mut asked = asked(sums_sql(conn.dialect(), query.by), org, query);
    asked.push(&format!(" GROUP BY {by} ORDER BY {by}"));
    asked.fetch_all(conn).await?.iter().map(|found| rollup(found, query.by)).collect()
}

fn rollup(found: &Row, by: RollupBy) -> Result<Rollup, Failure> {
    let mut numbers = [0; Counts::LEN];
    for (at, number) in numbers.iter_mut().enumerate() {
        *number = found.try_get::<i64>(at + 1)?.cast_unsigned();
    }
    let counts = Counts::of_numbers(&numbers);
    Ok(match by {
        RollupBy::Time => Rollup { begins: Some(row::time(found, 0)?), integration: None, counts },
        RollupBy::Integration => {
            Rollup { begins: None, integration: Some(row::resource_id(found, 0)?), counts }
        }
    })
}

pub(crate) fn failures_sql(dialect: Dialect) -> String {
    format!(
        "SELECT integration, class, CAST(sum(failures) AS {}) FROM icp_rollup_failure \
         WHERE org = ? AND grain = ? AND begins >= ? AND begins < ?",
        integer(dialect)
    )
}

async fn failures(
    conn: &mut Conn<'_>,
    org: &OrgId,
    query: &RollupQuery,
    limit: usize,
) -> Result<Vec<FailureCount>, Failure> {
    let mut asked = asked(failures_sql(conn.dialect()), org, query);
    asked.push(" GROUP BY integration, class ORDER BY 3 DESC, integration, class LIMIT +");
    asked.push_bind(i64::try_from(limit).unwrap_or(i64::MAX));
    let failure = |found: &Row| {
        let count: i64 = found.try_get(2)?;
        let count = u64::try_from(count).map_err(|_| corrupt("a sum is negative"))?;
        let integration = row::resource_id(found, 0)?;
        Ok(FailureCount { integration, class: found.try_get(1)?, count })
    };
    asked.fetch_all(conn).await?.iter().map(failure).collect()
}

pub(crate) const OLD: &str = "SELECT begins FROM icp_rollup \
     WHERE org = ? AND grain = ? AND begins < ? ORDER BY begins LIMIT +?";
/// The failures first: a row of sums is what tells that there may be some.
pub(crate) const FORGET: [&str; 2] = [
    "DELETE FROM icp_rollup_failure WHERE org = ? AND grain = ? AND begins <= ?",
    "DELETE FROM icp_rollup WHERE org = ? AND grain = ? AND begins <= ?",
];

/// Whole hours and days go at once, so that the last of them may bring more rows than asked for.
pub(crate) async fn prune(
    conn: &mut Conn<'_>,
    prune: &Prune,
    cutoffs: &RollupCutoffs,
) -> Result<Pruned, Failure> {
    let mut pruned = Pruned::default();
    for kind in Grain::ALL {
        let found = statement(OLD)
            .bind(text(prune.org.as_str()))
            .bind(grain(kind))
            .bind(cutoffs.before(kind).as_millis())
            .bind(rows_of(prune))
            .fetch_all(&mut *conn)
            .await?;
        let Some(last) = found.last() else { continue };
        let last: i64 = last.try_get(0)?;
        let mut gone = 0;
        for sql in FORGET {
            gone = statement(sql)
                .bind(text(prune.org.as_str()))
                .bind(grain(kind))
                .bind(last)
                .execute(&mut *conn)
                .await?;
        }
        pruned.rollups += gone;
        if found.len() == prune.limit {
            pruned.next = Some(String::new());
        }
    }
    Ok(pruned)
}
