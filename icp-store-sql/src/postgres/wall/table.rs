//! Every table, whose rows it holds, and what the engine's role may do with it.
//!
//! The one list: policies, grants and the check at start-up follow from it, and a table that is
//! missing here fails the tests.

use sha2::{Digest as _, Sha256};

/// Whose the rows of a table are.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Rows {
    /// Of the organization in the column `org`.
    Own,
    /// Of the organization that the row of another table is of: this one's column, and that table.
    Of(&'static str, &'static str),
    /// Of the node: none that acts for an organization sees them.
    Node,
    /// Of nobody: they tell nothing of an organization, and those that act for one need them.
    Shared,
}

/// A table as the migrations write its name.
#[derive(Clone, Copy, Debug)]
pub(super) struct Table {
    pub(super) name: &'static str,
    pub(super) rows: Rows,
    grant: &'static str,
}

const ALL: &str = "SELECT, INSERT, UPDATE, DELETE";
const KEPT: &str = "SELECT, INSERT, UPDATE";
const NEVER_CHANGED: &str = "SELECT, INSERT, DELETE";

pub(super) const TABLES: [Table; 25] = [
    table("icp_attempt", Rows::Of("delivery", "icp_delivery"), ALL),
    table("icp_audit", Rows::Own, NEVER_CHANGED),
    table("icp_audit_head", Rows::Own, KEPT),
    table("icp_delivery", Rows::Own, ALL),
    table("icp_erasing", Rows::Of("delivery", "icp_delivery"), NEVER_CHANGED),
    table("icp_event", Rows::Own, ALL),
    table("icp_handle", Rows::Own, NEVER_CHANGED),
    table("icp_head", Rows::Shared, "SELECT, UPDATE"),
    table("icp_history", Rows::Own, NEVER_CHANGED),
    table("icp_idempotency", Rows::Own, ALL),
    table("icp_lane", Rows::Own, ALL),
    table("icp_letter", Rows::Of("delivery", "icp_delivery"), ALL),
    table("icp_letter_note", Rows::Of("delivery", "icp_delivery"), NEVER_CHANGED),
    table("icp_meter", Rows::Own, ALL),
    table("icp_migration", Rows::Shared, "SELECT"),
    table("icp_outbox", Rows::Own, NEVER_CHANGED),
    table("icp_replay", Rows::Own, ALL),
    table("icp_replay_delivery", Rows::Of("job", "icp_replay"), NEVER_CHANGED),
    table("icp_resource", Rows::Own, KEPT),
    table("icp_rest", Rows::Own, NEVER_CHANGED),
    table("icp_rollup", Rows::Own, ALL),
    table("icp_rollup_failure", Rows::Own, ALL),
    table("icp_rollup_seen", Rows::Shared, ALL),
    table("icp_session", Rows::Shared, ALL),
    table("icp_slot", Rows::Node, ALL),
];

/// The table that hosts write to, within transactions that are about no organization of ours.
pub(super) const OUTBOX: &str = "icp_outbox";

const fn table(name: &'static str, rows: Rows, grant: &'static str) -> Table {
    Table { name, rows, grant }
}

/// What `Scope::Node` sets. Within a subquery, so that it is looked up once for each statement.
const NODE: &str = "(SELECT current_setting('icp.org', true) = '*')";

const NAMED: &str =
    "org = ANY ((SELECT string_to_array(current_setting('icp.org', true), ','))::text[])";

/// A setting that was never made is null, and one that a transaction made is empty after it.
const UNSET: &str = "(SELECT coalesce(current_setting('icp.org', true), '') = '')";

impl Table {
    pub(super) fn is_guarded(&self) -> bool {
        self.rows != Rows::Shared
    }

    /// Its policies: their names, and what each is for and demands.
    pub(super) fn policies(&self) -> Vec<(&'static str, String)> {
        let own = match self.rows {
            Rows::Own => format!("FOR ALL USING ({NODE} OR {NAMED})"),
            Rows::Of(column, parent) => format!(
                "FOR ALL USING ({NODE} OR EXISTS \
                 (SELECT FROM {parent} p WHERE p.id = {}.{column}))",
                self.name
            ),
            Rows::Node => format!("FOR ALL USING ({NODE})"),
            Rows::Shared => return Vec::new(),
        };
        let mut policies = vec![("organization", own)];
        if self.name == OUTBOX {
            policies.push(("publish", format!("FOR INSERT WITH CHECK ({UNSET})")));
        }
        policies
    }

    /// What `role` is granted.
    pub(super) fn grant(&self, role: &str) -> String {
        format!(
            "REVOKE ALL ON {0} FROM {role};\nGRANT {1} ON {0} TO {role};\n",
            self.name, self.grant
        )
    }
}

/// What a policy carries as its comment, so that another is told from it.
pub(super) fn fingerprint(policy: &str) -> String {
    let hash = Sha256::digest(policy);
    hash[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    const SQL: &str = include_str!("../../../migrations/postgres/0001_init.sql");

    /// Each table that the migrations make, with its columns.
    fn made() -> BTreeMap<&'static str, Vec<&'static str>> {
        let mut tables = BTreeMap::from([("icp_migration", Vec::new())]);
        for part in SQL.split("CREATE TABLE IF NOT EXISTS ").skip(1) {
            let (name, rest) = part.split_once(" (").unwrap();
            let (columns, _) = rest.split_once(";").unwrap();
            let columns =
                columns.split([',', '\n', '(']).filter_map(|c| c.split_whitespace().next());
            tables.insert(name, columns.collect());
        }
        tables
    }

    #[test]
    fn every_table_is_listed_and_those_of_organizations_are_guarded() {
        let made = made();
        assert_eq!(made.len(), TABLES.len());
        for table in TABLES {
            let columns = &made[table.name];
            let own = columns.contains(&"org");
            assert_eq!(own, table.rows == Rows::Own, "{}", table.name);
            let of = columns.contains(&"delivery");
            assert!(!of || table.is_guarded(), "{}", table.name);
            if let Rows::Of(column, parent) = table.rows {
                assert!(columns.contains(&column), "{}", table.name);
                assert!(made[parent].contains(&"org"), "{}", table.name);
            }
        }
    }

    #[test]
    fn each_guarded_table_has_a_policy_and_the_outbox_one_more() {
        for table in TABLES {
            let expected = usize::from(table.is_guarded()) + usize::from(table.name == OUTBOX);
            assert_eq!(table.policies().len(), expected, "{}", table.name);
        }
    }
}
