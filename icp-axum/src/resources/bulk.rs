//! Changes of many resources of a kind at once.

use axum::http::StatusCode;
use axum::{Extension, Json};
use icp_core::id::ResourceId;
use icp_core::resource::{
    Document, Draft, How, MAX_BULK, Outcome, Report, Step, StepResult, Task, Violations,
};
use icp_core::{Code, Error, Violation};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::command::Command;
use crate::endpoint::KindRoute;
use crate::extract::{Body, Input};
use crate::problem::{Problem, Result};

/// What to do with many resources.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Bulk {
    /// What is done to each.
    action: BulkAction,
    /// The resources, 1 to 100; for `enable`, `disable` and `delete`.
    #[serde(default)]
    #[schemars(length(max = MAX_BULK))]
    ids: Vec<ResourceId>,
    /// The documents, 1 to 100; for `create` and `replace`. Those that replace name their `id`.
    #[serde(default)]
    #[schemars(with = "Vec<Draft>", length(max = MAX_BULK))]
    items: Vec<Value>,
    /// Whether each is done by itself, whatever becomes of the others. By default all are done in
    /// one write, or none where one is refused; organizations are always done each by itself, and
    /// ask for `true`.
    #[serde(default)]
    continue_on_error: bool,
}

/// What is done to each of many resources.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq)]
#[serde(rename_all = "snake_case")]
enum BulkAction {
    /// It is made.
    Create,
    /// It is put in place of the present version.
    Replace,
    /// It is switched on; for kinds that have `enabled`.
    Enable,
    /// It is switched off; for kinds that have `enabled`.
    Disable,
    /// It is deleted.
    Delete,
}

impl Input for Bulk {
    const INVALID: Code = Code::ResourceInvalid;
}

/// What became of each resource, in the order they were named.
#[derive(Debug, JsonSchema, Serialize)]
pub(super) struct BulkAnswer {
    /// How many are as asked for.
    done: usize,
    /// How many were refused.
    refused: usize,
    /// One item for each resource.
    results: Vec<BulkResult>,
}

/// What became of one resource.
#[derive(Debug, JsonSchema, Serialize)]
struct BulkResult {
    /// Its place among those that were named, from 0.
    index: usize,
    /// Its id, where it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<ResourceId>,
    /// The HTTP status the operation would have had alone.
    status: u16,
    /// The resource as it is now; none once deleted.
    #[serde(skip_serializing_if = "Option::is_none")]
    document: Option<Document>,
    /// Why nothing was done to it; its pointers lead into its own document.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<Problem>,
}

impl Bulk {
    /// The steps, and the name of the list they come from.
    fn steps(self, kind: &str) -> Result<(Vec<Step>, &'static str)> {
        let takes_items = matches!(self.action, BulkAction::Create | BulkAction::Replace);
        let (name, count, other, others) = if takes_items {
            ("items", self.items.len(), "ids", self.ids.len())
        } else {
            ("ids", self.ids.len(), "items", self.items.len())
        };
        let mut violations = Violations::default();
        if !(1..=MAX_BULK).contains(&count) {
            let message = format!("use 1 to {MAX_BULK} {name} for this action");
            violations.add(format!("/{name}"), "out_of_range", message);
        }
        if others > 0 {
            let message = format!("this action takes {name}; leave {other} out");
            violations.add(format!("/{other}"), "not_taken", message);
        }
        violations.into_result()?;
        let tasks: Vec<_> = match self.action {
            BulkAction::Create => self.items.into_iter().map(Task::Create).collect(),
            BulkAction::Replace => self.items.into_iter().map(Task::Replace).collect(),
            BulkAction::Enable => self.ids.into_iter().map(Task::Enable).collect(),
            BulkAction::Disable => self.ids.into_iter().map(Task::Disable).collect(),
            BulkAction::Delete => self.ids.into_iter().map(Task::Delete).collect(),
        };
        let step = |task| Step::new(kind, task);
        Ok((tasks.into_iter().map(step).collect(), name))
    }
}

impl BulkAnswer {
    fn of(report: Report) -> Self {
        let refused = report.refused();
        let done = report.results.len() - refused;
        let results = report.results.into_iter().enumerate().map(BulkResult::of).collect();
        Self { done, refused, results }
    }
}

impl BulkResult {
    fn of((index, result): (usize, StepResult)) -> Self {
        let id = result.id;
        let (status, document, problem) = match result.outcome {
            Ok(Outcome::Created(document)) => (StatusCode::CREATED, document, None),
            Ok(Outcome::Updated(document) | Outcome::Unchanged(document)) => {
                (StatusCode::OK, document, None)
            }
            Ok(_) => (StatusCode::NO_CONTENT, None, None),
            Err(error) => {
                let problem = Problem::from(error);
                (problem.status(), None, Some(problem))
            }
        };
        Self { index, id, status: status.as_u16(), document, problem }
    }
}

pub(super) async fn bulk(
    Extension(kind): Extension<KindRoute>,
    command: Command,
    Body(bulk): Body<Bulk>,
) -> Result<Json<BulkAnswer>> {
    let (within, Command { actor, params, .. }) = (command.within()?, command);
    let how = if bulk.continue_on_error { How::EachAlone } else { How::Together };
    let (steps, list) = bulk.steps(kind.name)?;
    let report = within.resources().batch(&params.org()?, &steps, how, &actor).await?;
    if !report.applied {
        return Err(refusal(Code::BulkRefused, list, &report));
    }
    Ok(Json(BulkAnswer::of(report)))
}

/// Organizations are written each by itself: nobody can ask for all or none of them.
pub(super) async fn organizations(
    Extension(kind): Extension<KindRoute>,
    command: Command,
    Body(bulk): Body<Bulk>,
) -> Result<Json<BulkAnswer>> {
    let Command { engine, actor, .. } = command;
    if !bulk.continue_on_error {
        let mut violations = Violations::default();
        let message = "organizations are written each by itself; send `true`";
        violations.add("/continue_on_error", "required", message);
        violations.into_result()?;
    }
    let (steps, _) = bulk.steps(kind.name)?;
    let tasks: Vec<_> = steps.into_iter().map(|step| step.task).collect();
    let report = engine.resources().batch_organizations(&tasks, How::EachAlone, &actor).await?;
    Ok(Json(BulkAnswer::of(report)))
}

/// The problem that nothing was done, with everything that stood against it.
pub(crate) fn refusal(code: Code, list: &str, report: &Report) -> Problem {
    let refused = report.results.iter().enumerate();
    let refused =
        refused.filter_map(|(index, result)| Some((index, result.outcome.as_ref().err()?)));
    let found = refused.flat_map(|(index, error)| faults(&format!("/{list}/{index}"), error));
    Problem::violations(code, found.collect())
}

/// What an error says of the part of a document at `at`.
fn faults(at: &str, error: &Error) -> Vec<Violation> {
    if error.list().is_empty() {
        return vec![Violation::new(at, error.code().as_str(), error.message())];
    }
    let list = error.list().iter().cloned();
    list.map(|found| Violation { pointer: format!("{at}{}", found.pointer), ..found }).collect()
}
