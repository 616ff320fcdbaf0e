//! How PostgreSQL goes about the statements beside many rows: through an index, never over a
//! whole table.
#![expect(clippy::disallowed_methods, reason = "the environment names the server")]

use serde_json::Value as Json;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, Row};

use super::PostgresStore;
use super::link::arguments;
use crate::dialect::Dialect;
use crate::plan::{PATIENCE, brief, day, fill};
use crate::value::Value;

/// Tables that stay small: one row, or one for each node or integration.
const SMALL: [&str; 6] =
    ["icp_session", "icp_head", "icp_rest", "icp_meter", "icp_erasing", "icp_rollup_seen"];

/// Indexes that are walked from their front, and hold nothing but what is looked for or are
/// walked only up to a limit.
const WALKED: [&str; 10] = [
    "icp_lane_eligible",
    "icp_lane_pass",
    "icp_lane_ill",
    "icp_lane_due",
    "icp_lane_blocked",
    "icp_outbox_pkey",
    "icp_history_pkey",
    "icp_replay_open",
    "icp_delivery_letter",
    "icp_delivery_leased",
];

fn server() -> String {
    std::env::var("ICP_TEST_POSTGRES_URL").unwrap_or_else(|_| {
        panic!(
            "ICP_TEST_POSTGRES_URL is not set; run `scripts/services up postgres`, then \
             `eval \"$(scripts/services env)\"`"
        )
    })
}

async fn run(url: &str, statements: &[String]) {
    let mut conn = PgConnection::connect(url).await.unwrap();
    for sql in statements {
        conn.execute(AssertSqlSafe(sql.clone())).await.unwrap_or_else(|e| panic!("{e}: {sql}"));
    }
}

/// As often a connection plans a statement for the values at hand; then it compares with a plan for
/// any values, and keeps that where it seems as good.
const OWN: usize = 5;

/// The first plan, and the one that a connection comes to.
async fn plans(conn: &mut PgConnection, sql: &str, values: &[Value]) -> [Json; 2] {
    let said = Dialect::Postgres.say(sql);
    let own = AssertSqlSafe(format!("EXPLAIN (FORMAT JSON) {said}"));
    let own = sqlx::query_with(own, arguments(values).unwrap());
    let own = own.fetch_one(&mut *conn).await.unwrap_or_else(|e| panic!("{e}: {said}"));
    let kinds = values.iter().map(|value| match value {
        Value::Int(_) => "bigint",
        Value::Text(_) => "text",
        Value::Blob(_) => "bytea",
    });
    let (kinds, literals) = (listed(kinds), listed(values.iter().map(literal)));
    let prepare = format!("PREPARE heard {kinds} AS {said}");
    conn.execute(sqlx::raw_sql(AssertSqlSafe(prepare))).await.unwrap();
    let explain = format!("EXPLAIN (FORMAT JSON) EXECUTE heard {literals}");
    for _ in 0..OWN {
        conn.execute(sqlx::raw_sql(AssertSqlSafe(explain.clone()))).await.unwrap();
    }
    let kept = conn.fetch_one(sqlx::raw_sql(AssertSqlSafe(explain))).await.unwrap();
    conn.execute("DEALLOCATE heard").await.unwrap();
    [own, kept].map(|row| {
        let text: &str = row.try_get_unchecked(0).unwrap();
        serde_json::from_str(text).unwrap()
    })
}

fn listed(items: impl Iterator<Item = impl AsRef<str>>) -> String {
    let items: Vec<_> = items.map(|item| item.as_ref().to_owned()).collect();
    if items.is_empty() { String::new() } else { format!("({})", items.join(",")) }
}

fn literal(value: &Value) -> String {
    let text = match value {
        Value::Int(int) => int.map(|int| int.to_string()),
        Value::Text(text) => text.as_ref().map(|text| format!("'{}'", text.replace('\'', "''"))),
        Value::Blob(blob) => blob.as_ref().map(|blob| {
            let hex: String = blob.iter().map(|byte| format!("{byte:02x}")).collect();
            format!("'\\x{hex}'")
        }),
    };
    text.unwrap_or_else(|| "NULL".to_owned())
}

/// Adds what a plan walks through.
fn walks(plan: &Json, found: &mut Vec<String>) {
    let text = |name: &str| plan.get(name).and_then(Json::as_str).unwrap_or_default();
    let (step, table, index) = (text("Node Type"), text("Relation Name"), text("Index Name"));
    let whole = step == "Seq Scan" && !SMALL.contains(&table);
    let along = step.starts_with("Index")
        && plan.get("Index Cond").is_none()
        && !WALKED.contains(&index)
        && !SMALL.contains(&table);
    if whole || along {
        found.push(format!("{step} of {table} {index}"));
    }
    match plan {
        Json::Array(parts) => parts.iter().for_each(|part| walks(part, found)),
        Json::Object(parts) => parts.values().for_each(|part| walks(part, found)),
        _ => {}
    }
}

#[tokio::test]
async fn no_hot_statement_walks_a_table() {
    let (server, name) = (server(), format!("icp_plan_{}", std::process::id()));
    run(&server, &[format!("CREATE DATABASE {name}")]).await;
    let url = format!("{}/{name}", server.rsplit_once('/').unwrap().0);
    let store = PostgresStore::builder(&url).listen(false);
    let store = store.acquire_timeout(PATIENCE).answer_timeout(PATIENCE).open().await.unwrap();
    let mut statements = fill(Dialect::Postgres);
    statements.push("VACUUM ANALYZE".to_owned());
    run(&url, &statements).await;
    let heard = day(&store).await;
    assert!(heard.len() > 80, "{} statements were heard", heard.len());

    let mut conn = PgConnection::connect(&url).await.unwrap();
    let mut all = Vec::new();
    for (sql, values) in &heard {
        for (plan, kind) in plans(&mut conn, sql, values).await.iter().zip(["first", "kept"]) {
            let mut found = Vec::new();
            walks(plan, &mut found);
            all.extend(found.into_iter().map(|walk| format!("{walk} ({kind}): {}", brief(sql))));
        }
    }
    // One that has to walk is seen to.
    let [whole, _] = plans(&mut conn, "SELECT state FROM icp_delivery WHERE tries = 7", &[]).await;
    let mut found = Vec::new();
    walks(&whole, &mut found);
    assert_eq!(found, ["Seq Scan of icp_delivery "]);
    drop(conn);
    store.close().await.unwrap();
    run(&server, &[format!("DROP DATABASE {name} WITH (FORCE)")]).await;
    assert!(all.is_empty(), "{all:#?}");
}
