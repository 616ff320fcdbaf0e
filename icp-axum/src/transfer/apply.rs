use axum::Json;
use icp_core::Code;
use icp_core::id::ResourceId;
use icp_core::resource::{
    Document, Draft, How, MAX_STEPS, Outcome, Report, Revision, Step, Task, Violations,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::command::Command;
use crate::extract::{Body, Input};
use crate::problem::Result;
use crate::resources::refusal;

/// Changes of resources of any kind, made in one write or not at all.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Plan {
    /// The changes, 1 to 1,000. A step may refer to what a later one makes.
    #[schemars(length(min = 1, max = MAX_STEPS))]
    steps: Vec<PlanStep>,
    /// Whether the changes are only to be checked.
    #[serde(default)]
    validate_only: bool,
}

/// One change.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct PlanStep {
    /// The name of the kind.
    kind: String,
    /// What is done.
    action: PlanAction,
    /// The resource that is deleted.
    #[serde(default)]
    id: Option<ResourceId>,
    /// The document that is made, or put in place of the one whose `id` it names.
    #[serde(default)]
    #[schemars(with = "Option<Draft>")]
    document: Option<Value>,
    /// The revision that the resource must have; the step is refused where it has another.
    #[serde(default)]
    revision: Option<Revision>,
}

/// What a step does.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq)]
#[serde(rename_all = "snake_case")]
enum PlanAction {
    /// A resource is made.
    Create,
    /// A whole new version is put in place of the present one.
    Replace,
    /// The resource is deleted.
    Delete,
}

impl Input for Plan {
    const INVALID: Code = Code::ResourceInvalid;
}

/// What became of the changes.
#[derive(Debug, JsonSchema, Serialize)]
pub(super) struct PlanAnswer {
    /// Whether they were made; not where they were only to be checked.
    applied: bool,
    /// The resources as they are now, one for each step in order; `null` for one that is gone, and
    /// where nothing was written.
    documents: Vec<Option<Document>>,
}

pub(super) async fn apply(command: Command, Body(plan): Body<Plan>) -> Result<Json<PlanAnswer>> {
    let Command { engine, actor, params, .. } = command;
    let how = if plan.validate_only { How::NotYet } else { How::Together };
    let steps = plan.steps()?;
    let report = engine.resources().batch(&params.org()?, &steps, how, &actor).await?;
    if report.refused() > 0 {
        return Err(refusal(Code::ApplyRefused, "steps", &report));
    }
    Ok(Json(PlanAnswer::of(report)))
}

impl Plan {
    fn steps(self) -> Result<Vec<Step>> {
        let mut violations = Violations::default();
        if !(1..=MAX_STEPS).contains(&self.steps.len()) {
            let message = format!("use 1 to {MAX_STEPS} steps at once");
            violations.add("/steps", "out_of_range", message);
        }
        let mut steps = Vec::with_capacity(self.steps.len());
        for (index, step) in self.steps.into_iter().enumerate() {
            match step.read() {
                Ok(step) => steps.push(step),
                Err((field, message)) => {
                    violations.add(format!("/steps/{index}/{field}"), "required", message);
                }
            }
        }
        violations.into_result()?;
        Ok(steps)
    }
}

impl PlanStep {
    /// The step, or the field that it lacks.
    fn read(self) -> Result<Step, (&'static str, &'static str)> {
        let document = self.document.ok_or(("document", "name the document"));
        let task = match self.action {
            PlanAction::Create => Task::Create(document?),
            PlanAction::Replace => Task::Replace(document?),
            PlanAction::Delete => Task::Delete(self.id.ok_or(("id", "name the resource"))?),
        };
        let step = Step::new(self.kind, task);
        Ok(match self.revision {
            Some(revision) => step.if_revision(revision),
            None => step,
        })
    }
}

impl PlanAnswer {
    fn of(report: Report) -> Self {
        let documents = report.results.into_iter().map(|result| match result.outcome {
            Ok(Outcome::Created(document) | Outcome::Updated(document)) => document,
            _ => None,
        });
        Self { documents: documents.collect(), applied: report.applied }
    }
}
