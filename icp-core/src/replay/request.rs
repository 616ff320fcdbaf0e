use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::delivery::DeliveryState;
use crate::error::Violation;
use crate::event::EventType;
use crate::id::ResourceId;
use crate::integration::pattern::EventPattern;
use crate::time::Timestamp;

const MAX_INTEGRATIONS: usize = 100;
const MAX_REASON: usize = 500;
const MAX_RATE: u32 = 1_000;
const DEFAULT_RATE: u32 = 10;
/// The longest range.
const MAX_RANGE: Duration = Duration::from_secs(366 * 86_400);

/// Which events a replay sends again, to whom, and how fast.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct ReplayRequest {
    /// Events received at or after this moment.
    pub since: Timestamp,
    /// Events received before this moment. Default: all until the request is made. At most 366 days
    /// after `since`.
    #[serde(default)]
    pub until: Option<Timestamp>,
    /// Only events whose type this pattern takes. Default: every type.
    #[serde(default)]
    pub event_type: Option<EventPattern>,
    /// Only to these integrations, 1 to 100. Default: to all.
    #[serde(default)]
    pub integrations: Option<Vec<ResourceId>>,
    /// Only where the newest delivery of the event to the integration ended in one of these
    /// states. Default: however it ended.
    #[serde(default)]
    pub states: Option<Vec<DeliveryState>>,
    /// To whom. Default: `original`.
    #[serde(default)]
    pub mode: ReplayMode,
    /// How many deliveries become due in a second, 1 to 1,000. Default 10.
    #[serde(default = "default_rate")]
    pub rate: u32,
    /// Why, for people, up to 500 characters.
    #[serde(default)]
    pub reason: Option<String>,
}

/// To whom a replay sends an event.
#[derive(
    Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ReplayMode {
    /// To the integrations it has deliveries to, whether they match it now or not.
    #[default]
    Original,
    /// To the integrations that match it now, whether they did before or not.
    Current,
    /// To the integrations that match it now and have never taken it: endpoints that were added
    /// since, or were broken for a while.
    Missing,
}

fn default_rate() -> u32 {
    DEFAULT_RATE
}

impl ReplayRequest {
    /// A request for every event since `since`, with the defaults.
    #[must_use]
    pub fn since(since: Timestamp) -> Self {
        Self {
            since,
            until: None,
            event_type: None,
            integrations: None,
            states: None,
            mode: ReplayMode::default(),
            rate: DEFAULT_RATE,
            reason: None,
        }
    }

    /// Only events received before `until`.
    #[must_use]
    pub fn until(mut self, until: Timestamp) -> Self {
        self.until = Some(until);
        self
    }

    /// Only events whose type `pattern` takes.
    #[must_use]
    pub fn event_type(mut self, pattern: EventPattern) -> Self {
        self.event_type = Some(pattern);
        self
    }

    /// Only to these integrations.
    #[must_use]
    pub fn integrations(mut self, ids: impl IntoIterator<Item = ResourceId>) -> Self {
        self.integrations = Some(ids.into_iter().collect());
        self
    }

    /// Only where the newest delivery ended in one of these states.
    #[must_use]
    pub fn states(mut self, states: impl IntoIterator<Item = DeliveryState>) -> Self {
        self.states = Some(states.into_iter().collect());
        self
    }

    /// To whom.
    #[must_use]
    pub fn mode(mut self, mode: ReplayMode) -> Self {
        self.mode = mode;
        self
    }

    /// How many deliveries become due in a second.
    #[must_use]
    pub fn rate(mut self, rate: u32) -> Self {
        self.rate = rate;
        self
    }

    /// Why.
    #[must_use]
    pub fn reason(mut self, reason: impl Into<String>) -> Self {
        self.reason = Some(reason.into());
        self
    }

    /// The end of the range, where the request is made at `now`; what was received just now is in it.
    #[must_use]
    pub(crate) fn end(&self, now: Timestamp) -> Timestamp {
        self.until.unwrap_or(now + Duration::from_millis(1))
    }

    pub(crate) fn takes_type(&self, event_type: &EventType) -> bool {
        self.event_type.as_ref().is_none_or(|pattern| pattern.matches(event_type))
    }

    pub(crate) fn takes_integration(&self, id: &ResourceId) -> bool {
        self.integrations.as_ref().is_none_or(|ids| ids.contains(id))
    }

    pub(crate) fn takes_state(&self, state: DeliveryState) -> bool {
        self.states.as_ref().is_none_or(|states| states.contains(&state))
    }

    /// Every rule the request breaks at `now`; `exists` tells the integrations there are.
    pub(crate) fn violations(
        &self,
        now: Timestamp,
        exists: impl Fn(&ResourceId) -> bool,
    ) -> Vec<Violation> {
        let mut faults = Vec::new();
        let mut add = |pointer: &str, code: &str, message: String| {
            faults.push(Violation::new(pointer, code, message));
        };
        let until = self.end(now);
        if self.until.is_some_and(|until| until > now) {
            add("/until", "future", "lies in the future; leave it out for all until now".into());
        } else if self.since >= until {
            let (pointer, end) = match self.until {
                Some(_) => ("/until", "`since`"),
                None => ("/since", "this moment"),
            };
            add(
                pointer,
                "range_empty",
                format!("the range is empty; `since` must be before {end}"),
            );
        } else if until.since(self.since) > MAX_RANGE {
            add("/since", "range_too_long", "use a range of at most 366 days".into());
        }
        if !(1..=MAX_RATE).contains(&self.rate) {
            add("/rate", "out_of_range", format!("use 1 to {MAX_RATE} deliveries in a second"));
        }
        if self.reason.as_ref().is_some_and(|reason| reason.chars().count() > MAX_REASON) {
            add("/reason", "too_long", format!("use at most {MAX_REASON} characters"));
        }
        let integrations = self.integrations.as_deref();
        if integrations.is_some_and(|ids| ids.is_empty() || ids.len() > MAX_INTEGRATIONS) {
            let message = format!("name 1 to {MAX_INTEGRATIONS}, or leave it out for all");
            add("/integrations", "out_of_range", message);
        }
        for (place, id) in integrations.unwrap_or_default().iter().enumerate() {
            if !exists(id) {
                let message = format!("there is no integration `{id}`");
                add(&format!("/integrations/{place}"), "integration_unknown", message);
            }
        }
        self.state_faults(&mut add);
        faults
    }

    fn state_faults(&self, add: &mut impl FnMut(&str, &str, String)) {
        let Some(states) = &self.states else { return };
        if self.mode == ReplayMode::Missing {
            let message = "the mode `missing` judges by what was delivered; leave `states` out";
            add("/states", "not_for_mode", message.into());
        }
        if states.is_empty() {
            add("/states", "empty", "name a state, or leave it out for all that ended".into());
        }
        for (place, state) in states.iter().enumerate().filter(|(_, state)| !state.is_final()) {
            let message = format!("`{state}` is not an end; only ended deliveries are replayed");
            add(&format!("/states/{place}"), "not_ended", message);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: i64) -> Timestamp {
        Timestamp::from_millis(1_795_232_700_000 + secs * 1_000)
    }

    fn fine() -> ReplayRequest {
        ReplayRequest::since(at(0)).until(at(50))
    }

    #[test]
    fn every_fault_has_its_pointer() {
        let id = |id: &str| ResourceId::new(id).unwrap();
        let year = Duration::from_secs(367 * 86_400);
        for (request, expected) in [
            (fine(), ""),
            (ReplayRequest::since(at(0)), ""),
            (fine().integrations([id("crm")]).states([DeliveryState::Dead]).rate(1_000), ""),
            (fine().until(at(101)), "/until future"),
            (fine().until(at(0)), "/until range_empty"),
            (ReplayRequest::since(at(100)), ""),
            (ReplayRequest::since(at(101)), "/since range_empty"),
            (ReplayRequest::since(at(100) - year), "/since range_too_long"),
            (fine().rate(0), "/rate out_of_range"),
            (fine().rate(1_001), "/rate out_of_range"),
            (fine().reason("x".repeat(501)), "/reason too_long"),
            (fine().integrations([]), "/integrations out_of_range"),
            (fine().integrations([id("crm"), id("x")]), "/integrations/1 integration_unknown"),
            (fine().states([]), "/states empty"),
            (fine().states([DeliveryState::Leased]), "/states/0 not_ended"),
            (
                fine().states([DeliveryState::Dead]).mode(ReplayMode::Missing),
                "/states not_for_mode",
            ),
        ] {
            let found = request.violations(at(100), |id| id.as_str() == "crm");
            let found: Vec<_> = found.iter().map(|v| format!("{} {}", v.pointer, v.code)).collect();
            assert_eq!(found.join(", "), expected, "{request:?}");
        }
    }

    #[test]
    fn a_request_is_read_with_its_defaults() {
        let read: ReplayRequest =
            serde_json::from_str(r#"{"since":"2026-11-21T03:45:00Z"}"#).unwrap();
        assert_eq!(read, ReplayRequest::since(at(0)));
        assert_eq!((read.rate, read.mode), (10, ReplayMode::Original));
        assert!(serde_json::from_str::<ReplayRequest>("{}").is_err());
    }
}
