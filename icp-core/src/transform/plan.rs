//! Plans: the steps of a transformation, as people write them and as they run.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::mapping::{Mapping, MappingSpec};
use super::{HostRole, HostSpec, HostStep, Language, Program, ProgramSpec, SchemaSpec};
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
    /// A JavaScript program.
    Javascript(ProgramSpec),
    /// A JSONata expression.
    Jsonata(ProgramSpec),
    /// A JMESPath expression.
    Jmespath(ProgramSpec),
    /// A JSON Schema that the payload must conform to at this place of the plan.
    Schema(SchemaSpec),
    /// Code of the program that the engine is embedded in, which gives the payload.
    Host(HostSpec),
    /// Code of that program which says whether the payload goes on; it changes nothing.
    HostFilter(HostSpec),
}

/// A compiled transformation. A clone shares the steps.
#[derive(Clone, Debug)]
pub struct Plan {
    steps: Arc<[Step]>,
    text: Arc<str>,
    digest: [u8; 32],
    /// Empty where the whole plan is one part.
    parts: Arc<[Plan]>,
}

/// One compiled step.
#[derive(Debug)]
#[non_exhaustive]
pub enum Step {
    /// A mapping.
    Map(Mapping),
    /// A program, for an engine of its language.
    Program(Program),
    /// Code of the host.
    Host(HostStep),
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
        let compiled = self.compiled(at, 0);
        if !found.is_empty() {
            found.extend(compiled.err().unwrap_or_default());
            return Err(found);
        }
        let mut plan = compiled?;
        let mut first = 0;
        let parts = plan.part_lengths().into_iter().map(|length| {
            let steps = self.steps[first..first + length].to_vec();
            first += length;
            Self { steps }.compiled(at, first - length)
        });
        plan.parts = parts.collect::<Result<_, _>>()?;
        Ok(plan)
    }

    /// Compiles the steps, of which the first is the one at `first` in the document.
    fn compiled(&self, at: &str, first: usize) -> Result<Plan, Vec<Violation>> {
        let (mut steps, mut found) = (Vec::new(), Vec::new());
        for (index, spec) in self.steps.iter().take(MAX_STEPS).enumerate() {
            match spec.compile(&format!("{at}/{}", first + index)) {
                Ok(step) => steps.push(step),
                Err(violations) => found.extend(violations),
            }
        }
        if !found.is_empty() {
            return Err(found);
        }
        let text = serde_json::to_string(&(at, first, self)).map_err(|_| {
            vec![Violation::new(at, "malformed", "the transformation has no json form")]
        })?;
        let digest = Sha256::digest(&text).into();
        Ok(Plan { steps: steps.into(), text: text.into(), digest, parts: [].into() })
    }

    /// Reads back what [`Plan::text`] gave, and compiles it.
    ///
    /// # Errors
    ///
    /// Every broken rule; one of them where `text` is something else.
    pub fn compile_text(text: &str) -> Result<Plan, Vec<Violation>> {
        let (at, first, spec): (String, usize, Self) = serde_json::from_str(text)
            .map_err(|error| vec![Violation::new("", "malformed", error.to_string())])?;
        spec.compiled(&at, first)
    }
}

impl StepSpec {
    fn compile(&self, at: &str) -> Result<Step, Vec<Violation>> {
        let program = |language: Language, spec| {
            Program::new(language, spec, &format!("{at}/{language}")).map(Step::Program)
        };
        match self {
            Self::Map(mapping) => mapping.compile(&format!("{at}/map")).map(Step::Map),
            Self::Javascript(spec) => program(Language::Javascript, spec),
            Self::Jsonata(spec) => program(Language::Jsonata, spec),
            Self::Jmespath(spec) => program(Language::Jmespath, spec),
            Self::Schema(spec) => {
                Program::of_schema(spec, &format!("{at}/schema")).map(Step::Program)
            }
            Self::Host(spec) => {
                spec.compile(HostRole::Transformer, &format!("{at}/host")).map(Step::Host)
            }
            Self::HostFilter(spec) => {
                spec.compile(HostRole::Filter, &format!("{at}/host_filter")).map(Step::Host)
            }
        }
    }
}

impl Plan {
    /// The steps, in the order they run.
    #[must_use]
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// The programs among the steps, in the order they run.
    pub fn programs(&self) -> impl Iterator<Item = &Program> {
        self.steps.iter().filter_map(|step| match step {
            Step::Program(program) => Some(program),
            Step::Map(_) | Step::Host(_) => None,
        })
    }

    /// The steps among them that the host runs, in their order.
    pub fn host_steps(&self) -> impl Iterator<Item = &HostStep> {
        self.steps.iter().filter_map(|step| match step {
            Step::Host(step) => Some(step),
            Step::Map(_) | Step::Program(_) => None,
        })
    }

    /// The plan in parts, which run one after the other. Those with programs look nothing up, so
    /// that they can run in a process that has no tables, and steps of the host are parts of their
    /// own; mostly the plan is one part.
    #[must_use]
    pub fn parts(&self) -> &[Self] {
        if self.parts.is_empty() { std::slice::from_ref(self) } else { &self.parts }
    }

    /// How many steps each part has; none where the plan need not be parted.
    fn part_lengths(&self) -> Vec<usize> {
        let looks_up = |step: &Step| match step {
            Step::Map(mapping) => mapping.looks_up(),
            Step::Program(_) | Step::Host(_) => false,
        };
        let mut lengths = Vec::new();
        let (mut length, mut tables, mut programs, mut hosted) = (0, false, false, false);
        for step in self.steps.iter() {
            let (asks, runs) = (looks_up(step), matches!(step, Step::Program(_)));
            let hosts = matches!(step, Step::Host(_));
            let turns = length > 0 && hosts != hosted;
            if (asks && programs) || (runs && tables) || turns {
                lengths.push(std::mem::take(&mut length));
                (tables, programs) = (false, false);
            }
            hosted = hosts;
            length += 1;
            tables |= asks;
            programs |= runs;
        }
        if !lengths.is_empty() {
            lengths.push(length);
        }
        lengths
    }

    /// The whole plan as one JSON text, for a process that runs it elsewhere; see
    /// [`PlanSpec::compile_text`].
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The SHA-256 digest of [`text`](Self::text).
    #[must_use]
    pub fn digest(&self) -> &[u8; 32] {
        &self.digest
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
            (
                json!([{"script": {}}]),
                "unknown variant `script`, expected one of `map`, `javascript`",
            ),
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
    fn a_plan_is_rebuilt_from_its_text() {
        let spec: PlanSpec = serde_json::from_value(json!([
            {"schema": {"type": "object"}},
            {"map": {"remove": ["a"]}},
            {"javascript": {"source": "return payload", "reject_unsafe_integers": true}},
        ]))
        .unwrap();
        let plan = spec.compile("/transform").unwrap();
        let again = PlanSpec::compile_text(plan.text()).unwrap();
        assert_eq!((again.text(), again.digest()), (plan.text(), plan.digest()));
        let pointers = |plan: &Plan| plan.programs().map(Program::pointer).collect::<Vec<_>>();
        assert_eq!(pointers(&again), ["/transform/0/schema", "/transform/2/javascript/source"]);
        assert_ne!(spec.compile("/other").unwrap().digest(), plan.digest());
        assert!(PlanSpec::compile_text("[]").is_err());
    }

    #[test]
    fn programs_are_parted_from_mappings_that_look_up() {
        let plain = json!({"map": {"remove": ["a"]}});
        let looks = json!({"map": {"rules": [
            {"target": "b", "from": "a", "lookup": {"table": "t"}},
        ]}});
        let runs = json!({"jmespath": {"source": "a"}});
        let host = json!({"host": {"handler": "h"}});
        for (steps, lengths) in [
            (vec![&host], vec![1]),
            (vec![&plain, &host, &host, &runs, &plain], vec![1, 2, 2]),
            (vec![&host, &looks, &runs], vec![1, 1, 1]),
            (vec![], vec![0]),
            (vec![&looks, &plain], vec![2]),
            (vec![&plain, &runs, &plain], vec![3]),
            (vec![&plain, &looks, &runs, &plain], vec![2, 2]),
            (vec![&runs, &looks, &looks, &runs], vec![1, 2, 1]),
        ] {
            let spec: PlanSpec = serde_json::from_value(json!(steps)).unwrap();
            let plan = spec.compile("/t").unwrap();
            let parts: Vec<_> = plan.parts().iter().map(|part| part.steps().len()).collect();
            assert_eq!(parts, lengths, "{spec:?}");
        }
        let spec: PlanSpec = serde_json::from_value(json!([looks, runs])).unwrap();
        let plan = spec.compile("/t").unwrap();
        let last = PlanSpec::compile_text(plan.parts()[1].text()).unwrap();
        assert_eq!(last.programs().next().unwrap().pointer(), "/t/1/jmespath/source");
    }

    #[test]
    fn steps_of_the_host_know_their_role() {
        let spec: PlanSpec = serde_json::from_value(json!([
            {"host": {"handler": "enrich"}},
            {"host_filter": {"handler": "wanted", "config": {"least": 5}}},
        ]))
        .unwrap();
        let plan = spec.compile("/t").unwrap();
        let plan = PlanSpec::compile_text(plan.parts()[0].text()).unwrap();
        let steps: Vec<_> = plan.host_steps().map(|step| (step.role(), step.pointer())).collect();
        let filter = (HostRole::Filter, "/t/1/host_filter");
        assert_eq!(steps, [(HostRole::Transformer, "/t/0/host"), filter]);
        let bad = json!([{"host_filter": {"handler": "a b"}}]);
        let found = serde_json::from_value::<PlanSpec>(bad).unwrap().compile("/t").unwrap_err();
        assert_eq!(found[0].pointer, "/t/0/host_filter/handler");
        let extra = json!([{"host_filter": {"handler": "a", "pass": true}}]);
        assert!(serde_json::from_value::<PlanSpec>(extra).is_err());
    }

    #[test]
    fn steps_are_counted() {
        let step = StepSpec::Map(MappingSpec::default());
        assert!(PlanSpec { steps: vec![step.clone(); MAX_STEPS] }.compile("").is_ok());
        let found = PlanSpec { steps: vec![step; MAX_STEPS + 1] }.compile("/t").unwrap_err();
        assert_eq!((found[0].pointer.as_str(), found.len()), ("/t", 1));
    }
}
