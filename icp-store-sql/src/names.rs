use std::sync::Arc;

use icp_core::error::{Code, Error, Result};

/// What every table's name begins with in the statements as they are written.
const PREFIX: &str = "icp_";

/// What the tables are called: `icp_` and their noun, in the connection's own schema, unless set.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub struct Names {
    schema: Option<Arc<str>>,
    prefix: Option<Arc<str>>,
}

impl Names {
    /// Tables in `schema`, where one is given, whose names begin with `prefix`.
    ///
    /// Both are of lower-case ASCII letters, digits and underscores and begin with no digit; a
    /// schema has up to 63 of them, a prefix 1 to 24.
    ///
    /// # Errors
    ///
    /// [`ConfigInvalid`](Code::ConfigInvalid) where one is of another form.
    pub fn new(schema: Option<&str>, prefix: &str) -> Result<Self> {
        if let Some(schema) = schema {
            check("schema", schema, 63)?;
        }
        check("table prefix", prefix, 24)?;
        let prefix = (prefix != PREFIX).then(|| prefix.into());
        Ok(Self { schema: schema.map(Arc::from), prefix })
    }

    /// The schema, where one is set.
    #[must_use]
    pub fn schema(&self) -> Option<&str> {
        self.schema.as_deref()
    }

    /// What the names begin with. Default `icp_`.
    #[must_use]
    pub fn prefix(&self) -> &str {
        self.prefix.as_deref().unwrap_or(PREFIX)
    }

    /// The same without the schema, for statements that name indexes too.
    pub(crate) fn bare(&self) -> Self {
        Self { schema: None, prefix: self.prefix.clone() }
    }

    /// `sql` with these names.
    ///
    /// Sound because the text of a statement never holds a user's data.
    pub(crate) fn put(&self, sql: String) -> String {
        if *self == Self::default() {
            return sql;
        }
        let mut named = String::with_capacity(sql.len() + 128);
        let mut rest = sql.as_str();
        while let Some(at) = rest.find(PREFIX) {
            let (before, found) = rest.split_at(at);
            named.push_str(before);
            if named.ends_with(|c: char| c == '_' || c.is_ascii_alphanumeric()) {
                named.push_str(PREFIX);
            } else {
                self.write(&mut named);
            }
            rest = &found[PREFIX.len()..];
        }
        named.push_str(rest);
        named
    }

    fn write(&self, named: &mut String) {
        if let Some(schema) = &self.schema {
            named.extend(["\"", schema, "\"."]);
        }
        named.push_str(self.prefix());
    }
}

fn check(what: &str, name: &str, longest: usize) -> Result<()> {
    let plain = |c: u8| c == b'_' || c.is_ascii_lowercase() || c.is_ascii_digit();
    let starts = name.bytes().next().is_some_and(|c| !c.is_ascii_digit());
    if starts && name.len() <= longest && name.bytes().all(plain) {
        return Ok(());
    }
    Err(Error::new(
        Code::ConfigInvalid,
        format!(
            "the {what} is not of 1 to {longest} lower-case letters, digits and underscores that \
             begin with no digit; choose another"
        ),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_reach_every_table_and_nothing_else() {
        let sql = "UPDATE icp_lane SET pass = icp_lane.pass WHERE x = my_icp_lane AND (icp_a)";
        let put = |schema, prefix| Names::new(schema, prefix).unwrap().put(sql.to_owned());
        assert_eq!(put(None, "icp_"), sql);
        assert_eq!(
            put(None, "hooks_"),
            "UPDATE hooks_lane SET pass = hooks_lane.pass WHERE x = my_icp_lane AND (hooks_a)"
        );
        assert_eq!(
            put(Some("shop"), "icp_"),
            "UPDATE \"shop\".icp_lane SET pass = \"shop\".icp_lane.pass WHERE x = my_icp_lane \
             AND (\"shop\".icp_a)"
        );
    }

    #[test]
    fn names_that_would_need_care_are_refused() {
        for (schema, prefix) in [
            (None, ""),
            (None, "1_"),
            (None, "Icp_"),
            (None, "a\"; --"),
            (None, "abcdefghijklmnopqrstuvwxy"),
            (Some(""), "icp_"),
            (Some("a b"), "icp_"),
            (Some("é"), "icp_"),
        ] {
            let error = Names::new(schema, prefix).unwrap_err();
            assert_eq!(error.code(), Code::ConfigInvalid, "{schema:?} {prefix:?}");
        }
    }
}
