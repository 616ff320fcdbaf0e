//! Between rows and the nouns of the engine.

use std::borrow::Cow;
use std::str::FromStr;
use std::sync::Arc;

use bytes::Bytes;
use icp_core::delivery::health::{LaneHealth, LaneRules, Pace};
use icp_core::delivery::{
    Attempt, AttemptOutcome, AttemptTimings, Delivery, DeliveryState, EndReason, Lane, LaneId,
    LaneMode,
};
use icp_core::error::{Error, Result};
use icp_core::event::{Event, TraceContext};
use icp_core::id::{DeliveryId, EventId, OrgId, ResourceId, SessionId};
use icp_core::resource::Revision;
use icp_core::time::Timestamp;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use crate::error::{Failure, corrupt};
use crate::link::Row;
use crate::statement::{Script, text};

/// What `fifo` is of a delivery that lost its place in order; it is 1 of one that keeps it.
pub(crate) const OUT_OF_ORDER: u8 = 2;

/// A delivery as one JSON text: a column costs a row an allocation and a row costs a hop between
/// threads, so hot reads bring many as one.
pub(crate) const DELIVERY: &str = "json_array(hex(d.id), d.org, hex(d.event), d.integration, \
     hex(d.lane), d.state, d.due_at, d.epoch, d.tries, d.throttles, d.rescues, hex(d.owner), \
     d.lease_until, d.expires_at, hex(d.replay_of), d.fifo, d.reason_code, d.reason_message, \
     d.created_at, d.updated_at, d.round)";
/// An event without its body as one JSON text.
pub(crate) const EVENT: &str = "json_array(hex(e.id), e.org, e.unit, e.event_type, \
     e.content_type, CAST(e.idempotency_key AS TEXT), e.ordering_key, e.received_at, e.due_at, \
     e.expires_at, e.traceparent, e.tracestate, e.config_revision, length(e.body), \
     CAST(e.subject AS TEXT), e.erased_at)";
/// A lane as one JSON text.
pub(crate) const LANE: &str = "json_array(hex(l.id), l.org, l.integration, l.order_key, l.fifo, \
     l.weight, l.pass, l.runnable, l.next_due, l.in_flight, l.max_in_flight, l.blocked_until, \
     l.paused, json(l.rules), json(l.health), l.pace_minute, l.pace_ended, l.pace_before)";
/// What every event has; a plain one, as [`is_plain`] says, has nothing else.
pub(crate) const PLAIN_EVENT: (&str, usize) =
    ("id, org, event_type, content_type, received_at, config_revision, fan_out, body", 8);
pub(crate) const WHOLE_EVENT: (&str, usize) = (
    "id, org, event_type, content_type, received_at, config_revision, fan_out, body, unit, \
     idempotency_key, ordering_key, due_at, expires_at, traceparent, tracestate, subject",
    16,
);

/// Reads what `json_group_array` made of many rows; of none, some databases make a null.
pub(crate) fn array<'r, T: Deserialize<'r>>(row: &'r Row, at: usize) -> Result<Vec<T>, Failure> {
    let rows = row.try_get::<Option<&str>>(at)?;
    Ok(serde_json::from_str(rows.unwrap_or("[]"))?)
}

pub(crate) fn state_code(state: DeliveryState) -> i64 {
    DeliveryState::ALL.iter().position(|s| *s == state).map_or(-1, |at| at.cast_signed() as i64)
}

pub(crate) fn state(code: i64) -> Result<DeliveryState> {
    usize::try_from(code)
        .ok()
        .and_then(|at| DeliveryState::ALL.get(at).copied())
        .ok_or_else(|| corrupt("a delivery has an unknown state"))
}

pub(crate) fn bytes(row: &Row, at: usize) -> Result<[u8; 16], Failure> {
    let bytes: &[u8] = row.try_get(at)?;
    Ok(bytes.try_into().map_err(|_| corrupt("an id has not 16 bytes"))?)
}

/// An id as `hex` gives it.
pub(crate) fn hex(row: &Row, at: usize) -> Result<[u8; 16], Failure> {
    let digits = u128::from_str_radix(row.try_get(at)?, 16);
    let digits = digits.map_err(|_| corrupt("an id has not 16 bytes"))?;
    Ok(digits.to_be_bytes())
}

/// The name of the delivery whose id stands at `at`, whatever it is.
pub(crate) fn delivery_name(row: &Row, at: usize) -> Result<String, Failure> {
    let bytes: &[u8] = row.try_get(at)?;
    Ok(match bytes.try_into() {
        Ok(id) => DeliveryId::from_bytes(id).to_string(),
        Err(_) => bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
    })
}

pub(crate) fn time(row: &Row, at: usize) -> Result<Timestamp, Failure> {
    Ok(Timestamp::from_millis(row.try_get(at)?))
}

pub(crate) fn maybe_time(row: &Row, at: usize) -> Result<Option<Timestamp>, Failure> {
    Ok(row.try_get::<Option<i64>>(at)?.map(Timestamp::from_millis))
}

pub(crate) fn parse<T: FromStr<Err = Error>>(text: &str) -> Result<T> {
    text.parse().map_err(|error| corrupt("a stored name is malformed").caused_by(error))
}

pub(crate) fn org(row: &Row, at: usize) -> Result<OrgId, Failure> {
    Ok(OrgId::new(row.try_get::<&str>(at)?)
        .map_err(|error| corrupt("a stored name is malformed").caused_by(error))?)
}

pub(crate) fn resource_id(row: &Row, at: usize) -> Result<ResourceId, Failure> {
    Ok(ResourceId::new(row.try_get::<&str>(at)?)
        .map_err(|error| corrupt("a stored name is malformed").caused_by(error))?)
}

/// An id as `hex` gives it; nothing where it was null.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hex(Option<[u8; 16]>);

impl Hex {
    pub(crate) fn some(self) -> Result<[u8; 16]> {
        self.0.ok_or_else(|| corrupt("an id is missing"))
    }
}

impl<'de> Deserialize<'de> for Hex {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <Option<&str>>::deserialize(deserializer)?.unwrap_or_default();
        if text.is_empty() {
            return Ok(Self(None));
        }
        let digits = (text.len() == 32).then(|| u128::from_str_radix(text, 16).ok()).flatten();
        let digits = digits.ok_or_else(|| D::Error::custom("an id has not 16 bytes"))?;
        Ok(Self(Some(digits.to_be_bytes())))
    }
}

#[derive(Deserialize)]
pub(crate) struct DeliveryRow<'a> {
    id: Hex,
    #[serde(borrow)]
    org: Cow<'a, str>,
    event: Hex,
    #[serde(borrow)]
    integration: Cow<'a, str>,
    lane: Hex,
    state: i64,
    due_at: i64,
    epoch: u32,
    tries: u32,
    throttles: u32,
    rescues: u32,
    owner: Hex,
    lease_until: Option<i64>,
    expires_at: Option<i64>,
    replay_of: Hex,
    fifo: u8,
    reason_code: Option<String>,
    reason_message: Option<String>,
    created_at: i64,
    updated_at: i64,
    round: u32,
}

impl DeliveryRow<'_> {
    pub(crate) fn read(self) -> Result<Delivery> {
        let message = self.reason_message.unwrap_or_default();
        Ok(Delivery {
            id: DeliveryId::from_bytes(self.id.some()?),
            org: named(OrgId::new(&*self.org))?,
            event: EventId::from_bytes(self.event.some()?),
            integration: named(ResourceId::new(&*self.integration))?,
            lane: LaneId::from_bytes(self.lane.some()?),
            state: state(self.state)?,
            due_at: Timestamp::from_millis(self.due_at),
            epoch: self.epoch,
            tries: self.tries,
            throttles: self.throttles,
            rescues: self.rescues,
            owner: self.owner.0.map(SessionId::from_bytes),
            lease_until: self.lease_until.map(Timestamp::from_millis),
            expires_at: self.expires_at.map(Timestamp::from_millis),
            replay_of: self.replay_of.0.map(DeliveryId::from_bytes),
            out_of_order: self.fifo == OUT_OF_ORDER,
            round: self.round,
            reason: self.reason_code.map(|code| EndReason { code, message }),
            created_at: Timestamp::from_millis(self.created_at),
            updated_at: Timestamp::from_millis(self.updated_at),
        })
    }
}

fn named<T>(name: Result<T>) -> Result<T> {
    name.map_err(|error| corrupt("a stored name is malformed").caused_by(error))
}

/// Reads the delivery that is the row's only column.
pub(crate) fn delivery(row: &Row) -> Result<Delivery, Failure> {
    Ok(serde_json::from_str::<DeliveryRow<'_>>(row.try_get(0)?)?.read()?)
}

#[derive(Deserialize)]
pub(crate) struct EventRow<'a> {
    id: Hex,
    #[serde(borrow)]
    org: Cow<'a, str>,
    #[serde(borrow)]
    unit: Option<Cow<'a, str>>,
    #[serde(borrow)]
    event_type: Cow<'a, str>,
    #[serde(borrow)]
    content_type: Cow<'a, str>,
    #[serde(borrow)]
    idempotency_key: Option<Cow<'a, str>>,
    #[serde(borrow)]
    ordering_key: Option<Cow<'a, str>>,
    received_at: i64,
    due_at: Option<i64>,
    expires_at: Option<i64>,
    #[serde(borrow)]
    traceparent: Option<Cow<'a, str>>,
    tracestate: Option<String>,
    config_revision: i64,
    body: usize,
    #[serde(borrow)]
    subject: Option<Cow<'a, str>>,
    erased_at: Option<i64>,
}

impl EventRow<'_> {
    /// Reads the event, whose body is the next part of `bodies`.
    pub(crate) fn read(self, bodies: &mut &[u8]) -> Result<Event> {
        let (body, rest) = bodies
            .split_at_checked(self.body)
            .ok_or_else(|| corrupt("an event has lost its body"))?;
        *bodies = rest;
        let state = self.tracestate;
        let trace = self.traceparent.map(|parent| TraceContext::new(&parent, state.as_deref()));
        let trace = trace.transpose().map_err(|_| corrupt("a stored trace is malformed"))?;
        let mut event = Event::restore(
            EventId::from_bytes(self.id.some()?),
            named(OrgId::new(&*self.org))?,
            self.unit.map(|unit| named(ResourceId::new(&*unit))).transpose()?,
            parse(&self.event_type)?,
            (&*self.content_type).into(),
            Bytes::copy_from_slice(body),
            self.idempotency_key.map(|key| (&*key).into()),
            self.ordering_key.map(|key| (&*key).into()),
            Timestamp::from_millis(self.received_at),
            self.due_at.map(Timestamp::from_millis),
            self.expires_at.map(Timestamp::from_millis),
            trace,
            Revision(self.config_revision.cast_unsigned()),
        );
        event.subject = self.subject.map(|subject| (&*subject).into());
        event.erased_at = self.erased_at.map(Timestamp::from_millis);
        Ok(event)
    }
}

/// Reads an event and, from the second column, its body.
pub(crate) fn event(row: &Row) -> Result<Event, Failure> {
    let mut body: &[u8] = row.try_get(1)?;
    Ok(serde_json::from_str::<EventRow<'_>>(row.try_get(0)?)?.read(&mut body)?)
}

/// Whether [`PLAIN_EVENT`] holds all of the event.
pub(crate) fn is_plain(event: &Event) -> bool {
    event.unit.is_none()
        && event.idempotency_key.is_none()
        && event.ordering_key.is_none()
        && event.due_at.is_none()
        && event.expires_at.is_none()
        && event.trace.is_none()
        && event.subject.is_none()
}

/// Binds an event in the order of [`PLAIN_EVENT`].
pub(crate) fn bind_plain_event(script: &mut Script, event: &Event, fan_out: usize) {
    script
        .bind(event.id.to_bytes().to_vec())
        .bind(event.org.shared())
        .bind(text(event.event_type.as_str()))
        .bind(Arc::clone(&event.content_type))
        .bind(event.received_at.as_millis())
        .bind(event.config_revision.0.cast_signed())
        .bind(i64::try_from(fan_out).unwrap_or(i64::MAX))
        .bind(event.body.to_vec());
}

/// Binds an event in the order of [`WHOLE_EVENT`].
pub(crate) fn bind_event(script: &mut Script, event: &Event, fan_out: usize) {
    bind_plain_event(script, event, fan_out);
    script
        .bind(event.unit.as_ref().map(ResourceId::shared))
        .bind(event.idempotency_key.clone())
        .bind(event.ordering_key.clone())
        .bind(event.due_at.map(Timestamp::as_millis))
        .bind(event.expires_at.map(Timestamp::as_millis))
        .bind(event.trace.as_ref().map(TraceContext::parent))
        .bind(event.trace.as_ref().and_then(TraceContext::state).map(str::to_owned))
        .bind(event.subject.clone());
}

#[derive(Deserialize)]
pub(crate) struct LaneRow<'a> {
    id: Hex,
    #[serde(borrow)]
    org: Cow<'a, str>,
    #[serde(borrow)]
    integration: Cow<'a, str>,
    #[serde(borrow)]
    order_key: Option<Cow<'a, str>>,
    fifo: u8,
    weight: u32,
    pass: i64,
    runnable: u8,
    next_due: Option<i64>,
    in_flight: u32,
    max_in_flight: u32,
    blocked_until: Option<i64>,
    paused: u8,
    rules: Option<LaneRules>,
    health: Option<LaneHealth>,
    minute: i64,
    ended: u64,
    before: u64,
}

impl LaneRow<'_> {
    pub(crate) fn read(self) -> Result<Lane> {
        Ok(Lane {
            id: LaneId::from_bytes(self.id.some()?),
            org: named(OrgId::new(&*self.org))?,
            integration: named(ResourceId::new(&*self.integration))?,
            order_key: self.order_key.map(|key| (&*key).into()),
            mode: if self.fifo == 1 { LaneMode::Fifo } else { LaneMode::Parallel },
            weight: self.weight,
            pass: self.pass,
            runnable: self.runnable == 1,
            next_due: self.next_due.map(Timestamp::from_millis),
            in_flight: self.in_flight,
            max_in_flight: self.max_in_flight,
            blocked_until: self.blocked_until.map(Timestamp::from_millis),
            paused: self.paused != 0,
            rules: self.rules.unwrap_or_default(),
            health: self.health.unwrap_or_default(),
            pace: Pace { minute: self.minute, ended: self.ended, before: self.before },
        })
    }
}

/// Reads the lane that is the row's only column.
pub(crate) fn lane(row: &Row) -> Result<Lane, Failure> {
    Ok(serde_json::from_str::<LaneRow<'_>>(row.try_get(0)?)?.read()?)
}

/// The rules as they are kept; null where they are the default.
pub(crate) fn rules_text(rules: &LaneRules) -> Result<Option<String>> {
    let kept = (*rules != LaneRules::default()).then(|| serde_json::to_string(rules));
    kept.transpose().map_err(|error| corrupt("rules have no text form").caused_by(error))
}

/// The health as it is kept; null where it is good.
pub(crate) fn health_text(health: &LaneHealth) -> Result<Option<String>> {
    let kept = (!health.is_well()).then(|| serde_json::to_string(health));
    kept.transpose().map_err(|error| corrupt("a health has no text form").caused_by(error))
}

pub(crate) fn attempt(row: &Row) -> Result<Attempt, Failure> {
    let micros = |at| -> Result<Option<u64>, Failure> {
        Ok(row.try_get::<Option<i64>>(at)?.map(i64::cast_unsigned))
    };
    let exchange: Option<&str> = row.try_get(10)?;
    let transcript: Option<&str> = row.try_get(12)?;
    let outcome: AttemptOutcome = serde_json::from_str(row.try_get(4)?)?;
    Ok(Attempt {
        delivery: DeliveryId::from_bytes(bytes(row, 0)?),
        epoch: row.try_get(1)?,
        number: row.try_get(2)?,
        started_at: time(row, 3)?,
        outcome,
        status: row.try_get(5)?,
        timings: AttemptTimings {
            dns: micros(6)?,
            connect: micros(7)?,
            first_byte: micros(8)?,
            total: micros(9)?.unwrap_or_default(),
        },
        exchange: exchange.map(serde_json::from_str).transpose()?,
        message: row.try_get(11)?,
        transcript: transcript.map(serde_json::from_str).transpose()?,
    })
}

/// The `LIMIT` that tells whether more than `limit` rows follow.
pub(crate) fn more_than(limit: usize) -> i64 {
    i64::try_from(limit.saturating_add(1)).unwrap_or(i64::MAX)
}
