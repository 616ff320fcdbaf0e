//! Row-level security as a second wall: whatever a statement asks for, the server shows and takes
//! the rows of those organizations only that the transaction says it is about.
//!
//! Each transaction sets `icp.org`: to an organization, to several with commas in between, or to
//! `*` for a duty of the node. Where it is not set nothing is seen.

mod function;
mod table;
mod verdict;

use std::fmt;

use icp_core::error::{Code, Error, Result};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};

use super::migrate::Schema;
use crate::error::Failure;
use crate::migrate::{Ledger as _, prepare};
use crate::scope::Scope;
use function::FUNCTIONS;
use table::{OUTBOX, TABLES, fingerprint};

pub(super) use function::say;

/// Stands for the name of a role until the tables have their names.
const ROLE: &str = "{role}";

/// Begins a transaction on the rows of `scope`, in one message.
pub(super) fn begin(begin: &str, scope: Scope<'_>) -> AssertSqlSafe<String> {
    AssertSqlSafe(format!("{begin}; SET LOCAL icp.org = '{}'", scope.value()))
}

/// Refuses a role that the policies do not hold.
pub(super) async fn check(schema: &Schema, conn: &mut PgConnection) -> Result<(), Failure> {
    let found = verdict::find(conn, schema.names()).await?;
    Ok(verdict::judge(&found, schema.names())?)
}

/// The row-level security of a store's tables, as their owner sets it up.
///
/// Any of it may be done again. It locks each table for a moment, so that it belongs into the
/// deployment, after the migrations and before the nodes start.
#[must_use = "nothing is changed before it is asked"]
pub struct RowSecurity(Schema);

impl RowSecurity {
    pub(super) fn new(schema: Schema) -> Self {
        Self(schema)
    }

    /// Lets the policies hold every table, its owner too, and grants `role` what the engine needs
    /// and no more.
    ///
    /// # Errors
    ///
    /// [`StoreOutdated`](Code::StoreOutdated) where migrations are pending,
    /// [`StoreDenied`](Code::StoreDenied) for a role that does not own the tables,
    /// [`ConfigInvalid`](Code::ConfigInvalid) where `role` cannot be a name, or as for opening the
    /// store.
    pub async fn apply(&self, role: &str) -> Result<()> {
        self.run(&self.sql(role)?).await
    }

    /// Lets `role` publish within transactions of the host's own, and do nothing else.
    ///
    /// # Errors
    ///
    /// As [`apply`](Self::apply).
    pub async fn allow_publishing(&self, role: &str) -> Result<()> {
        let sql = format!("GRANT INSERT ON {OUTBOX} TO {ROLE};\n{}", self.entry());
        self.run(&self.put(sql, role)?).await
    }

    /// Takes the policies away; the functions and what was granted stay.
    ///
    /// # Errors
    ///
    /// As [`apply`](Self::apply).
    pub async fn remove(&self) -> Result<()> {
        let mut sql = String::new();
        for table in TABLES.iter().filter(|table| table.is_guarded()) {
            let name = table.name;
            sql.push_str(&format!(
                "ALTER TABLE {name} NO FORCE ROW LEVEL SECURITY, DISABLE ROW LEVEL SECURITY;\n"
            ));
            for (policy, _) in table.policies() {
                sql.push_str(&format!("DROP POLICY IF EXISTS {policy} ON {name};\n"));
            }
        }
        self.run(&self.0.names().put(sql)).await
    }

    /// The SQL that [`apply`](Self::apply) runs, for those who run it by other means.
    ///
    /// # Errors
    ///
    /// [`ConfigInvalid`](Code::ConfigInvalid) where `role` cannot be a name.
    pub fn sql(&self, role: &str) -> Result<String> {
        let mut sql = String::new();
        for table in TABLES {
            if table.is_guarded() {
                guard(&mut sql, &table);
            }
            sql.push_str(&table.grant(ROLE));
        }
        for function in FUNCTIONS {
            let (name, made) = (function.name, function.sql());
            let mark = fingerprint(&made);
            sql.push_str(&format!("{made}COMMENT ON FUNCTION {name}() IS '{mark}';\n"));
            sql.push_str(&function.grant(ROLE));
        }
        sql.push_str(&self.entry());
        self.put(sql, role)
    }

    /// Where no schema is set, the connection's own is granted when the SQL runs.
    fn entry(&self) -> String {
        match self.0.names().schema() {
            Some(schema) => format!("GRANT USAGE ON SCHEMA \"{schema}\" TO {ROLE};\n"),
            None => format!(
                "DO $grant$ BEGIN EXECUTE format('GRANT USAGE ON SCHEMA %I TO %s', \
                 current_schema(), $role${ROLE}$role$); END $grant$;\n"
            ),
        }
    }

    /// `sql` with the names of the tables and of the role.
    fn put(&self, sql: String, role: &str) -> Result<String> {
        if role.is_empty() || role.len() > 63 || role.contains(['\0', '$']) {
            return Err(Error::new(
                Code::ConfigInvalid,
                "the name of the role is empty, too long or has a sign that no role of ours may \
                 have; name one that there is",
            )
            .during("set up row-level security"));
        }
        let role = format!("\"{}\"", role.replace('"', "\"\""));
        Ok(self.0.names().put(sql).replace(ROLE, &role))
    }

    /// Runs `sql`, all of it or nothing, while no node migrates.
    async fn run(&self, sql: &str) -> Result<()> {
        let done = async {
            prepare(&self.0, false).await?;
            self.0
                .within(async |schema: &Schema, conn: &mut PgConnection| {
                    let mut tx = conn.begin().await?;
                    schema.lock(&mut tx).await?;
                    tx.execute(sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))).await?;
                    Ok(tx.commit().await?)
                })
                .await
        };
        done.await
            .map_err(|failure: Failure| Error::from(failure).during("set up row-level security"))
    }
}

impl fmt::Debug for RowSecurity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RowSecurity").field("names", self.0.names()).finish_non_exhaustive()
    }
}

fn guard(sql: &mut String, table: &table::Table) {
    let name = table.name;
    sql.push_str(&format!(
        "ALTER TABLE {name} ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;\n"
    ));
    for (policy, body) in table.policies() {
        sql.push_str(&format!(
            "DROP POLICY IF EXISTS {policy} ON {name};\n\
             CREATE POLICY {policy} ON {name} {body};\n\
             COMMENT ON POLICY {policy} ON {name} IS '{}';\n",
            fingerprint(&body)
        ));
    }
}

#[cfg(test)]
mod tests;
