//! Expressions whose cost is not bounded ahead: the engine's transformer judges them.

use serde_json::Value;

use super::{Evaluation, FilterFault, Verdict};
use crate::error::Violation;
use crate::transform::{
    Outcome, Plan, PlanSpec, Position, ProgramSpec, Report, StepSpec, TransformError,
};

/// Where the expression is in the plan that judges it, below the filter.
const IN_PLAN: &str = "/0/jmespath/source";
const IN_FILTER: &str = "/jmespath";

/// A filter that is a program: it is asked before each attempt, where matching would hold up
/// whoever publishes.
#[derive(Clone, Debug)]
pub struct DeferredFilter {
    plan: Plan,
}

/// The plan that judges `text`, as it is checked before it is saved.
pub(super) fn plan(text: &str) -> PlanSpec {
    let spec = ProgramSpec { source: text.to_owned(), ..ProgramSpec::default() };
    PlanSpec { steps: vec![StepSpec::Jmespath(spec)] }
}

/// The failure of a check with the pointer that people know, where it is of a filter at `at`.
pub(crate) fn told(mut error: TransformError, at: &str) -> TransformError {
    let place = format!("{at}{IN_PLAN}");
    if error.pointer.as_ref().is_some_and(|pointer| *pointer == place) {
        error.pointer = Some(format!("{at}{IN_FILTER}"));
        if error.code == "no_sandbox" {
            error.message = format!(
                "the expression may cost too much to be judged in place; simplify it: {}",
                error.message
            );
        }
    }
    error
}

impl DeferredFilter {
    pub(super) fn new(text: &str, at: &str) -> Result<Self, Vec<Violation>> {
        Ok(Self { plan: plan(text).compile(at)? })
    }

    /// What is run on the document of an event.
    pub(crate) fn plan(&self) -> &Plan {
        &self.plan
    }

    /// What the run says. As in place, an expression that fails on a document does not match it.
    ///
    /// # Errors
    ///
    /// [`TransformError`] where it was not found out: whether the event is wanted is not known.
    pub(crate) fn evaluation(
        ran: Result<Report, TransformError>,
    ) -> Result<Evaluation, TransformError> {
        match ran {
            Ok(Report { outcome: Outcome::Value(bytes), .. }) => {
                let value = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
                let verdict = if is_true(&value) {
                    Verdict::Match
                } else {
                    Verdict::NoMatch { why: "the expression is not true".into() }
                };
                Ok(Evaluation { value: Some(value), ..Evaluation::of(verdict) })
            }
            Ok(Report { outcome: Outcome::Dropped { reason }, .. }) => {
                Ok(Evaluation::of(Verdict::NoMatch { why: reason }))
            }
            Err(error) if error.code == "runtime" => Ok(failed(&error)),
            Err(mut error) => {
                error.pointer = None;
                Err(error)
            }
        }
    }
}

fn failed(error: &TransformError) -> Evaluation {
    let at = error.origin.as_ref().and_then(|origin| origin.at);
    let why = format!("the expression failed: {error}");
    let at = at.unwrap_or(Position { line: 1, column: 1 });
    let fault = FilterFault { message: error.message.clone(), at };
    Evaluation { fault: Some(fault), ..Evaluation::of(Verdict::NoMatch { why }) }
}

/// True in the sense of JMESPath.
fn is_true(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(truth) => *truth,
        Value::Number(_) => true,
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(members) => !members.is_empty(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::integration::filter::{Condition, Filter};

    fn condition(text: &str) -> Result<Condition, Vec<Violation>> {
        let filter: Filter = serde_json::from_value(json!({ "jmespath": text })).unwrap();
        filter.condition("/filter")
    }

    #[test]
    fn what_is_right_and_may_be_costly_is_deferred() {
        let nested = format!("@{}", " | [@,@]".repeat(26));
        let long = format!("data.n == '{}'", "x".repeat(2_000));
        for (text, deferred) in [
            ("data.n > `1`", false),
            ("sort_by(data.lines, &n)[0].n", true),
            ("join(',', data.tags) == 'a,b'", true),
            ("let $n = data.n in $n", true),
            (nested.as_str(), true),
            (long.as_str(), true),
        ] {
            let found = condition(text).unwrap();
            assert_eq!(matches!(found, Condition::Deferred(_)), deferred, "{text}");
        }
        let longest = "a".repeat(20_000);
        for (text, code) in [
            ("data.", "filter_invalid"),
            ("srt_by(data.lines, &n)", "filter_invalid"),
            ("lenght(data.n)", "filter_invalid"),
            ("data[::0]", "filter_invalid"),
            (longest.as_str(), "filter_too_costly"),
        ] {
            let refused = condition(text).unwrap_err();
            assert_eq!((&*refused[0].pointer, &*refused[0].code), ("/filter/jmespath", code));
        }
    }

    #[test]
    fn only_what_could_not_be_found_out_is_an_error() {
        let gave = |value: &Value| {
            let bytes = value.to_string().into();
            DeferredFilter::evaluation(Ok(Report::new(Outcome::Value(bytes)))).unwrap().verdict
        };
        for value in [json!(null), json!(false), json!(""), json!([]), json!({})] {
            assert!(matches!(gave(&value), Verdict::NoMatch { .. }), "{value}");
        }
        for value in [json!(true), json!(0), json!("x"), json!([null]), json!({"a": null})] {
            assert_eq!(gave(&value), Verdict::Match, "{value}");
        }
        let failed = DeferredFilter::evaluation(Err(TransformError::new("runtime", "no")));
        let failed = failed.unwrap();
        assert!(matches!(failed.verdict, Verdict::NoMatch { .. }) && failed.fault.is_some());
        for code in ["timeout", "memory", "crashed", "overloaded", "no_sandbox"] {
            let error = TransformError::new(code, "no").at_pointer("/filter/0/jmespath/source");
            let error = DeferredFilter::evaluation(Err(error)).unwrap_err();
            assert_eq!((error.code, error.pointer), (code, None));
        }
    }
}
