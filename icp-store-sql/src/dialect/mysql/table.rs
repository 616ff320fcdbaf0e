//! Rows that a statement brings with it, and where they may stand.
//!
//! The two servers have no way to write a table of rows in common but a union of selects, and
//! neither lets a change begin with such a table.

use super::token::{Token, close, find, reads};
use crate::value::Value;

/// Puts the rows of a statement where MySQL wants them; answers how many there are.
pub(super) fn arrange<'a>(mut tokens: Vec<Token<'a>>, values: &[Value]) -> (Vec<Token<'a>>, u64) {
    let mut rows = 1;
    if let Some(at) = find(&tokens, &["VALUES"]) {
        rows = fit(&mut tokens, at, values);
    }
    let mut at = 0;
    while at < tokens.len() {
        if reads(&tokens, at, &["(", "VALUES"]) && !(at > 0 && reads(&tokens, at - 1, &["IN"])) {
            rows = unite(&mut tokens, at, values);
        }
        at += 1;
    }
    if reads(&tokens, 0, &["WITH"])
        && let Some(insert) = find(&tokens, &["INSERT"])
    {
        tokens = insert_first(&tokens, insert);
    }
    if let Some(update) = update(&tokens) {
        if let Some(from) = find_from(&tokens) {
            tokens = join(&tokens, update, from);
        }
        tokens = aside(tokens);
    }
    (tokens, rows)
}

/// Where the statement says `UPDATE`, if that is what it is.
fn update(tokens: &[Token<'_>]) -> Option<usize> {
    let verbs = ["UPDATE", "INSERT", "SELECT", "DELETE"];
    let verb = verbs.iter().filter_map(|verb| find(tokens, &[verb])).min()?;
    Some(verb).filter(|verb| reads(tokens, *verb, &["UPDATE"]))
}

/// The rows behind `VALUES` at `at`.
fn rows_at(tokens: &[Token<'_>], at: usize) -> Vec<std::ops::Range<usize>> {
    let mut rows = Vec::new();
    let mut open = at + 1;
    while tokens.get(open).is_some_and(|token| token.text == "(") {
        let end = close(tokens, open);
        rows.push(open + 1..end);
        open = end + 2;
    }
    rows
}

fn bound<'v>(tokens: &[Token<'_>], values: &'v [Value]) -> Vec<Option<&'v Value>> {
    tokens.iter().filter_map(|token| token.value).map(|value| values.get(value)).collect()
}

/// How many rows there are before the last of them is repeated to fill up.
fn distinct(tokens: &[Token<'_>], rows: &[std::ops::Range<usize>], values: &[Value]) -> usize {
    let row = |at: usize| bound(&tokens[rows[at].clone()], values);
    let mut count = rows.len();
    while count > 1 && row(count - 1) == row(count - 2) {
        count -= 1;
    }
    count
}

/// Leaves out the rows of an insert that only fill up.
fn fit(tokens: &mut Vec<Token<'_>>, at: usize, values: &[Value]) -> u64 {
    let rows = rows_at(tokens, at);
    let count = distinct(tokens, &rows, values);
    if let (Some(last), Some(end)) = (rows.get(count.saturating_sub(1)), rows.last()) {
        tokens.drain(last.end + 1..end.end + 1);
    }
    count as u64
}

/// Makes a union of the table of rows in the brackets at `open`.
fn unite(tokens: &mut Vec<Token<'_>>, open: usize, values: &[Value]) -> u64 {
    let rows = rows_at(tokens, open + 1);
    let count = distinct(tokens, &rows, values);
    // Names that stand before a table are those of its columns; others are as SQLite gives them.
    let named = open > 0 && reads(tokens, open - 1, &["AS"]);
    let derived = update(tokens).is_some();
    let names: Vec<&str> = if named { names(&tokens[..open]) } else { COLUMNS.to_vec() };
    let mut union = Vec::new();
    for (index, row) in rows[..count].iter().enumerate() {
        if index > 0 {
            union.extend([Token::new(true, "UNION"), Token::new(true, "ALL")]);
        }
        union.push(Token::new(index > 0, "SELECT"));
        let placed = tokens[row.clone()].iter().filter(|token| token.value.is_some());
        for (column, token) in placed.enumerate() {
            if column > 0 {
                union.push(Token::new(false, ","));
            }
            let kind = kind(token.value.and_then(|value| values.get(value)));
            union.extend([Token::new(true, "CAST"), Token::new(false, "(")]);
            union.extend([Token { gap: false, ..*token }, Token::new(true, "AS")]);
            union.extend([Token::new(true, kind), Token::new(false, ")")]);
            if derived && index == 0 {
                let name = names.get(column).copied().unwrap_or_default();
                union.extend([Token::new(true, "AS"), Token::new(true, name)]);
            }
        }
    }
    let end = close(tokens, open);
    tokens.splice(open + 1..end, union);
    count as u64
}

const COLUMNS: [&str; 9] = [
    "column1", "column2", "column3", "column4", "column5", "column6", "column7", "column8",
    "column9",
];

/// The names in the last brackets of `tokens`.
fn names<'a>(tokens: &[Token<'a>]) -> Vec<&'a str> {
    let Some(open) = tokens.iter().rposition(|token| token.text == "(") else { return Vec::new() };
    let end = close(tokens, open);
    tokens[open + 1..end].iter().map(|token| token.text).filter(|text| *text != ",").collect()
}

/// What a value is, because MySQL would take it for a text.
fn kind(value: Option<&Value>) -> &'static str {
    match value {
        Some(Value::Int(_)) | None => "SIGNED",
        Some(Value::Text(_)) => "CHAR",
        Some(Value::Blob(Some(blob))) if blob.len() != 16 => "BINARY",
        Some(Value::Blob(_)) => "BINARY(16)",
    }
}

/// Moves `WITH` behind the columns of the insert.
fn insert_first<'a>(tokens: &[Token<'a>], insert: usize) -> Vec<Token<'a>> {
    let (with, insert) = tokens.split_at(insert);
    let Some(select) = find(insert, &["SELECT"]) else { return tokens.to_vec() };
    let (insert, select) = insert.split_at(select);
    let mut all = insert.to_vec();
    all.extend_from_slice(with);
    if let Some(first) = all.get_mut(insert.len()) {
        first.gap = true;
    }
    all.extend_from_slice(select);
    all
}

/// Where a statement reads its rows from.
fn find_from(tokens: &[Token<'_>]) -> Option<usize> {
    let from = find(tokens, &["FROM"])?;
    let compares = from > 0 && reads(tokens, from - 1, &["DISTINCT"]);
    Some(from).filter(|_| !compares)
}

/// Makes a join of an update `FROM` a table of rows, which goes first and finds the rows to
/// change.
fn join<'a>(tokens: &[Token<'a>], update: usize, from: usize) -> Vec<Token<'a>> {
    let (Some(set), Some(place)) = (find(tokens, &["SET"]), find(tokens, &["WHERE"])) else {
        return tokens.to_vec();
    };
    let skip = if reads(tokens, update + 1, &["OR", "FAIL"]) { 3 } else { 1 };
    let changed = &tokens[update + skip..set];
    let alias = changed.last().map_or("", |token| token.text);
    let rows = if reads(tokens, 0, &["WITH"]) {
        &tokens[opening(tokens, update - 1)..update]
    } else {
        &tokens[from + 1..close(tokens, from + 1) + 1]
    };
    let mut all = vec![Token::new(false, "UPDATE")];
    all.extend_from_slice(rows);
    all.extend([Token::new(true, "AS"), Token::new(true, "v")]);
    all.push(Token::new(true, "STRAIGHT_JOIN"));
    all.extend_from_slice(changed);
    all.push(Token::new(true, "ON"));
    all.extend_from_slice(&tokens[place + 1..]);
    all.push(tokens[set]);
    let mut depth = 0_usize;
    let mut starts = true;
    for token in &tokens[set + 1..from] {
        if starts {
            all.extend([Token::new(true, alias), Token::new(false, ".")]);
            all.push(Token { gap: false, ..*token });
        } else {
            all.push(*token);
        }
        match token.text {
            "(" => depth += 1,
            ")" => depth -= 1,
            _ => {}
        }
        starts = depth == 0 && token.text == ",";
    }
    all
}

/// Where the bracket opens that closes at `end`.
fn opening(tokens: &[Token<'_>], end: usize) -> usize {
    (0..end)
        .rev()
        .find(|at| tokens[*at].text == "(" && close(tokens, *at) == end)
        .unwrap_or_default()
}

/// Puts selects from the table that is changed behind a table of their own, as MySQL would not
/// run them otherwise.
fn aside(tokens: Vec<Token<'_>>) -> Vec<Token<'_>> {
    let Some(table) = changed(&tokens) else { return tokens };
    let mut all = Vec::with_capacity(tokens.len());
    let mut ends = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        all.push(*token);
        if reads(&tokens, at, &["(", "SELECT"]) && from_is(&tokens, at, table) {
            all.extend([Token::new(false, "SELECT"), Token::new(true, "*")]);
            all.extend([Token::new(true, "FROM"), Token::new(true, "(")]);
            ends.push(close(&tokens, at));
        }
        if ends.last() == Some(&at) {
            ends.pop();
            all.extend([Token::new(true, "AS"), Token::new(true, "same")]);
            all.push(Token::new(false, ")"));
        }
    }
    all
}

/// The table that an update changes.
fn changed<'a>(tokens: &[Token<'a>]) -> Option<&'a str> {
    let names = tokens.iter().map(|token| token.text);
    let join = tokens.iter().position(|token| token.text == "STRAIGHT_JOIN");
    let mut names = names.skip(join.unwrap_or_default() + 1);
    names.find(|text| !["OR", "FAIL"].contains(text))
}

/// Whether the select in the brackets at `open` reads `table` by an aggregate.
fn from_is(tokens: &[Token<'_>], open: usize, table: &str) -> bool {
    let select = &tokens[open + 1..close(tokens, open)];
    let aggregate = reads(select, 1, &["min", "("]) || reads(select, 1, &["max", "("]);
    let from = find_from(select);
    aggregate && from.is_some_and(|from| reads(select, from + 1, &[table]))
}
