//! The JMESPath form, admitted only when its cost is linear in the document and small.

mod cost;

use std::fmt;
use std::sync::Arc;

use jpx_core::ast::Ast;
use jpx_core::{Context, JmespathError, Runtime, ValueExt, interpreter};
use serde_json::Value;

use super::FilterFault;
use crate::error::{Code, Violation};
use crate::transform::Position;

const MAX_BYTES: usize = 1024;
const MAX_NESTING: usize = 32;

#[derive(Clone)]
pub(super) struct Expression {
    text: Arc<str>,
    ast: Arc<Ast>,
    runtime: Arc<Runtime>,
}

impl Expression {
    pub(super) fn compile(text: &str, at: &str) -> Result<Self, Violation> {
        guard(text).map_err(|why| Violation::new(at, Code::FilterTooCostly.as_str(), why))?;
        let ast = jpx_core::parse(text).map_err(|error| {
            Violation::new(at, Code::FilterInvalid.as_str(), told(&fault(text, &error)))
        })?;
        cost::admit(&ast).map_err(|refusal| match refusal {
            cost::Refusal::Invalid(why) | cost::Refusal::Foreign(why) => {
                Violation::new(at, Code::FilterInvalid.as_str(), why)
            }
            cost::Refusal::Costly(why) => Violation::new(at, Code::FilterTooCostly.as_str(), why),
        })?;
        Ok(Self { text: text.into(), ast: Arc::new(ast), runtime: Arc::new(Runtime::strict()) })
    }

    pub(super) fn check(&self, document: &Value) -> Result<(), String> {
        match self.evaluate(document) {
            Ok(value) if value.is_truthy() => Ok(()),
            Ok(_) => Err("the expression is not true".into()),
            Err(fault) => Err(format!("the expression failed: {}", told(&fault))),
        }
    }

    pub(super) fn evaluate(&self, document: &Value) -> Result<Value, FilterFault> {
        let mut context = Context::new(&self.text, &self.runtime);
        interpreter::interpret(document, &self.ast, &mut context)
            .map_err(|error| fault(&self.text, &error))
    }

    pub(super) fn reads_data(&self) -> bool {
        cost::reads_data(&self.ast)
    }
}

impl fmt::Debug for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Expression").field(&self.text).finish()
    }
}

/// Whether `text` is refused in place only for what it may cost, or for functions that have no
/// bound; one that is not parsed here may yet turn out to be wrong.
pub(super) fn is_deferrable(text: &str) -> bool {
    if guard(text).is_err() {
        return true;
    }
    let Ok(ast) = jpx_core::parse(text) else { return false };
    matches!(cost::admit(&ast), Err(cost::Refusal::Costly(_) | cost::Refusal::Foreign(_)))
}

// The parser recurses, so what it is given is bounded before it sees it.
fn guard(text: &str) -> Result<(), &'static str> {
    if text.len() > MAX_BYTES {
        return Err("shorten the expression to at most 1024 bytes");
    }
    let mut open = 0_usize;
    for byte in text.bytes() {
        match byte {
            b'(' | b'[' | b'{' => open += 1,
            b')' | b']' | b'}' => open = open.saturating_sub(1),
            _ => {}
        }
        if open > MAX_NESTING {
            return Err("nest at most 32 brackets");
        }
    }
    Ok(())
}

fn fault(text: &str, error: &JmespathError) -> FilterFault {
    let message = error.reason.to_string().chars().take(160).collect();
    FilterFault { message, at: Position::of_byte(text, error.offset) }
}

fn told(fault: &FilterFault) -> String {
    format!("{} at {}", fault.message, fault.at)
}

#[cfg(test)]
mod tests;
