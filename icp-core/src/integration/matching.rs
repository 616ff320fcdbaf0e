//! Which integrations an event goes to, and why or why not.

use std::collections::HashMap;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Integration;
use super::filter::Verdict;
use super::pattern::EventPattern;
use super::spec::{CompiledIntegration, Scope};
use crate::access::{Organization, UnitTree};
use crate::error::Error;
use crate::event::{Event, EventType};
use crate::id::ResourceId;

/// Why an event goes to an integration or not.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(tag = "reason", rename_all = "snake_case")]
#[non_exhaustive]
pub enum MatchReason {
    /// It does.
    Matched,
    /// The integration is off.
    Disabled,
    /// No pattern takes the event's type.
    EventType,
    /// The event belongs to a unit that the integration does not cover.
    Unit,
    /// The event belongs to a unit that the integration excludes.
    ExcludedUnit,
    /// The condition does not hold.
    Filter {
        /// The part that decided.
        why: String,
    },
    /// It does, and the delivery waits until the integration can be used: the key of its secrets
    /// is missing, say, or its connector is.
    Waits {
        /// What is wrong.
        why: String,
    },
    /// The integration's stored configuration cannot be read.
    Unusable {
        /// What is wrong.
        why: String,
    },
}

impl MatchReason {
    /// Whether the event goes there, now or later.
    #[must_use]
    pub fn is_match(&self) -> bool {
        matches!(self, Self::Matched | Self::Waits { .. })
    }
}

impl From<Verdict> for MatchReason {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Match => Self::Matched,
            Verdict::NoMatch { why } => Self::Filter { why },
        }
    }
}

/// An integration bound for sending.
#[derive(Debug)]
pub struct Bound {
    /// The integration.
    pub integration: Arc<CompiledIntegration>,
    /// Its target.
    pub target: Arc<dyn Integration>,
}

/// The integrations of one organization, ready to be matched against events.
///
/// An integration that cannot send for now takes its events all the same: their deliveries wait
/// for it. Only one whose stored configuration cannot be read takes none.
#[derive(Debug)]
pub struct MatchIndex {
    units: UnitTree,
    known: HashMap<ResourceId, Known>,
    exact: HashMap<EventType, Vec<Arc<CompiledIntegration>>>,
    by_pattern: Vec<Arc<CompiledIntegration>>,
}

#[derive(Debug)]
struct Known {
    integration: Result<Arc<CompiledIntegration>, Error>,
    bound: Result<Arc<Bound>, Error>,
}

impl MatchIndex {
    /// An index of `integrations`; those that cannot be used are kept with their error.
    pub fn new(
        organization: &Organization,
        integrations: impl Iterator<Item = (ResourceId, Result<Arc<CompiledIntegration>, Error>)>,
    ) -> Self {
        let mut index = Self {
            units: organization.units.clone(),
            known: HashMap::new(),
            exact: HashMap::new(),
            by_pattern: Vec::new(),
        };
        for (id, integration) in integrations {
            if let Ok(integration) = &integration
                && integration.enabled
            {
                index.add(integration);
            }
            let bound = integration.clone().and_then(|integration| {
                let target = integration.bind(Arc::clone(&organization.policy))?;
                Ok(Arc::new(Bound { integration, target }))
            });
            index.known.insert(id, Known { integration, bound });
        }
        index
    }

    fn add(&mut self, integration: &Arc<CompiledIntegration>) {
        let patterns = integration.patterns.patterns();
        if patterns.iter().all(EventPattern::is_exact) {
            let mut types: Vec<_> = patterns
                .iter()
                .filter_map(|pattern| EventType::new(pattern.as_str()).ok())
                .collect();
            types.sort_unstable();
            types.dedup();
            for event_type in types {
                self.exact.entry(event_type).or_default().push(Arc::clone(integration));
            }
        } else {
            self.by_pattern.push(Arc::clone(integration));
        }
    }

    /// Whether some integration that is on takes events of this type, whatever its other
    /// conditions.
    #[must_use]
    pub fn takes(&self, event_type: &EventType) -> bool {
        self.exact.contains_key(event_type)
            || self.by_pattern.iter().any(|one| one.patterns.matches(event_type))
    }

    /// The integrations the event goes to.
    #[must_use]
    pub fn matches(&self, event: &Event) -> Vec<Arc<CompiledIntegration>> {
        let mut document = Document::new(event);
        let exact = self.exact.get(&event.event_type).into_iter().flatten();
        exact
            .chain(&self.by_pattern)
            .filter(|one| self.judge(one, event, &mut document) == MatchReason::Matched)
            .cloned()
            .collect()
    }

    /// Every integration of the organization with the reason why the event goes there or not,
    /// ordered by id.
    #[must_use]
    pub fn explain(&self, event: &Event) -> Vec<(ResourceId, MatchReason)> {
        let mut document = Document::new(event);
        let mut reasons: Vec<_> = self
            .known
            .iter()
            .map(|(id, known)| {
                let reason = known.reason(|one| self.judge(one, event, &mut document));
                (id.clone(), reason)
            })
            .collect();
        reasons.sort_by(|a, b| a.0.cmp(&b.0));
        reasons
    }

    /// One integration, bound for sending; `None` where there is none of this id.
    #[must_use]
    pub fn bound(&self, id: &ResourceId) -> Option<&Result<Arc<Bound>, Error>> {
        self.known.get(id).map(|known| &known.bound)
    }

    /// One integration, whether or not it can send; `None` where there is none of this id.
    #[must_use]
    pub fn integration(&self, id: &ResourceId) -> Option<&Result<Arc<CompiledIntegration>, Error>> {
        self.known.get(id).map(|known| &known.integration)
    }

    /// The integrations that match and cannot send, each with the reason.
    pub fn waiting(&self) -> impl Iterator<Item = (&ResourceId, &Error)> {
        self.known.iter().filter_map(|(id, known)| {
            known.integration.as_ref().ok()?;
            Some((id, known.bound.as_ref().err()?))
        })
    }

    /// Whether one integration would take the event, were it on; `None` where there is none of
    /// this id.
    #[must_use]
    pub fn would_match(&self, id: &ResourceId, event: &Event) -> Option<MatchReason> {
        let known = self.known.get(id)?;
        Some(known.reason(|one| self.covers(one, event, &mut Document::new(event))))
    }

    /// Whether the organization has this unit.
    #[must_use]
    pub fn has_unit(&self, unit: &ResourceId) -> bool {
        self.units.contains(unit)
    }

    fn judge(
        &self,
        integration: &CompiledIntegration,
        event: &Event,
        document: &mut Document<'_>,
    ) -> MatchReason {
        if !integration.enabled {
            return MatchReason::Disabled;
        }
        self.covers(integration, event, document)
    }

    fn covers(
        &self,
        integration: &CompiledIntegration,
        event: &Event,
        document: &mut Document<'_>,
    ) -> MatchReason {
        if !integration.patterns.matches(&event.event_type) {
            return MatchReason::EventType;
        }
        let unit = scope(integration, event.unit.as_ref(), &self.units);
        if unit != MatchReason::Matched {
            return unit;
        }
        let Some(filter) = &integration.filter else { return MatchReason::Matched };
        filter.matches(document.value()).into()
    }
}

impl Known {
    /// What `judge` says of the integration, as far as it can be read and used.
    fn reason(&self, judge: impl FnOnce(&CompiledIntegration) -> MatchReason) -> MatchReason {
        let why = |error: &Error| error.message().to_owned();
        match (self.integration.as_ref().map(|one| judge(one)), &self.bound) {
            (Ok(MatchReason::Matched), Err(error)) => MatchReason::Waits { why: why(error) },
            (Ok(reason), _) => reason,
            (Err(error), _) => MatchReason::Unusable { why: why(error) },
        }
    }
}

/// Whether an event of `unit` is covered: an integration of the organization covers all of its
/// units, an integration of a unit covers that unit and those below.
fn scope(
    integration: &CompiledIntegration,
    unit: Option<&ResourceId>,
    tree: &UnitTree,
) -> MatchReason {
    let covered = match (&integration.unit, unit, integration.scope) {
        (None, None, _) => true,
        (None, Some(_), scope) => scope == Scope::IncludeChildren,
        (Some(_), None, _) => false,
        (Some(own), Some(unit), Scope::UnitOnly) => own == unit,
        (Some(own), Some(unit), Scope::IncludeChildren) => tree.is_within(unit, own),
    };
    let excluded = || {
        unit.is_some_and(|unit| {
            integration.excluded_units.iter().any(|above| tree.is_within(unit, above))
        })
    };
    match covered {
        false => MatchReason::Unit,
        true if excluded() => MatchReason::ExcludedUnit,
        true => MatchReason::Matched,
    }
}

/// The event as conditions see it, made when the first condition asks.
struct Document<'a> {
    event: &'a Event,
    value: Option<Value>,
}

impl<'a> Document<'a> {
    fn new(event: &'a Event) -> Self {
        Self { event, value: None }
    }

    fn value(&mut self) -> &Value {
        let event = self.event;
        self.value.get_or_insert_with(|| document(event))
    }
}

/// The document that conditions are evaluated against: `id`, `type`, `org`, `unit`,
/// `ordering_key`, `received_at`, `content_type`, and the body as `data`, which is `null` where
/// the body is not JSON.
#[must_use]
pub fn document(event: &Event) -> Value {
    let data = if event.is_json() {
        serde_json::from_slice(&event.body).unwrap_or(Value::Null)
    } else {
        Value::Null
    };
    serde_json::json!({
        "id": event.id,
        "type": event.event_type.as_str(),
        "org": event.org.as_str(),
        "unit": event.unit.as_ref().map(ResourceId::as_str),
        "ordering_key": event.ordering_key,
        "received_at": event.received_at,
        "content_type": event.content_type,
        "data": data,
    })
}

#[cfg(test)]
mod tests;
