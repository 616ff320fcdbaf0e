//! Real webhook payloads, from a folder, an archive or one JSON file.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::scenario::Result;

/// One webhook as it was sent once.
#[derive(Clone, Debug)]
pub(crate) struct Payload {
    /// GitHub's name of the event, as in `pull_request`.
    pub(crate) event: String,
    /// The payload, byte for byte.
    pub(crate) body: String,
    /// The same, parsed.
    pub(crate) value: Value,
}

impl Payload {
    fn new(event: &str, body: &str) -> Result<Self> {
        let value = serde_json::from_str(body)?;
        Ok(Self { event: event.to_owned(), body: body.to_owned(), value })
    }

    /// The payload's `action`, where it has one.
    pub(crate) fn action(&self) -> Option<&str> {
        self.value.get("action")?.as_str()
    }

    /// The event type, as in `github.pull_request.opened`.
    pub(crate) fn event_type(&self) -> String {
        match self.action() {
            Some(action) => format!("github.{}.{action}", self.event),
            None => format!("github.{}", self.event),
        }
    }
}

/// Reads every payload at `path`: a `.tgz` or `.tar.gz`, an `index.json` of the layout
/// `[{"name": .., "examples": [..]}, ..]`, or a folder that holds either one such file or files
/// `<event>/<anything>.json`.
///
/// # Errors
///
/// Where nothing is found, or what is found is not JSON.
pub(crate) fn read(path: &Path) -> Result<Vec<Payload>> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let payloads = if name.ends_with(".tgz") || name.ends_with(".tar.gz") {
        let folder = tempfile::tempdir()?;
        let mut tar = Command::new("tar");
        if !tar.arg("-xzf").arg(path).arg("-C").arg(folder.path()).status()?.success() {
            return Err(format!("{} cannot be unpacked", path.display()).into());
        }
        folder_of(folder.path())?
    } else if path.is_dir() {
        folder_of(path)?
    } else {
        index(path)?
    };
    if payloads.is_empty() {
        return Err(format!("there are no payloads in {}", path.display()).into());
    }
    Ok(payloads)
}

fn folder_of(folder: &Path) -> Result<Vec<Payload>> {
    let mut files = Vec::new();
    walk(folder, &mut files)?;
    files.sort();
    if let Some(found) = files.iter().find(|file| file.ends_with("index.json")) {
        return index(found);
    }
    let one = |file: &PathBuf| {
        let event = file.parent().and_then(Path::file_name).unwrap_or_default();
        Payload::new(&event.to_string_lossy(), std::fs::read_to_string(file)?.trim_end())
    };
    files.iter().map(one).collect()
}

fn walk(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            walk(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "json")
            && !path.ends_with("package.json")
        {
            files.push(path);
        }
    }
    Ok(())
}

#[derive(Deserialize)]
struct Group {
    name: String,
    examples: Vec<Box<RawValue>>,
}

fn index(file: &Path) -> Result<Vec<Payload>> {
    let text = std::fs::read_to_string(file)
        .map_err(|error| format!("{} cannot be read: {error}", file.display()))?;
    let groups: Vec<Group> = serde_json::from_str(&text)?;
    let all = groups.iter().flat_map(|group| group.examples.iter().map(|e| (&group.name, e)));
    all.map(|(name, example)| Payload::new(name, example.get())).collect()
}
