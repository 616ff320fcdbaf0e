//! What the policies and grants themselves hold, by statements that the store would never run.

use sqlx::error::DatabaseError;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, Row};

use crate::database::run;
use crate::rows::{self, OF_NODE, Walled};

/// The number of what belongs to globex.
const N: u128 = 7_000;

/// Statements that know of no organization at all, on every table.
#[tokio::test(flavor = "multi_thread")]
async fn no_statement_reads_or_writes_foreign_rows() {
    let walled = Walled::database().await;
    let url = &walled.scratch.url;
    rows::write(url, "acme", 1).await;
    rows::write(url, "globex", N).await;
    run(url, "INSERT INTO icp_slot VALUES ('\\x01', '\\x02', 1, 1)").await;
    let all = "SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public";
    run(url, &format!("GRANT {all} TO {}", walled.role.name)).await;
    let mut admin = PgConnection::connect(url).await.unwrap();
    let mut conn = PgConnection::connect(&walled.url()).await.unwrap();
    let tables = rows::guarded(&mut admin).await;
    assert_eq!(tables.len(), 21);
    for table in &tables {
        let whole = number(&mut admin, format!("SELECT count(*) FROM {table}")).await;
        let acme = rows::of(table, "acme");
        let own = number(&mut admin, format!("SELECT count(*) FROM {table} WHERE {acme}")).await;
        assert!(
            whole > own && (own > 0 || OF_NODE.contains(&table.as_str())),
            "{table} has rows of both"
        );
        for (set, visible) in [("acme", own), ("*", whole), ("", 0), ("nobody", 0)] {
            assert_eq!(touched(&mut conn, table, set).await, [visible; 3], "{table} for `{set}`");
        }
        let foreign = match table.as_str() {
            table if OF_NODE.contains(&table) => "true".to_owned(),
            _ => rows::of(table, "globex"),
        };
        let row = format!("SELECT to_json(t)::text FROM {table} t WHERE {foreign} LIMIT 1");
        let row: String =
            sqlx::query_scalar(AssertSqlSafe(row)).fetch_one(&mut admin).await.unwrap();
        assert_eq!(insert(&mut conn, table, "acme", &row).await, "42501", "{table}");
        let unset = if table == "icp_outbox" { "23505" } else { "42501" };
        assert_eq!(insert(&mut conn, table, "", &row).await, unset, "{table}");
        assert_eq!(insert(&mut conn, table, "*", &row).await, "23505", "{table}: it is there");
    }
}

/// A row of one's own cannot be given to another organization.
#[tokio::test(flavor = "multi_thread")]
async fn no_row_is_moved_to_another_organization() {
    let walled = Walled::database().await;
    rows::write(&walled.scratch.url, "acme", 1).await;
    let mut conn = PgConnection::connect(&walled.url()).await.unwrap();
    for table in ["icp_event", "icp_delivery", "icp_lane", "icp_meter", "icp_resource"] {
        let mut tx = conn.begin().await.unwrap();
        tx.execute("SET LOCAL icp.org = 'acme'").await.unwrap();
        let sql = format!("UPDATE {table} SET org = 'globex'");
        let error = tx.execute(AssertSqlSafe(sql)).await.unwrap_err();
        let state = error.as_database_error().and_then(|error| error.code().map(String::from));
        assert_eq!(state.as_deref(), Some("42501"), "{table}");
        tx.rollback().await.unwrap();
    }
}

/// How many rows are read, changed and deleted by statements that ask for all.
async fn touched(conn: &mut PgConnection, table: &str, set: &str) -> [i64; 3] {
    let column = "SELECT column_name::text FROM information_schema.columns \
                  WHERE table_name = $1 AND is_identity = 'NO' ORDER BY ordinal_position LIMIT 1";
    let column: String =
        sqlx::query_scalar(column).bind(table).fetch_one(&mut *conn).await.unwrap();
    let mut tx = conn.begin().await.unwrap();
    tx.execute(AssertSqlSafe(format!("SET LOCAL icp.org = '{set}'"))).await.unwrap();
    let read = number(&mut tx, format!("SELECT count(*) FROM {table}")).await;
    let mut changes = Vec::new();
    for sql in [format!("UPDATE {table} SET {column} = {column}"), format!("DELETE FROM {table}")] {
        let done = tx.execute(AssertSqlSafe(sql)).await.unwrap();
        changes.push(i64::try_from(done.rows_affected()).unwrap());
    }
    tx.rollback().await.unwrap();
    [read, changes[0], changes[1]]
}

/// Which error ends an attempt to write `row`.
async fn insert(conn: &mut PgConnection, table: &str, set: &str, row: &str) -> String {
    let mut tx = conn.begin().await.unwrap();
    tx.execute(AssertSqlSafe(format!("SET LOCAL icp.org = '{set}'"))).await.unwrap();
    let sql = format!(
        "INSERT INTO {table} OVERRIDING SYSTEM VALUE \
         SELECT * FROM json_populate_record(NULL::{table}, $1::json)"
    );
    let done = sqlx::query(AssertSqlSafe(sql)).bind(row).execute(&mut *tx).await;
    tx.rollback().await.unwrap();
    let error = done.unwrap_err();
    error.as_database_error().and_then(DatabaseError::code).unwrap().into_owned()
}

/// As the catalog of a migrated database says, not only the text of the migrations.
#[tokio::test(flavor = "multi_thread")]
async fn every_table_with_an_organization_has_its_policy() {
    let walled = Walled::database().await;
    let mut admin = PgConnection::connect(&walled.scratch.url).await.unwrap();
    let sql = "SELECT c.relname::text, c.relrowsecurity AND c.relforcerowsecurity, \
               (SELECT count(*) FROM pg_policy p WHERE p.polrelid = c.oid), \
               EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'org') \
               FROM pg_class c WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace";
    let tables = admin.fetch_all(sql).await.unwrap();
    let guarded = rows::guarded(&mut admin).await;
    for table in &tables {
        let (name, on, policies, org): (String, bool, i64, bool) =
            (table.get(0), table.get(1), table.get(2), table.get(3));
        assert_eq!(on, guarded.contains(&name), "{name}");
        assert_eq!(policies > 0, on, "{name}");
        assert!(on || !org, "{name}");
    }
    assert_eq!(tables.len(), 25);
}

/// A role without a grant is told so, and not that a row is missing.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_engine_never_does_its_role_may_not() {
    let walled = Walled::database().await;
    let mut conn = PgConnection::connect(&walled.url()).await.unwrap();
    for sql in [
        "UPDATE icp_audit SET actor = 'x'",
        "UPDATE icp_history SET spec = 'x'",
        "INSERT INTO icp_migration (version) VALUES (9)",
        "TRUNCATE icp_event",
        "ALTER TABLE icp_event DISABLE ROW LEVEL SECURITY",
    ] {
        let error = conn.execute(sql).await.unwrap_err();
        let state = error.as_database_error().and_then(|error| error.code().map(String::from));
        assert_eq!(state.as_deref(), Some("42501"), "{sql}");
    }
}

async fn number(conn: &mut PgConnection, sql: String) -> i64 {
    sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(conn).await.unwrap()
}
