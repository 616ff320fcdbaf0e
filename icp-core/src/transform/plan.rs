//! Plans: the steps of a transformation, as people write them and as they run.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::mapping::{Mapping, MappingSpec};
use crate::error::Violation;

/// The most steps of a plan.
pub const MAX_STEPS: usize = 8;

/// A transformation as people write it: steps, the first of which takes the event's payload.
///
/// No step at all sends the payload as it is. At most [`MAX_STEPS`] steps.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(transparent)]
pub struct PlanSpec {
    /// The steps, in the order they run.
    #[schemars(length(max = 8))]
    pub steps: Vec<StepSpec>,
}

/// One step: an object with one member, the kind of the step.
///
/// A kind that is not listed here is refused when it is read: a payload is never sent without a
/// step it was meant to pass.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum StepSpec {
    /// A declarative mapping.
    Map(MappingSpec),
}

/// A compiled transformation. A clone shares the steps.
#[derive(Clone, Debug)]
pub struct Plan {
    steps: Arc<[Step]>,
}

/// One compiled step.
#[derive(Debug)]
#[non_exhaustive]
pub enum Step {
    /// A mapping.
    Map(Mapping),
}

impl PlanSpec {
    /// Whether there is no step.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// Compiles every step. `at` is the pointer to this spec in its document.
    ///
    /// # Errors
    ///
    /// Every broken rule of every step.
    pub fn compile(&self, at: &str) -> Result<Plan, Vec<Violation>> {
        let mut found = Vec::new();
        let count = self.steps.len();
        if count > MAX_STEPS {
            found.push(Violation::new(
                at,
                "transform_steps_count",
                format!("{count} steps are given; use at most {MAX_STEPS}"),
            ));
        }
        let mut steps = Vec::new();
        for (index, spec) in self.steps.iter().take(MAX_STEPS).enumerate() {
            match spec {
                StepSpec::Map(mapping) => match mapping.compile(&format!("{at}/{index}/map")) {
                    Ok(mapping) => steps.push(Step::Map(mapping)),
                    Err(violations) => found.extend(violations),
                },
            }
        }
        if found.is_empty() { Ok(Plan { steps: steps.into() }) } else { Err(found) }
    }
}

impl Plan {
    /// The steps, in the order they run.
    #[must_use]
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// Whether there is no step, so that the payload is sent as it is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn unknown_kinds_are_refused_with_the_known_ones() {
        for (spec, part) in [
            (json!([{"script": {}}]), "unknown variant `script`, expected `map`"),
            (
                json!([{"map": {"base": "new"}}]),
                "unknown variant `new`, expected `copy` or `empty`",
            ),
            (json!([{"map": {"extra": 1}}]), "unknown field `extra`"),
        ] {
            let error = serde_json::from_value::<PlanSpec>(spec).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn every_step_reports_its_violations() {
        let spec: PlanSpec = serde_json::from_value(json!([
            {"map": {"remove": ["a..b"]}},
            {"map": {}},
            {"map": {"remove": ["a", "["]}},
        ]))
        .unwrap();
        let found = spec.compile("/transform").unwrap_err();
        let pointers: Vec<_> = found.iter().map(|violation| violation.pointer.as_str()).collect();
        assert_eq!(pointers, ["/transform/0/map/remove/0", "/transform/2/map/remove/1"]);
    }

    #[test]
    fn steps_are_counted() {
        let step = StepSpec::Map(MappingSpec::default());
        assert!(PlanSpec { steps: vec![step.clone(); MAX_STEPS] }.compile("").is_ok());
        let found = PlanSpec { steps: vec![step; MAX_STEPS + 1] }.compile("/t").unwrap_err();
        assert_eq!((found[0].pointer.as_str(), found.len()), ("/t", 1));
    }
}
