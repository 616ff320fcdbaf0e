//! In PostgreSQL's words.

use std::borrow::Cow;

/// What only has another name.
const NAMES: &[(&str, &str)] = &[
    ("INSERT OR FAIL", "INSERT"),
    ("UPDATE OR FAIL", "UPDATE"),
    ("json_group_array(", "json_agg("),
    ("json_array(", "json_build_array("),
    ("MAX(", "greatest("),
    ("MIN(", "least("),
    (" CROSS JOIN ", " JOIN "),
    ("x''", "''::bytea"),
    ("LIMIT +?", "LIMIT ?"),
    ("json_extract(a.outcome, '$.failed')", "(a.outcome::json ->> 'failed')"),
    ("CAST(group_concat(e.body, '') AS BLOB)", "string_agg(e.body, ''::bytea)"),
];

pub(super) fn say(sql: &str) -> String {
    let mut said = Cow::Borrowed(sql);
    for (name, other) in NAMES {
        if said.contains(name) {
            said = Cow::Owned(said.replace(name, other));
        }
    }
    numbered(&encoded(&unhinted(&said)))
}

/// Without hints at the index to use.
fn unhinted(sql: &str) -> Cow<'_, str> {
    let hint = "INDEXED BY ";
    if !sql.contains(hint) {
        return Cow::Borrowed(sql);
    }
    let mut parts = sql.split(hint);
    let mut said = String::with_capacity(sql.len());
    said.extend(parts.next());
    for part in parts {
        said.push_str(part.trim_start_matches(|c: char| c.is_ascii_alphanumeric() || c == '_'));
    }
    Cow::Owned(said)
}

/// With `encode(d.id, 'hex')` for `hex(d.id)`.
fn encoded(sql: &str) -> Cow<'_, str> {
    let hex = "hex(";
    if !sql.contains(hex) {
        return Cow::Borrowed(sql);
    }
    let mut parts = sql.split(hex);
    let mut said = String::with_capacity(sql.len() + 256);
    said.extend(parts.next());
    for part in parts {
        said.push_str("encode(");
        match part.split_once(')') {
            Some((column, rest)) => said.extend([column, ", 'hex')", rest]),
            None => said.push_str(part),
        }
    }
    Cow::Owned(said)
}

/// With `$1` for `?` and for `?1`.
fn numbered(sql: &str) -> String {
    let mut said = String::with_capacity(sql.len() + 64);
    let mut count = 0;
    let mut parts = sql.split('?');
    said.extend(parts.next());
    for part in parts {
        said.push('$');
        if !part.starts_with(|c: char| c.is_ascii_digit()) {
            count += 1;
            said.push_str(&count.to_string());
        }
        said.push_str(part);
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_another_name_is_called_by_it() {
        for (sql, said) in [
            ("SELECT ?, ?", "SELECT $1, $2"),
            ("SELECT ?2, ?1", "SELECT $2, $1"),
            ("(?,?),(?,?)", "($1,$2),($3,$4)"),
            ("a INDEXED BY a_b WHERE c", "a  WHERE c"),
            ("a INDEXED BY a_b", "a "),
            ("hex(d.id), hex(d.owner)", "encode(d.id, 'hex'), encode(d.owner, 'hex')"),
            ("json_array(MAX(a, min(b)))", "json_build_array(greatest(a, min(b)))"),
            ("v CROSS JOIN t ON true", "v JOIN t ON true"),
            ("a = ? LIMIT +?", "a = $1 LIMIT $2"),
        ] {
            assert_eq!(say(sql), said);
        }
    }
}
