use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};

use super::Org;
use crate::client::{Call, Remote};
use crate::failure::{Failure, Result};
use crate::kinds::{Kinds, ORGANIZATION, path};
use crate::{output, yaml};

/// What is exported, and where to.
#[derive(Args, Debug)]
pub(crate) struct Export {
    #[command(flatten)]
    org: Org,
    /// Only these kinds; may be given several times.
    #[arg(long = "kind", short, value_name = "KIND")]
    kinds: Vec<String>,
    /// The file to write; the standard output where it is left out.
    #[arg(long, short)]
    file: Option<PathBuf>,
    #[command(flatten)]
    remote: Remote,
}

pub(crate) async fn run(command: &Export) -> Result<()> {
    let (kinds, org) = (Kinds::new()?, command.org.org.as_str());
    let mut wanted = Vec::new();
    for kind in &command.kinds {
        wanted.push(kinds.find(kind)?.name());
    }
    let is_wanted = |kind: &str| wanted.is_empty() || wanted.contains(&kind);
    let client = command.remote.client()?;
    let organization = client.send(Call::get(&["organizations", org])).await?;
    let mut documents = Vec::new();
    if is_wanted(ORGANIZATION) {
        documents.push(written(&organization));
    }
    for kind in kinds.exported().into_iter().filter(|kind| is_wanted(kind.name())) {
        let items = client.list(&path(kind, org, None), &[], None).await?;
        documents.extend(items.iter().map(written));
    }
    let text = yaml::write_all(&documents)?;
    let Some(file) = &command.file else { return output::print(&text) };
    std::fs::write(file, text).map_err(|fault| {
        Failure::Input(format!("`{}` cannot be written: {fault}", file.display()))
    })?;
    output::note(&format!("{} resources are in {}", documents.len(), file.display()));
    Ok(())
}

/// What people write of a document, with nothing that the store noted.
fn written(document: &Value) -> Value {
    let mut written = json!({ "kind": document["kind"] });
    if document["kind"] != ORGANIZATION {
        written["org"] = document["org"].clone();
    }
    written["id"] = document["id"].clone();
    for field in ["name", "labels"] {
        let value = &document[field];
        if !value.is_null() && value.as_object().is_none_or(|map| !map.is_empty()) {
            written[field] = value.clone();
        }
    }
    written["spec"] = document["spec"].clone();
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_people_write_is_exported() {
        let document = json!({"kind": "lookup", "id": "a", "org": "acme", "name": null,
            "labels": {}, "spec": {"x": 1}, "status": {"y": 1}, "revision": 3, "version": 1});
        assert_eq!(
            written(&document),
            json!({"kind": "lookup", "org": "acme", "id": "a", "spec": {"x": 1}})
        );
        let document = json!({"kind": "organization", "id": "acme", "org": "acme", "name": "A",
            "labels": {"a": "b"}, "spec": {}});
        assert_eq!(
            written(&document),
            json!({"kind": "organization", "id": "acme", "name": "A", "labels": {"a": "b"}, "spec": {}})
        );
    }
}
