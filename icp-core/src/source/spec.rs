//! What is configured for an event source.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::EventSource;
use crate::access::Area;
use crate::error::Result;
use crate::id::ResourceId;
use crate::resource::{Compiled, Effect, Spec, SpecContext, Violations, escape};
use crate::secret::{Place, Secret, SecretString, SecretVisitor};
use crate::transform::{PlanSpec, handler_name_fault};

const MAX_CONFIG: usize = 64 << 10;
const MAX_SECRETS: usize = 32;
const LONGEST_PAUSE: u32 = 86_400;
const MOST_EVENTS: u32 = 1_000;
const SECRETS: &str = "secrets";

/// Where events of an organization are pulled from.
///
/// ```
/// use icp_core::source::SourceSpec;
///
/// let spec: SourceSpec = serde_json::from_str(
///     r#"{
///         "type": "orders",
///         "config": { "table": "paid_orders" },
///         "secrets": { "password": "correct horse" },
///         "poll_seconds": 10
///     }"#,
/// )
/// .unwrap();
/// assert_eq!(spec.batch, 100);
/// ```
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct SourceSpec {
    /// The name that the source is registered under in the program which polls it: 1 to 64 letters,
    /// digits, dots, hyphens and underscores. A name that this program does not know is saved all
    /// the same, as another one on the store may know it.
    #[serde(rename = "type")]
    #[schemars(length(min = 1, max = 64))]
    pub name: String,
    /// What the source is told; up to 64 KiB, without secrets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<Value>,
    /// What the source is told that nobody else may see, up to 32 texts by their names.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secrets: BTreeMap<String, Secret>,
    /// The unit that the source belongs to, and with it its events that name none. It may be made
    /// later; until then nothing is published.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<ResourceId>,
    /// How long it is waited after a poll that found nothing more, in seconds: 1 to 86,400.
    /// Default 5.
    #[serde(default = "usual_pause")]
    #[schemars(range(min = 1, max = 86_400))]
    pub poll_seconds: u32,
    /// How many events are taken at once: 1 to 1,000. Default 100.
    #[serde(default = "usual_batch")]
    #[schemars(range(min = 1, max = 1_000))]
    pub batch: u32,
    /// Whether it is polled. Default `true`.
    #[serde(default = "yes")]
    pub enabled: bool,
}

fn usual_pause() -> u32 {
    5
}

fn usual_batch() -> u32 {
    100
}

fn yes() -> bool {
    true
}

/// A source ready to be polled; its secrets are open.
#[derive(Debug)]
pub struct CompiledSource {
    /// The name of what is polled.
    pub name: String,
    /// What is polled; none where this process does not know the name.
    pub source: Option<Arc<dyn EventSource>>,
    /// What it is told.
    pub config: Option<Value>,
    /// Its secrets.
    pub secrets: BTreeMap<String, SecretString>,
    /// The unit of events that name none.
    pub unit: Option<ResourceId>,
    /// How long it is waited after a poll that found nothing more.
    pub pause: Duration,
    /// How many events are taken at once.
    pub batch: usize,
    /// Whether it is polled.
    pub enabled: bool,
}

impl Spec for SourceSpec {
    const KIND: &'static str = "event_source";
    const PLURAL: &'static str = "event-sources";
    const AREA: Area = Area::EventSources;
    const IN_UNITS: bool = true;

    fn validate(&self, context: &SpecContext<'_>, violations: &mut Violations) {
        if let Some(message) = handler_name_fault(&self.name) {
            violations.add("/type", "handler_name", message);
        }
        if !(1..=LONGEST_PAUSE).contains(&self.poll_seconds) {
            violations.add("/poll_seconds", "out_of_range", "use 1 to 86400");
        }
        if !(1..=MOST_EVENTS).contains(&self.batch) {
            violations.add("/batch", "out_of_range", "use 1 to 1000");
        }
        let bytes = self.config.as_ref().map_or(0, |config| config.to_string().len());
        if bytes > MAX_CONFIG {
            let message = format!("it has {bytes} bytes; use at most {MAX_CONFIG}");
            violations.add("/config", "too_large", message);
        }
        if self.secrets.len() > MAX_SECRETS {
            let message = format!("use at most {MAX_SECRETS} secrets");
            violations.add("/secrets", "too_many", message);
        }
        for name in self.secrets.keys() {
            if let Some(message) = handler_name_fault(name) {
                violations.add(format!("/secrets/{}", escape(name)), "secret_name", message);
            }
        }
        if let Some(source) = context.services.sources.get(&self.name) {
            violations.extend("/config", source.validate(self.config.as_ref()));
        }
    }

    fn visit_secrets(&mut self, visitor: &mut dyn SecretVisitor) -> Result<()> {
        self.secrets.iter_mut().try_for_each(|(name, secret)| {
            visitor.secret(Place::new(SECRETS, &format!("/secrets/{}", escape(name))), secret)
        })
    }

    fn effects(&self, _: &ResourceId) -> Vec<Effect> {
        Vec::new()
    }

    fn plans(&self) -> Vec<(&'static str, Cow<'_, PlanSpec>)> {
        Vec::new()
    }

    fn compile(&self, context: &SpecContext<'_>) -> Result<Compiled> {
        let opener = context.opener();
        let open =
            |(name, secret): (&String, &Secret)| Ok((name.clone(), opener.open(SECRETS, secret)?));
        Ok(Arc::new(CompiledSource {
            name: self.name.clone(),
            source: context.services.sources.get(&self.name).cloned(),
            config: self.config.clone(),
            secrets: self.secrets.iter().map(open).collect::<Result<_>>()?,
            unit: self.unit.clone(),
            pause: Duration::from_secs(u64::from(self.poll_seconds)),
            batch: usize::try_from(self.batch).unwrap_or(usize::MAX),
            enabled: self.enabled,
        }))
    }
}
