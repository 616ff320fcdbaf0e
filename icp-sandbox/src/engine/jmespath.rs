//! JMESPath, without functions beyond the specification.

use std::fmt;

use icp_core::transform::{Position, TransformError};
use jpx_core::ast::Ast;
use jpx_core::{JmespathError, Runtime};

use super::{Made, origin};
use crate::payload::Payload;

/// A parsed expression.
pub(crate) struct Expression {
    source: Box<str>,
    ast: Ast,
    runtime: Runtime,
}

impl Expression {
    pub(super) fn compile(source: &str) -> Result<Self, TransformError> {
        let ast = jpx_core::parse(source).map_err(|error| failure("compile", source, &error))?;
        Ok(Self { source: source.into(), ast, runtime: Runtime::strict() })
    }

    pub(super) fn run(&self, payload: Payload) -> Result<Made, TransformError> {
        let value = payload.into_value()?;
        let expression = jpx_core::Expression::new(&*self.source, self.ast.clone(), &self.runtime);
        let found = expression.search(&value);
        let made = found.map_err(|error| failure("runtime", &self.source, &error))?;
        Ok(Made::Payload(Payload::Value(made)))
    }
}

impl fmt::Debug for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Expression").field("bytes", &self.source.len()).finish_non_exhaustive()
    }
}

fn failure(code: &'static str, source: &str, error: &JmespathError) -> TransformError {
    let at = Position::of_byte(source, error.offset);
    TransformError::new(code, error.reason.to_string()).in_program(origin(source, at))
}
