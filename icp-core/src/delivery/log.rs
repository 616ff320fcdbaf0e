use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Delivery, DeliveryState};
use crate::error::{Code, Error, Result, Violation};
use crate::event::EventType;
use crate::id::{DeliveryId, EventId, ResourceId};
use crate::letter::Category;
use crate::time::Timestamp;

/// Which deliveries of the log are asked for: those to which everything that is given applies.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct LogQuery {
    /// Those in one of these states; in any where there are none.
    pub states: Vec<DeliveryState>,
    /// Those of this event.
    pub event: Option<EventId>,
    /// Those of events of this type; not together with an event.
    pub event_type: Option<EventType>,
    /// Those of events that were published with this idempotency key; not together with an event.
    pub idempotency_key: Option<String>,
    /// Those to this integration.
    pub integration: Option<ResourceId>,
    /// Those that went wrong in this way.
    pub category: Option<Category>,
    /// Those that ended, or are tried again, for this reason, as in `exhausted` or `status_503`.
    pub code: Option<String>,
    /// Those made at or after this.
    pub since: Option<Timestamp>,
    /// Those made before this.
    pub until: Option<Timestamp>,
    /// Where the page before ended.
    pub after: Option<LogPlace>,
    /// How many are wanted, at least 1.
    pub limit: usize,
}

impl LogQuery {
    /// Checks that the parts go together.
    ///
    /// # Errors
    ///
    /// [`Code::QueryInvalid`].
    pub fn check(&self) -> Result<()> {
        let refused = |pointer: &str, message: &str| {
            let violation = Violation::new(pointer, "not_applicable", message);
            Err(Error::violations(Code::QueryInvalid, vec![violation]))
        };
        if self.event.is_some() && self.event_type.is_some() {
            return refused("/event_type", "goes not with `event`, which has but one type");
        }
        if self.event.is_some() && self.idempotency_key.is_some() {
            return refused("/idempotency_key", "goes not with `event`, which has but one key");
        }
        if let (Some(since), Some(until)) = (self.since, self.until)
            && since >= until
        {
            return refused("/until", "use a moment after `since`");
        }
        Ok(())
    }

    /// Checks that the page before ended where a page of this log can, whether deliveries are
    /// found by their events.
    pub(crate) fn check_place(&self, by_event: bool) -> Result<()> {
        match (&self.after, by_event) {
            (Some(LogPlace::Delivery(_)), true) | (Some(LogPlace::Event(_)), false) => {
                Err(Error::new(Code::CursorInvalid, "the page belongs to another list"))
            }
            _ => Ok(()),
        }
    }

    /// Whether it asks for deliveries by what is known of their events.
    pub(crate) fn asks_events(&self) -> bool {
        self.event_type.is_some() || self.idempotency_key.is_some()
    }

    /// Whether it asks how deliveries went wrong.
    pub(crate) fn asks_why(&self) -> bool {
        self.category.is_some() || self.code.is_some()
    }

    pub(crate) fn takes(&self, entry: &LogEntry) -> bool {
        let delivery = &entry.delivery;
        let made = delivery.id.timestamp();
        let is_coded = |code: &String| {
            entry.class.as_ref() == Some(code)
                || delivery.reason.as_ref().is_some_and(|reason| reason.code == *code)
        };
        (self.states.is_empty() || self.states.contains(&delivery.state))
            && self.integration.as_ref().is_none_or(|wanted| *wanted == delivery.integration)
            && self.category.is_none_or(|wanted| entry.category == Some(wanted))
            && self.code.as_ref().is_none_or(is_coded)
            && self.since.is_none_or(|since| made >= since)
            && self.until.is_none_or(|until| made < until)
    }
}

/// Where a page of the log ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum LogPlace {
    /// At a delivery.
    Delivery(DeliveryId),
    /// At an event, where deliveries are found by their events.
    Event(EventId),
}

impl fmt::Display for LogPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Delivery(id) => id.fmt(f),
            Self::Event(id) => id.fmt(f),
        }
    }
}

impl FromStr for LogPlace {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        text.parse().map(Self::Event).or_else(|_| text.parse().map(Self::Delivery))
    }
}

/// A delivery as the log shows it.
#[derive(Clone, Debug, PartialEq)]
pub struct LogEntry {
    /// The delivery.
    pub delivery: Delivery,
    /// What went wrong last, as in `status_503`; told where the query or its reader asks for it.
    pub class: Option<String>,
    /// What kind of error that is.
    pub category: Option<Category>,
}

/// A part of the log, newest first.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LogPage {
    /// The deliveries; may be fewer than were asked for, or none, although there is a `next`.
    pub entries: Vec<LogEntry>,
    /// Where to go on; nothing at the end.
    pub next: Option<LogPlace>,
}

/// How many deliveries of the log there are, by what is told of them.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct LogSummary {
    /// How many were counted.
    pub counted: u64,
    /// Whether there are older ones that were not looked at.
    pub more: bool,
    /// How many are in each state.
    pub states: BTreeMap<String, u64>,
    /// How many went wrong in each way.
    pub categories: BTreeMap<Category, u64>,
    /// How many go to each integration.
    pub integrations: BTreeMap<ResourceId, u64>,
}

impl LogSummary {
    pub(crate) fn count(&mut self, entry: &LogEntry) {
        self.counted += 1;
        *self.states.entry(entry.delivery.state.as_str().to_owned()).or_default() += 1;
        *self.integrations.entry(entry.delivery.integration.clone()).or_default() += 1;
        if let Some(category) = entry.category {
            *self.categories.entry(category).or_default() += 1;
        }
    }
}
