//! PostgreSQL databases for tests, dropped once they are over.

use std::sync::atomic::{AtomicU32, Ordering};

use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};

const START: &str = "start the server with `scripts/services up postgres`, and set the addresses \
                     with `eval \"$(scripts/services env)\"`";

static COUNT: AtomicU32 = AtomicU32::new(0);

/// A name that no other test uses.
pub(crate) fn fresh_name() -> String {
    format!("t{}_{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

/// The address of the server for tests.
#[expect(clippy::disallowed_methods, reason = "where the server is comes from outside")]
pub(crate) fn server() -> String {
    std::env::var("ICP_TEST_POSTGRES_URL")
        .unwrap_or_else(|_| panic!("ICP_TEST_POSTGRES_URL is not set; {START}"))
}

/// Runs statements on a connection of their own.
pub(crate) async fn run(url: &str, sql: &str) {
    let conn = PgConnection::connect(url).await;
    let mut conn = conn.unwrap_or_else(|error| panic!("{error}; {START}"));
    conn.execute(sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))).await.unwrap();
    conn.close().await.unwrap();
}

/// Runs statements when it is dropped, within a runtime of several threads.
pub(crate) struct AtEnd(pub(crate) String);

impl Drop for AtEnd {
    fn drop(&mut self) {
        let runtime = tokio::runtime::Handle::current();
        tokio::task::block_in_place(|| runtime.block_on(run(&server(), &self.0)));
    }
}
