//! Programs that people write in a language of their own, as far as this crate knows them: text,
//! options and an identity. Engines that run them are a transformer's.

use std::fmt;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::{HelpersSpec, Limits};
use crate::error::Violation;

/// The language of a program.
#[derive(
    Clone, Copy, Debug, Deserialize, Eq, Hash, JsonSchema, Ord, PartialEq, PartialOrd, Serialize,
)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Language {
    /// ECMAScript.
    Javascript,
    /// JSONata.
    Jsonata,
    /// JMESPath.
    Jmespath,
    /// JSON Schema, which changes nothing and refuses what does not conform.
    JsonSchema,
}

impl Language {
    /// Every language.
    pub const ALL: [Self; 4] = [Self::Javascript, Self::Jsonata, Self::Jmespath, Self::JsonSchema];

    /// The text form, which is also the kind of the step.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Javascript => "javascript",
            Self::Jsonata => "jsonata",
            Self::Jmespath => "jmespath",
            Self::JsonSchema => "schema",
        }
    }
}

impl fmt::Display for Language {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A program as people write it.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ProgramSpec {
    /// The text of the program.
    #[schemars(length(min = 1))]
    pub source: String,
    /// Whether a payload fails the step that holds an integer beyond 2^53, which the language
    /// would round. Default `false`: it is rounded, with a warning. Not with JMESPath, which
    /// rounds nothing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub reject_unsafe_integers: bool,
    /// Whether the program may send HTTP requests, which the engine sends in its place. Default
    /// `false`. Only with JavaScript, and only where the organization is granted `program_http`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub http: bool,
    /// Functions that scripts of other products expect, such as `epoch` and `formatPhone`. Default
    /// none. Only with JavaScript.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub helpers: Option<HelpersSpec>,
}

/// A JSON Schema document: draft 2020-12 where `$schema` names no other, without references to
/// other documents.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(transparent)]
pub struct SchemaSpec(pub serde_json::Map<String, Value>);

/// A program of bounded length, with its identity. A clone shares the text.
#[derive(Clone)]
pub struct Program {
    language: Language,
    source: Arc<str>,
    options: Options,
    digest: [u8; 32],
    pointer: Arc<str>,
}

/// What a program is run with beside its text.
#[derive(Clone, Debug, Default, Serialize)]
struct Options {
    reject_unsafe_integers: bool,
    http: bool,
    helpers: Option<HelpersSpec>,
}

impl Program {
    /// The program of a step; `at` is the pointer to the step's member in its document.
    pub(super) fn new(
        language: Language,
        spec: &ProgramSpec,
        at: &str,
    ) -> Result<Self, Vec<Violation>> {
        let mut found = Vec::new();
        let source = spec.source.as_str();
        if source.trim().is_empty() {
            let message = "write a program, or remove the step";
            found.push(Violation::new(format!("{at}/source"), "program_empty", message));
        }
        found.extend(too_long(language, source, &format!("{at}/source")));
        let mut unfit = |given: bool, name: &str, message: &str| {
            if given {
                found.push(Violation::new(format!("{at}/{name}"), "not_applicable", message));
            }
        };
        let rounds = language != Language::Jmespath;
        let message = "jmespath rounds no integer; leave it out";
        unfit(spec.reject_unsafe_integers && !rounds, "reject_unsafe_integers", message);
        let scripted = language == Language::Javascript;
        let message = "only a javascript program can use it; leave it out";
        unfit(spec.http && !scripted, "http", message);
        unfit(spec.helpers.is_some() && !scripted, "helpers", message);
        let helpers = spec.helpers.iter();
        found.extend(helpers.flat_map(|helpers| helpers.validate(&format!("{at}/helpers"))));
        if !found.is_empty() {
            return Err(found);
        }
        let options = Options {
            reject_unsafe_integers: spec.reject_unsafe_integers,
            http: spec.http,
            helpers: spec.helpers.clone(),
        };
        Ok(Self::known(language, source.into(), options, at))
    }

    /// The validation of a step; `at` is the pointer to the schema in its document.
    pub(super) fn of_schema(spec: &SchemaSpec, at: &str) -> Result<Self, Vec<Violation>> {
        let source = Value::Object(spec.0.clone()).to_string();
        match too_long(Language::JsonSchema, &source, at) {
            Some(violation) => Err(vec![violation]),
            None => Ok(Self::known(Language::JsonSchema, source.into(), Options::default(), at)),
        }
    }

    fn known(language: Language, source: Arc<str>, options: Options, at: &str) -> Self {
        let mut hash = Sha256::new();
        hash.update(language.as_str());
        hash.update([0]);
        // Texts and truths always have a JSON form.
        hash.update(serde_json::to_vec(&options).unwrap_or_default());
        hash.update([0]);
        hash.update(source.as_bytes());
        let digest = hash.finalize().into();
        Self { language, source, options, digest, pointer: at.into() }
    }

    /// The language.
    #[must_use]
    pub fn language(&self) -> Language {
        self.language
    }

    /// The text; of a validation, the schema as JSON.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Whether an integer beyond 2^53 fails the step.
    #[must_use]
    pub fn rejects_unsafe_integers(&self) -> bool {
        self.options.reject_unsafe_integers
    }

    /// Whether the program may send requests, where its organization is granted it.
    #[must_use]
    pub fn sends(&self) -> bool {
        self.options.http
    }

    /// The functions it finds beside those of its language.
    #[must_use]
    pub fn helpers(&self) -> Option<&HelpersSpec> {
        self.options.helpers.as_ref()
    }

    /// The SHA-256 digest over language, options and text, so that equal programs are the same.
    /// Compiled forms that outlive a process add the version of their engine.
    #[must_use]
    pub fn digest(&self) -> &[u8; 32] {
        &self.digest
    }

    /// RFC 6901 pointer to the program, with its options, in the document it is part of.
    #[must_use]
    pub fn at(&self) -> &str {
        &self.pointer
    }

    /// RFC 6901 pointer to the text in the document the program is part of.
    #[must_use]
    pub fn pointer(&self) -> String {
        match self.language {
            Language::JsonSchema => self.pointer.to_string(),
            Language::Javascript | Language::Jsonata | Language::Jmespath => {
                format!("{}/source", self.pointer)
            }
        }
    }
}

// The text can hold what is nobody's business in a log.
impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Program")
            .field("language", &self.language)
            .field("bytes", &self.source.len())
            .field("pointer", &self.pointer)
            .finish_non_exhaustive()
    }
}

fn too_long(language: Language, source: &str, at: &str) -> Option<Violation> {
    let most = Limits::MAX.source_bytes(language);
    let message = || format!("the program has {} bytes; keep it within {most}", source.len());
    (source.len() > most).then(|| Violation::new(at, "program_too_long", message()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn program(language: Language, source: &str) -> Result<Program, Vec<Violation>> {
        let spec = ProgramSpec { source: source.to_owned(), ..ProgramSpec::default() };
        Program::new(language, &spec, "/transform/0/x")
    }

    #[test]
    fn programs_are_bounded_by_language() {
        for language in [Language::Javascript, Language::Jsonata, Language::Jmespath] {
            let most = Limits::MAX.source_bytes(language);
            assert!(program(language, &"a".repeat(most)).is_ok());
            let found = program(language, &"a".repeat(most + 1)).unwrap_err();
            assert_eq!(found[0].pointer, "/transform/0/x/source", "{language}");
            assert_eq!(found[0].code, "program_too_long");
            assert_eq!(program(language, " \n").unwrap_err()[0].code, "program_empty");
        }
    }

    #[test]
    fn the_digest_is_of_language_options_and_text() {
        let same =
            |spec: &ProgramSpec, language| *Program::new(language, spec, "").unwrap().digest();
        let spec = ProgramSpec { source: "a".into(), ..ProgramSpec::default() };
        let strict = ProgramSpec { reject_unsafe_integers: true, ..spec.clone() };
        let helped = ProgramSpec { helpers: Some(HelpersSpec::default()), ..spec.clone() };
        let sending = ProgramSpec { http: true, ..spec.clone() };
        let first = same(&spec, Language::Javascript);
        assert_eq!(first, *program(Language::Javascript, "a").unwrap().digest());
        for other in [
            same(&strict, Language::Javascript),
            same(&helped, Language::Javascript),
            same(&sending, Language::Javascript),
            same(&spec, Language::Jsonata),
            *program(Language::Javascript, "b").unwrap().digest(),
        ] {
            assert_ne!(first, other);
        }
    }

    #[test]
    fn options_that_mean_nothing_are_refused() {
        let spec = ProgramSpec {
            source: "a".into(),
            reject_unsafe_integers: true,
            http: true,
            helpers: Some(HelpersSpec::default()),
        };
        let unfit = |language| {
            let found = Program::new(language, &spec, "/p").err().unwrap_or_default();
            assert!(found.iter().all(|violation| violation.code == "not_applicable"));
            found.into_iter().map(|violation| violation.pointer).collect::<Vec<_>>()
        };
        let all = ["/p/reject_unsafe_integers", "/p/http", "/p/helpers"];
        assert_eq!(unfit(Language::Jmespath), all);
        assert_eq!(unfit(Language::Jsonata), all[1..]);
        assert!(unfit(Language::Javascript).is_empty());
    }

    #[test]
    fn a_schema_is_its_own_text_and_place() {
        let spec: SchemaSpec = serde_json::from_value(json!({"type": "object"})).unwrap();
        let program = Program::of_schema(&spec, "/transform/1/schema").unwrap();
        assert_eq!(program.source(), r#"{"type":"object"}"#);
        assert_eq!(program.pointer(), "/transform/1/schema");
        assert!(!format!("{program:?}").contains("object"));
    }
}
