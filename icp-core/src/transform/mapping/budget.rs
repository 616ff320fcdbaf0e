//! What a mapping may make of one payload.

use serde_json::Value;

use crate::transform::{MAX_OUTPUT, TransformError};

/// The most values the rules of one mapping produce for one payload: each object, array, member
/// and element is one, and so is a rule that finds nothing. What `copy` brings does not count.
pub const MAX_NODES: usize = 10_000;

/// The most lookups of one mapping for one payload.
pub const MAX_LOOKUPS: usize = 1_000;

/// The most objects and arrays around one another: what `serde_json` reads.
pub const MAX_DEPTH: usize = 127;

/// What is left of the bounds; the text is a lower bound of the output, in bytes.
#[derive(Debug)]
pub(super) struct Budget {
    nodes: usize,
    text: usize,
    lookups: usize,
}

/// Which bound was crossed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Exceeded {
    Nodes,
    Text,
    Depth,
    Lookups,
}

impl Budget {
    pub(super) fn new() -> Self {
        Self { nodes: MAX_NODES, text: MAX_OUTPUT, lookups: MAX_LOOKUPS }
    }

    /// How many bytes of text are left.
    pub(super) fn text_left(&self) -> usize {
        self.text
    }

    pub(super) fn take_nodes(&mut self, count: usize) -> Result<(), Exceeded> {
        self.nodes = self.nodes.checked_sub(count).ok_or(Exceeded::Nodes)?;
        Ok(())
    }

    pub(super) fn take_lookup(&mut self) -> Result<(), Exceeded> {
        self.lookups = self.lookups.checked_sub(1).ok_or(Exceeded::Lookups)?;
        Ok(())
    }

    pub(super) fn take_text(&mut self, bytes: usize) -> Result<(), Exceeded> {
        self.text = self.text.checked_sub(bytes).ok_or(Exceeded::Text)?;
        Ok(())
    }

    /// Takes all of `value`, which is going to stand inside `depth` objects and arrays.
    pub(super) fn take(&mut self, value: &Value, depth: usize) -> Result<(), Exceeded> {
        self.take_nodes(1)?;
        match value {
            Value::Null | Value::Bool(_) | Value::Number(_) => Ok(()),
            Value::String(text) => self.take_text(text.len()),
            Value::Array(_) | Value::Object(_) if depth >= MAX_DEPTH => Err(Exceeded::Depth),
            Value::Array(items) => items.iter().try_for_each(|item| self.take(item, depth + 1)),
            Value::Object(members) => members.iter().try_for_each(|(key, member)| {
                self.take_text(key.len())?;
                self.take(member, depth + 1)
            }),
        }
    }
}

impl Exceeded {
    /// The failure of the rule at `pointer`.
    pub(super) fn at(self, pointer: &str) -> TransformError {
        let (code, message) = match self {
            Self::Nodes => (
                "output_too_many_nodes",
                format!("the rules produce more than {MAX_NODES} values; map less of the payload"),
            ),
            Self::Text => (
                "output_too_large",
                format!("the rules produce more than {MAX_OUTPUT} bytes; map less of the payload"),
            ),
            Self::Depth => (
                "output_too_deep",
                format!("the result has more than {MAX_DEPTH} levels; use a shallower target"),
            ),
            Self::Lookups => (
                "lookups_too_many",
                format!("the rules look up more than {MAX_LOOKUPS} values; look up fewer"),
            ),
        };
        TransformError::new(code, message).at_pointer(pointer)
    }
}
