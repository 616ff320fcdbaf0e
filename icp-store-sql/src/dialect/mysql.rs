//! Statements in the words that MySQL and MariaDB have in common.

mod table;
mod token;

use std::collections::BTreeMap;

use crate::value::Value;
use token::Token;

/// What a row that is there already means to a statement that says `ON CONFLICT DO NOTHING`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Conflict {
    /// Nothing is written.
    Skip,
    /// The statement fails, because the server would not tell by its count of rows.
    Fail,
}

/// A statement in words of MySQL.
#[derive(Debug, Default, Eq, PartialEq)]
pub(crate) struct Said {
    pub(crate) sql: String,
    /// Which value each placeholder takes.
    pub(crate) order: Vec<usize>,
    /// How many rows it writes, where the server counts those twice that were there.
    pub(crate) upserts: Option<u64>,
}

/// Puts a statement of SQLite's words, to which `values` are bound, into those of MySQL.
pub(crate) fn say(sql: &str, values: &[Value], conflict: Conflict) -> Said {
    let (tokens, rows) = table::arrange(token::tokens(sql), values);
    let (said, ends) = (Said::default(), BTreeMap::new());
    let mut writer = Writer { tokens: &tokens, at: 0, conflict, rows, said, ends };
    while writer.at < tokens.len() {
        writer.step();
    }
    writer.said
}

struct Writer<'a> {
    tokens: &'a [Token<'a>],
    at: usize,
    conflict: Conflict,
    /// How many rows the statement brings.
    rows: u64,
    said: Said,
    /// What is to be written in place of brackets that close.
    ends: BTreeMap<usize, &'static str>,
}

impl<'a> Writer<'a> {
    fn reads(&self, at: usize, words: &[&str]) -> bool {
        token::reads(self.tokens, at, words)
    }

    fn text(&self, at: usize) -> &'a str {
        self.tokens.get(at).map_or("", |token| token.text)
    }

    fn write(&mut self, gap: bool, text: &str) {
        if gap && !self.said.sql.is_empty() {
            self.said.sql.push(' ');
        }
        self.said.sql.push_str(text);
    }

    /// Writes `text` in place of the next `count` tokens.
    fn replace(&mut self, count: usize, text: &str) {
        let gap = self.tokens[self.at].gap;
        if !text.is_empty() {
            self.write(gap, text);
        }
        self.at += count;
    }

    /// Writes the next token, whatever it says.
    fn copy(&mut self) {
        let token = self.tokens[self.at];
        if let Some(value) = token.value {
            self.said.order.push(value);
        }
        let text = self.ends.remove(&self.at).unwrap_or(token.text);
        self.write(token.gap, text);
        self.at += 1;
    }

    fn step(&mut self) {
        if !self.join_or_lock() && !self.change() && !self.comparison() && !self.function() {
            self.copy();
        }
    }

    fn join_or_lock(&mut self) -> bool {
        let at = self.at;
        if self.reads(at, &["CROSS", "JOIN"]) {
            self.replace(2, "STRAIGHT_JOIN");
        } else if self.reads(at, &["INDEXED", "BY"]) {
            let index = self.text(at + 2);
            self.replace(3, &format!("FORCE INDEX ({index})"));
        } else if self.reads(at, &["LIMIT", "+"]) {
            self.replace(2, "LIMIT ");
        } else if self.reads(at, &["AS", "MATERIALIZED"]) {
            self.replace(2, "AS");
        } else if self.reads(at, &["FOR", "NO", "KEY", "UPDATE"]) {
            self.replace(4, "FOR UPDATE");
            self.forget_of();
        } else if self.reads(at, &["FOR", "UPDATE"]) {
            self.replace(2, "FOR UPDATE");
            self.forget_of();
        } else if self.reads(at, &["FOR", "KEY", "SHARE"]) {
            self.replace(3, "LOCK IN SHARE MODE");
            self.forget_of();
        } else if self.reads(at, &["FOR", "SHARE"]) {
            self.replace(2, "LOCK IN SHARE MODE");
            self.forget_of();
        } else {
            return false;
        }
        true
    }

    /// MariaDB locks what it reads, whichever table that is of.
    fn forget_of(&mut self) {
        if self.reads(self.at, &["OF"]) {
            self.at += 2;
        }
    }

    fn change(&mut self) -> bool {
        let at = self.at;
        if self.reads(at, &["OR", "FAIL"]) {
            self.replace(2, "");
        } else if self.reads(at, &["IN", "(", "VALUES"]) {
            self.replace(3, "IN (");
        } else if self.reads(at, &["DELETE", "FROM"]) && self.reads(at + 3, &["AS"]) {
            let alias = self.text(at + 4);
            self.replace(1, &format!("DELETE {alias}"));
        } else if self.reads(at, &["ON", "CONFLICT"]) {
            self.on_conflict();
        } else if self.reads(at, &["excluded", "."]) {
            let column = column(self.text(at + 2));
            self.replace(3, &format!("VALUES({column})"));
        } else if self.reads(at, &["key"]) {
            self.replace(1, "`key`");
        } else {
            return false;
        }
        true
    }

    fn on_conflict(&mut self) {
        let mut at = self.at + 2;
        if self.text(at) == "(" {
            at = token::close(self.tokens, at) + 1;
        }
        let count = at - self.at;
        if self.reads(at, &["DO", "UPDATE", "SET"]) {
            self.said.upserts = Some(self.rows);
            self.replace(count + 3, "ON DUPLICATE KEY UPDATE");
        } else if self.conflict == Conflict::Fail {
            self.replace(count + 2, "");
        } else {
            // Any column: it keeps its value.
            let (table, column) = self.inserted();
            self.said.upserts = Some(self.rows);
            let keep = format!("ON DUPLICATE KEY UPDATE {table}.{column} = {table}.{column}");
            self.replace(count + 2, &keep);
        }
    }

    /// The table that is inserted into, and the first of the columns.
    fn inserted(&self) -> (&'a str, &'a str) {
        let at = (0..self.at).find(|at| self.reads(*at, &["INTO"])).unwrap_or_default();
        (self.text(at + 1), column(self.text(at + 3)))
    }

    /// Comparisons of a column that hold of nulls too, and what is within a document.
    fn comparison(&mut self) -> bool {
        let at = self.at;
        let named = self.text(at + 1) == ".";
        let end = if named { at + 3 } else { at + 1 };
        let bound = |at| {
            let text: &str = self.text(at);
            text.starts_with(|c: char| c == '?' || c.is_ascii_digit())
        };
        let is_column = self.text(at).starts_with(|c: char| c.is_ascii_alphabetic());
        if !is_column || (at > 0 && self.text(at - 1) == ".") {
            return false;
        }
        let name: String = self.tokens[at..end.min(self.tokens.len())]
            .iter()
            .map(|token| column(token.text))
            .collect();
        // What is bound comes as a token of its own, which is written by the next step.
        if self.text(end) == "->>" {
            let path = self.text(end + 1);
            let text = format!("nullif(json_unquote(json_extract({name}, {path})), 'null')");
            self.replace(end + 2 - at, &text);
        } else if self.reads(end, &["IS", "NOT", "DISTINCT", "FROM"]) {
            self.replace(end + 4 - at, &format!("{name} <=>"));
        } else if self.reads(end, &["IS", "DISTINCT", "FROM"]) {
            self.replace(end + 3 - at, &format!("NOT {name} <=>"));
        } else if self.reads(end, &["IS", "NOT"]) && bound(end + 2) {
            self.replace(end + 2 - at, &format!("NOT {name} <=>"));
        } else if self.reads(end, &["IS"]) && bound(end + 1) {
            self.replace(end + 1 - at, &format!("{name} <=>"));
        } else {
            return false;
        }
        true
    }

    fn function(&mut self) -> bool {
        let at = self.at;
        if self.text(at + 1) != "(" {
            return self.cast();
        }
        let (name, end) = match self.text(at) {
            "iif" => ("if(", ""),
            "max" | "MAX" if self.commas(at + 1) > 0 => ("greatest(", ""),
            "min" | "MIN" if self.commas(at + 1) > 0 => ("least(", ""),
            "json" => ("json_extract(", ", '$')"),
            "json_extract" => ("nullif(json_unquote(json_extract(", ")), 'null')"),
            "json_group_array" => ("coalesce(json_arrayagg(", "), json_array())"),
            _ => return self.cast(),
        };
        if !end.is_empty() {
            self.ends.insert(token::close(self.tokens, at + 1), end);
        }
        self.replace(2, name);
        true
    }

    fn cast(&mut self) -> bool {
        if !self.reads(self.at, &["AS"]) || self.text(self.at + 2) != ")" {
            return false;
        }
        let kind = match self.text(self.at + 1).to_ascii_uppercase().as_str() {
            "INTEGER" | "BIGINT" => "AS SIGNED",
            "TEXT" => "AS CHAR",
            "BLOB" => "AS BINARY",
            _ => return false,
        };
        self.replace(2, kind);
        true
    }

    /// How many commas the brackets at `open` hold, those of inner brackets aside.
    fn commas(&self, open: usize) -> usize {
        let mut depth = 0_usize;
        let held = &self.tokens[open..token::close(self.tokens, open).min(self.tokens.len())];
        let commas = held.iter().filter(|token| {
            match token.text {
                "(" => depth += 1,
                ")" => depth -= 1,
                _ => {}
            }
            depth == 1 && token.text == ","
        });
        commas.count()
    }
}

/// A column by a name that is no word of MySQL's own.
fn column(name: &str) -> &str {
    if name == "key" { "`key`" } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As with a different number bound to each placeholder.
    fn said(sql: &str, conflict: Conflict) -> Said {
        let values: Vec<_> = (0..20).map(|n| Value::Int(Some(n))).collect();
        say(sql, &values, conflict)
    }

    #[test]
    fn other_names_are_put_in() {
        for (sqlite, mysql) in [
            (
                "SELECT a FROM t d INDEXED BY t_a WHERE a = ?",
                "SELECT a FROM t d FORCE INDEX (t_a) WHERE a = ?",
            ),
            (
                "SELECT 1 FROM v CROSS JOIN t d ON d.id = v.id",
                "SELECT 1 FROM v STRAIGHT_JOIN t d ON d.id = v.id",
            ),
            ("UPDATE OR FAIL t SET a = 1", "UPDATE t SET a = 1"),
            (
                "SELECT max(a), max(a, min(b, coalesce(c, 0)))",
                "SELECT max(a), greatest(a, least(b, coalesce(c, 0)))",
            ),
            ("SELECT min(coalesce(a, 1))", "SELECT min(coalesce(a, 1))"),
            ("SELECT iif(a, x'', 'max(a, b) ?1')", "SELECT if(a, x'', 'max(a, b) ?1')"),
            ("WITH p AS MATERIALIZED (SELECT 1) SELECT 2", "WITH p AS (SELECT 1) SELECT 2"),
            ("DELETE FROM t WHERE id IN (VALUES (?),(?))", "DELETE FROM t WHERE id IN ( (?),(?))"),
            ("DELETE FROM t AS e WHERE e.id = 1", "DELETE e FROM t AS e WHERE e.id = 1"),
            ("SELECT i.key FROM i WHERE key > 'key'", "SELECT i.`key` FROM i WHERE `key` > 'key'"),
            (
                "SELECT 'it''s' FROM t FOR UPDATE OF t SKIP LOCKED",
                "SELECT 'it''s' FROM t FOR UPDATE SKIP LOCKED",
            ),
            (
                "SELECT CAST(a AS INTEGER), CAST(b AS TEXT) AS c",
                "SELECT CAST(a AS SIGNED), CAST(b AS CHAR) AS c",
            ),
            (
                "SELECT json_array(json(l.rules), hex(l.id))",
                "SELECT json_array(json_extract(l.rules, '$'), hex(l.id))",
            ),
            ("SELECT MAX(a, ?), max(b)", "SELECT greatest(a, ?), max(b)"),
            (
                "SELECT json_group_array(a) FROM t",
                "SELECT coalesce(json_arrayagg(a), json_array()) FROM t",
            ),
            (
                "SELECT l.health ->> '$.a' IS NOT NULL",
                "SELECT nullif(json_unquote(json_extract(l.health, '$.a')), 'null') IS NOT NULL",
            ),
            (
                "SELECT json_extract(a.outcome, '$.failed') FROM a",
                "SELECT nullif(json_unquote(json_extract(a.outcome, '$.failed')), 'null') FROM a",
            ),
        ] {
            assert_eq!(said(sqlite, Conflict::Skip).sql, mysql);
        }
    }

    #[test]
    fn nulls_compare_as_values() {
        for (sqlite, mysql) in [
            ("WHERE d.due IS ?3", "WHERE d.due <=> ?"),
            ("WHERE rules IS NOT ?", "WHERE NOT rules <=> ?"),
            ("WHERE l.rules IS DISTINCT FROM ?1", "WHERE NOT l.rules <=> ?"),
            ("WHERE due IS NOT DISTINCT FROM ?", "WHERE due <=> ?"),
            ("WHERE d.state IS NOT 1 LIMIT ?", "WHERE NOT d.state <=> 1 LIMIT ?"),
            ("WHERE a IS NULL AND b IS NOT NULL", "WHERE a IS NULL AND b IS NOT NULL"),
            ("WHERE a = ? LIMIT +?2", "WHERE a = ? LIMIT ?"),
        ] {
            assert_eq!(said(sqlite, Conflict::Skip).sql, mysql);
        }
    }

    #[test]
    fn placeholders_take_their_values_in_order() {
        for (sqlite, order) in [
            ("a = ? AND b = ?", vec![0, 1]),
            ("a = ?2 OR b = ?1 OR c = ?2", vec![1, 0, 1]),
            ("a = '?' OR b = ?", vec![0]),
        ] {
            assert_eq!(said(sqlite, Conflict::Skip).order, order, "{sqlite}");
        }
    }

    #[test]
    fn conflicts_are_skipped_failed_or_written() {
        let nothing = "INSERT OR FAIL INTO t (a, b) VALUES (?,?) ON CONFLICT (a) DO NOTHING";
        let skipped = said(nothing, Conflict::Skip);
        let tail = "ON DUPLICATE KEY UPDATE t.a = t.a";
        assert_eq!(skipped.sql, format!("INSERT INTO t (a, b) VALUES (?,?) {tail}"));
        assert_eq!(skipped.upserts, Some(1));
        let failed = said(nothing, Conflict::Fail);
        assert_eq!(failed.sql, "INSERT INTO t (a, b) VALUES (?,?)");
        assert_eq!(failed.upserts, None);
        let keyed = "INSERT INTO t (key, b) VALUES (?,?) ON CONFLICT (key) DO UPDATE SET \
             b = excluded.b, key = excluded.key";
        assert_eq!(
            said(keyed, Conflict::Fail).sql,
            "INSERT INTO t (`key`, b) VALUES (?,?) ON DUPLICATE KEY UPDATE \
             b = VALUES(b), `key` = VALUES(`key`)"
        );
        assert_eq!(said(keyed, Conflict::Fail).upserts, Some(1));
    }

    #[test]
    fn rows_become_tables() {
        for (sqlite, mysql) in [
            (
                "WITH v (a, b) AS (VALUES (?,?),(?,?)) SELECT v.a FROM v",
                "WITH v (a, b) AS (SELECT CAST(? AS SIGNED), CAST(? AS SIGNED) UNION ALL \
                 SELECT CAST(? AS SIGNED), CAST(? AS SIGNED)) SELECT v.a FROM v",
            ),
            (
                "WITH v (id, b) AS (VALUES (?,?)) UPDATE OR FAIL t AS d SET a = max(v.b, ?), c = 1 \
                 FROM v WHERE d.id = v.id AND d.c = 0",
                "UPDATE (SELECT CAST(? AS SIGNED) AS id, CAST(? AS SIGNED) AS b) AS v \
                 STRAIGHT_JOIN t AS d ON d.id = v.id AND d.c = 0 \
                 SET d.a = greatest(v.b, ?), d.c = 1",
            ),
            (
                "UPDATE t AS d SET a = v.column2 FROM (VALUES (?,?)) AS v WHERE d.id = v.column1",
                "UPDATE (SELECT CAST(? AS SIGNED) AS column1, CAST(? AS SIGNED) AS column2) AS v \
                 STRAIGHT_JOIN t AS d ON d.id = v.column1 SET d.a = v.column2",
            ),
            (
                "WITH v (a) AS (VALUES (?)) INSERT INTO t (a, b) SELECT a, ? FROM v",
                "INSERT INTO t (a, b) WITH v (a) AS (SELECT CAST(? AS SIGNED)) SELECT a, ? FROM v",
            ),
        ] {
            assert_eq!(said(sqlite, Conflict::Skip).sql, mysql);
        }
    }

    #[test]
    fn what_is_bound_moves_with_its_place() {
        let sql = "WITH v (id) AS (VALUES (?),(?)) UPDATE t AS d SET a = ?, b = ? FROM v \
             WHERE d.id = v.id AND d.c = ?";
        assert_eq!(said(sql, Conflict::Skip).order, [0, 1, 4, 2, 3]);
    }

    #[test]
    fn rows_of_an_insert_that_fill_up_are_left_out() {
        let bound = [1, 2, 1, 3, 1, 3, 1, 3].map(|n| Value::Int(Some(n)));
        let sql = "INSERT INTO t (a, b) VALUES (?,?),(?,?),(?,?),(?,?)";
        let said = say(sql, &bound, Conflict::Fail);
        assert_eq!(said.sql, "INSERT INTO t (a, b) VALUES (?,?),(?,?)");
        assert_eq!(said.order, [0, 1, 2, 3]);
    }

    #[test]
    fn a_table_that_is_changed_is_read_behind_a_table() {
        let lowest = "(SELECT min(pass) FROM t WHERE a = 1)";
        assert_eq!(
            said(&format!("UPDATE t SET b = {lowest} WHERE c = ?"), Conflict::Skip).sql,
            "UPDATE t SET b = (SELECT * FROM (SELECT min(pass) FROM t WHERE a = 1) AS same) \
             WHERE c = ?"
        );
        let compared = "UPDATE t SET a = 1 WHERE b IS NOT DISTINCT FROM ?";
        assert_eq!(said(compared, Conflict::Skip).sql, "UPDATE t SET a = 1 WHERE b <=> ?");
        let other = "UPDATE u SET b = (SELECT min(pass) FROM t WHERE a = 1)";
        assert_eq!(said(other, Conflict::Skip).sql, other);
    }
}
