//! JSONata, with a clock that stands still and chance that repeats.

mod place;

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;

use icp_core::transform::{Limits, TransformError};
use jsonata_core::ast::AstNode;
use jsonata_core::evaluator::{Context, Evaluator, EvaluatorError, EvaluatorOptions};
use jsonata_core::parser;
use jsonata_core::value::JValue;
use serde_json::Value;

use super::asked::Asked;
use super::{Made, Run, about, origin};
use crate::chance::Chance;
use crate::desk::Desk;
use crate::payload::{self, Payload};

/// How much longer the engine may take by the clock on the wall than by its own processor time.
const PATIENCE: u64 = 20;

/// A parsed expression.
pub(crate) struct Expression {
    ast: AstNode,
    /// Whether it can name its context.
    looks_around: bool,
}

impl Expression {
    pub(super) fn compile(source: &str) -> Result<Self, TransformError> {
        let parsed = parser::parse(source);
        let ast = parsed.map_err(|error| {
            let told = TransformError::new("compile", error.to_string());
            match place::of(source, &error) {
                Some(at) => told.in_program(origin(source, at)),
                None => told,
            }
        })?;
        Ok(Self { ast, looks_around: source.contains(CONTEXT) })
    }

    pub(super) fn run(&self, payload: Payload, run: &Run<'_>) -> Result<Made, TransformError> {
        let data = match payload {
            Payload::Value(value) => JValue::from(value),
            Payload::Text(text) => serde_json::from_slice(&text.json)
                .map_err(|error| TransformError::input_invalid(error.line(), error.column()))?,
        };
        let deadline = u64::from(run.limits.deadline_ms);
        let result = match self.evaluate(&data, run, deadline) {
            // The engine looks at the clock on the wall: on a busy machine others took the time.
            Err(error) if error.code() == Some(TIMEOUT) && !run.deadline.is_over() => {
                self.evaluate(&data, run, deadline * PATIENCE)
            }
            other => other,
        };
        let value = result.map_err(|error| failure(&error, run))?;
        if value.is_undefined() || value.is_function() {
            let message = "the expression found nothing; give it a value for that case";
            return Err(TransformError::new("no_result", message));
        }
        Ok(Made::Payload(Payload::written(payload::write(&value, run.limits)?)))
    }

    fn evaluate(
        &self,
        data: &JValue,
        run: &Run<'_>,
        timeout_ms: u64,
    ) -> Result<JValue, EvaluatorError> {
        let mut context = Context::new();
        if self.looks_around {
            context.bind(CONTEXT.to_owned(), JValue::from(about(run.scene)));
        }
        let mut evaluator = Evaluator::with_options(context, options(run.limits, timeout_ms));
        replace_impure(&mut evaluator, run)?;
        for (name, reverse) in [("tableLookup", false), ("reverseLookup", true)] {
            let desk = Arc::clone(run.desk);
            let look_up = move |arguments: &[JValue]| look_up(&desk, arguments, reverse);
            evaluator.register_fn(name, look_up)?;
        }
        evaluator.evaluate(&self.ast, data)
    }
}

impl fmt::Debug for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Expression").finish_non_exhaustive()
    }
}

const TIMEOUT: &str = "D1012";

/// The variable that holds what programs may know of the event.
const CONTEXT: &str = "context";

fn options(limits: &Limits, timeout_ms: u64) -> EvaluatorOptions {
    EvaluatorOptions {
        timeout_ms: Some(timeout_ms),
        cancel: None,
        max_stack_depth: Some(limits.jsonata_depth as usize),
        max_sequence_length: Some(limits.jsonata_sequence as usize),
    }
}

/// `$tableLookup(table, key[, fallback])`, as `$lookup` is what the language has for objects, and
/// `$reverseLookup(table, value[, path[, fallback]])`.
fn look_up(desk: &Desk, arguments: &[JValue], reverse: bool) -> Result<JValue, EvaluatorError> {
    let refused = |message: &str| EvaluatorError::EvaluationError(message.to_owned());
    let values: Result<Vec<Value>, _> = arguments.iter().map(serde_json::to_value).collect();
    let values = values.map_err(|_| refused("what is looked up is no json value"))?;
    let asked = Asked::of(&values, reverse).map_err(refused)?;
    let found = desk.look_up(asked.lookup, asked.key);
    let found = found.map_err(|refusal| refused(&refusal.message))?;
    Ok(found.or_else(|| asked.fallback.cloned()).map_or(JValue::Undefined, JValue::from))
}

/// Functions whose answers would differ from try to try answer alike; `$eval` is gone.
fn replace_impure(evaluator: &mut Evaluator, run: &Run<'_>) -> Result<(), EvaluatorError> {
    let now = run.scene.received_at;
    let refuse = |message: &str| Err(EvaluatorError::EvaluationError(message.to_owned()));
    evaluator.register_fn_override("now", move |arguments: &[JValue]| match arguments {
        [] => Ok(JValue::string(now.to_string())),
        _ => refuse("$now takes no picture here; use $fromMillis($millis(), picture)"),
    })?;
    evaluator.register_fn_override("millis", move |_: &[JValue]| {
        Ok(JValue::from_i64(now.as_millis()))
    })?;
    let chance = Rc::new(RefCell::new(Chance::of(run.scene.event)));
    let shared = Rc::clone(&chance);
    evaluator.register_fn_override("random", move |_: &[JValue]| {
        Ok(JValue::from_f64(shared.borrow_mut().fraction()))
    })?;
    evaluator.register_fn_override("shuffle", move |arguments: &[JValue]| {
        let Some(items) = arguments.first().and_then(JValue::as_array) else {
            return Ok(arguments.first().cloned().unwrap_or(JValue::Undefined));
        };
        let mut items = items.clone();
        chance.borrow_mut().shuffle(&mut items);
        Ok(JValue::array(items))
    })?;
    evaluator.register_fn_override("eval", move |_: &[JValue]| refuse("there is no $eval here"))
}

fn failure(error: &EvaluatorError, run: &Run<'_>) -> TransformError {
    match error.code() {
        Some(TIMEOUT) => run.deadline.exceeded(),
        Some("D1011" | "U1001") => {
            TransformError::new("stack", "the expression recurses too deep; bound its recursion")
        }
        _ => TransformError::new("runtime", error.message()),
    }
}
