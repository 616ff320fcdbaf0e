use icp_core::{Code, Violation};
use serde_json::{Map, Value, json};

use crate::extract::Params;
use crate::problem::{Problem, Result};

/// How the requests of a path were put where they are not as those of its operation.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Form {
    /// `{items, continueOnError}`, to be made.
    Created,
    /// The same, to be put in place of what is there.
    Replaced,
    /// `{ids}`, beside a `confirm` that asks for nothing here.
    Removed,
    /// `{ids, isActive}`.
    Switched,
    /// The version to go back to is in the path.
    VersionInPath,
    /// Both versions are in the path.
    VersionsInPath,
}

type Document = Map<String, Value>;

impl Form {
    /// Whether the request has a body that is put otherwise.
    pub(super) fn reads_body(self) -> bool {
        !matches!(self, Self::VersionInPath | Self::VersionsInPath)
    }

    /// The query parameters that the path stands for.
    pub(super) fn query(self, params: &Params) -> Result<Vec<(&'static str, String)>> {
        if self != Self::VersionsInPath {
            return Ok(Vec::new());
        }
        let named = ["from", "to"].map(|name| Ok((name, params.number(name)?.to_string())));
        named.into_iter().collect()
    }

    /// The body as the operation takes it.
    pub(super) fn body(self, params: &Params, mut body: Document) -> Result<Option<Document>> {
        let action = match self {
            Self::VersionsInPath => return Ok(None),
            Self::VersionInPath => {
                body.insert("version".to_owned(), json!(params.number("version")?));
                return Ok(Some(body));
            }
            // As this API has it already.
            Self::Created if body.contains_key("action") => return Ok(Some(body)),
            Self::Created | Self::Replaced => {
                if let Some(go_on) = body.remove("continueOnError") {
                    body.insert("continue_on_error".to_owned(), go_on);
                }
                if self == Self::Replaced { "replace" } else { "create" }
            }
            Self::Removed => {
                body.remove("confirm");
                body.insert("continue_on_error".to_owned(), json!(true));
                "delete"
            }
            Self::Switched => {
                let active = body.remove("isActive").as_ref().and_then(Value::as_bool);
                body.insert("continue_on_error".to_owned(), json!(true));
                if active.ok_or_else(unsaid)? { "enable" } else { "disable" }
            }
        };
        body.insert("action".to_owned(), json!(action));
        Ok(Some(body))
    }
}

fn unsaid() -> Problem {
    let found = Violation::new("/isActive", "required", "say `true` or `false`");
    Problem::violations(Code::ResourceInvalid, vec![found])
}
