//! Between rows and the nouns of the engine.

use std::str::FromStr;

use bytes::Bytes;
use icp_core::delivery::{
    Attempt, AttemptOutcome, AttemptTimings, Delivery, DeliveryState, EndReason, Lane, LaneId,
    LaneMode,
};
use icp_core::error::{Error, Result};
use icp_core::event::{Event, TraceContext};
use icp_core::id::{DeliveryId, EventId, OrgId, ResourceId, SessionId};
use icp_core::resource::Revision;
use icp_core::time::Timestamp;
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use super::error::{Failure, corrupt};
use super::statement::Query;

pub(crate) const DELIVERY: &str = "d.id, d.org, d.event, d.integration, d.lane, d.state, d.due_at, \
     d.epoch, d.tries, d.throttles, d.rescues, d.owner, d.lease_until, d.expires_at, d.replay_of, \
     d.reason_code, d.reason_message, d.created_at, d.updated_at";
pub(crate) const EVENT: &str = "e.id, e.org, e.unit, e.event_type, e.content_type, \
     e.idempotency_key, e.ordering_key, e.received_at, e.due_at, e.expires_at, e.traceparent, \
     e.tracestate, e.config_revision, e.fan_out, e.body";
pub(crate) const EVENT_COLUMNS: usize = 15;
pub(crate) const LANE: &str = "l.id, l.org, l.integration, l.order_key, l.fifo, l.weight, l.pass, \
     l.runnable, l.next_due, l.in_flight, l.max_in_flight, l.blocked_until, l.paused";

pub(crate) fn state_code(state: DeliveryState) -> i64 {
    DeliveryState::ALL.iter().position(|s| *s == state).map_or(-1, |at| at.cast_signed() as i64)
}

pub(crate) fn state(code: i64) -> Result<DeliveryState> {
    usize::try_from(code)
        .ok()
        .and_then(|at| DeliveryState::ALL.get(at).copied())
        .ok_or_else(|| corrupt("a delivery has an unknown state"))
}

pub(crate) fn bytes(row: &SqliteRow, at: usize) -> Result<[u8; 16], Failure> {
    let bytes: &[u8] = row.try_get(at)?;
    Ok(bytes.try_into().map_err(|_| corrupt("an id has not 16 bytes"))?)
}

pub(crate) fn maybe_bytes(row: &SqliteRow, at: usize) -> Result<Option<[u8; 16]>, Failure> {
    let bytes: Option<&[u8]> = row.try_get(at)?;
    Ok(bytes.map(TryInto::try_into).transpose().map_err(|_| corrupt("an id has not 16 bytes"))?)
}

pub(crate) fn time(row: &SqliteRow, at: usize) -> Result<Timestamp, Failure> {
    Ok(Timestamp::from_millis(row.try_get(at)?))
}

pub(crate) fn maybe_time(row: &SqliteRow, at: usize) -> Result<Option<Timestamp>, Failure> {
    Ok(row.try_get::<Option<i64>, _>(at)?.map(Timestamp::from_millis))
}

pub(crate) fn parse<T: FromStr<Err = Error>>(text: &str) -> Result<T> {
    text.parse().map_err(|error| corrupt("a stored name is malformed").caused_by(error))
}

pub(crate) fn org(row: &SqliteRow, at: usize) -> Result<OrgId, Failure> {
    Ok(OrgId::new(row.try_get::<&str, _>(at)?)
        .map_err(|error| corrupt("a stored name is malformed").caused_by(error))?)
}

pub(crate) fn resource_id(row: &SqliteRow, at: usize) -> Result<ResourceId, Failure> {
    Ok(ResourceId::new(row.try_get::<&str, _>(at)?)
        .map_err(|error| corrupt("a stored name is malformed").caused_by(error))?)
}

pub(crate) fn delivery(row: &SqliteRow) -> Result<Delivery, Failure> {
    let code: Option<String> = row.try_get(15)?;
    let message: Option<String> = row.try_get(16)?;
    Ok(Delivery {
        id: DeliveryId::from_bytes(bytes(row, 0)?),
        org: org(row, 1)?,
        event: EventId::from_bytes(bytes(row, 2)?),
        integration: resource_id(row, 3)?,
        lane: LaneId::from_bytes(bytes(row, 4)?),
        state: state(row.try_get(5)?)?,
        due_at: time(row, 6)?,
        epoch: row.try_get(7)?,
        tries: row.try_get(8)?,
        throttles: row.try_get(9)?,
        rescues: row.try_get(10)?,
        owner: maybe_bytes(row, 11)?.map(SessionId::from_bytes),
        lease_until: maybe_time(row, 12)?,
        expires_at: maybe_time(row, 13)?,
        replay_of: maybe_bytes(row, 14)?.map(DeliveryId::from_bytes),
        reason: code.map(|code| EndReason { code, message: message.unwrap_or_default() }),
        created_at: time(row, 17)?,
        updated_at: time(row, 18)?,
    })
}

pub(crate) fn event(row: &SqliteRow) -> Result<Event, Failure> {
    let unit: Option<&str> = row.try_get(2)?;
    let unit = unit.map(ResourceId::new).transpose();
    let parent: Option<&str> = row.try_get(10)?;
    let trace = parent
        .map(|parent| TraceContext::new(parent, row.try_get(11).ok().flatten()))
        .transpose()
        .map_err(|_| corrupt("a stored trace context is malformed"))?;
    Ok(Event::restore(
        EventId::from_bytes(bytes(row, 0)?),
        org(row, 1)?,
        unit.map_err(|error| corrupt("a stored name is malformed").caused_by(error))?,
        parse(row.try_get(3)?)?,
        row.try_get::<&str, _>(4)?.into(),
        Bytes::from(row.try_get::<Vec<u8>, _>(14)?),
        row.try_get::<Option<&str>, _>(5)?.map(Into::into),
        row.try_get::<Option<&str>, _>(6)?.map(Into::into),
        time(row, 7)?,
        maybe_time(row, 8)?,
        maybe_time(row, 9)?,
        trace,
        Revision(row.try_get::<i64, _>(12)?.cast_unsigned()),
    ))
}

/// Binds an event in the order of [`EVENT`].
pub(crate) fn bind_event<'q>(query: Query<'q>, event: &Event, fan_out: usize) -> Query<'q> {
    query
        .bind(event.id.to_bytes().to_vec())
        .bind(event.org.as_str().to_owned())
        .bind(event.unit.as_ref().map(|unit| unit.as_str().to_owned()))
        .bind(event.event_type.as_str().to_owned())
        .bind(event.content_type.to_string())
        .bind(event.idempotency_key.as_deref().map(str::to_owned))
        .bind(event.ordering_key.as_deref().map(str::to_owned))
        .bind(event.received_at.as_millis())
        .bind(event.due_at.map(Timestamp::as_millis))
        .bind(event.expires_at.map(Timestamp::as_millis))
        .bind(event.trace.as_ref().map(TraceContext::parent))
        .bind(event.trace.as_ref().and_then(TraceContext::state).map(str::to_owned))
        .bind(event.config_revision.0.cast_signed())
        .bind(i64::try_from(fan_out).unwrap_or(i64::MAX))
        .bind(event.body.to_vec())
}

/// Reads a lane whose columns, in the order of [`LANE`], start at `at`.
pub(crate) fn lane(row: &SqliteRow, at: usize) -> Result<Lane, Failure> {
    let fifo: bool = row.try_get(at + 4)?;
    Ok(Lane {
        id: LaneId::from_bytes(bytes(row, at)?),
        org: org(row, at + 1)?,
        integration: resource_id(row, at + 2)?,
        order_key: row.try_get::<Option<&str>, _>(at + 3)?.map(Into::into),
        mode: if fifo { LaneMode::Fifo } else { LaneMode::Parallel },
        weight: row.try_get(at + 5)?,
        pass: row.try_get(at + 6)?,
        runnable: row.try_get(at + 7)?,
        next_due: maybe_time(row, at + 8)?,
        in_flight: row.try_get(at + 9)?,
        max_in_flight: row.try_get(at + 10)?,
        blocked_until: maybe_time(row, at + 11)?,
        paused: row.try_get(at + 12)?,
    })
}

pub(crate) fn attempt(row: &SqliteRow) -> Result<Attempt, Failure> {
    let micros = |at| -> Result<Option<u64>, sqlx::Error> {
        Ok(row.try_get::<Option<i64>, _>(at)?.map(i64::cast_unsigned))
    };
    let exchange: Option<&str> = row.try_get(10)?;
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
    })
}

/// The `LIMIT` that tells whether more than `limit` rows follow.
pub(crate) fn more_than(limit: usize) -> i64 {
    i64::try_from(limit.saturating_add(1)).unwrap_or(i64::MAX)
}
