//! From what people write to what runs.

use serde_json::Value;

use super::budget::{Budget, MAX_NODES};
use super::{Base, Cast, DropSpec, Lookup, LookupRule, MappingSpec, OnMissing, RuleSpec};
use crate::document::template::Template;
use crate::document::{Path, Step};
use crate::error::Violation;
use crate::integration::filter::CompiledFilter;

/// The most rules of a mapping, those of `each` included.
pub const MAX_RULES: usize = 256;

/// A compiled mapping.
#[derive(Debug)]
pub struct Mapping {
    pub(super) base: Base,
    pub(super) rules: Box<[Rule]>,
    pub(super) remove: Box<[Path]>,
    pub(super) drop: Option<Drop>,
}

/// When nothing is sent.
#[derive(Debug)]
pub(super) struct Drop {
    pub(super) when: CompiledFilter,
    pub(super) reason: Box<str>,
}

/// A compiled rule.
#[derive(Debug)]
pub(super) struct Rule {
    /// The pointer to the rule in its document.
    pub(super) at: Box<str>,
    pub(super) target: Path,
    pub(super) source: Source,
    pub(super) lookup: Option<Lookup>,
    pub(super) default: Option<Value>,
    pub(super) required: bool,
}

#[derive(Debug)]
pub(super) enum Source {
    From { path: Path, cast: Option<Cast> },
    Each { path: Path, rules: Box<[Rule]> },
    Const { value: Value, cast: Option<Cast> },
    Template { template: Template, cast: Option<Cast> },
}

impl MappingSpec {
    /// Compiles the mapping. `at` is the pointer to this spec in its document.
    ///
    /// # Errors
    ///
    /// Every broken rule.
    pub fn compile(&self, at: &str) -> Result<Mapping, Vec<Violation>> {
        let mut found = Findings(Vec::new());
        let count = self.rules.iter().map(|rule| 1 + rule.each.as_ref().map_or(0, Vec::len)).sum();
        found.count(&format!("{at}/rules"), count);
        found.count(&format!("{at}/remove"), self.remove.len());
        let rules = found.rules(&format!("{at}/rules"), &self.rules, false);
        let remove = self.remove.iter().enumerate();
        let remove = remove
            .filter_map(|(index, text)| found.removed(&format!("{at}/remove/{index}"), text))
            .collect();
        let drop = self.drop.as_ref().and_then(|drop| found.dropped(&format!("{at}/drop"), drop));
        if found.0.is_empty() {
            Ok(Mapping { base: self.base, rules, remove, drop })
        } else {
            Err(found.0)
        }
    }
}

impl Mapping {
    /// Whether any rule asks a lookup table.
    pub(crate) fn looks_up(&self) -> bool {
        let mut any = false;
        self.lookups(&mut |_, _| any = true);
        any
    }

    /// Shows every lookup, with the pointer of its rule.
    pub(crate) fn lookups(&self, see: &mut impl FnMut(&str, &Lookup)) {
        for rule in &self.rules {
            if let Some(lookup) = &rule.lookup {
                see(&rule.at, lookup);
            }
            if let Source::Each { rules, .. } = &rule.source {
                for rule in rules {
                    if let Some(lookup) = &rule.lookup {
                        see(&rule.at, lookup);
                    }
                }
            }
        }
    }
}

struct Findings(Vec<Violation>);

impl Findings {
    fn add(&mut self, pointer: String, code: &str, message: impl Into<String>) {
        self.0.push(Violation::new(pointer, code, message));
    }

    fn count(&mut self, at: &str, count: usize) {
        if count > MAX_RULES {
            let message = format!("{count} are given; use at most {MAX_RULES}");
            self.add(at.to_owned(), "mapping_count", message);
        }
    }

    fn dropped(&mut self, at: &str, spec: &DropSpec) -> Option<Drop> {
        if !(1..=200).contains(&spec.reason.chars().count()) {
            self.add(format!("{at}/reason"), "out_of_range", "use 1 to 200 characters");
        }
        match spec.when.compile(&format!("{at}/when")) {
            Ok(when) => Some(Drop { when, reason: spec.reason.as_str().into() }),
            Err(violations) => {
                self.0.extend(violations);
                None
            }
        }
    }

    fn rules(&mut self, at: &str, specs: &[RuleSpec], within_each: bool) -> Box<[Rule]> {
        let specs = specs.iter().enumerate();
        specs
            .filter_map(|(index, spec)| self.rule(&format!("{at}/{index}"), spec, within_each))
            .collect()
    }

    // A rule is answered only where nothing is wrong with it, but all that is wrong is found.
    fn rule(&mut self, at: &str, spec: &RuleSpec, within_each: bool) -> Option<Rule> {
        let target = self.target(&format!("{at}/target"), &spec.target);
        self.conflicts(at, spec, within_each);
        let source = self.source(at, spec, within_each);
        let lookup = spec.lookup.as_ref().map(|lookup| self.lookup(at, spec, lookup));
        for (name, value) in [("const", &spec.constant), ("default", &spec.default)] {
            if let Some(value) = value {
                self.literal(&format!("{at}/{name}"), value);
            }
        }
        Some(Rule {
            at: at.into(),
            target: target?,
            source: source?,
            lookup: match lookup {
                Some(lookup) => Some(lookup?),
                None => None,
            },
            default: spec.default.clone(),
            required: spec.required,
        })
    }

    fn source(&mut self, at: &str, spec: &RuleSpec, within_each: bool) -> Option<Source> {
        let cast = spec.cast;
        match (&spec.from, &spec.constant, &spec.template) {
            (Some(from), None, None) => {
                let path = self.path(&format!("{at}/from"), from);
                let Some(each) = spec.each.as_ref().filter(|_| !within_each) else {
                    return path.map(|path| Source::From { path, cast });
                };
                let rules = self.rules(&format!("{at}/each"), each, true);
                path.map(|path| Source::Each { path, rules })
            }
            (None, Some(value), None) => Some(Source::Const { value: value.clone(), cast }),
            (None, None, Some(text)) => match Template::parse(text) {
                Ok(template) => Some(Source::Template { template, cast }),
                Err(message) => {
                    self.add(format!("{at}/template"), "template_malformed", message);
                    None
                }
            },
            _ => {
                let message = "give exactly one of `from`, `const` and `template`";
                self.add(at.to_owned(), "mapping_source", message);
                None
            }
        }
    }

    /// The lookup; `None` where something is wrong with it.
    fn lookup(&mut self, at: &str, rule: &RuleSpec, spec: &LookupRule) -> Option<Lookup> {
        let at = format!("{at}/lookup");
        let mut path = |field: &str, text: &Option<String>| match text {
            Some(text) => self.path(&format!("{at}/{field}"), text).map(Some),
            None => Some(None),
        };
        let reverse = path("reverse", &spec.reverse);
        let field = path("field", &spec.field);
        if spec.on_missing == Some(OnMissing::Default) && rule.default.is_none() {
            let message = "give the rule the `default` that is to be written";
            self.add(format!("{at}/on_missing"), "mapping_conflict", message);
        }
        let on_missing = spec.on_missing.or(rule.default.as_ref().map(|_| OnMissing::Default));
        Some(Lookup { table: spec.table.clone(), reverse: reverse?, field: field?, on_missing })
    }

    fn conflicts(&mut self, at: &str, spec: &RuleSpec, within_each: bool) {
        let each = spec.each.is_some();
        let empty = spec.each.as_ref().is_some_and(Vec::is_empty);
        let constant = spec.constant.is_some();
        for (wrong, field, message) in [
            (each && within_each, "each", "`each` does not nest; map the inner array as a whole"),
            (each && spec.from.is_none(), "each", "`each` goes with `from`, the path of an array"),
            (empty, "each", "give at least one rule, or leave out `each`"),
            (each && spec.cast.is_some(), "cast", "an array has no cast; cast within `each`"),
            (constant && spec.default.is_some(), "default", "a constant is never missing"),
            (each && spec.lookup.is_some(), "lookup", "look up within `each`"),
            (constant && spec.lookup.is_some(), "lookup", "write what the constant stands for"),
            (constant && spec.required, "required", "a constant is never missing"),
            (
                spec.default.is_some() && spec.required,
                "required",
                "a value with a default is never missing; use one of both",
            ),
        ] {
            if wrong {
                self.add(format!("{at}/{field}"), "mapping_conflict", message);
            }
        }
    }

    fn path(&mut self, at: &str, text: &str) -> Option<Path> {
        Path::parse(text)
            .map_err(|error| self.add(at.to_owned(), "path_malformed", error.to_string()))
            .ok()
    }

    // A target whose gaps alone are more than a run may produce could never be written.
    fn target(&mut self, at: &str, text: &str) -> Option<Path> {
        let path = self.path(at, text)?;
        let index = |step: &Step| match step {
            Step::Index(index) => *index,
            Step::Key(_) => 0,
        };
        if path.steps().iter().map(index).sum::<usize>() > MAX_NODES {
            let message = format!("the indexes of a target add up to at most {MAX_NODES}");
            self.add(at.to_owned(), "mapping_target", message);
            return None;
        }
        Some(path)
    }

    fn removed(&mut self, at: &str, text: &str) -> Option<Path> {
        let path = self.path(at, text)?;
        if path.steps().is_empty() {
            let message = "the whole result cannot be removed; use base `empty`, or a drop";
            self.add(at.to_owned(), "mapping_remove", message);
            return None;
        }
        Some(path)
    }

    fn literal(&mut self, at: &str, value: &Value) {
        if let Err(exceeded) = Budget::new().take(value, 0) {
            let failure = exceeded.at(at);
            self.add(at.to_owned(), failure.code, failure.message);
        }
    }
}
