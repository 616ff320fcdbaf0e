//! How MariaDB goes about the statements beside many rows: through an index, never over a whole
//! table.
#![expect(clippy::disallowed_methods, reason = "the environment names the server")]

use sqlx::{AssertSqlSafe, Connection, Executor, MySqlConnection, Row};

use super::MySqlStore;
use super::link::arguments;
use crate::dialect::{Dialect, mysql};
use crate::plan::{PATIENCE, ROWS, brief, day, fill};
use crate::value::Value;

/// As many rows may be looked at without an index, or along a whole one: those handed in, the
/// tables that stay small, and what a limit cuts off.
const FEW: u64 = ROWS as u64 / 40;

fn server() -> String {
    std::env::var("ICP_TEST_MYSQL_URL").unwrap_or_else(|_| {
        panic!(
            "ICP_TEST_MYSQL_URL is not set; run `scripts/services up mariadb`, then \
             `eval \"$(scripts/services env)\"`"
        )
    })
}

async fn run(url: &str, statements: &[String]) {
    let mut conn = MySqlConnection::connect(url).await.unwrap();
    for sql in statements {
        conn.execute(sqlx::raw_sql(AssertSqlSafe(sql.clone())))
            .await
            .unwrap_or_else(|e| panic!("{e}: {sql}"));
    }
}

/// Where the plan of a statement walks.
async fn walks(conn: &mut MySqlConnection, sql: &str, values: &[Value]) -> Vec<String> {
    let said = mysql::say(sql, values, mysql::Conflict::Skip);
    let bound = said.order.iter().filter_map(|at| values.get(*at));
    let explain = AssertSqlSafe(format!("EXPLAIN {}", said.sql));
    let plan = sqlx::query_with(explain, arguments(bound).unwrap()).fetch_all(conn).await;
    let plan = plan.unwrap_or_else(|e| panic!("{e}: {}", said.sql));
    let mut found = Vec::new();
    for step in &plan {
        let text = |column| step.try_get_unchecked::<Option<String>, _>(column).unwrap();
        let access = text("type").unwrap_or_default();
        let rows = text("rows").and_then(|rows| rows.parse::<u64>().ok()).unwrap_or_default();
        if ["ALL", "index"].contains(&access.as_str()) && rows > FEW {
            let (table, key) = (text("table"), text("key"));
            found.push(format!("{access} of {table:?} {key:?}, {rows} rows"));
        }
    }
    found
}

#[tokio::test]
async fn no_hot_statement_walks_a_table() {
    let (server, name) = (server(), format!("icp_plan_{}", std::process::id()));
    run(&server, &[format!("CREATE DATABASE {name}")]).await;
    let url = format!("{}/{name}", server.rsplit_once('/').unwrap().0);
    let store = MySqlStore::builder(&url).acquire_timeout(PATIENCE).answer_timeout(PATIENCE);
    let store = store.open().await.unwrap();
    let mut statements = fill(Dialect::MySql);
    let tables = ["event", "delivery", "attempt", "idempotency", "outbox", "lane", "history"];
    let more = ["resource", "audit", "letter", "letter_note", "replay"];
    let tables = tables.iter().chain(&more);
    statements.extend(tables.map(|table| format!("ANALYZE TABLE icp_{table}")));
    run(&url, &statements).await;
    let heard = day(&store).await;
    assert!(heard.len() > 80, "{} statements were heard", heard.len());

    let mut conn = MySqlConnection::connect(&url).await.unwrap();
    let mut all = Vec::new();
    for (sql, values) in &heard {
        let found = walks(&mut conn, sql, values).await;
        all.extend(found.into_iter().map(|walk| format!("{walk}: {}", brief(sql))));
    }
    // One that has to walk is seen to.
    let whole = walks(&mut conn, "SELECT state FROM icp_delivery WHERE tries = 7", &[]).await;
    assert_eq!(whole.len(), 1, "{whole:?}");
    drop(conn);
    store.close().await.unwrap();
    run(&server, &[format!("DROP DATABASE {name}")]).await;
    assert!(all.is_empty(), "{all:#?}");
}
