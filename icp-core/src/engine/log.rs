//! The log of deliveries: found by what the store has indexes for, the rest judged here, so much
//! at once and no more.

use std::collections::HashMap;

use super::Engine;
use crate::access::Reach;
use crate::delivery::{
    Delivery, DeliveryQuery, DeliveryState, LogEntry, LogPage, LogPlace, LogQuery, LogSummary,
};
use crate::error::Result;
use crate::event::EventQuery;
use crate::id::{DeliveryId, EventId, OrgId};
use crate::letter::Category;
use crate::store::{Page, PageQuery};
use crate::time::Timestamp;

/// How many deliveries are read at once where not all of them may be wanted.
const BATCH: usize = 500;

/// How many deliveries one call looks at.
const LOOKED_AT: usize = 5_000;

/// How many events one call looks at.
const EVENTS: usize = 200;

/// How many deliveries a summary looks at.
const COUNTED: usize = 20_000;

impl Engine {
    /// Deliveries of an organization by what is told of them, newest first.
    ///
    /// A call looks at 5,000 deliveries at the most, so that a page may be short, or empty, and
    /// yet not be the last. Deliveries of a type of event, or of an idempotency key, are found by
    /// their events, and ordered by these.
    ///
    /// # Errors
    ///
    /// Those of [`LogQuery::check`], [`Code::CursorInvalid`](crate::Code::CursorInvalid) for a
    /// place in another log, and those of the store.
    pub async fn delivery_log(&self, org: &OrgId, query: &LogQuery) -> Result<LogPage> {
        self.log(org, query, &Reach::WHOLE, query.asks_why()).await
    }

    /// The same, with how each delivery went wrong.
    ///
    /// # Errors
    ///
    /// As [`delivery_log`](Self::delivery_log).
    pub async fn delivery_log_with_errors(&self, org: &OrgId, query: &LogQuery) -> Result<LogPage> {
        self.log(org, query, &Reach::WHOLE, true).await
    }

    /// Counts what the log holds, in the newest 20,000 or so deliveries.
    ///
    /// # Errors
    ///
    /// As [`delivery_log`](Self::delivery_log).
    pub async fn delivery_log_summary(&self, org: &OrgId, query: &LogQuery) -> Result<LogSummary> {
        self.sum_log(org, query, &Reach::WHOLE).await
    }

    pub(super) async fn sum_log(
        &self,
        org: &OrgId,
        query: &LogQuery,
        reach: &Reach,
    ) -> Result<LogSummary> {
        let mut summary = LogSummary::default();
        let mut query = LogQuery { limit: LOOKED_AT, ..query.clone() };
        for _ in 0..COUNTED / LOOKED_AT {
            let page = self.log(org, &query, reach, true).await?;
            page.entries.iter().for_each(|entry| summary.count(entry));
            query.after = page.next;
            if query.after.is_none() {
                break;
            }
        }
        summary.more = query.after.is_some();
        Ok(summary)
    }

    /// The log as far as `reach` goes. What unit a delivery belongs to is known of its event.
    pub(super) async fn log(
        &self,
        org: &OrgId,
        query: &LogQuery,
        reach: &Reach,
        with_errors: bool,
    ) -> Result<LogPage> {
        query.check()?;
        let by_event = query.asks_events() || (query.event.is_none() && !reach.is_whole());
        query.check_place(by_event)?;
        if by_event {
            return self.log_by_event(org, query, reach, with_errors).await;
        }
        if let Some(event) = query.event.filter(|_| !reach.is_whole()) {
            let event = self.core.store.event(org, event).await?;
            if event.is_none_or(|event| !reach.covers(event.unit.as_ref())) {
                return Ok(LogPage::default());
            }
        }
        self.log_by_delivery(org, query, with_errors).await
    }

    async fn log_by_delivery(
        &self,
        org: &OrgId,
        query: &LogQuery,
        with_errors: bool,
    ) -> Result<LogPage> {
        let mut found = LogPage::default();
        let mut after = match query.after {
            Some(LogPlace::Delivery(after)) => Some(after),
            _ => query.until.map(first_of),
        };
        let only = query.states.first().filter(|_| query.states.len() == 1).copied();
        let plain = query.states.len() < 2 && !query.asks_why();
        let limit = if plain { query.limit } else { BATCH };
        for _ in 0..LOOKED_AT.div_ceil(limit) {
            let page = PageQuery { after, limit };
            let integration = query.integration.clone();
            let asked = DeliveryQuery { state: only, event: query.event, integration, page };
            let Page { items, more } = self.core.store.deliveries(org, &asked).await?;
            let last = items.last().map(|row| row.id);
            for entry in self.judged(org, items, with_errors).await? {
                let id = entry.delivery.id;
                if query.since.is_some_and(|since| id.timestamp() < since) {
                    return Ok(found);
                }
                if query.takes(&entry) {
                    found.entries.push(entry);
                }
                if found.entries.len() >= query.limit {
                    let further = more || Some(id) != last;
                    found.next = further.then_some(LogPlace::Delivery(id));
                    return Ok(found);
                }
            }
            if !more {
                return Ok(found);
            }
            after = last.or(after);
        }
        found.next = after.map(LogPlace::Delivery);
        Ok(found)
    }

    async fn log_by_event(
        &self,
        org: &OrgId,
        query: &LogQuery,
        reach: &Reach,
        with_errors: bool,
    ) -> Result<LogPage> {
        let mut after = match query.after {
            Some(LogPlace::Event(after)) => Some(after),
            _ => None,
        };
        let (mut found, mut looked_at, mut events) = (LogPage::default(), 0, 0);
        loop {
            let asked = EventQuery {
                event_type: query.event_type.clone(),
                idempotency_key: query.idempotency_key.clone(),
                // A delivery may be made long after its event.
                since: None,
                until: query.until,
                page: PageQuery { after, limit: EVENTS },
            };
            let page = self.core.store.events(org, &asked).await?;
            let last = page.items.last().map(|event| event.id);
            looked_at += page.items.len();
            for event in page.items.iter().filter(|event| reach.covers(event.unit.as_ref())) {
                let deliveries = self.of_event(org, event.id).await?;
                let entries = self.judged(org, deliveries, with_errors).await?;
                found.entries.extend(entries.into_iter().filter(|entry| query.takes(entry)));
                events += 1;
                if found.entries.len() >= query.limit || events == EVENTS {
                    let further = page.more || Some(event.id) != last;
                    found.next = further.then_some(LogPlace::Event(event.id));
                    return Ok(found);
                }
            }
            if !page.more || looked_at >= LOOKED_AT {
                found.next = last.filter(|_| page.more).map(LogPlace::Event);
                return Ok(found);
            }
            after = last;
        }
    }

    /// Every delivery of an event, newest first.
    pub(super) async fn of_event(&self, org: &OrgId, event: EventId) -> Result<Vec<Delivery>> {
        let (mut all, mut after) = (Vec::new(), None);
        loop {
            let page = PageQuery { after, limit: BATCH };
            let query = DeliveryQuery { event: Some(event), page, ..DeliveryQuery::default() };
            let found = self.core.store.deliveries(org, &query).await?;
            after = found.items.last().map(|row| row.id);
            all.extend(found.items);
            if !found.more {
                return Ok(all);
            }
        }
    }

    async fn judged(
        &self,
        org: &OrgId,
        rows: Vec<Delivery>,
        with_errors: bool,
    ) -> Result<Vec<LogEntry>> {
        let is_dead = |row: &&Delivery| with_errors && row.state == DeliveryState::Dead;
        let dead: Vec<_> = rows.iter().filter(is_dead).map(|row| row.id).collect();
        let letters = match dead.is_empty() {
            true => Vec::new(),
            false => self.core.store.letters(org, &dead).await?,
        };
        let mut classes: HashMap<DeliveryId, String> =
            letters.into_iter().map(|letter| (letter.delivery.id, letter.class)).collect();
        let entry = |delivery: Delivery| {
            let failed = || {
                let tried = delivery.state == DeliveryState::Ready && delivery.tries > 0;
                Some(delivery.reason.as_ref().filter(|_| with_errors && tried)?.code.clone())
            };
            let class = classes.remove(&delivery.id).or_else(failed);
            let category = class.as_deref().map(Category::of);
            LogEntry { delivery, class, category }
        };
        Ok(rows.into_iter().map(entry).collect())
    }
}

/// The least id of a delivery made at `at`.
fn first_of(at: Timestamp) -> DeliveryId {
    let millis = u128::from(at.as_millis().unsigned_abs());
    DeliveryId::from_bytes((millis << 80).to_be_bytes())
}
