use std::collections::BTreeMap;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Engine;
use crate::delivery::{Delivery, DeliveryQuery, DeliveryState};
use crate::error::Result;
use crate::event::{Event, EventType};
use crate::id::{DeliveryId, EventId, OrgId, ResourceId};
use crate::integration::{CompiledIntegration, IntegrationSpec, MatchIndex, MatchReason};
use crate::resource::{Revision, Spec};
use crate::store::PageQuery;

/// Why an event went, or did not go, to each integration.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Explanation {
    /// The event.
    pub event: EventId,
    /// Its type.
    pub event_type: String,
    /// The revision of the configuration it was matched against.
    pub revision: Revision,
    /// Every integration that was there then, and those that it was delivered to.
    pub integrations: Vec<Explained>,
}

/// Why an event went, or did not go, to one integration.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Explained {
    /// The integration.
    pub integration: ResourceId,
    /// Why, by the configuration the event was published under.
    #[serde(flatten)]
    pub reason: MatchReason,
    /// Whether the integration was changed or deleted since.
    pub changed_since: bool,
    /// Its deliveries of the event, newest first: the first and its replays.
    pub deliveries: Vec<ExplainedDelivery>,
}

/// A delivery as an explanation shows it.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[non_exhaustive]
pub struct ExplainedDelivery {
    /// The delivery.
    pub id: DeliveryId,
    /// Where it stands.
    pub state: DeliveryState,
}

pub(super) async fn explain(engine: &Engine, org: &OrgId, id: EventId) -> Result<Explanation> {
    let event = engine.event(org, id).await?;
    let mut deliveries = deliveries(engine, org, id).await?;
    let core = engine.core();
    let view = core.org(org).await?;
    let mut then: BTreeMap<ResourceId, (Result<Arc<CompiledIntegration>>, bool)> = BTreeMap::new();
    let now: BTreeMap<_, _> = view
        .entry
        .resources(IntegrationSpec::KIND)
        .map(|(id, entry)| (id.clone(), Arc::clone(entry)))
        .collect();
    for id in now.keys().chain(deliveries.keys()) {
        if then.contains_key(id) {
            continue;
        }
        let unchanged = now.get(id).filter(|entry| entry.revision <= event.config_revision);
        if let Some(entry) = unchanged {
            then.insert(id.clone(), (entry.compiled(), false));
        } else if let Some(compiled) = as_published(engine, &event, id).await? {
            then.insert(id.clone(), (compiled, true));
        }
    }
    let changed: BTreeMap<_, _> =
        then.iter().map(|(id, (_, changed))| (id.clone(), *changed)).collect();
    let integrations = then.into_iter().map(|(id, (compiled, _))| (id, compiled));
    let matching = MatchIndex::new(&view.organization, integrations);
    let integrations = matching
        .explain(&event)
        .into_iter()
        .map(|(integration, reason)| Explained {
            changed_since: changed.get(&integration).copied().unwrap_or(true),
            deliveries: deliveries.remove(&integration).unwrap_or_default(),
            integration,
            reason,
        })
        .collect();
    let event_type: &EventType = &event.event_type;
    Ok(Explanation {
        event: event.id,
        event_type: event_type.to_string(),
        revision: event.config_revision,
        integrations,
    })
}

/// The integration as it was when the event was published; `None` where it was not there.
async fn as_published(
    engine: &Engine,
    event: &Event,
    id: &ResourceId,
) -> Result<Option<Result<Arc<CompiledIntegration>>>> {
    let core = engine.core();
    let before = Some(Revision(event.config_revision.0 + 1));
    let versions = core.store.history(&event.org, IntegrationSpec::KIND, id, before, 1).await?;
    let record = versions.into_iter().next().filter(|record| !record.deleted);
    Ok(record.map(|record| core.index.compiled(&record)))
}

async fn deliveries(
    engine: &Engine,
    org: &OrgId,
    event: EventId,
) -> Result<BTreeMap<ResourceId, Vec<ExplainedDelivery>>> {
    let mut found: BTreeMap<_, Vec<_>> = BTreeMap::new();
    let mut page = PageQuery { after: None, limit: 500 };
    loop {
        let query = DeliveryQuery { event: Some(event), page, ..DeliveryQuery::default() };
        let answer = engine.deliveries(org, &query).await?;
        page.after = answer.items.last().map(|delivery| delivery.id);
        for Delivery { id, integration, state, .. } in answer.items {
            found.entry(integration).or_default().push(ExplainedDelivery { id, state });
        }
        if !answer.more {
            return Ok(found);
        }
    }
}
