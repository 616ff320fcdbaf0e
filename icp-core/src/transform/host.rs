//! Steps that the host's own code runs.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::TransformError;
use crate::error::Violation;

/// The longest name of a handler, in characters.
const MAX_NAME: usize = 64;

/// A step that a handler of the host runs, which the host registers by name.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct HostSpec {
    /// The name of the handler: 1 to 64 letters, digits, dots, hyphens and underscores.
    #[schemars(length(min = 1, max = 64))]
    pub handler: String,
    /// What the handler is told beside the payload. No secrets: it is shown to who may see the
    /// integration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<Value>,
}

/// What the handler of a step is asked for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum HostRole {
    /// For another payload, or that nothing is to be sent.
    Transformer,
    /// Whether the payload goes on, as it is.
    Filter,
}

/// A compiled [`HostSpec`].
#[derive(Clone, Debug)]
pub struct HostStep {
    spec: HostSpec,
    role: HostRole,
    pointer: String,
}

impl HostSpec {
    /// `at` is the pointer to this spec in its document.
    pub(super) fn compile(&self, role: HostRole, at: &str) -> Result<HostStep, Vec<Violation>> {
        match handler_name_fault(&self.handler) {
            None => Ok(HostStep { spec: self.clone(), role, pointer: at.to_owned() }),
            Some(message) => {
                Err(vec![Violation::new(format!("{at}/handler"), "handler_name", message)])
            }
        }
    }
}

/// What is wrong with the name of a handler of the host; none where it is good.
#[must_use]
pub fn handler_name_fault(name: &str) -> Option<&'static str> {
    let good = |c: char| c.is_ascii_alphanumeric() || ".-_".contains(c);
    let fine = (1..=MAX_NAME).contains(&name.len()) && name.chars().all(good);
    (!fine).then_some("use 1 to 64 letters, digits, dots, hyphens and underscores")
}

impl HostStep {
    /// The name of the handler.
    #[must_use]
    pub fn handler(&self) -> &str {
        &self.spec.handler
    }

    /// What the handler is told beside the payload.
    #[must_use]
    pub fn config(&self) -> Option<&Value> {
        self.spec.config.as_ref()
    }

    /// What the handler is asked for.
    #[must_use]
    pub fn role(&self) -> HostRole {
        self.role
    }

    /// RFC 6901 pointer to the step in the document it is part of.
    #[must_use]
    pub fn pointer(&self) -> &str {
        &self.pointer
    }

    /// The failure of an engine whose transformer asks no host.
    #[must_use]
    pub fn unasked(&self) -> TransformError {
        let message = "this engine has no host that runs steps; remove the step, or embed the \
                       engine in the program that has the handler";
        TransformError::new("no_host", message).at_pointer(self.pointer())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_handlers_are_plain() {
        for good in ["enrich", "a.b-c_9", &"x".repeat(64)] {
            assert_eq!(handler_name_fault(good), None, "{good}");
        }
        for bad in ["", "a b", "é", "a/b", &"x".repeat(65)] {
            assert!(handler_name_fault(bad).is_some(), "{bad}");
        }
    }
}
