//! What has to be written so that a server holds what files say; pure.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::diff;
use crate::failure::Result;
use crate::kinds::{Kinds, is_configuration, rank};
use crate::manifest::{Manifest, address};

/// What a server holds, by kind, organization and id.
pub(crate) type Stored = BTreeMap<(String, String, String), Value>;

/// One resource, and what is to be done to it.
#[derive(Debug, PartialEq)]
pub(crate) struct Step {
    pub(crate) kind: String,
    pub(crate) org: String,
    pub(crate) id: String,
    pub(crate) action: Action,
    /// What it changes, a line each.
    pub(crate) changes: Vec<String>,
}

/// What is to be done to a resource.
#[derive(Debug, PartialEq)]
pub(crate) enum Action {
    /// It is not there yet.
    Create { draft: Value },
    /// It is there and differs.
    Replace { draft: Value, before: Value },
    /// It is there and not among the files.
    Delete { before: Value },
    /// It is as it should be.
    Keep,
}

/// The steps, in the order in which they are taken: those that are deleted last, and backwards.
pub(crate) fn plan(
    manifests: &[Manifest],
    stored: &Stored,
    prune: Option<&[(String, String)]>,
    kinds: &Kinds,
) -> Result<Vec<Step>> {
    let mut steps = Vec::new();
    for manifest in manifests {
        let kind = kinds.find(&manifest.kind)?;
        let key = (manifest.kind.clone(), manifest.org.clone(), manifest.id.clone());
        let before = stored.get(&key);
        let changes = diff::changes(kind, before, manifest);
        let action = match before {
            None => Action::Create { draft: manifest.draft(true) },
            Some(_) if changes.is_empty() => Action::Keep,
            Some(before) => {
                Action::Replace { draft: manifest.draft(false), before: before.clone() }
            }
        };
        let (kind, org, id) = key;
        steps.push(Step { kind, org, id, action, changes });
    }
    if let Some(labels) = prune {
        steps.extend(pruned(manifests, stored, labels));
    }
    Ok(steps)
}

/// What is there of the kinds and organizations that `manifests` name, and not among them. With
/// labels, only what has them all. Organizations and principals are never pruned.
fn pruned(manifests: &[Manifest], stored: &Stored, labels: &[(String, String)]) -> Vec<Step> {
    let is_named = |kind: &str, org: &str| {
        manifests.iter().any(|manifest| manifest.kind == kind && manifest.org == org)
    };
    let is_wanted = |address: &str| manifests.iter().any(|manifest| manifest.address() == address);
    let has_labels = |document: &Value| {
        labels.iter().all(|(key, value)| document["labels"][key].as_str() == Some(value))
    };
    let mut steps: Vec<Step> = stored
        .iter()
        .filter(|((kind, org, id), document)| {
            is_configuration(kind)
                && is_named(kind, org)
                && !is_wanted(&address(kind, org, id))
                && has_labels(document)
        })
        .map(|((kind, org, id), before)| Step {
            kind: kind.clone(),
            org: org.clone(),
            id: id.clone(),
            action: Action::Delete { before: before.clone() },
            changes: Vec::new(),
        })
        .collect();
    steps.sort_by_key(|step| std::cmp::Reverse(rank(&step.kind)));
    steps
}

impl Step {
    /// How messages name it.
    pub(crate) fn address(&self) -> String {
        address(&self.kind, &self.org, &self.id)
    }

    /// What it does, in one word.
    pub(crate) fn verb(&self) -> &'static str {
        match self.action {
            Action::Create { .. } => "create",
            Action::Replace { .. } => "change",
            Action::Delete { .. } => "delete",
            Action::Keep => "keep",
        }
    }

    /// The step as people read it.
    pub(crate) fn shown(&self) -> String {
        let mut text = format!("{:6} {}\n", self.verb(), self.address());
        for change in &self.changes {
            text.push_str("         ");
            text.push_str(change);
            text.push('\n');
        }
        text
    }
}

/// A stored document as a draft that puts it back; its secrets stay as they are stored.
pub(crate) fn draft_of(document: &Value, new: bool) -> Value {
    let mut draft = Map::new();
    for field in ["name", "labels", "spec"] {
        draft.insert(field.to_owned(), document[field].clone());
    }
    if new {
        draft.insert("id".to_owned(), document["id"].clone());
    }
    Value::Object(draft)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn manifests(text: &str) -> Vec<Manifest> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.yaml");
        std::fs::write(&file, text).unwrap();
        crate::manifest::read(&[file], None, &Kinds::new().unwrap()).unwrap()
    }

    fn stored(all: &[(&str, &str, &str, Value)]) -> Stored {
        all.iter()
            .map(|(kind, org, id, labels)| {
                let document =
                    json!({"id": id, "name": null, "labels": labels, "spec": {}, "revision": 1});
                (((*kind).to_owned(), (*org).to_owned(), (*id).to_owned()), document)
            })
            .collect()
    }

    fn told(steps: &[Step]) -> Vec<String> {
        steps.iter().map(|step| format!("{} {}", step.verb(), step.address())).collect()
    }

    #[test]
    fn only_what_differs_is_written() {
        let there = stored(&[("organization", "a", "a", json!({}))]);
        let kinds = Kinds::new().unwrap();
        let text = "kind: organization\nid: a\nname: A\n---\nkind: organization\nid: b\n";
        let steps = plan(&manifests(text), &there, None, &kinds).unwrap();
        assert_eq!(told(&steps), ["change organization a", "create organization b"]);
        assert_eq!(steps[0].changes[0], "+ /name: \"A\"");
    }

    #[test]
    fn prune_keeps_to_the_kinds_organizations_and_labels_that_are_named() {
        let there = stored(&[
            ("organization", "a", "a", json!({})),
            ("organization", "z", "z", json!({})),
            ("lookup", "a", "kept", json!({})),
            ("lookup", "a", "old", json!({"by": "git"})),
            ("lookup", "a", "hand", json!({})),
            ("lookup", "z", "other", json!({"by": "git"})),
            ("integration", "a", "i", json!({"by": "git"})),
            ("event_type", "a", "unnamed", json!({"by": "git"})),
        ]);
        let text = "kind: lookup\norg: a\nid: kept\n---\nkind: integration\norg: a\nid: new\n";
        let (files, kinds) = (manifests(text), Kinds::new().unwrap());
        let deleted = |labels: &[(String, String)]| {
            let steps = plan(&files, &there, Some(labels), &kinds).unwrap();
            told(&steps).into_iter().filter(|line| line.starts_with("delete")).collect::<Vec<_>>()
        };
        assert_eq!(
            deleted(&[]),
            ["delete integration a/i", "delete lookup a/hand", "delete lookup a/old"]
        );
        let label = [("by".to_owned(), "git".to_owned())];
        assert_eq!(deleted(&label), ["delete integration a/i", "delete lookup a/old"]);
        assert!(plan(&files, &there, None, &kinds).unwrap().iter().all(|s| s.verb() != "delete"));
    }
}
