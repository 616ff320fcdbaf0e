use std::collections::BTreeSet;
use std::path::PathBuf;

use clap::Args;
use icp::resource::MAX_STEPS;
use serde_json::{Value, json};

use crate::client::{Call, Client, Remote};
use crate::failure::{Failure, Result};
use crate::kinds::{Kinds, ORGANIZATION, path};
use crate::manifest::{self, Manifest};
use crate::output;
use crate::plan::{Action, Step, Stored, draft_of, plan};

/// Which resources are made so, and how.
#[derive(Args, Debug)]
pub(crate) struct Apply {
    /// A file or folder with resources as YAML or JSON, or `-`; may be given several times.
    #[arg(long = "file", short, required = true, value_name = "FILE|DIR|-")]
    files: Vec<PathBuf>,
    /// The organization of those that name none.
    #[arg(long, env = "ICP_ORG", value_name = "ORG")]
    org: Option<String>,
    /// Shows what changes, and changes nothing.
    #[arg(long)]
    dry_run: bool,
    /// Deletes what is there of the named kinds in the named organizations, and not in the files.
    #[arg(long)]
    prune: bool,
    /// Prunes only what has this label; may be given several times.
    #[arg(long = "label", short = 'l', value_name = "KEY:VALUE", requires = "prune", value_parser = label)]
    labels: Vec<(String, String)>,
    /// Goes on with the others where one is refused, and undoes nothing.
    #[arg(long)]
    continue_on_error: bool,
    #[command(flatten)]
    remote: Remote,
}

/// A step that was taken: where it leads back to, and the revision that it made.
struct Taken<'a> {
    step: &'a Step,
    revision: Option<u64>,
}

fn label(text: &str) -> Result<(String, String), String> {
    let pair = text.split_once(':').map(|(key, value)| (key.to_owned(), value.to_owned()));
    pair.ok_or_else(|| "use the form key:value".to_owned())
}

pub(crate) async fn run(command: &Apply) -> Result<()> {
    let kinds = Kinds::new()?;
    let manifests = manifest::read(&command.files, command.org.as_deref(), &kinds)?;
    let client = command.remote.client()?;
    let stored = stored(&client, &manifests, &kinds).await?;
    let prune = command.prune.then_some(command.labels.as_slice());
    let steps = plan(&manifests, &stored, prune, &kinds)?;
    let shown: String = steps.iter().map(Step::shown).collect();
    output::print(&shown)?;
    if command.dry_run {
        return output::print(&format!("a dry run; otherwise: {}\n", counted(&steps)));
    }
    if command.continue_on_error {
        each(&client, &kinds, &steps).await
    } else {
        whole(&client, &kinds, &steps).await
    }
}

/// What the server holds of the kinds and organizations that the files name.
async fn stored(client: &Client, manifests: &[Manifest], kinds: &Kinds) -> Result<Stored> {
    let named: BTreeSet<_> = manifests.iter().map(|one| (&one.kind, &one.org)).collect();
    let mut stored = Stored::new();
    for (name, org) in named {
        let kind = kinds.find(name)?;
        let found = if name == ORGANIZATION {
            client.send(Call::get(&path(kind, org, Some(org)))).await.map(|one| vec![one])
        } else {
            client.list(&path(kind, org, None), &[], None).await
        };
        let found = match found {
            // The organization is made by the same files.
            Err(Failure::Refused(refusal)) if refusal.status == 404 => Vec::new(),
            other => other?,
        };
        for document in found {
            let id = document["id"].as_str().unwrap_or_default().to_owned();
            stored.insert((name.clone(), org.clone(), id), document);
        }
    }
    Ok(stored)
}

/// All steps or none. Those of one organization are one write; where one is refused, the writes
/// before it are undone.
async fn whole(client: &Client, kinds: &Kinds, steps: &[Step]) -> Result<()> {
    let mut taken: Vec<Taken<'_>> = Vec::new();
    for group in groups(steps) {
        match take_group(client, kinds, &group).await {
            Ok(revisions) => {
                let group = group.into_iter().zip(revisions);
                taken.extend(group.map(|(step, revision)| Taken { step, revision }));
            }
            Err(failure) => return Err(undo(client, kinds, &taken, failure).await),
        }
    }
    output::print(&format!("done: {}\n", counted(steps)))
}

/// The steps that change anything, parted into what one write can hold: an organization, or
/// resources of one.
fn groups(steps: &[Step]) -> Vec<Vec<&Step>> {
    let mut groups: Vec<Vec<&Step>> = Vec::new();
    for step in steps.iter().filter(|step| step.action != Action::Keep) {
        let fits = |group: &&mut Vec<&Step>| {
            group.len() < MAX_STEPS
                && group.iter().all(|one| one.kind != ORGANIZATION && one.org == step.org)
        };
        match groups.iter_mut().rev().find(fits) {
            Some(group) if step.kind != ORGANIZATION => group.push(step),
            _ => groups.push(vec![step]),
        }
    }
    groups
}

/// Takes the steps of a group, all or none; answers the revisions that they made.
async fn take_group(client: &Client, kinds: &Kinds, group: &[&Step]) -> Result<Vec<Option<u64>>> {
    let org = match group {
        [step] if step.kind == ORGANIZATION => {
            let revision = take(client, kinds, step).await;
            return Ok(vec![revision.map_err(|failure| placed(failure, group, |_| Some(0)))?]);
        }
        [step, ..] => step.org.as_str(),
        [] => return Ok(Vec::new()),
    };
    let plan = json!({ "steps": group.iter().map(|step| planned(step)).collect::<Vec<_>>() });
    let answer = client.send(Call::post(&["organizations", org, "apply"], &plan)).await;
    let answer = answer.map_err(|failure| placed(failure, group, place))?;
    let documents = answer["documents"].as_array().into_iter().flatten();
    Ok(documents.map(|document| document["revision"].as_u64()).collect())
}

/// A step as the server takes it.
fn planned(step: &Step) -> Value {
    let (action, draft, before) = match &step.action {
        Action::Create { draft } => ("create", Some(draft), None),
        Action::Replace { draft, before } => ("replace", Some(draft), Some(before)),
        Action::Delete { before } => ("delete", None, Some(before)),
        Action::Keep => return Value::Null,
    };
    let mut plan = json!({ "kind": step.kind, "action": action });
    match draft {
        Some(draft) => {
            plan["document"] = draft.clone();
            plan["document"]["id"] = step.id.as_str().into();
        }
        None => plan["id"] = step.id.as_str().into(),
    }
    if let Some(before) = before {
        plan["revision"] = before["revision"].clone();
    }
    plan
}

/// Names the resource in each rule that a refusal tells of.
fn placed(
    failure: Failure,
    group: &[&Step],
    place: impl Fn(&mut String) -> Option<usize>,
) -> Failure {
    let Failure::Refused(mut refusal) = failure else { return failure };
    for violation in &mut refusal.violations {
        if let Some(step) = place(&mut violation.pointer).and_then(|index| group.get(index)) {
            violation.pointer = format!("{} {}", step.address(), violation.pointer);
        }
    }
    Failure::Refused(refusal)
}

/// The step that a pointer into a plan leads to, and the rest of the pointer in its place.
fn place(pointer: &mut String) -> Option<usize> {
    let path = pointer.strip_prefix("/steps/")?;
    let (index, rest) = path.split_at(path.find('/').unwrap_or(path.len()));
    let index = index.parse().ok()?;
    *pointer = rest.strip_prefix("/document").unwrap_or(rest).to_owned();
    Some(index)
}

/// Every step for itself; what was refused is told at the end.
async fn each(client: &Client, kinds: &Kinds, steps: &[Step]) -> Result<()> {
    let mut refused = Vec::new();
    for step in steps {
        match take(client, kinds, step).await {
            Ok(_) => {}
            Err(failure @ Failure::Refused(_)) => {
                refused.push(format!("{}: {failure}", step.address()));
            }
            Err(failure) => return Err(failure),
        }
    }
    let done = steps.len() - refused.len();
    output::print(&format!("{done} of {} are as asked for\n", steps.len()))?;
    if refused.is_empty() {
        return Ok(());
    }
    Err(Failure::Unfinished(format!("{} were refused:\n{}", refused.len(), refused.join("\n"))))
}

/// Takes a step; answers the revision that it made. A resource that changed since it was looked at
/// is refused.
async fn take(client: &Client, kinds: &Kinds, step: &Step) -> Result<Option<u64>> {
    let kind = kinds.find(&step.kind)?;
    let (many, one) = (path(kind, &step.org, None), path(kind, &step.org, Some(&step.id)));
    let call = match &step.action {
        Action::Keep => return Ok(None),
        Action::Create { draft } => Call::post(&many, draft),
        Action::Replace { draft, before } => guarded(Call::put(&one, draft), before),
        Action::Delete { before } => guarded(Call::delete(&one), before),
    };
    Ok(client.send(call).await?["revision"].as_u64())
}

fn guarded<'a>(call: Call<'a>, before: &Value) -> Call<'a> {
    match before["revision"].as_u64() {
        Some(revision) => call.if_revision(revision),
        None => call,
    }
}

/// Undoes what was taken, the last step first; answers what there is to say of it all.
async fn undo(client: &Client, kinds: &Kinds, taken: &[Taken<'_>], cause: Failure) -> Failure {
    let mut left = Vec::new();
    for Taken { step, revision } in taken.iter().rev() {
        if let Err(failure) = back(client, kinds, step, *revision).await {
            left.push(format!("  {}: {failure}", step.address()));
        }
    }
    let changed = taken.len();
    if left.is_empty() {
        output::note(&match changed {
            0 => "nothing is changed".to_owned(),
            _ => format!("nothing is changed: {changed} steps were undone"),
        });
        return cause;
    }
    Failure::Unfinished(format!(
        "{cause}\n{} of {changed} steps that were taken before cannot be undone:\n{}",
        left.len(),
        left.join("\n")
    ))
}

/// Puts back what a step changed, where nobody changed it since.
async fn back(client: &Client, kinds: &Kinds, step: &Step, revision: Option<u64>) -> Result<()> {
    let kind = kinds.find(&step.kind)?;
    let (many, one) = (path(kind, &step.org, None), path(kind, &step.org, Some(&step.id)));
    let made = json!({ "revision": revision });
    match &step.action {
        Action::Keep => return Ok(()),
        Action::Create { .. } => client.send(guarded(Call::delete(&one), &made)).await?,
        Action::Delete { before } => {
            client.send(Call::post(&many, &draft_of(before, true))).await?
        }
        Action::Replace { before, .. } => restored(client, &one, before, &made).await?,
    };
    Ok(())
}

/// The version before comes back with its secrets, where the server can do that; else what can be
/// read of it does.
async fn restored(client: &Client, one: &[&str], before: &Value, made: &Value) -> Result<Value> {
    let version = json!({ "version": before["version"] });
    let verb: Vec<&str> = one.iter().copied().chain(["rollback"]).collect();
    match client.send(guarded(Call::post(&verb, &version), made)).await {
        Err(Failure::Refused(refusal)) if refusal.code == "route_unknown" => {
            client.send(guarded(Call::put(one, &draft_of(before, false)), made)).await
        }
        other => other,
    }
}

fn counted(steps: &[Step]) -> String {
    let count = |verb: &str| steps.iter().filter(|step| step.verb() == verb).count();
    format!(
        "{} created, {} changed, {} deleted, {} kept",
        count("create"),
        count("change"),
        count("delete"),
        count("keep")
    )
}
