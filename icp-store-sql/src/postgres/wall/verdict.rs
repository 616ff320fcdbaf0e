//! Whether row-level security holds for a role, from what the catalog says.

use icp_core::error::{Code, Error, Result};
use sqlx::{PgConnection, Row as _};

use super::function::{FUNCTIONS, Function};
use super::table::{TABLES, Table, fingerprint};
use crate::names::Names;

/// What the catalog says of the role that asks, and of the tables.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) role: String,
    pub(super) superuser: bool,
    pub(super) bypasses: bool,
    /// The functions that the role may call, each as its name and comment, in order.
    pub(super) functions: Vec<String>,
    pub(super) tables: Vec<FoundTable>,
}

#[derive(Clone, Debug)]
pub(super) struct FoundTable {
    pub(super) name: String,
    pub(super) on: bool,
    pub(super) forced: bool,
    /// Whether the role may act as its owner.
    pub(super) owned: bool,
    /// Whether the role may empty it, which no policy holds.
    pub(super) truncates: bool,
    /// The permissive policies, each as its name and comment, in order.
    pub(super) policies: Vec<String>,
}

const ROLE: &str = "SELECT rolname::text, rolsuper, rolbypassrls FROM pg_catalog.pg_roles \
     WHERE rolname = current_user";

const FOUND: &str = "SELECT c.relname::text, c.relrowsecurity, c.relforcerowsecurity, \
     pg_catalog.pg_has_role(c.relowner, 'MEMBER'), \
     pg_catalog.has_table_privilege(c.oid, 'TRUNCATE'), \
     ARRAY(SELECT p.polname || ' ' || coalesce(pg_catalog.obj_description(p.oid, 'pg_policy'), '') \
        FROM pg_catalog.pg_policy p WHERE p.polrelid = c.oid AND p.polpermissive ORDER BY 1) \
     FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
     WHERE n.nspname = coalesce($1, current_schema()) AND c.relname = ANY ($2)";

const CALLED: &str = "SELECT p.proname || ' ' || \
     coalesce(pg_catalog.obj_description(p.oid, 'pg_proc'), '') \
     FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace \
     WHERE n.nspname = coalesce($1, current_schema()) AND p.proname = ANY ($2) \
     AND pg_catalog.has_function_privilege(p.oid, 'EXECUTE') ORDER BY 1";

pub(super) async fn find(conn: &mut PgConnection, names: &Names) -> Result<Found, sqlx::Error> {
    let role = sqlx::query(ROLE).fetch_one(&mut *conn).await?;
    let functions: Vec<String> =
        FUNCTIONS.iter().map(|function| called(function.name, names)).collect();
    let functions = sqlx::query_scalar(CALLED).bind(names.schema()).bind(functions);
    let functions = functions.fetch_all(&mut *conn).await?;
    let tables: Vec<String> = TABLES.iter().map(|table| called(table.name, names)).collect();
    let rows = sqlx::query(FOUND).bind(names.schema()).bind(tables).fetch_all(conn).await?;
    let table = |row: &sqlx::postgres::PgRow| -> Result<FoundTable, sqlx::Error> {
        Ok(FoundTable {
            name: row.try_get(0)?,
            on: row.try_get(1)?,
            forced: row.try_get(2)?,
            owned: row.try_get(3)?,
            truncates: row.try_get(4)?,
            policies: row.try_get(5)?,
        })
    };
    Ok(Found {
        role: role.try_get(0)?,
        superuser: role.try_get(1)?,
        bypasses: role.try_get(2)?,
        functions,
        tables: rows.iter().map(table).collect::<Result<_, _>>()?,
    })
}

/// Answers nothing where the policies hold the role, else why not and what to do.
pub(super) fn judge(found: &Found, names: &Names) -> Result<()> {
    let role = &found.role;
    if found.superuser {
        return Err(refuse(format!(
            "the role `{role}` is a superuser, whom row-level security does not hold; connect as \
             a role that is none"
        )));
    }
    if found.bypasses {
        return Err(refuse(format!(
            "the role `{role}` has BYPASSRLS; take it away with `ALTER ROLE .. NOBYPASSRLS`, or \
             connect as another"
        )));
    }
    TABLES.iter().try_for_each(|table| judge_table(table, &called(table.name, names), found))?;
    if found.functions == callable(names) {
        return Ok(());
    }
    Err(refuse(format!(
        "the role `{role}` cannot call the functions of this version that go with the policies; \
         apply them as the owner of the tables with `row_security()?.apply(\"{role}\")`"
    )))
}

fn judge_table(table: &Table, name: &str, found: &Found) -> Result<()> {
    let role = &found.role;
    let Some(there) = found.tables.iter().find(|there| there.name == name) else {
        return Err(refuse(format!(
            "there is no table `{name}` in the schema of the store; name the schema it was made in"
        )));
    };
    if there.owned {
        return Err(refuse(format!(
            "the role `{role}` owns the table `{name}`, or may become its owner, who can switch \
             row-level security off; connect as a role that does not"
        )));
    }
    if !table.is_guarded() {
        return Ok(());
    }
    if there.truncates {
        return Err(refuse(format!(
            "the role `{role}` may TRUNCATE the table `{name}`, which no policy holds; revoke it"
        )));
    }
    if !there.on || !there.forced || there.policies != expected(table) {
        return Err(refuse(format!(
            "the table `{name}` has not the policies of this version, and those alone; apply them \
             as its owner with `row_security()?.apply(..)`, and drop others"
        )));
    }
    Ok(())
}

fn expected(table: &Table) -> Vec<String> {
    let policies = table.policies();
    policies.iter().map(|(name, policy)| format!("{name} {}", fingerprint(policy))).collect()
}

fn callable(names: &Names) -> Vec<String> {
    let function = |f: &Function| format!("{} {}", called(f.name, names), fingerprint(&f.sql()));
    FUNCTIONS.iter().map(function).collect()
}

fn called(name: &str, names: &Names) -> String {
    names.bare().put(name.to_owned())
}

fn refuse(message: String) -> Error {
    Error::new(Code::StoreUnguarded, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sound() -> Found {
        let table = |table: &Table| FoundTable {
            name: called(table.name, &Names::default()),
            on: table.is_guarded(),
            forced: table.is_guarded(),
            owned: false,
            truncates: false,
            policies: expected(table),
        };
        let tables = TABLES.iter().map(table).collect();
        let (role, functions) = ("app".to_owned(), callable(&Names::default()));
        Found { role, superuser: false, bypasses: false, functions, tables }
    }

    fn refusal(spoil: impl FnOnce(&mut Found)) -> String {
        let mut found = sound();
        spoil(&mut found);
        let error = judge(&found, &Names::default()).unwrap_err();
        assert_eq!(error.code(), Code::StoreUnguarded);
        error.to_string()
    }

    fn of<'f>(found: &'f mut Found, name: &str) -> &'f mut FoundTable {
        found.tables.iter_mut().find(|table| table.name == name).unwrap()
    }

    #[test]
    fn a_role_that_the_policies_hold_is_accepted() {
        judge(&sound(), &Names::default()).unwrap();
    }

    #[test]
    fn what_gets_past_the_policies_is_refused() {
        assert!(refusal(|f| f.superuser = true).contains("superuser"));
        assert!(refusal(|f| f.bypasses = true).contains("BYPASSRLS"));
        assert!(refusal(|f| of(f, "icp_head").owned = true).contains("owns the table `icp_head`"));
        assert!(refusal(|f| of(f, "icp_event").truncates = true).contains("TRUNCATE"));
        assert!(refusal(|f| f.functions.truncate(1)).contains("functions"));
        assert!(refusal(|f| f.tables.clear()).contains("no table"));
    }

    #[test]
    fn policies_that_are_missing_off_or_not_ours_are_refused() {
        for table in TABLES.iter().filter(|table| table.is_guarded()) {
            for spoil in [
                (|table| table.on = false) as fn(&mut FoundTable),
                |table| table.forced = false,
                |table| table.policies.clear(),
                |table| table.policies.push("zeal".to_owned()),
                |table| table.policies[0].push('0'),
            ] {
                let message = refusal(|found| spoil(of(found, table.name)));
                assert!(message.contains("policies") && message.contains(table.name));
            }
        }
    }
}
