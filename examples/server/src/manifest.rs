//! Resources as files hold them: read whole, and refused whole with the line at fault.

use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};

use icp::id::{OrgId, ResourceId};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::failure::{Failure, Result};
use crate::kinds::{Kinds, ORGANIZATION, rank};
use crate::yaml::{self, Parsed};

/// What of a stored document is not for people to write; taken along, as `get` prints it.
const NOTED: [&str; 5] = ["status", "revision", "version", "created_at", "updated_at"];

/// A resource that is to be as written.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Manifest {
    pub(crate) kind: String,
    pub(crate) org: String,
    pub(crate) id: String,
    pub(crate) name: Option<String>,
    pub(crate) labels: Map<String, Value>,
    pub(crate) spec: Value,
    /// Where it was read.
    pub(crate) origin: Origin,
}

/// A place in a file.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Origin {
    file: String,
    line: usize,
}

/// A document as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    kind: String,
    #[serde(default)]
    org: Option<String>,
    id: String,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    labels: Map<String, Value>,
    #[serde(default = "nothing")]
    spec: Value,
}

fn nothing() -> Value {
    json!({})
}

impl Manifest {
    /// The body of the write that makes it so; the id goes with new ones only.
    pub(crate) fn draft(&self, new: bool) -> Value {
        let mut draft = json!({ "name": self.name, "labels": self.labels, "spec": self.spec });
        if new {
            draft["id"] = json!(self.id);
        }
        draft
    }

    /// How messages name it.
    pub(crate) fn address(&self) -> String {
        address(&self.kind, &self.org, &self.id)
    }
}

/// How messages name a resource.
pub(crate) fn address(kind: &str, org: &str, id: &str) -> String {
    if kind == ORGANIZATION { format!("{kind} {id}") } else { format!("{kind} {org}/{id}") }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// Every resource of `sources` (files, folders, or `-` for the standard input), in the order in
/// which they are applied. Those that name no organization belong to `org`.
pub(crate) fn read(sources: &[PathBuf], org: Option<&str>, kinds: &Kinds) -> Result<Vec<Manifest>> {
    let mut manifests: Vec<Manifest> = Vec::new();
    for source in sources {
        for (file, text) in texts(source)? {
            for parsed in documents(&file, &text)? {
                let origin = Origin { file: file.clone(), line: parsed.line };
                for value in flat(parsed.value) {
                    let manifest = manifest(value, org, kinds, origin.clone())?;
                    let same = |other: &&Manifest| other.address() == manifest.address();
                    if let Some(other) = manifests.iter().find(same) {
                        let (other, address) = (&other.origin, manifest.address());
                        return Err(refused(&origin, &format!("{address} is at {other} already")));
                    }
                    manifests.push(manifest);
                }
            }
        }
    }
    if manifests.is_empty() {
        return Err(Failure::Input("there is no resource in what was given".to_owned()));
    }
    manifests.sort_by_key(|manifest| rank(&manifest.kind));
    Ok(manifests)
}

/// The files of a source with their names; a folder's own, by name, not those of folders in it.
fn texts(source: &Path) -> Result<Vec<(String, String)>> {
    if source == Path::new("-") {
        let mut text = String::new();
        let read = std::io::stdin().lock().read_to_string(&mut text);
        read.map_err(|fault| unreadable("the standard input", &fault))?;
        return Ok(vec![("-".to_owned(), text)]);
    }
    let name = source.display().to_string();
    if !source.is_dir() {
        let text = std::fs::read_to_string(source).map_err(|fault| unreadable(&name, &fault))?;
        return Ok(vec![(name, text)]);
    }
    let entries = std::fs::read_dir(source).map_err(|fault| unreadable(&name, &fault))?;
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(|fault| unreadable(&name, &fault))?.path();
        let ending = path.extension().and_then(|ending| ending.to_str());
        if matches!(ending, Some("yaml" | "yml" | "json")) && path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    let read = |path: PathBuf| {
        let name = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|fault| unreadable(&name, &fault))?;
        Ok((name, text))
    };
    files.into_iter().map(read).collect()
}

fn documents(file: &str, text: &str) -> Result<Vec<Parsed>> {
    if Path::new(file).extension().is_none_or(|ending| ending != "json") {
        return yaml::read_all(text)
            .map_err(|fault| Failure::Input(format!("{file} is not yaml: {fault}")));
    }
    let mut stream = serde_json::Deserializer::from_str(text).into_iter::<Value>();
    let (mut found, mut begin) = (Vec::new(), 0);
    while let Some(value) = stream.next() {
        let value = value.map_err(|fault| {
            Failure::Input(format!("{file}:{} is not json: {fault}", fault.line()))
        })?;
        let blank = text[begin..].len() - text[begin..].trim_start().len();
        let line = text[..begin + blank].matches('\n').count() + 1;
        found.push(Parsed { line, value });
        begin = stream.byte_offset();
    }
    Ok(found)
}

/// The documents of a list, as `get -o json` prints them.
fn flat(value: Value) -> Vec<Value> {
    match value {
        Value::Array(items) => items,
        one => vec![one],
    }
}

fn manifest(
    mut value: Value,
    org: Option<&str>,
    kinds: &Kinds,
    origin: Origin,
) -> Result<Manifest> {
    if let Some(fields) = value.as_object_mut() {
        fields.retain(|name, _| !NOTED.contains(&name.as_str()));
    }
    let written: Written = serde_path_to_error::deserialize(value).map_err(|fault| {
        let at = fault.path().to_string();
        let at = if at == "." { "the document".to_owned() } else { format!("`{at}`") };
        refused(&origin, &format!("{at} is not acceptable: {}", fault.inner()))
    })?;
    let kind =
        kinds.find(&written.kind).map_err(|failure| refused(&origin, &failure.to_string()))?;
    let is_organization = kind.name() == ORGANIZATION;
    let org = match written.org.as_deref().or(org) {
        _ if is_organization => written.id.clone(),
        Some(org) => org.to_owned(),
        None => return Err(refused(&origin, "`org` is missing; write it, or use `--org`")),
    };
    if is_organization && written.org.is_some_and(|named| named != written.id) {
        return Err(refused(&origin, "`org` of an organization is its `id`; leave it out"));
    }
    ResourceId::new(&written.id)
        .map(drop)
        .and_then(|()| OrgId::new(&org).map(drop))
        .map_err(|error| refused(&origin, error.message()))?;
    let Written { id, name, labels, spec, .. } = written;
    Ok(Manifest { kind: kind.name().to_owned(), org, id, name, labels, spec, origin })
}

fn refused(origin: &Origin, message: &str) -> Failure {
    Failure::Input(format!("{origin}: {message}"))
}

fn unreadable(name: &str, fault: &std::io::Error) -> Failure {
    Failure::Input(format!("`{name}` cannot be read: {fault}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str, file: &str, org: Option<&str>) -> Result<Vec<Manifest>> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(file);
        std::fs::write(&path, text).unwrap();
        read(&[folder.path().to_owned()], org, &Kinds::new().unwrap())
    }

    #[test]
    fn organizations_come_first_and_integrations_last() {
        let text = "kind: integration\norg: acme\nid: a\n---\nkind: organizations\nid: acme\n---\n\
                    kind: lookups\norg: acme\nid: l\nstatus: {}\nrevision: 7\n";
        let found = of(text, "all.yaml", None).unwrap();
        let kinds: Vec<_> = found.iter().map(|manifest| manifest.kind.as_str()).collect();
        assert_eq!(kinds, ["organization", "lookup", "integration"]);
        assert_eq!(found[1].origin.line, 8);
        assert_eq!(found[0].org, "acme");
    }

    #[test]
    fn json_holds_many_documents_or_a_list() {
        let one = r#"{"kind":"lookup","id":"a"}"#;
        for (text, count) in [
            (one.to_owned(), 1),
            (format!("[{one}]"), 1),
            (format!("{one}\n\n{}", one.replace("\"a\"", "\"b\"")), 2),
        ] {
            let found = of(&text, "all.json", Some("acme")).unwrap();
            assert_eq!(found.len(), count, "{text}");
            assert_eq!(found.last().unwrap().origin.line, if count == 2 { 3 } else { 1 });
        }
    }

    #[test]
    fn every_fault_names_its_place() {
        for (text, says) in [
            ("kind: integration\nid: a\n", "all.yaml:1: `org` is missing"),
            (
                "---\n\nkind: integratoin\norg: x\nid: a\n",
                "all.yaml:3: `integratoin` is not a kind",
            ),
            ("kind: lookup\norg: x\nid: a\nspce: {}\n", "unknown field `spce`"),
            ("kind: lookup\norg: x\n", "missing field `id`"),
            ("kind: lookup\norg: x\nid: .a\n", "all.yaml:1: `.a` is not"),
            ("kind: lookup\norg: x/y\nid: a\n", "all.yaml:1: `x/y` is not"),
            ("kind: lookup\norg: x\nid: 7\n", "`id` is not acceptable"),
            ("kind: organization\norg: x\nid: y\n", "leave it out"),
            (
                "kind: lookup\norg: x\nid: a\n---\nkind: lookups\norg: x\nid: a\n",
                "all.yaml:5: lookup x/a is at",
            ),
            ("- 1\n", "all.yaml:1: the document is not acceptable"),
            ("a: [\n", "is not yaml"),
            ("", "there is no resource"),
        ] {
            let failure = of(text, "all.yaml", None).unwrap_err();
            assert!(failure.to_string().contains(says), "{text}: {failure}");
            assert!(matches!(failure, Failure::Input(_)));
        }
        let failure = of("{\"kind\":\n x}", "all.json", None).unwrap_err().to_string();
        assert!(failure.contains("all.json:2 is not json"), "{failure}");
    }
}
