//! JSON Schema: the payload passes as it is, or not at all.

mod admission;

use std::fmt;

use icp_core::error::Violation;
use icp_core::transform::{Origin, TransformError};
use jsonschema::{PatternOptions, ValidationError, Validator};
use serde_json::Value;

use super::Made;
use crate::call::{EXCERPT, VIOLATIONS, short};
use crate::payload::Payload;

/// A compiled schema.
pub(crate) struct Schema {
    validator: Validator,
}

/// The largest compiled pattern and the largest cache of its matcher, in bytes.
const PATTERN: usize = 1 << 20;

impl Schema {
    /// Compiles a schema that refers to nothing outside itself. Formats are checked, patterns are
    /// of linear time.
    pub(super) fn compile(source: &str) -> Result<Self, TransformError> {
        let refused = |at: &str, message: String| {
            let error = TransformError::new("compile", message);
            if at.is_empty() { error } else { error.at_pointer(at) }
        };
        let schema: Value = serde_json::from_str(source)
            .map_err(|_| refused("", "the schema is not one json object".to_owned()))?;
        admission::admit(&schema).map_err(|refusal| refused(&refusal.pointer, refusal.message))?;
        let patterns = PatternOptions::regex().size_limit(PATTERN).dfa_size_limit(PATTERN);
        let validator = jsonschema::options()
            .offline()
            .with_pattern_options(patterns)
            .should_validate_formats(true)
            .build(&schema)
            .map_err(|error| refused(error.instance_path().as_str(), error.to_string()))?;
        Ok(Self { validator })
    }

    pub(super) fn run(&self, payload: Payload) -> Result<Made, TransformError> {
        let value = payload.into_value()?;
        let broken: Vec<_> = self.validator.iter_errors(&value).take(VIOLATIONS).collect();
        match broken.first() {
            None => Ok(Made::Payload(Payload::Value(value))),
            Some(first) => Err(nonconforming(first, &broken)),
        }
    }
}

impl fmt::Debug for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Schema").finish_non_exhaustive()
    }
}

fn nonconforming(first: &ValidationError<'_>, broken: &[ValidationError<'_>]) -> TransformError {
    let violations: Vec<_> = broken.iter().map(violation).collect();
    let more = match violations.len() {
        1 => String::new(),
        VIOLATIONS => format!(" (and at least {} more)", VIOLATIONS - 1),
        count => format!(" (and {} more)", count - 1),
    };
    let place = match first.instance_path().as_str() {
        "" => "the payload",
        pointer => pointer,
    };
    let message = format!("{place} does not conform: {}{more}", described(first));
    TransformError::new("schema_invalid", message)
        .at_pointer(first.schema_path().as_str())
        .in_program(Origin { violations, ..Origin::default() })
}

fn violation(error: &ValidationError<'_>) -> Violation {
    Violation::new(error.instance_path().as_str(), error.kind().keyword(), described(error))
}

/// What is wrong, without the value at fault.
fn described(error: &ValidationError<'_>) -> String {
    short(error.masked().to_string(), EXCERPT)
}
