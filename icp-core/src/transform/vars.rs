//! The constants of an integration, for its programs.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::error::Violation;

/// The most bytes of JSON that the constants of an integration have.
const MAX_BYTES: usize = 16 << 10;

/// The constants of an integration: what its programs read as `vars`, so that one program serves
/// several; at most 16 KiB of JSON. They are no place for secrets.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Vars(pub Map<String, Value>);

impl Vars {
    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn validate(&self, at: &str) -> Vec<Violation> {
        let bytes = serde_json::to_vec(self).map_or(usize::MAX, |text| text.len());
        if bytes <= MAX_BYTES {
            return Vec::new();
        }
        let message = format!("the constants have {bytes} bytes of json; keep within {MAX_BYTES}");
        vec![Violation::new(at, "too_long", message)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constants_are_bounded() {
        let of = |bytes: usize| {
            let text = "x".repeat(bytes - r#"{"a":""}"#.len());
            Vars(Map::from_iter([("a".to_owned(), Value::from(text))]))
        };
        assert!(of(MAX_BYTES).validate("/vars").is_empty());
        assert_eq!(of(MAX_BYTES + 1).validate("/vars")[0].pointer, "/vars");
    }
}
