use super::Within;
use crate::engine::{Explanation, Timeline};
use crate::error::{Code, Error, Result, Violation};
use crate::event::{Event, EventQuery, EventSummary, NewEvent, Published};
use crate::id::{EventId, ResourceId};
use crate::store::PageQuery;

/// How many events are read at once where not all of them may be within reach.
const AT_ONCE: usize = 500;

/// How many events one page of less than the whole organization looks at.
const LOOKED_AT: usize = 5_000;

/// Some events, newest first.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EventPage {
    /// The events; may be fewer than were asked for, or none, although there is a `next`.
    pub items: Vec<EventSummary>,
    /// Where to go on; nothing at the end.
    pub next: Option<EventId>,
}

impl Within {
    /// As [`Engine::publish`](crate::Engine::publish). An event must name a unit within reach.
    ///
    /// # Errors
    ///
    /// As there; [`Code::UnitUnknown`] for a unit beyond, and [`Code::PermissionDenied`] where none
    /// is named and the whole organization is not within reach.
    pub async fn publish(&self, event: NewEvent) -> Result<Published> {
        let lost = || Err(Error::new(Code::Internal, "the event got no answer"));
        self.publish_batch(vec![event]).await.pop().unwrap_or_else(lost)
    }

    /// As [`Engine::publish_batch`](crate::Engine::publish_batch), each event by the rule of
    /// [`publish`](Self::publish).
    pub async fn publish_batch(&self, events: Vec<NewEvent>) -> Vec<Result<Published>> {
        let judged: Vec<_> = events.iter().map(|event| self.admits(event)).collect();
        let admitted = events.into_iter().zip(&judged).filter(|(_, judged)| judged.is_ok());
        let admitted = admitted.map(|(event, _)| event).collect();
        let mut published = self.engine.publish_batch(admitted).await.into_iter();
        let lost = || Err(Error::new(Code::Internal, "the event got no answer"));
        let answer =
            |judged: Result<()>| judged.and_then(|()| published.next().unwrap_or_else(lost));
        judged.into_iter().map(answer).collect()
    }

    fn admits(&self, event: &NewEvent) -> Result<()> {
        if self.reach.is_whole() {
            return Ok(());
        }
        let (code, message) = match event.unit_named() {
            None => (Code::PermissionDenied, "name a unit that you may publish in".to_owned()),
            Some(unit) => match ResourceId::new(unit) {
                Ok(known) if self.reach.covers(Some(&known)) => return Ok(()),
                Ok(_) => (Code::UnitUnknown, format!("the organization has no unit `{unit}`")),
                // What no unit can be called is refused with the rest that is wrong.
                Err(_) => return Ok(()),
            },
        };
        let found = Violation::new("/unit", code.as_str(), message);
        Err(Error::violations(code, vec![found]).during("publish"))
    }

    /// One event.
    ///
    /// # Errors
    ///
    /// [`Code::EventNotFound`], and those of the store.
    pub async fn event(&self, id: EventId) -> Result<Event> {
        let event = self.engine.event(&self.org, id).await?;
        if self.reach.covers(event.unit.as_ref()) {
            return Ok(event);
        }
        Err(Error::new(Code::EventNotFound, format!("there is no event `{id}`")))
    }

    /// Events, newest first, without bodies. Of less than the whole organization a page looks at
    /// 5,000 events at the most.
    ///
    /// # Errors
    ///
    /// Those of the store.
    pub async fn events(&self, query: &EventQuery) -> Result<EventPage> {
        if self.reach.is_whole() {
            let page = self.engine.events(&self.org, query).await?;
            let next = page.items.last().filter(|_| page.more).map(|event| event.id);
            return Ok(EventPage { items: page.items, next });
        }
        let PageQuery { mut after, limit } = query.page;
        let mut found = EventPage::default();
        for _ in 0..LOOKED_AT / AT_ONCE {
            let query = EventQuery { page: PageQuery { after, limit: AT_ONCE }, ..query.clone() };
            let page = self.engine.events(&self.org, &query).await?;
            let last = page.items.last().map(|event| event.id);
            for event in page.items {
                let id = event.id;
                if self.reach.covers(event.unit.as_ref()) {
                    found.items.push(event);
                }
                if found.items.len() >= limit {
                    found.next = (page.more || Some(id) != last).then_some(id);
                    return Ok(found);
                }
            }
            if !page.more {
                return Ok(found);
            }
            after = last;
        }
        found.next = after;
        Ok(found)
    }

    /// What happened to an event, in order of time.
    ///
    /// # Errors
    ///
    /// As [`event`](Self::event).
    pub async fn timeline(&self, id: EventId) -> Result<Timeline> {
        self.event(id).await?;
        let mut timeline = self.engine.timeline(&self.org, id).await?;
        let mut skipped = Vec::with_capacity(timeline.skipped.len());
        for passed in timeline.skipped {
            if self.has_integration(&passed.integration).await? {
                skipped.push(passed);
            }
        }
        timeline.skipped = skipped;
        Ok(timeline)
    }

    /// Why an event went, or did not go, to each integration. One beyond reach is told of where the
    /// event was delivered to it.
    ///
    /// # Errors
    ///
    /// As [`event`](Self::event).
    pub async fn explain(&self, id: EventId) -> Result<Explanation> {
        self.event(id).await?;
        let mut explanation = self.engine.explain(&self.org, id).await?;
        let mut told = Vec::with_capacity(explanation.integrations.len());
        for one in explanation.integrations {
            if !one.deliveries.is_empty() || self.has_integration(&one.integration).await? {
                told.push(one);
            }
        }
        explanation.integrations = told;
        Ok(explanation)
    }
}
