use std::collections::BTreeSet;

use axum::Json;
use axum::extract::{Request, State};
use icp_core::access::{Operation, Permission};
use icp_core::id::ResourceId;
use icp_core::resource::{How, OnExisting, Outcome, Report, Step, StepResult, Task};
use icp_core::{Code, Engine, Error};
use schemars::JsonSchema;
use serde::Serialize;

use super::file::{Format, Given};
use crate::auth::Caller;
use crate::extract::{Params, Query, upload};
use crate::problem::{Problem, Result};
use crate::resources::{permit, refusal};

pub(super) const IMPORT: &[&str] = &["validate_only", "on_existing", "continue_on_error"];

/// What became of the rows of a file.
#[derive(Debug, JsonSchema, Serialize)]
pub(super) struct ImportAnswer {
    /// Whether anything was written; not where the file was only to be checked.
    applied: bool,
    /// How many resources were made, or would be.
    created: usize,
    /// How many have a new version, or would have.
    updated: usize,
    /// How many were left as they are.
    skipped: usize,
    /// How many rows were refused.
    refused: usize,
    /// One for each row, in order.
    rows: Vec<RowAnswer>,
}

/// What became of one row.
#[derive(Debug, JsonSchema, Serialize)]
struct RowAnswer {
    /// Its place in the file, from 0.
    index: usize,
    /// The kind of the resource, where the row names one.
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<String>,
    /// The id of the resource, where it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<ResourceId>,
    /// What was done, or would be.
    outcome: RowOutcome,
    /// Why the row was refused; its pointers lead into the row.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<Problem>,
}

/// What is done with one row.
#[derive(Clone, Copy, Debug, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
enum RowOutcome {
    /// A resource is made of it.
    Created,
    /// It is the new version of a resource.
    Updated,
    /// The resource is there already, and stays as it is.
    Skipped,
    /// Nothing.
    Refused,
}

pub(super) async fn import(
    State(engine): State<Engine>,
    Caller(actor): Caller,
    params: Params,
    query: Query,
    request: Request,
) -> Result<Json<ImportAnswer>> {
    let query = query.only(IMPORT)?;
    let org = params.org()?;
    let flags = [("false", false), ("true", true)];
    let validate_only = query.choice("validate_only", flags)?;
    let go_on = query.choice("continue_on_error", flags)?;
    let words =
        [("fail", OnExisting::Fail), ("skip", OnExisting::Skip), ("update", OnExisting::Update)];
    let existing = query.choice("on_existing", words)?;
    let (media, file) = upload(request, &engine, &Format::MEDIA).await?;
    let format = Format::of(media).unwrap_or(Format::Json);
    let rows = format.read(&file)?;
    let resources = engine.resources();
    for name in rows.iter().flatten().map(|(kind, _)| kind.as_str()).collect::<BTreeSet<_>>() {
        if let Ok(kind) = resources.kinds().get(name) {
            permit(&actor, Permission::new(kind.area(), Operation::Write))?;
        }
    }
    let how = match (validate_only, go_on) {
        (true, _) => How::NotYet,
        (false, true) => How::EachAlone,
        (false, false) if rows.iter().any(Result::is_err) => How::NotYet,
        (false, false) => How::Together,
    };
    let kinds = rows.iter().map(|row| row.as_ref().ok().map(|(kind, _)| kind.clone())).collect();
    let (steps, broken) = steps(rows, existing);
    let mut report = resources.batch(&org, &steps, how, &actor).await?;
    for (index, error) in broken {
        report.results.insert(index, StepResult::refused(error));
    }
    if !report.applied && !validate_only {
        return Err(refusal(Code::ImportRefused, "resources", &report));
    }
    Ok(Json(ImportAnswer::of(kinds, report)))
}

/// The rows as steps, and beside them those that cannot be read, each with its place.
fn steps(rows: Vec<Given>, existing: OnExisting) -> (Vec<Step>, Vec<(usize, Error)>) {
    let (mut steps, mut broken) = (Vec::new(), Vec::new());
    for (index, row) in rows.into_iter().enumerate() {
        match row {
            Ok((kind, document)) => {
                steps.push(Step::new(kind, Task::Import(document, existing)));
            }
            Err(error) => broken.push((index, error)),
        }
    }
    (steps, broken)
}

impl ImportAnswer {
    fn of(kinds: Vec<Option<String>>, report: Report) -> Self {
        let results = kinds.into_iter().zip(report.results).enumerate();
        let rows: Vec<_> = results
            .map(|(index, (kind, result))| {
                let (outcome, problem) = match result.outcome {
                    Ok(Outcome::Created(_)) => (RowOutcome::Created, None),
                    Ok(Outcome::Updated(_)) => (RowOutcome::Updated, None),
                    Ok(_) => (RowOutcome::Skipped, None),
                    Err(error) => (RowOutcome::Refused, Some(error.into())),
                };
                RowAnswer { index, kind, id: result.id, outcome, problem }
            })
            .collect();
        let count = |outcome| rows.iter().filter(|row| row.outcome == outcome).count();
        Self {
            applied: report.applied,
            created: count(RowOutcome::Created),
            updated: count(RowOutcome::Updated),
            skipped: count(RowOutcome::Skipped),
            refused: count(RowOutcome::Refused),
            rows,
        }
    }
}
