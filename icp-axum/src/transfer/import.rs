use axum::Json;
use axum::extract::{Request, State};
use icp_core::access::OrganizationSpec;
use icp_core::id::ResourceId;
use icp_core::resource::{How, OnExisting, Outcome, Report, Spec, Step, StepResult, Task};
use icp_core::{Code, Engine, Error, Violation};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use super::file::{Format, Given};
use crate::auth::Caller;
use crate::extract::{Params, Query, upload};
use crate::problem::{Problem, Result};
use crate::resources::refusal;

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

/// How a file is to be taken.
struct Wish {
    validate_only: bool,
    go_on: bool,
    existing: OnExisting,
}

impl Wish {
    fn of(query: &Query) -> Result<Self> {
        let flags = [("false", false), ("true", true)];
        let words = [
            ("fail", OnExisting::Fail),
            ("skip", OnExisting::Skip),
            ("update", OnExisting::Update),
        ];
        Ok(Self {
            validate_only: query.choice("validate_only", flags)?,
            go_on: query.choice("continue_on_error", flags)?,
            existing: query.choice("on_existing", words)?,
        })
    }
}

pub(super) async fn resources(
    State(engine): State<Engine>,
    Caller(actor): Caller,
    params: Params,
    query: Query,
    request: Request,
) -> Result<Json<ImportAnswer>> {
    let Wish { validate_only, go_on, existing } = Wish::of(&query.only(IMPORT)?)?;
    let org = params.org()?;
    let rows = read(request, &engine).await?;
    let how = match (validate_only, go_on) {
        (true, _) => How::NotYet,
        (false, true) => How::EachAlone,
        (false, false) if rows.iter().any(Result::is_err) => How::NotYet,
        (false, false) => How::Together,
    };
    let kinds = kinds(&rows);
    let (steps, broken) = steps(rows, existing);
    let mut report = engine.resources().batch(&org, &steps, how, &actor).await?;
    put_back(&mut report, broken);
    if !report.applied && !validate_only {
        return Err(refusal(Code::ImportRefused, "resources", &report));
    }
    Ok(Json(ImportAnswer::of(kinds, report)))
}

/// Organizations are written each by itself: nobody can ask for all or none of them.
pub(super) async fn organizations(
    State(engine): State<Engine>,
    Caller(actor): Caller,
    query: Query,
    request: Request,
) -> Result<Json<ImportAnswer>> {
    let query = query.only(IMPORT)?;
    let Wish { validate_only, go_on, existing } = Wish::of(&query)?;
    let how = match (validate_only, go_on) {
        (true, _) => How::NotYet,
        (false, true) => How::EachAlone,
        (false, false) => {
            let message = "organizations are written each by itself; send `true`";
            return Err(query.refuse("continue_on_error", message));
        }
    };
    let rows = read(request, &engine).await?;
    let kinds = kinds(&rows);
    let rows = rows.into_iter().map(|row| row.and_then(organization)).collect();
    let (steps, broken) = steps(rows, existing);
    let tasks: Vec<_> = steps.into_iter().map(|step| step.task).collect();
    let mut report = engine.resources().batch_organizations(&tasks, how, &actor).await?;
    put_back(&mut report, broken);
    Ok(Json(ImportAnswer::of(kinds, report)))
}

async fn read(request: Request, engine: &Engine) -> Result<Vec<Given>> {
    let (media, file) = upload(request, engine, &Format::MEDIA).await?;
    Format::of(media).unwrap_or(Format::Json).read(&file)
}

fn kinds(rows: &[Given]) -> Vec<Option<String>> {
    rows.iter().map(|row| row.as_ref().ok().map(|(kind, _)| kind.clone())).collect()
}

/// The row, where it is an organization.
fn organization((kind, document): (String, Value)) -> Given {
    if kind == OrganizationSpec::KIND {
        return Ok((kind, document));
    }
    let message = "only organizations are made by this file; import others into theirs";
    let found = Violation::new("/kind", "organization", message);
    Err(Error::violations(Code::ResourceInvalid, vec![found]))
}

/// Tells rows that cannot be read where they are in the file.
fn put_back(report: &mut Report, broken: Vec<(usize, Error)>) {
    for (index, error) in broken {
        report.results.insert(index, StepResult::refused(error));
    }
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
