//! Why a plan failed, and where in a program.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::Violation;

/// Why a plan failed on a payload, or cannot be run at all.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TransformError {
    /// Stable name of the failure, lower case with underscores.
    pub code: &'static str,
    /// Whether the same plan on the same payload can succeed later.
    pub retryable: bool,
    /// What is wrong and what would be right. Values of the payload are in it only where a
    /// program put them there.
    pub message: String,
    /// RFC 6901 pointer to the part of the spec that failed, where one part did.
    pub pointer: Option<String>,
    /// Where in a program, where a program failed.
    pub origin: Option<Box<Origin>>,
}

/// Where in a program a failure comes from, and what the program said before.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(default)]
pub struct Origin {
    /// The place, where the engine tells one.
    pub at: Option<Position>,
    /// The line of the program that the place is in, shortened to 256 bytes.
    pub excerpt: Option<String>,
    /// The calls that led there, innermost first; at most 10.
    pub frames: Vec<Frame>,
    /// What the program wrote to its console.
    pub console: Vec<String>,
    /// Where a payload does not conform to a schema, with pointers into the payload; at most 50.
    pub violations: Vec<Violation>,
}

/// What the transformation of an attempt told, kept with the attempt.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(default)]
pub struct Transcript {
    /// RFC 6901 pointer to the part of the integration that failed, where one part did.
    pub pointer: Option<String>,
    /// Where in a program it failed, and what the programs wrote to their consoles.
    #[serde(flatten)]
    pub origin: Origin,
    /// What people should know although it worked.
    pub warnings: Vec<String>,
}

/// A place in a text.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct Position {
    /// The line, from 1.
    pub line: u32,
    /// The column, in characters from 1.
    pub column: u32,
}

/// A call that was under way.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct Frame {
    /// The function, where it has a name.
    pub function: Option<String>,
    /// The place in the program.
    pub at: Position,
}

impl TransformError {
    /// A failure that the same plan on the same payload meets again.
    pub fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, retryable: false, message: message.into(), pointer: None, origin: None }
    }

    /// Says that the same plan on the same payload can succeed later.
    #[must_use]
    pub fn retryable(mut self) -> Self {
        self.retryable = true;
        self
    }

    /// Names the part of the spec that failed.
    #[must_use]
    pub fn at_pointer(mut self, pointer: impl Into<String>) -> Self {
        self.pointer = Some(pointer.into());
        self
    }

    /// What is kept of the failure beside its class and its message; none where that is all.
    #[must_use]
    pub fn transcript(&self) -> Option<Transcript> {
        let told = Transcript {
            pointer: self.pointer.clone(),
            origin: self.origin.as_deref().cloned().unwrap_or_default(),
            warnings: Vec::new(),
        };
        (told != Transcript::default()).then_some(told)
    }

    /// Names the place in the program.
    #[must_use]
    pub fn in_program(mut self, origin: Origin) -> Self {
        self.origin = Some(Box::new(origin));
        self
    }

    /// The class that attempts and violations show, as in `transform_timeout`.
    #[must_use]
    pub fn class(&self) -> String {
        format!("transform_{}", self.code)
    }
}

impl fmt::Display for TransformError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match self.origin.as_ref().and_then(|origin| origin.at) {
            Some(at) => write!(f, " ({at})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for TransformError {}

impl Position {
    /// The place of the byte at `offset` in `text`; the end where it is beyond.
    #[must_use]
    pub fn of_byte(text: &str, offset: usize) -> Self {
        let before = text.get(..text.floor_char_boundary(offset)).unwrap_or(text);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        Self { line: small(line), column: small(column) }
    }

    /// The place of the byte at `column`, from 1, of the given line of `text`, from 1.
    #[must_use]
    pub fn of_byte_column(text: &str, line: u32, column: u32) -> Self {
        let within = text.lines().nth(line.saturating_sub(1) as usize).unwrap_or_default();
        let end = within.floor_char_boundary(column.saturating_sub(1) as usize);
        let characters = within.get(..end).unwrap_or(within).chars().count();
        Self { line, column: small(characters + 1) }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}", self.line, self.column)
    }
}

fn small(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_counted_in_characters() {
        for (text, offset, line, column) in [
            ("", 0, 1, 1),
            ("abc", 2, 1, 3),
            ("a\nb", 2, 2, 1),
            ("a\r\nbé!", 6, 2, 3),
            ("é", 1, 1, 1),
            ("ab", 99, 1, 3),
        ] {
            assert_eq!(Position::of_byte(text, offset), Position { line, column }, "{text:?}");
        }
        for (text, line, byte, column) in
            [("aé = x", 1, 5, 4), ("a\ré", 1, 1, 1), ("a\n日本x", 2, 7, 3), ("a", 9, 9, 1)]
        {
            let found = Position::of_byte_column(text, line, byte);
            assert_eq!(found, Position { line, column }, "{text:?}");
        }
    }

    #[test]
    fn the_place_is_told_with_the_message() {
        let error = TransformError::new("runtime", "x is not defined");
        assert_eq!(error.to_string(), "x is not defined");
        let at = Some(Position { line: 3, column: 5 });
        let error = error.in_program(Origin { at, ..Origin::default() });
        assert_eq!(error.to_string(), "x is not defined (line 3, column 5)");
        assert_eq!(error.class(), "transform_runtime");
    }
}
