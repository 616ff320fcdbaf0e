//! What is configured for an event type.

use std::borrow::Cow;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Definition, EventSchema};
use crate::access::Area;
use crate::error::Result;
use crate::event::EventType;
use crate::id::ResourceId;
use crate::resource::{Compiled, Effect, Spec, SpecContext, Violations};
use crate::secret::SecretVisitor;
use crate::transform::PlanSpec;

const MAX_DESCRIPTION: usize = 4_000;
const MAX_SAMPLE: usize = 64 << 10;

/// What an organization says of one event type. The id of the resource is the type itself, as in
/// `order.paid`; types of more than 64 characters cannot be in the catalogue.
///
/// ```
/// use icp_core::event_type::EventTypeSpec;
///
/// let spec: EventTypeSpec = serde_json::from_str(
///     r#"{
///         "description": "An order was paid in full.",
///         "schema": { "type": "object", "required": ["order"] },
///         "sample": { "order": 17 },
///         "policy": "reject"
///     }"#,
/// )
/// .unwrap();
/// assert!(spec.schema.is_some());
/// ```
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct EventTypeSpec {
    /// What happened when an event of this type is published; up to 4,000 characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4000))]
    pub description: Option<String>,
    /// A JSON Schema of the body, of draft 2020-12 or, where its `$schema` says so, draft 7; up to
    /// 64 KiB. It is taken only where what it costs on a body is bounded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schema: Option<Value>,
    /// A body as an example, up to 64 KiB; it fits the schema.
    #[serde(deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub sample: Option<Value>,
    /// What becomes of an event whose body does not fit the schema. Default `warn`.
    pub policy: Policy,
}

// Tells `"sample": null` from no `sample`.
fn present<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

/// What becomes of an event whose body does not fit the schema of its type.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Policy {
    /// It is not taken.
    Reject,
    /// It is taken, counted and logged.
    #[default]
    Warn,
    /// It is taken; bodies are not looked at.
    Off,
}

impl Spec for EventTypeSpec {
    const KIND: &'static str = "event_type";
    const PLURAL: &'static str = "event-types";
    const AREA: Area = Area::EventTypes;

    fn validate(&self, context: &SpecContext<'_>, violations: &mut Violations) {
        match EventType::new(context.id.as_str()) {
            Err(error) => {
                let message = format!("the id is the event type itself: {}", error.message());
                violations.add("", "event_type_invalid", message);
            }
            Ok(name) if name.is_operational() => {
                let message = "types that begin with `icp.` are the engine's own; use another id";
                violations.add("", "event_type_reserved", message);
            }
            Ok(_) => {}
        }
        if self.description.as_ref().is_some_and(|text| text.chars().count() > MAX_DESCRIPTION) {
            let message = format!("use at most {MAX_DESCRIPTION} characters");
            violations.add("/description", "out_of_range", message);
        }
        let sample = self.sample.as_ref().map(|sample| (sample, sample.to_string().len()));
        let sample = sample.filter(|(_, bytes)| {
            if *bytes > MAX_SAMPLE {
                let message = format!("the sample has {bytes} bytes; use at most {MAX_SAMPLE}");
                violations.add("/sample", "too_large", message);
            }
            *bytes <= MAX_SAMPLE
        });
        match (self.schema.as_ref().map(EventSchema::new), sample) {
            (Some(Err(found)), _) => violations.extend("/schema", found),
            (Some(Ok(schema)), Some((sample, bytes))) => {
                violations.extend("/sample", schema.mismatches(sample, bytes));
            }
            _ => {}
        }
    }

    fn visit_secrets(&mut self, _: &mut dyn SecretVisitor) -> Result<()> {
        Ok(())
    }

    fn effects(&self, _: &ResourceId) -> Vec<Effect> {
        Vec::new()
    }

    fn plans(&self) -> Vec<(&'static str, Cow<'_, PlanSpec>)> {
        Vec::new()
    }

    fn compile(&self, _: &SpecContext<'_>) -> Result<Compiled> {
        let schema = self.schema.as_ref().map(EventSchema::new);
        Ok(Arc::new(Definition::new(self.policy, schema)))
    }
}
