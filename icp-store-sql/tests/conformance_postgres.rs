//! The PostgreSQL store shows every registered behaviour.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use icp_store_sql::postgres::{PostgresStore, publish_in};
use icp_testkit::conformance::{self, Fixture};
use sqlx::{Connection, Executor, PgConnection};

static COUNT: AtomicU32 = AtomicU32::new(0);

fn main() {
    conformance::main("postgres", || async {
        let base = std::env::var("ICP_TEST_POSTGRES_URL").unwrap();
        let name = format!("c{}_{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let mut admin = PgConnection::connect(&base).await.unwrap();
        let sql = format!("CREATE SCHEMA {name}");
        admin.execute(sqlx::AssertSqlSafe(sql)).await.unwrap();
        let url = Arc::new(format!("{base}?options=-c%20search_path%3D{name}"));
        let store = PostgresStore::connect(&url).await.unwrap();
        let outbox = move |event| {
            let url = Arc::clone(&url);
            async move {
                let mut host = PgConnection::connect(&url).await.unwrap();
                let mut tx = host.begin().await.unwrap();
                publish_in(&mut tx, &event).await.unwrap();
                tx.commit().await.unwrap();
            }
        };
        Fixture::new(Arc::new(store), outbox)
    });
}
