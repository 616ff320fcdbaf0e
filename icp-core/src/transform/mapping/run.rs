//! Running a compiled mapping on one payload.

use std::borrow::Cow;

use serde_json::{Map, Value};

use super::budget::{Budget, Exceeded, MAX_NODES};
use super::compile::{Mapping, Rule, Source};
use super::{Base, Cast, Lookup};
use crate::document::template::{Template, TooLong};
use crate::integration::filter::Verdict;
use crate::lookup::LookupView;
use crate::transform::TransformError;

/// The most warnings of one run; a rule gives the same warning once.
const MAX_WARNINGS: usize = 20;

impl Mapping {
    /// Why nothing is to be sent of `payload`, where that is so.
    pub(crate) fn drops(&self, payload: &Value) -> Option<&str> {
        let drop = self.drop.as_ref()?;
        matches!(drop.when.matches(payload), Verdict::Match).then_some(&*drop.reason)
    }

    /// Maps `payload` by the tables in `lookups`, and adds what people should know to `warnings`.
    pub(crate) fn run(
        &self,
        payload: Value,
        lookups: LookupView<'_>,
        warnings: &mut Vec<String>,
    ) -> Result<Value, TransformError> {
        let mut result = if self.rules.is_empty() {
            self.base.of(Cow::Owned(payload), 0)
        } else {
            let mut result = self.base.of(Cow::Borrowed(&payload), self.rules.len());
            let mut run = Run { budget: Budget::new(), lookups, warnings };
            run.rules(&self.rules, &payload, &mut result, 0)?;
            result
        };
        for path in &self.remove {
            path.remove(&mut result);
        }
        Ok(result)
    }
}

impl Base {
    /// What the rules write into, with room for so many members.
    fn of(self, payload: Cow<'_, Value>, members: usize) -> Value {
        match self {
            Self::Copy => payload.into_owned(),
            Self::Empty => Value::Object(Map::with_capacity(members)),
        }
    }
}

struct Run<'a> {
    budget: Budget,
    lookups: LookupView<'a>,
    warnings: &'a mut Vec<String>,
}

impl<'a> Run<'a> {
    /// Writes what `rules` make of `source` into `result`, which stands inside `depth` objects
    /// and arrays.
    fn rules(
        &mut self,
        rules: &[Rule],
        source: &Value,
        result: &mut Value,
        depth: usize,
    ) -> Result<(), TransformError> {
        for rule in rules {
            let depth = depth + rule.target.steps().len();
            let spent = match self.value(rule, source, depth)? {
                Some(value) => rule.target.set(result, value),
                // The search is work too, and an array can ask for it many times.
                None => 1,
            };
            self.budget.take_nodes(spent).map_err(|exceeded| exceeded.at(&rule.at))?;
        }
        Ok(())
    }

    /// What `rule` writes, paid for; `None` where it writes nothing.
    fn value(
        &mut self,
        rule: &Rule,
        source: &Value,
        depth: usize,
    ) -> Result<Option<Value>, TransformError> {
        let fail = |exceeded: Exceeded| exceeded.at(&rule.at);
        let value = match &rule.source {
            Source::Each { path, rules } => match path.get(source) {
                Some(Value::Array(items)) => {
                    return self.items(rule, rules, items, depth).map(Some);
                }
                Some(_) => {
                    self.warn(rule, "is not an array");
                    None
                }
                None => None,
            },
            Source::From { path, cast } => match path.get(source) {
                Some(value) => self.cast(rule, *cast, Cow::Borrowed(value)),
                None => None,
            },
            Source::Const { value, cast } => self.cast(rule, *cast, Cow::Borrowed(value)),
            Source::Template { template, cast } => match self.text(rule, template, source)? {
                Some(text) => self.cast(rule, *cast, Cow::Owned(text)),
                None => None,
            },
        };
        let value = match (&rule.lookup, value) {
            (Some(lookup), Some(value)) => self.look_up(rule, lookup, value)?,
            (_, value) => value,
        };
        let Some(value) = value.or_else(|| rule.default.as_ref().map(Cow::Borrowed)) else {
            return if rule.required { Err(missing(rule)) } else { Ok(None) };
        };
        // Paid for before it is copied, so that nothing large is made in vain.
        self.budget.take(&value, depth).map_err(fail)?;
        Ok(Some(value.into_owned()))
    }

    fn items(
        &mut self,
        rule: &Rule,
        rules: &[Rule],
        items: &[Value],
        depth: usize,
    ) -> Result<Value, TransformError> {
        let fail = |exceeded: Exceeded| exceeded.at(&rule.at);
        self.budget.take_nodes(1).map_err(fail)?;
        let mut made = Vec::with_capacity(items.len().min(MAX_NODES));
        for item in items {
            self.budget.take_nodes(1).map_err(fail)?;
            let mut result = Value::Object(Map::with_capacity(rules.len()));
            self.rules(rules, item, &mut result, depth + 1)?;
            made.push(result);
        }
        Ok(Value::Array(made))
    }

    fn text(
        &self,
        rule: &Rule,
        template: &Template,
        source: &Value,
    ) -> Result<Option<Value>, TransformError> {
        let whole = rule.required || rule.default.is_some();
        template
            .render(source, whole, self.budget.text_left())
            .map(|text| text.map(Value::String))
            .map_err(|TooLong| Exceeded::Text.at(&rule.at))
    }

    fn look_up<'v>(
        &mut self,
        rule: &Rule,
        lookup: &Lookup,
        value: Cow<'v, Value>,
    ) -> Result<Option<Cow<'v, Value>>, TransformError>
    where
        'a: 'v,
    {
        match *value {
            Value::Null => Ok(Some(value)),
            Value::Array(_) | Value::Object(_) => {
                self.warn(rule, "is not looked up, as it is an object or array,");
                Ok(None)
            }
            Value::Bool(_) | Value::Number(_) | Value::String(_) => {
                self.budget.take_lookup().map_err(|exceeded| exceeded.at(&rule.at))?;
                lookup.find(rule, self.lookups, value)
            }
        }
    }

    fn cast<'v>(
        &mut self,
        rule: &Rule,
        cast: Option<Cast>,
        value: Cow<'v, Value>,
    ) -> Option<Cow<'v, Value>> {
        let Some(cast) = cast else { return Some(value) };
        let cast_value = cast.apply(&value);
        if cast_value.is_none() {
            self.warn(rule, &format!("has no form as {}", cast.name()));
        }
        cast_value.map(Cow::Owned)
    }

    fn warn(&mut self, rule: &Rule, what: &str) {
        let warning =
            format!("the value for `{}` {what} and counts as missing ({})", rule.target, rule.at);
        if self.warnings.len() < MAX_WARNINGS && !self.warnings.contains(&warning) {
            self.warnings.push(warning);
        }
    }
}

fn missing(rule: &Rule) -> TransformError {
    let message = format!(
        "the payload has no usable value for `{}`; give the rule a default, or publish one",
        rule.target
    );
    TransformError::new("required_missing", message).at_pointer(&*rule.at)
}
