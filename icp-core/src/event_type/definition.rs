//! An event type, ready to judge the events that are published.

use serde_json::Value;

use super::{EventSchema, EventTypeSpec, Policy};
use crate::error::{Code, Error, Result, Violation};
use crate::event::Event;
use crate::id::ResourceId;
use crate::resource::{OrgEntry, Spec};

/// Where the pointers of a body begin.
const BODY: &str = "/body";

/// A compiled event type.
#[derive(Debug)]
pub struct Definition {
    policy: Policy,
    schema: Option<Result<EventSchema, Vec<Violation>>>,
}

impl Definition {
    pub(super) fn new(policy: Policy, schema: Option<Result<EventSchema, Vec<Violation>>>) -> Self {
        Self { policy, schema }
    }

    /// What becomes of an event that does not fit.
    #[must_use]
    pub fn policy(&self) -> Policy {
        self.policy
    }

    /// Whether there is a schema at all.
    #[must_use]
    pub fn has_schema(&self) -> bool {
        self.schema.is_some()
    }

    /// How `body` differs from the schema; nothing without one. `bytes` is the length of its JSON.
    #[must_use]
    pub fn differences(&self, body: &Value, bytes: usize) -> Vec<Violation> {
        match &self.schema {
            None => Vec::new(),
            Some(Ok(schema)) => schema.mismatches(body, bytes),
            Some(Err(_)) => unusable(),
        }
    }

    /// How the body of `event` differs from the schema; nothing without one.
    #[must_use]
    pub fn mismatches(&self, event: &Event) -> Vec<Violation> {
        let whole = |code: &str, message: &str| vec![Violation::new("", code, message)];
        match &self.schema {
            None => Vec::new(),
            Some(Err(_)) => unusable(),
            Some(Ok(_)) if !event.is_json() => {
                whole("not_json", "the schema of the type asks for json")
            }
            Some(Ok(schema)) => match serde_json::from_slice::<Value>(&event.body) {
                Ok(body) => schema.mismatches(&body, event.body.len()),
                Err(_) => whole("not_json", "the schema of the type asks for json"),
            },
        }
    }
}

/// What is told where a schema was taken when it was saved, by another version of this library.
fn unusable() -> Vec<Violation> {
    let message = "the schema of the type is not taken any more";
    vec![Violation::new("", "schema_unusable", message)]
}

/// Judges an event by the catalogue of its organization: what it differs in where that is only to
/// be told, nothing where it fits or its type is not in the catalogue.
///
/// # Errors
///
/// [`Code::EventSchemaMismatch`] with every difference that is listed, where the type asks for it.
pub(crate) fn check(within: &OrgEntry, event: &Event) -> Result<Vec<Violation>> {
    // A type that is too long for an id is in no catalogue.
    let Ok(id) = ResourceId::new(event.event_type.as_str()) else { return Ok(Vec::new()) };
    let Some(entry) = within.resource(EventTypeSpec::KIND, &id) else { return Ok(Vec::new()) };
    let definition = entry.compiled::<Definition>()?;
    if definition.policy == Policy::Off {
        return Ok(Vec::new());
    }
    let mut found = definition.mismatches(event);
    if definition.policy == Policy::Warn || found.is_empty() {
        return Ok(found);
    }
    for violation in &mut found {
        violation.pointer.insert_str(0, BODY);
    }
    Err(Error::violations(Code::EventSchemaMismatch, found))
}
