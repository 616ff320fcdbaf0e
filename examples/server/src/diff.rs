//! What a write would change, for people to read. No secret is shown.

use icp::resource::Kind;
use icp::secret::MASK;
use serde_json::{Map, Value};

use crate::manifest::Manifest;

/// A value of more characters is cut.
const SHOWN: usize = 60;

/// The changes that `manifest` brings to `stored`, none where there is nothing to do; a line each.
///
/// Defaults are filled in before it is compared. Stored secrets are masked, so one that is written
/// out counts as a change, and the mask as none.
pub(crate) fn changes(kind: &dyn Kind, stored: Option<&Value>, manifest: &Manifest) -> Vec<String> {
    let mut lines = Vec::new();
    let (wanted, empty) = (manifest.draft(false), Value::Object(Map::new()));
    let before = |field: &str| stored.map(|stored| &stored[field]).filter(|value| !value.is_null());
    compare("/name", before("name"), Some(&wanted["name"]).filter(|n| !n.is_null()), &mut lines);
    let labels = before("labels").unwrap_or(&empty);
    compare("/labels", Some(labels), Some(&wanted["labels"]), &mut lines);
    match kind.mask(&manifest.spec) {
        Ok(masked) => {
            given("/spec", &manifest.spec, &masked, &mut lines);
            if stored.is_some() {
                compare("/spec", before("spec"), Some(&masked), &mut lines);
            }
        }
        // The server says what is wrong with it. What is secret in it cannot be told.
        Err(_) => lines.push("~ /spec is not what this version knows of the kind".to_owned()),
    }
    lines
}

/// Notes every secret that is written out.
fn given(at: &str, wanted: &Value, masked: &Value, lines: &mut Vec<String>) {
    match (wanted, masked) {
        (Value::String(text), Value::String(mask)) if mask == MASK && text != MASK => {
            lines.push(format!("~ {at}: the secret that is given"));
        }
        (Value::Object(wanted), Value::Object(masked)) => {
            for (name, value) in wanted {
                if let Some(masked) = masked.get(name) {
                    given(&below(at, name), value, masked, lines);
                }
            }
        }
        (Value::Array(wanted), Value::Array(masked)) => {
            for (index, (value, masked)) in wanted.iter().zip(masked).enumerate() {
                given(&below(at, &index.to_string()), value, masked, lines);
            }
        }
        _ => {}
    }
}

fn compare(at: &str, old: Option<&Value>, new: Option<&Value>, lines: &mut Vec<String>) {
    match (old, new) {
        _ if old == new => {}
        (Some(Value::Object(old)), Some(Value::Object(new))) => {
            let added = new.keys().filter(|name| !old.contains_key(*name));
            for name in old.keys().chain(added) {
                compare(&below(at, name), old.get(name), new.get(name), lines);
            }
        }
        (Some(Value::Array(old)), Some(Value::Array(new))) => {
            for index in 0..old.len().max(new.len()) {
                compare(&below(at, &index.to_string()), old.get(index), new.get(index), lines);
            }
        }
        (Some(old), Some(new)) => {
            lines.push(format!("~ {at}: {} -> {}", shown(old), shown(new)));
        }
        (None, Some(new)) => lines.push(format!("+ {at}: {}", shown(new))),
        (Some(old), None) => lines.push(format!("- {at}: {}", shown(old))),
        (None, None) => {}
    }
}

fn below(at: &str, name: &str) -> String {
    format!("{at}/{}", name.replace('~', "~0").replace('/', "~1"))
}

fn shown(value: &Value) -> String {
    let text = value.to_string();
    if text.chars().count() <= SHOWN {
        return text;
    }
    text.chars().take(SHOWN).collect::<String>() + "…"
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use serde_json::json;

    use super::*;
    use crate::kinds::Kinds;

    /// As the kind stores it, with the name and labels of the text.
    fn case(stored: Option<Value>, spec: &Value) -> Vec<String> {
        let kinds = Kinds::new().unwrap();
        let kind = kinds.find("integration").unwrap();
        let folder = tempfile::tempdir().unwrap();
        let file: PathBuf = folder.path().join("a.json");
        let text =
            json!({"kind": "integration", "org": "acme", "id": "a", "name": "A", "spec": spec});
        std::fs::write(&file, text.to_string()).unwrap();
        let manifest = crate::manifest::read(&[file], None, &kinds).unwrap().remove(0);
        let stored = stored
            .map(|spec| json!({"name": "A", "labels": {}, "spec": kind.mask(&spec).unwrap()}));
        changes(kind, stored.as_ref(), &manifest)
    }

    fn spec(secret: &str) -> Value {
        json!({"events": ["order.*"], "target": {"kind": "http", "url": "https://example.com/"},
            "signing": {"keys": [{"secret": secret}]}})
    }

    #[test]
    fn defaults_are_no_change_and_the_mask_keeps_a_secret() {
        assert!(case(Some(spec("whsec_MDEy")), &spec(MASK)).is_empty());
    }

    #[test]
    fn a_secret_that_is_written_out_is_a_change_and_not_shown() {
        let lines = case(Some(spec("whsec_old")), &spec("whsec_new"));
        assert_eq!(lines, ["~ /spec/signing/keys/0/secret: the secret that is given"]);
    }

    #[test]
    fn what_differs_is_named_by_its_pointer() {
        let mut wanted = spec(MASK);
        wanted["events"] = json!(["order.*", "cart.*"]);
        wanted["enabled"] = json!(false);
        wanted["target"]["url"] = json!("https://example.org/");
        let lines = case(Some(spec("x")), &wanted).join("\n");
        for line in [
            "+ /spec/events/1: \"cart.*\"",
            "~ /spec/enabled: true -> false",
            "~ /spec/target/url: \"https://example.com/\" -> \"https://example.org/\"",
        ] {
            assert!(lines.contains(line), "{lines}");
        }
    }

    #[test]
    fn a_spec_that_is_not_understood_shows_nothing_of_it() {
        let lines = case(Some(spec("x")), &json!({"hush": "hush"}));
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(!lines[0].contains("hush"));
    }
}
