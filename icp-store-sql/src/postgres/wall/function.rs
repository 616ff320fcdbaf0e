//! What an operation for one organization has to know of all: a number each, told by a function.

use crate::dialect::Dialect;
use crate::lane::FLOOR;
use crate::resource::LAST_REVISION;

/// A function in place of a subquery whose rows the policies hide.
#[derive(Clone, Copy, Debug)]
pub(super) struct Function {
    pub(super) name: &'static str,
    hidden: &'static str,
}

/// In the order of their names.
pub(super) const FUNCTIONS: [Function; 2] = [
    Function { name: "icp_floor", hidden: FLOOR },
    Function { name: "icp_last_revision", hidden: LAST_REVISION },
];

/// `sql` with the functions in place of what the policies hide.
pub(in crate::postgres) fn say(sql: &str) -> String {
    FUNCTIONS.iter().fold(sql.to_owned(), |sql, function| {
        sql.replace(function.hidden, &format!("(SELECT {}())", function.name))
    })
}

impl Function {
    /// What makes it; what it sets ends with it.
    pub(super) fn sql(&self) -> String {
        let (name, asked) = (self.name, Dialect::Postgres.say(self.hidden));
        format!(
            "CREATE OR REPLACE FUNCTION {name}() RETURNS bigint LANGUAGE plpgsql VOLATILE AS $body$\n\
             DECLARE\n    \
                 before text := coalesce(current_setting('icp.org', true), '');\n    \
                 answer bigint;\n\
             BEGIN\n    \
                 PERFORM set_config('icp.org', '*', true);\n    \
                 answer := ({asked});\n    \
                 PERFORM set_config('icp.org', before, true);\n    \
                 RETURN answer;\n\
             END $body$;\n"
        )
    }

    /// What lets `role` alone call it.
    pub(super) fn grant(&self, role: &str) -> String {
        let name = self.name;
        format!(
            "REVOKE ALL ON FUNCTION {name}() FROM PUBLIC;\n\
             GRANT EXECUTE ON FUNCTION {name}() TO {role};\n"
        )
    }
}
