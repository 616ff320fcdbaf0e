//! Where a text stops being JSONata.
//!
//! The parser's errors carry no place. It reads token by token, though, and stops at the first that
//! does not fit: texts that begin alike and go beyond that token fail alike. So the place is found
//! by parsing beginnings of the text.

use icp_core::transform::Position;
use jsonata_core::parser::{self, ParserError};

/// How many opening quotes are tried for one that is never closed.
const QUOTES: usize = 64;

/// The place of `error`, which parsing `source` gave; none where it is found only when all is read,
/// as with an operator that is at the wrong place of a path.
pub(super) fn of(source: &str, error: &ParserError) -> Option<Position> {
    let offset = match error {
        ParserError::Coded { .. } => return None,
        _ if is_unclosed(error) => opening(source)?,
        _ if is_at_end(error) => source.trim_end().len(),
        ParserError::InvalidEscape(_) | ParserError::InvalidNumber(_) => {
            last_character(source, stumble(source, error))
        }
        _ => token(source, stumble(source, error)),
    };
    Some(Position::of_byte(source, offset))
}

fn is_unclosed(error: &ParserError) -> bool {
    matches!(
        error,
        ParserError::UnclosedString | ParserError::UnclosedBacktick | ParserError::UnclosedComment
    )
}

fn is_at_end(error: &ParserError) -> bool {
    match error {
        ParserError::UnexpectedEnd => true,
        ParserError::UnexpectedToken(found) | ParserError::Expected { found, .. } => found == "Eof",
        _ => false,
    }
}

/// The end of the shortest beginning that fails as the whole does.
fn stumble(source: &str, error: &ParserError) -> usize {
    let told = error.to_string();
    let ends: Vec<usize> =
        source.char_indices().map(|(at, character)| at + character.len_utf8()).collect();
    let at = ends.partition_point(|end| {
        let beginning = source.get(..*end).unwrap_or(source);
        parser::parse(beginning).err().is_none_or(|error| error.to_string() != told)
    });
    ends.get(at).copied().unwrap_or(source.len())
}

/// What opens something that is not closed: before it, nothing is open.
fn opening(source: &str) -> Option<usize> {
    let quotes = source.rmatch_indices(['"', '\'', '`', '/']).map(|(at, _)| at);
    quotes.take(QUOTES).find(|at| {
        let before = parser::parse(source.get(..*at).unwrap_or(source));
        !before.is_err_and(|error| is_unclosed(&error))
    })
}

/// The beginning of the token that ends at `end`.
fn token(source: &str, end: usize) -> usize {
    let text = source.get(..end).unwrap_or(source);
    let last = last_character(source, end);
    let within = text.get(..last).unwrap_or(text);
    match text.get(last..).and_then(|last| last.chars().next()) {
        Some(quote @ ('"' | '\'' | '`')) => {
            let opens = |at: &usize| !within.get(..*at).is_some_and(|text| text.ends_with('\\'));
            within.rmatch_indices(quote).map(|(at, _)| at).find(opens).unwrap_or(last)
        }
        Some(character) if is_of_name(character) => text.trim_end_matches(is_of_name).len(),
        _ if OPERATORS.iter().any(|operator| text.ends_with(operator)) => end - 2,
        _ => last,
    }
}

/// Operators of two characters.
const OPERATORS: [&str; 9] = ["..", ":=", "!=", ">=", "<=", "**", "~>", "??", "?:"];

fn is_of_name(character: char) -> bool {
    character.is_alphanumeric() || character == '_' || character == '$'
}

fn last_character(source: &str, end: usize) -> usize {
    let last = source.get(..end).and_then(|text| text.chars().next_back());
    end - last.map_or(0, char::len_utf8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn stops(source: &str, line: u32, column: u32) {
        let error = parser::parse(source).unwrap_err();
        assert_eq!(of(source, &error), Some(Position { line, column }), "{source}: {error}");
    }

    #[test]
    fn a_token_that_does_not_fit_is_found() {
        stops("{ \"total\": $sum(lines[count > 1) }", 1, 32);
        stops("{\n  \"a\": 1,\n  \"b\" 2\n}", 3, 7);
        stops("foo bar", 1, 5);
        stops(r#"foo "it\"s""#, 1, 5);
        stops("(a := := b)", 1, 7);
        stops("'ä' & \"é\" ]", 1, 11);
        stops("a ! b", 1, 3);
        stops("(x := [1, 2; y)", 1, 12);
    }

    #[test]
    fn what_ends_too_early_is_told_at_its_end() {
        stops("lines[", 1, 7);
        stops("(\n  a +\n", 2, 6);
        stops("", 1, 1);
    }

    #[test]
    fn what_is_never_closed_is_told_where_it_opens() {
        stops("a + 'oops", 1, 5);
        stops("a + 'say \"oops", 1, 5);
        stops("'fine' & \"fine\" & `oops", 1, 19);
        stops("1 /* never\n ends", 1, 3);
        stops("$match(a, /ab", 1, 11);
    }

    #[test]
    fn a_part_of_a_string_is_told_by_itself() {
        stops(r#""ab\q""#, 1, 5);
    }

    #[test]
    fn what_is_found_when_all_is_read_has_no_place() {
        let error = parser::parse("%.a").unwrap_err();
        assert_eq!(of("%.a", &error), None, "{error}");
    }
}
