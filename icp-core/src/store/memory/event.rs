use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use super::erasure::is_of;
use super::{MemoryStore, State};
use crate::delivery::{Delivery, DeliveryState};
use crate::erasure::{Erase, Target};
use crate::error::Result;
use crate::event::{
    Direct, Event, EventQuery, EventStore, EventSummary, Ingest, IngestItem, Ingested, NewDelivery,
    OutboxEntry,
};
use crate::id::{DeliveryId, EventId, OrgId};
use crate::store::Page;
use crate::time::Timestamp;

#[derive(Debug, Default)]
pub(super) struct Events {
    rows: BTreeMap<EventId, Stored>,
    of_org: BTreeSet<(OrgId, EventId)>,
    keys: BTreeMap<(OrgId, Arc<str>), Key>,
    outbox: BTreeMap<EventId, Event>,
}

#[derive(Debug)]
struct Stored {
    event: Arc<Event>,
    fan_out: u32,
    /// How many of the deliveries it was fanned out to are removed.
    pruned: u32,
}

#[derive(Debug)]
struct Key {
    event: EventId,
    body_hash: [u8; 32],
    until: Timestamp,
}

impl Events {
    pub(super) fn get(&self, id: EventId) -> Option<&Arc<Event>> {
        self.rows.get(&id).map(|stored| &stored.event)
    }

    pub(super) fn put_outbox(&mut self, event: Event) {
        self.outbox.insert(event.id, event);
    }

    pub(super) fn ids_after(
        &self,
        org: &OrgId,
        after: Option<EventId>,
    ) -> impl Iterator<Item = EventId> {
        let first = match after {
            Some(after) => Bound::Excluded((org.clone(), after)),
            None => Bound::Included((org.clone(), EventId::from_bytes([0; 16]))),
        };
        let last = Bound::Included((org.clone(), EventId::from_bytes([0xff; 16])));
        self.of_org.range((first, last)).map(|(_, id)| *id)
    }

    pub(super) fn next_org(&self, after: Option<&OrgId>) -> Option<OrgId> {
        let later = |org: &&OrgId| after.is_none_or(|after| *org > after);
        let events = self.of_org.iter().map(|(org, _)| org).find(later);
        let keys = self.keys.keys().map(|(org, _)| org).find(later);
        events.into_iter().chain(keys).min().cloned()
    }

    /// Whether a live idempotency key answers with the event.
    pub(super) fn is_keyed(&self, id: EventId, now: Timestamp) -> bool {
        let Some(event) = self.get(id) else { return false };
        let Some(name) = &event.idempotency_key else { return false };
        let key = self.keys.get(&(event.org.clone(), Arc::clone(name)));
        key.is_some_and(|key| key.event == id && key.until > now)
    }

    /// The events of an erasure that were not erased before; those in the outbox are taken out.
    pub(super) fn take_for_erasure(&mut self, erase: &Erase) -> Vec<EventId> {
        let matches = |event: &Event| {
            event.org == erase.org
                && event.erased_at.is_none()
                && match &erase.target {
                    Target::Events(ids) => ids.contains(&event.id),
                    Target::Subject(subject) => is_of(event, subject),
                }
        };
        let waiting = self.outbox.values().filter(|event| matches(event));
        for id in waiting.map(|event| event.id).collect::<Vec<_>>() {
            if let Some(event) = self.outbox.remove(&id).filter(|_| !self.rows.contains_key(&id)) {
                self.of_org.insert((event.org.clone(), id));
                self.rows.insert(id, Stored { event: Arc::new(event), fan_out: 0, pruned: 0 });
            }
        }
        let found = self.rows.values().filter(|stored| matches(&stored.event));
        found.map(|stored| stored.event.id).take(erase.limit).collect()
    }

    pub(super) fn erase(&mut self, id: EventId, now: Timestamp) {
        if let Some(stored) = self.rows.get_mut(&id) {
            let event = Arc::make_mut(&mut stored.event);
            event.body = Bytes::new();
            event.subject = None;
            event.erased_at = Some(now);
        }
    }

    pub(super) fn note_pruned(&mut self, id: EventId) {
        if let Some(stored) = self.rows.get_mut(&id) {
            stored.pruned += 1;
        }
    }

    pub(super) fn remove(&mut self, id: EventId) {
        if let Some(stored) = self.rows.remove(&id) {
            self.of_org.remove(&(stored.event.org.clone(), id));
        }
    }

    pub(super) fn prune_keys(&mut self, org: &OrgId, now: Timestamp, limit: usize) -> usize {
        let over = |(name, key): (&(OrgId, Arc<str>), &Key)| {
            (name.0 == *org && key.until <= now).then(|| name.clone())
        };
        let gone: Vec<_> = self.keys.iter().filter_map(over).take(limit).collect();
        gone.iter().for_each(|name| {
            self.keys.remove(name);
        });
        gone.len()
    }

    pub(super) fn fan_outs(&self) -> impl Iterator<Item = (EventId, u32)> {
        self.rows.iter().map(|(id, stored)| (*id, stored.fan_out - stored.pruned))
    }

    /// The events of an organization between two ids, both exclusive, in their order.
    pub(super) fn between(
        &self,
        org: &OrgId,
        after: EventId,
        before: EventId,
    ) -> impl Iterator<Item = &Arc<Event>> {
        let ids = match after < before {
            true => self.of_org.range((
                Bound::Excluded((org.clone(), after)),
                Bound::Excluded((org.clone(), before)),
            )),
            false => Default::default(),
        };
        ids.filter_map(|(_, id)| self.get(*id))
    }

    /// Counts one more delivery that the event goes to.
    pub(super) fn fan_out_further(&mut self, id: EventId) {
        if let Some(stored) = self.rows.get_mut(&id) {
            stored.fan_out += 1;
        }
    }

    /// What stands in the way of writing the item, if anything does.
    fn refusal(&self, item: &IngestItem, now: Timestamp) -> Option<Ingested> {
        if item.outbox.is_some_and(|row| !self.outbox.contains_key(&row)) {
            return Some(Ingested::Gone);
        }
        if self.rows.contains_key(&item.event.id) {
            return Some(Ingested::Duplicate { of: item.event.id });
        }
        let name = item.event.idempotency_key.clone()?;
        let key = self.keys.get(&(item.event.org.clone(), name)).filter(|key| key.until > now)?;
        Some(if key.body_hash == item.body_hash {
            Ingested::Duplicate { of: key.event }
        } else {
            Ingested::Conflict { with: key.event }
        })
    }

    fn insert(&mut self, item: &IngestItem, now: Timestamp) {
        let event = &item.event;
        if let Some(name) = &event.idempotency_key {
            let until = now + item.idempotency_window;
            let key = Key { event: event.id, body_hash: item.body_hash, until };
            self.keys.insert((event.org.clone(), Arc::clone(name)), key);
        }
        self.of_org.insert((event.org.clone(), event.id));
        let fan_out = u32::try_from(item.deliveries.len()).unwrap_or(u32::MAX);
        self.rows.insert(event.id, Stored { event: Arc::clone(event), fan_out, pruned: 0 });
    }
}

impl State {
    fn ingest(
        &mut self,
        item: &IngestItem,
        direct: &mut Option<Direct>,
        now: Timestamp,
    ) -> Ingested {
        let refusal = self.events.refusal(item, now);
        let done = matches!(refusal, None | Some(Ingested::Duplicate { .. }));
        if let Some(row) = item.outbox.filter(|_| done) {
            self.events.outbox.remove(&row);
        }
        if let Some(refusal) = refusal {
            return refusal;
        }
        self.events.insert(item, now);
        let mut leased = Vec::new();
        for new in &item.deliveries {
            self.deliveries.lanes.ensure(&item.event.org, &new.integration, &new.lane);
            self.deliveries.insert(delivery_of(&item.event, new, now));
            if self.hand_over(new, direct, now) {
                leased.push(new.id);
            }
            self.deliveries.refresh(new.lane.id, now);
        }
        Ingested::Accepted { leased }
    }

    fn hand_over(
        &mut self,
        new: &NewDelivery,
        direct: &mut Option<Direct>,
        now: Timestamp,
    ) -> bool {
        let Some(direct) = direct.as_mut().filter(|direct| direct.budget > 0) else {
            return false;
        };
        let rows = &mut self.deliveries;
        if !new.at_once
            || new.due_at > now
            || !rows.knows(direct.session)
            || !rows.is_idle(new.lane.id, new.id, now)
        {
            return false;
        }
        direct.budget -= 1;
        rows.hand_over(new.id, direct.session, direct.lease_until, now);
        true
    }
}

pub(super) fn delivery_of(event: &Event, new: &NewDelivery, now: Timestamp) -> Delivery {
    Delivery {
        id: new.id,
        org: event.org.clone(),
        event: event.id,
        integration: new.integration.clone(),
        lane: new.lane.id,
        state: DeliveryState::Ready,
        due_at: new.due_at,
        epoch: 0,
        tries: 0,
        throttles: 0,
        rescues: 0,
        owner: None,
        lease_until: None,
        expires_at: event.expires_at,
        replay_of: None::<DeliveryId>,
        out_of_order: false,
        round: 0,
        reason: None,
        created_at: now,
        updated_at: now,
    }
}

fn summary(stored: &Stored) -> EventSummary {
    let event = &stored.event;
    EventSummary {
        id: event.id,
        event_type: event.event_type.clone(),
        unit: event.unit.clone(),
        content_type: Arc::clone(&event.content_type),
        body_size: event.body.len() as u64,
        received_at: event.received_at,
        fan_out: stored.fan_out,
    }
}

fn matches(query: &EventQuery, event: &Event) -> bool {
    query.event_type.as_ref().is_none_or(|kind| *kind == event.event_type)
        && (query.idempotency_key.is_none()
            || query.idempotency_key.as_deref() == event.idempotency_key.as_deref())
        && query.since.is_none_or(|since| event.received_at >= since)
        && query.until.is_none_or(|until| event.received_at < until)
}

#[async_trait]
impl EventStore for MemoryStore {
    async fn ingest(&self, batch: Ingest) -> Result<Vec<Ingested>> {
        let state = &mut *self.lock();
        let mut direct = batch.direct;
        Ok(batch.items.iter().map(|item| state.ingest(item, &mut direct, batch.now)).collect())
    }

    async fn event(&self, org: &OrgId, id: EventId) -> Result<Option<Event>> {
        let state = self.lock();
        Ok(state.events.get(id).filter(|event| event.org == *org).map(|event| (**event).clone()))
    }

    async fn events(&self, org: &OrgId, query: &EventQuery) -> Result<Page<EventSummary>> {
        let state = self.lock();
        let events = &state.events;
        let limit = query.page.limit;
        let first = (org.clone(), EventId::from_bytes([0; 16]));
        let items = match query.page.after {
            Some(after) => events.of_org.range(first..(org.clone(), after)),
            None => events.of_org.range(first..=(org.clone(), EventId::from_bytes([0xff; 16]))),
        };
        let items = items
            .rev()
            .filter_map(|(_, id)| events.rows.get(id))
            .filter(|stored| matches(query, &stored.event))
            .map(summary)
            .take(limit + 1)
            .collect();
        Ok(Page::cut(items, limit))
    }

    async fn outbox(&self, without: &[OrgId], limit: usize) -> Result<Vec<OutboxEntry>> {
        let state = self.lock();
        let rows = state.events.outbox.values();
        let oldest = rows.filter(|event| !without.contains(&event.org)).take(limit);
        Ok(oldest.map(|event| OutboxEntry { event: event.clone() }).collect())
    }
}
