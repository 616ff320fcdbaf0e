//! JMESPath, with no function beyond the specification but lookups.

use std::fmt;
use std::sync::Arc;

use icp_core::transform::{Position, TransformError};
use jpx_core::ast::Ast;
use jpx_core::functions::Function;
use jpx_core::{Context, ErrorReason, JmespathError, Runtime, SearchResult};
use serde_json::Value;

use super::asked::Asked;
use super::{Made, origin};
use crate::desk::Desk;
use crate::payload::Payload;

/// A parsed expression.
pub(crate) struct Expression {
    source: Box<str>,
    ast: Ast,
    runtime: Runtime,
}

impl Expression {
    pub(super) fn compile(source: &str, desk: &Arc<Desk>) -> Result<Self, TransformError> {
        let ast = jpx_core::parse(source).map_err(|error| failure("compile", source, &error))?;
        let mut runtime = Runtime::strict();
        for reverse in [false, true] {
            let name = if reverse { "reverse_lookup" } else { "lookup" };
            let function = LookUp { desk: Arc::clone(desk), reverse };
            runtime.register_function(name, Box::new(function));
        }
        Ok(Self { source: source.into(), ast, runtime })
    }

    pub(super) fn run(&self, payload: Payload) -> Result<Made, TransformError> {
        let value = payload.into_value()?;
        let expression = jpx_core::Expression::new(&*self.source, self.ast.clone(), &self.runtime);
        let found = expression.search(&value);
        let made = found.map_err(|error| failure("runtime", &self.source, &error))?;
        Ok(Made::Payload(Payload::Value(made)))
    }
}

/// `lookup(table, key[, fallback])`, and `reverse_lookup(table, value[, path[, fallback]])`.
struct LookUp {
    desk: Arc<Desk>,
    reverse: bool,
}

impl Function for LookUp {
    fn evaluate(&self, arguments: &[Value], cx: &mut Context<'_>) -> SearchResult {
        let refused = |message| JmespathError::from_ctx(cx, ErrorReason::Parse(message));
        let asked =
            Asked::of(arguments, self.reverse).map_err(|message| refused(message.into()))?;
        let found = self.desk.look_up(asked.lookup, asked.key);
        let found = found.map_err(|refusal| refused(refusal.message))?;
        Ok(found.or_else(|| asked.fallback.cloned()).unwrap_or(Value::Null))
    }
}

impl fmt::Debug for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Expression").field("bytes", &self.source.len()).finish_non_exhaustive()
    }
}

fn failure(code: &'static str, source: &str, error: &JmespathError) -> TransformError {
    let at = Position::of_byte(source, error.offset);
    let message = match &error.reason {
        // The engine has no other name for what a function of our own says.
        ErrorReason::Parse(message) if code == "runtime" => message.clone(),
        other => other.to_string(),
    };
    TransformError::new(code, message).in_program(origin(source, at))
}
