use std::fmt::Debug;
use std::fmt::Write as _;

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Delivery, EndReason, LaneId};
use crate::error::{Code, Error, Result, Violation};
use crate::event::EventType;
use crate::id::{DeliveryId, OrgId, ResourceId};
use crate::time::Timestamp;

/// Calls off many deliveries, a batch at a time.
#[async_trait]
pub trait CancelStore: Debug + Send + Sync + 'static {
    /// Looks at the next `batch.limit` ready deliveries of the organization, lane by lane, and
    /// calls off those that the filter takes, all in one transaction; without a reason it only
    /// counts them. Leased ones are not touched. A lane that keeps order goes on with the next.
    ///
    /// The answer says where to go on; a batch may answer with fewer than `limit` looked at, and
    /// with none called off, and still not be the last.
    async fn cancel_some(&self, batch: CancelBatch) -> Result<CancelledSome>;

    /// How many leased deliveries of the organization the filter takes.
    async fn leased(&self, org: &OrgId, filter: &DeliveryFilter) -> Result<u64>;
}

/// Which deliveries are meant: those to which everything that is given applies.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct DeliveryFilter {
    /// Those to this integration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub integration: Option<ResourceId>,
    /// Those of events of this type.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event_type: Option<EventType>,
    /// Those made at or after this moment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// Those made before this moment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// Those that keep their place in the order of this key; with `integration` only, and not
    /// with `lane`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub ordering_key: Option<String>,
    /// Those that wait in this lane.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lane: Option<LaneId>,
}

impl DeliveryFilter {
    /// Checks that the parts go together.
    ///
    /// # Errors
    ///
    /// [`Code::SelectionInvalid`] with every violation.
    pub fn check(&self) -> Result<()> {
        let mut violations = Vec::new();
        let mut refuse = |pointer: &str, message: &str| {
            violations.push(Violation::new(pointer, "not_applicable", message));
        };
        if self.ordering_key.is_some() && self.integration.is_none() {
            refuse("/ordering_key", "goes only with an integration");
        }
        if self.ordering_key.is_some() && self.lane.is_some() {
            refuse("/lane", "goes not with an ordering key, which names the lane already");
        }
        if let (Some(since), Some(until)) = (self.since, self.until)
            && since >= until
        {
            refuse("/until", "use a moment after `since`");
        }
        if violations.is_empty() {
            return Ok(());
        }
        Err(Error::violations(Code::SelectionInvalid, violations))
    }

    /// The only lane of `org` that the filter leaves, where it leaves but one.
    #[must_use]
    pub fn only_lane(&self, org: &OrgId) -> Option<LaneId> {
        let of_key = || {
            let (integration, key) = (self.integration.as_ref()?, self.ordering_key.as_deref()?);
            Some(LaneId::of(org, integration, Some(key)))
        };
        self.lane.or_else(of_key)
    }

    /// Whether the filter takes a delivery of an event of this type.
    #[must_use]
    pub fn takes(&self, delivery: &Delivery, event_type: &EventType) -> bool {
        self.integration.as_ref().is_none_or(|id| *id == delivery.integration)
            && self.event_type.as_ref().is_none_or(|wanted| wanted == event_type)
            && self.since.is_none_or(|since| delivery.created_at >= since)
            && self.until.is_none_or(|until| delivery.created_at < until)
            && self.only_lane(&delivery.org).is_none_or(|lane| lane == delivery.lane)
    }

    /// The filter in one line, for audit rows.
    #[must_use]
    pub fn describe(&self) -> String {
        let mut text = String::new();
        let mut part = |name: &str, value: Option<String>| {
            if let Some(value) = value {
                let comma = if text.is_empty() { "" } else { ", " };
                // Writing to a `String` does not fail.
                let _ = write!(text, "{comma}{name} {value}");
            }
        };
        part("integration", self.integration.as_ref().map(ToString::to_string));
        part("event type", self.event_type.as_ref().map(ToString::to_string));
        part("since", self.since.map(|at| at.to_string()));
        part("until", self.until.map(|at| at.to_string()));
        part("ordering key", self.ordering_key.as_ref().map(|key| format!("{key:?}")));
        part("lane", self.lane.map(|lane| lane.to_string()));
        if text.is_empty() { "all".into() } else { text }
    }
}

/// A part of the deliveries to call off.
#[derive(Clone, Debug)]
pub struct CancelBatch {
    /// The organization.
    pub org: OrgId,
    /// Which of its deliveries.
    pub filter: DeliveryFilter,
    /// Why; `None` where they are to be counted only.
    pub reason: Option<EndReason>,
    /// Up to where batches before have looked.
    pub after: Option<CancelPlace>,
    /// How many ready deliveries to look at.
    pub limit: usize,
    /// The engine's time.
    pub now: Timestamp,
}

/// A place in the walk over ready deliveries: by integration, lane, `due_at` and id.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct CancelPlace {
    /// The integration.
    pub integration: ResourceId,
    /// The lane.
    pub lane: LaneId,
    /// When the last delivery that was looked at is due.
    pub due_at: Timestamp,
    /// The last delivery that was looked at.
    pub delivery: DeliveryId,
}

impl CancelPlace {
    /// Behind every delivery of a lane.
    #[must_use]
    pub fn end_of(integration: ResourceId, lane: LaneId) -> Self {
        let delivery = DeliveryId::from_bytes([0xff; 16]);
        Self { integration, lane, due_at: Timestamp::MAX, delivery }
    }
}

/// What a batch did.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CancelledSome {
    /// How many were called off, or counted.
    pub matched: u64,
    /// Where the next batch goes on; `None` after the last.
    pub next: Option<CancelPlace>,
}

/// How many deliveries a filter takes.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct Cancellable {
    /// Those that would be called off.
    pub ready: u64,
    /// Those that are under way, and would not be touched.
    pub in_flight: u64,
}

/// What became of the deliveries that a filter takes.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct CancelledMany {
    /// Those that were called off.
    pub cancelled: u64,
    /// Those that were under way at the end, and were not touched: where they fail, they are
    /// tried again.
    pub in_flight: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hook() -> Option<ResourceId> {
        ResourceId::new("hook").ok()
    }

    #[test]
    fn parts_that_do_not_go_together_are_refused() {
        let key = Some("k".to_owned());
        let lane = Some(LaneId::from_bytes([1; 16]));
        let (early, late) = (Some(Timestamp::from_millis(1)), Some(Timestamp::from_millis(2)));
        let filter = DeliveryFilter::default;
        for (filter, pointer) in [
            (filter(), None),
            (DeliveryFilter { ordering_key: key.clone(), integration: hook(), ..filter() }, None),
            (DeliveryFilter { since: early, until: late, ..filter() }, None),
            (DeliveryFilter { ordering_key: key.clone(), ..filter() }, Some("/ordering_key")),
            (DeliveryFilter { since: late, until: late, ..filter() }, Some("/until")),
            (
                DeliveryFilter { ordering_key: key, integration: hook(), lane, ..filter() },
                Some("/lane"),
            ),
        ] {
            let found = filter.check().err().map(|error| error.list()[0].pointer.clone());
            assert_eq!(found.as_deref(), pointer, "{filter:?}");
        }
    }

    #[test]
    fn one_line_tells_the_filter() {
        assert_eq!(DeliveryFilter::default().describe(), "all");
        let filter = DeliveryFilter {
            integration: hook(),
            ordering_key: Some("a\"b".into()),
            ..DeliveryFilter::default()
        };
        assert_eq!(filter.describe(), r#"integration hook, ordering key "a\"b""#);
        let org = OrgId::new("acme").unwrap();
        let lane = LaneId::of(&org, &hook().unwrap(), Some("a\"b"));
        assert_eq!(filter.only_lane(&org), Some(lane));
    }
}
