use icp_core::id::OrgId;

use super::*;
use crate::lane::FLOOR;
use crate::names::Names;
use crate::postgres::migrate::Source;
use crate::resource::LAST_REVISION;

fn security(schema: Option<&str>, prefix: &str) -> RowSecurity {
    let pool = sqlx::PgPool::connect_lazy("postgres://nobody@localhost/nothing").unwrap();
    RowSecurity::new(Schema::new(Source::Pool(pool), Names::new(schema, prefix).unwrap()))
}

#[test]
fn each_statement_that_needs_all_lanes_asks_the_function() {
    let of_all = "FROM icp_lane WHERE runnable = 1";
    for sql in [crate::lane::APPLY.0, &crate::lane::look_up_sql(), crate::claim::WAKE.0] {
        assert_eq!(sql.matches("min(pass)").count(), sql.matches(FLOOR).count(), "{sql}");
        let said = say(sql);
        assert!(said.contains("(SELECT icp_floor())") && !said.contains(of_all), "{said}");
    }
    assert_eq!(say(LAST_REVISION), "(SELECT icp_last_revision())");
    assert_eq!(say("SELECT 1"), "SELECT 1");
}

#[test]
fn a_transaction_begins_with_what_it_is_about() {
    let acme = OrgId::new("acme").unwrap();
    assert_eq!(begin("BEGIN", Scope::Of(&acme)).0, "BEGIN; SET LOCAL icp.org = 'acme'");
    assert_eq!(begin("BEGIN", Scope::Node).0, "BEGIN; SET LOCAL icp.org = '*'");
}

#[tokio::test]
async fn names_reach_tables_and_functions_but_no_role_and_no_setting() {
    let sql = security(Some("shop"), "hooks_").sql("icp_app").unwrap();
    assert!(!sql.replace("\"icp_app\"", "").contains("icp_"), "{sql}");
    assert!(sql.contains("CREATE POLICY organization ON \"shop\".hooks_event "));
    assert!(sql.contains("GRANT USAGE ON SCHEMA \"shop\" TO \"icp_app\";"));
    assert!(sql.contains("FUNCTION \"shop\".hooks_floor()"));
}

#[tokio::test]
async fn a_role_is_quoted_and_one_without_a_name_is_refused() {
    let security = security(None, "icp_");
    let sql = security.sql("a\"; DROP TABLE b; --").unwrap();
    assert!(sql.contains("TO \"a\"\"; DROP TABLE b; --\";"));
    for role in ["", "a\0", "$role$", &"x".repeat(64)] {
        assert_eq!(security.sql(role).unwrap_err().code(), Code::ConfigInvalid);
    }
}
