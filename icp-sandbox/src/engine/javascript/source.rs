//! The text that the engine reads: the program as the body of a function.

use std::ffi::CStr;

use icp_core::transform::Position;

/// What comes before the program, on its first line, so that lines count as people see them.
const BEFORE: &str = "(async function(payload,context){";

/// A program without a `return` of its own hands over what its `transform` answers.
const AFTER: &str =
    "\n;return typeof transform==='function'?new this(await transform(payload,context)):this})";

/// The name under which the engine knows the program.
pub(super) const FILE: &CStr = c"transform.js";

/// The program as one expression. Text that closes the function early gains nothing by it: it
/// runs where it would have run.
pub(super) fn wrapped(source: &str) -> String {
    format!("{BEFORE}{source}{AFTER}")
}

/// The place in the program of a line and of a column in bytes as the engine counts them.
pub(super) fn place(source: &str, line: u32, column: u32) -> Position {
    let before = if line == 1 { u32::try_from(BEFORE.len()).unwrap_or(0) } else { 0 };
    let last = u32::try_from(source.lines().count().max(1)).unwrap_or(u32::MAX);
    if line > last {
        return Position::of_byte(source, source.len());
    }
    Position::of_byte_column(source, line, column.saturating_sub(before).max(1))
}

/// What to do about a text that is no script, by what it begins lines with.
pub(super) fn hint(source: &str) -> Option<&'static str> {
    let starts = |word: &str| {
        source.lines().any(|line| {
            line.trim_start()
                .strip_prefix(word)
                .is_some_and(|rest| rest.starts_with([' ', '{', '*']))
        })
    };
    if starts("export") {
        Some("a program is a script, not a module: define `transform` without `export`")
    } else if starts("import") {
        Some("a program is a script, not a module, and there is nothing to import")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_those_of_the_program() {
        let first = u32::try_from(BEFORE.len()).unwrap();
        for (source, line, column, expected) in [
            ("throw 1", 1, first + 7, (1, 7)),
            ("throw 1", 1, 3, (1, 1)),
            ("a\n  b", 2, 3, (2, 3)),
            ("é = x", 1, first + 6, (1, 5)),
            ("a\n(", 3, 40, (2, 2)),
        ] {
            let (line, column) = (line, column);
            let found = place(source, line, column);
            assert_eq!((found.line, found.column), expected, "{source:?}");
        }
    }

    #[test]
    fn modules_are_told_apart() {
        assert!(hint("export default function () {}").unwrap().contains("export"));
        assert!(hint("  import x from 'y'").unwrap().contains("import"));
        assert!(hint("exported = 1; important = 2").is_none());
    }
}
