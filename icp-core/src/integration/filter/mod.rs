//! Filters: which events an integration wants, by what they hold.

mod declarative;
mod deferred;
mod jmespath;

pub use deferred::DeferredFilter;
pub(crate) use deferred::told;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::document::pointer::child;
use crate::error::{Code, Violation};
use crate::transform::{PlanSpec, Position};

/// A condition on the document `{id, type, org, unit, ordering_key, received_at, data}`.
///
/// Each key is a [path](crate::document::Path) with a value to equal or an object of operators
/// (`$eq $ne $gt $gte $lt $lte $in $nin $exists $starts_with $ends_with $contains $not`), or is
/// `$and`, `$or` or `$not` over further conditions. All keys must hold, so the empty filter
/// matches everything. A value of another type does not match; `$ne` and `$nin` are the exact
/// opposites of `$eq` and `$in`, so they hold where there is no value. At most 16 levels and
/// 256 nodes, operands included.
///
/// Or it is `{"jmespath": ".."}`: an expression that matches where its value is true in the
/// sense of JMESPath. Up to 1 KiB and of a cost that is linear in the document it is judged in
/// place. In an integration any other is judged by the engine's transformer before each attempt, where
/// that can run it.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize, schemars::JsonSchema)]
#[serde(transparent)]
pub struct Filter(Map<String, Value>);

/// What a filter says of one event.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// The event is wanted.
    Match,
    /// The event is not wanted.
    NoMatch {
        /// The first path and operator that failed; holds nothing of the event.
        why: String,
    },
}

/// What a filter says of one event, and how it came to it.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Evaluation {
    /// What it says.
    pub verdict: Verdict,
    /// What the expression gave, where the filter is one.
    pub value: Option<Value>,
    /// Why the expression gave nothing. The event is not wanted then.
    pub fault: Option<FilterFault>,
}

/// Why an expression gave nothing.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, schemars::JsonSchema)]
#[non_exhaustive]
pub struct FilterFault {
    /// What went wrong.
    pub message: String,
    /// Where in the expression.
    pub at: Position,
}

/// A filter that is ready to be asked.
#[derive(Clone, Debug)]
pub struct CompiledFilter(Rule);

#[derive(Clone, Debug)]
enum Rule {
    Declarative(declarative::Test),
    Jmespath(jmespath::Expression),
}

/// A filter of an integration, by where it is judged.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Condition {
    /// When the event is matched.
    InPlace(CompiledFilter),
    /// Before each attempt.
    Deferred(DeferredFilter),
}

impl Filter {
    /// Compiles the filter of an integration, which stands at the pointer `at` in its resource.
    ///
    /// # Errors
    /// As [`compile`](Self::compile); an expression that is right is refused only where it is too
    /// long for any program.
    pub fn condition(&self, at: &str) -> Result<Condition, Vec<Violation>> {
        let refused = match self.compile(at) {
            Ok(filter) => return Ok(Condition::InPlace(filter)),
            Err(refused) => refused,
        };
        let Some(text) = self.deferrable() else { return Err(refused) };
        DeferredFilter::new(text, at).map(Condition::Deferred).map_err(|_| refused)
    }

    /// What the transformer is to check before the filter is saved.
    pub(crate) fn plan(&self) -> Option<PlanSpec> {
        self.deferrable().map(deferred::plan)
    }

    /// The expression, where it is right but not admitted in place.
    fn deferrable(&self) -> Option<&str> {
        let text = self.0.get("jmespath")?.as_str().filter(|_| self.0.len() == 1)?;
        jmespath::is_deferrable(text).then_some(text)
    }

    /// Compiles the filter, which stands at the pointer `at` in its resource.
    ///
    /// # Errors
    /// Every broken rule, with the code `filter_invalid` or `filter_too_costly`.
    pub fn compile(&self, at: &str) -> Result<CompiledFilter, Vec<Violation>> {
        let Some(text) = self.0.get("jmespath") else {
            return declarative::compile(&self.0, at)
                .map(|test| CompiledFilter(Rule::Declarative(test)));
        };
        let place = child(at, "jmespath");
        match text {
            Value::String(text) if self.0.len() == 1 => jmespath::Expression::compile(text, &place)
                .map(|expression| CompiledFilter(Rule::Jmespath(expression)))
                .map_err(|violation| vec![violation]),
            _ => Err(vec![Violation::new(
                place,
                Code::FilterInvalid.as_str(),
                "give `jmespath` one expression as a string, and nothing beside it",
            )]),
        }
    }
}

impl CompiledFilter {
    /// Asks whether `document` is wanted.
    #[must_use]
    pub fn matches(&self, document: &Value) -> Verdict {
        let checked = match &self.0 {
            Rule::Declarative(test) => test.check(document),
            Rule::Jmespath(expression) => expression.check(document),
        };
        match checked {
            Ok(()) => Verdict::Match,
            Err(why) => Verdict::NoMatch { why },
        }
    }

    /// Asks the same, and tells how the verdict came about.
    #[must_use]
    pub fn evaluate(&self, document: &Value) -> Evaluation {
        match &self.0 {
            Rule::Declarative(_) => Evaluation::of(self.matches(document)),
            Rule::Jmespath(expression) => {
                let (value, fault) = match expression.evaluate(document) {
                    Ok(value) => (Some(value), None),
                    Err(fault) => (None, Some(fault)),
                };
                Evaluation { verdict: self.matches(document), value, fault }
            }
        }
    }

    /// Whether the verdict can depend on the payload.
    #[must_use]
    pub fn reads_data(&self) -> bool {
        match &self.0 {
            Rule::Declarative(test) => test.reads_data(),
            Rule::Jmespath(expression) => expression.reads_data(),
        }
    }
}

impl Evaluation {
    /// A verdict with nothing to tell beside it.
    #[must_use]
    pub fn of(verdict: Verdict) -> Self {
        Self { verdict, value: None, fault: None }
    }
}
