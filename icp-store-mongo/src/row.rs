//! Between documents and the nouns of the engine.

use std::str::FromStr;
use std::sync::Arc;

use bytes::Bytes;
use icp_core::delivery::health::Pace;
use icp_core::delivery::{
    Attempt, AttemptTimings, Delivery, DeliveryState, EndReason, Lane, LaneId, LaneMode,
};
use icp_core::error::{Error, Result};
use icp_core::event::{Event, TraceContext};
use icp_core::id::{DeliveryId, EventId, OrgId, ResourceId, SessionId};
use icp_core::resource::Revision;
use icp_core::time::Timestamp;
use mongodb::bson::oid::ObjectId;
use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{Binary, Bson, Document, deserialize_from_bson, doc, serialize_to_bson};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::error::{Failure, corrupt};

/// A moment before which no letter is due: that of letters nobody has judged.
pub(crate) const UNJUDGED: i64 = -1;

/// An id as it is kept; documents sort as ids do.
pub(crate) fn bin(bytes: [u8; 16]) -> Bson {
    blob(bytes.to_vec())
}

pub(crate) fn blob(bytes: Vec<u8>) -> Bson {
    Bson::Binary(Binary { subtype: BinarySubtype::Generic, bytes })
}

pub(crate) fn bins<T>(
    ids: impl IntoIterator<Item = T>,
    bytes: impl Fn(T) -> [u8; 16],
) -> Vec<Bson> {
    ids.into_iter().map(|id| bin(bytes(id))).collect()
}

pub(crate) fn ms(at: Timestamp) -> i64 {
    at.as_millis()
}

pub(crate) fn kept<T: Serialize + ?Sized>(value: &T) -> Result<Bson, Failure> {
    Ok(serialize_to_bson(value)?)
}

/// Puts a field only where there is a value, as indexes tell by that.
pub(crate) fn put(doc: &mut Document, key: &str, value: Option<impl Into<Bson>>) {
    if let Some(value) = value {
        doc.insert(key, value);
    }
}

/// Reads typed fields of a document; what is missing or of another type is corrupt.
pub(crate) trait Fields {
    fn int(&self, key: &str) -> Result<i64>;
    fn maybe_int(&self, key: &str) -> Option<i64>;
    fn small(&self, key: &str) -> Result<u32>;
    fn text(&self, key: &str) -> Result<&str>;
    fn maybe_text(&self, key: &str) -> Option<&str>;
    fn shared(&self, key: &str) -> Option<Arc<str>>;
    fn id(&self, key: &str) -> Result<[u8; 16]>;
    fn maybe_id(&self, key: &str) -> Option<[u8; 16]>;
    fn time(&self, key: &str) -> Result<Timestamp>;
    fn maybe_time(&self, key: &str) -> Option<Timestamp>;
    fn named<T: FromStr<Err = Error>>(&self, key: &str) -> Result<T>;
    fn flag(&self, key: &str) -> bool;
    fn list(&self, key: &str) -> &[Bson];
    fn documents(&self, key: &str) -> Vec<&Document>;
    fn bytes(&self, key: &str) -> Result<&[u8]>;
    fn read<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, Failure>;
}

impl Fields for Document {
    fn int(&self, key: &str) -> Result<i64> {
        self.maybe_int(key).ok_or_else(|| missing(key))
    }

    fn maybe_int(&self, key: &str) -> Option<i64> {
        match self.get(key)? {
            Bson::Int64(value) => Some(*value),
            Bson::Int32(value) => Some((*value).into()),
            // Arithmetic of the server may make one of a whole number.
            #[expect(clippy::cast_possible_truncation, reason = "whole and below 2^53")]
            Bson::Double(value) if value.fract() == 0.0 && value.abs() < 9e15 => {
                Some(*value as i64)
            }
            _ => None,
        }
    }

    fn small(&self, key: &str) -> Result<u32> {
        u32::try_from(self.int(key)?).map_err(|_| missing(key))
    }

    fn text(&self, key: &str) -> Result<&str> {
        self.maybe_text(key).ok_or_else(|| missing(key))
    }

    fn maybe_text(&self, key: &str) -> Option<&str> {
        self.get(key)?.as_str()
    }

    fn shared(&self, key: &str) -> Option<Arc<str>> {
        self.maybe_text(key).map(Into::into)
    }

    fn id(&self, key: &str) -> Result<[u8; 16]> {
        self.maybe_id(key).ok_or_else(|| missing(key))
    }

    fn maybe_id(&self, key: &str) -> Option<[u8; 16]> {
        sixteen(self.get(key)?)
    }

    fn time(&self, key: &str) -> Result<Timestamp> {
        Ok(Timestamp::from_millis(self.int(key)?))
    }

    fn maybe_time(&self, key: &str) -> Option<Timestamp> {
        self.maybe_int(key).map(Timestamp::from_millis)
    }

    fn named<T: FromStr<Err = Error>>(&self, key: &str) -> Result<T> {
        let parsed = self.text(key)?.parse();
        parsed.map_err(|error| corrupt("a stored name is malformed").caused_by(error))
    }

    fn flag(&self, key: &str) -> bool {
        self.get_bool(key).unwrap_or_default()
    }

    fn list(&self, key: &str) -> &[Bson] {
        self.get_array(key).map(Vec::as_slice).unwrap_or_default()
    }

    fn documents(&self, key: &str) -> Vec<&Document> {
        self.list(key).iter().filter_map(Bson::as_document).collect()
    }

    fn bytes(&self, key: &str) -> Result<&[u8]> {
        match self.get(key) {
            Some(Bson::Binary(binary)) => Ok(&binary.bytes),
            _ => Err(missing(key)),
        }
    }

    fn read<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, Failure> {
        Ok(self.get(key).cloned().map(deserialize_from_bson).transpose()?)
    }
}

fn sixteen(value: &Bson) -> Option<[u8; 16]> {
    match value {
        Bson::Binary(binary) => binary.bytes.as_slice().try_into().ok(),
        _ => None,
    }
}

fn missing(key: &str) -> Error {
    corrupt(&format!("a document lacks its `{key}`, or has another there"))
}

pub(crate) fn reason(reason: &EndReason) -> Bson {
    doc! { "code": &reason.code, "message": &reason.message }.into()
}

pub(crate) fn read_reason(found: &Document) -> Result<EndReason> {
    Ok(EndReason::new(found.text("code")?, found.text("message")?))
}

/// What reads of deliveries leave on the server.
pub(crate) fn without_attempts() -> Document {
    doc! { "attempts": 0, "notes": 0, "notices": 0, "owed": 0 }
}

pub(crate) fn delivery(found: &Document) -> Result<Delivery> {
    let reason = found.get_document("reason").ok().map(read_reason).transpose()?;
    Ok(Delivery {
        id: DeliveryId::from_bytes(found.id("_id")?),
        org: found.named::<OrgId>("org")?,
        event: EventId::from_bytes(found.id("event")?),
        integration: found.named::<ResourceId>("integration")?,
        lane: LaneId::from_bytes(found.id("lane")?),
        state: found.named::<DeliveryState>("state")?,
        due_at: found.time("due_at")?,
        epoch: found.small("epoch")?,
        tries: found.small("tries")?,
        throttles: found.small("throttles")?,
        rescues: found.small("rescues")?,
        owner: found.maybe_id("owner").map(SessionId::from_bytes),
        lease_until: found.maybe_time("lease_until"),
        expires_at: found.maybe_time("expires_at"),
        replay_of: found.maybe_id("replay_of").map(DeliveryId::from_bytes),
        out_of_order: found.flag("out_of_order"),
        round: found.small("round")?,
        reason,
        created_at: found.time("created_at")?,
        updated_at: found.time("updated_at")?,
    })
}

/// A delivery that is open, as it is kept; `fifo` says that it keeps its place in order.
pub(crate) fn delivery_document(row: &Delivery, fifo: bool) -> Document {
    let lane = bin(row.lane.to_bytes());
    let mut kept = doc! {
        "_id": bin(row.id.to_bytes()),
        "org": row.org.as_str(),
        "event": bin(row.event.to_bytes()),
        "integration": row.integration.as_str(),
        "lane": lane.clone(),
        "state": row.state.as_str(),
        "due_at": ms(row.due_at),
        "epoch": i64::from(row.epoch),
        "tries": i64::from(row.tries),
        "throttles": i64::from(row.throttles),
        "rescues": i64::from(row.rescues),
        "round": i64::from(row.round),
        "created_at": ms(row.created_at),
        "updated_at": ms(row.updated_at),
    };
    if fifo {
        kept.insert("fifo", true);
        kept.insert("line", lane);
    }
    if row.out_of_order {
        kept.insert("out_of_order", true);
    }
    put(&mut kept, "owner", row.owner.map(|id| bin(id.to_bytes())));
    put(&mut kept, "lease_until", row.lease_until.map(ms));
    put(&mut kept, "expires_at", row.expires_at.map(ms));
    put(&mut kept, "replay_of", row.replay_of.map(|id| bin(id.to_bytes())));
    kept
}

pub(crate) fn event(found: &Document) -> Result<Event> {
    let state = found.maybe_text("tracestate");
    let trace = found.maybe_text("traceparent").map(|parent| TraceContext::new(parent, state));
    let trace = trace.transpose().map_err(|_| corrupt("a stored trace is malformed"))?;
    let mut event = Event::restore(
        EventId::from_bytes(found.id("_id")?),
        found.named("org")?,
        found.contains_key("unit").then(|| found.named("unit")).transpose()?,
        found.named("type")?,
        found.text("content_type")?.into(),
        Bytes::copy_from_slice(found.bytes("body")?),
        found.shared("idempotency_key"),
        found.shared("ordering_key"),
        found.time("received_at")?,
        found.maybe_time("due_at"),
        found.maybe_time("expires_at"),
        trace,
        Revision(found.int("config_revision")?.cast_unsigned()),
    );
    event.erased_at = found.maybe_time("erased_at");
    // An erasure that broke off is found again by it, but nobody is shown it.
    event.subject = found.shared("subject").filter(|_| event.erased_at.is_none());
    Ok(event)
}

/// What reads of events leave on the server.
pub(crate) fn plain_event() -> Document {
    doc! { "pending": 0, "further": 0, "pruning": 0 }
}

pub(crate) fn event_document(event: &Event) -> Document {
    let mut kept = doc! {
        "_id": bin(event.id.to_bytes()),
        "org": event.org.as_str(),
        "type": event.event_type.as_str(),
        "content_type": &*event.content_type,
        "received_at": ms(event.received_at),
        "config_revision": event.config_revision.0.cast_signed(),
        "body": blob(event.body.to_vec()),
    };
    put(&mut kept, "unit", event.unit.as_ref().map(|unit| unit.as_str().to_owned()));
    put(&mut kept, "idempotency_key", event.idempotency_key.as_deref());
    put(&mut kept, "ordering_key", event.ordering_key.as_deref());
    put(&mut kept, "due_at", event.due_at.map(ms));
    put(&mut kept, "expires_at", event.expires_at.map(ms));
    put(&mut kept, "traceparent", event.trace.as_ref().map(TraceContext::parent));
    put(&mut kept, "tracestate", event.trace.as_ref().and_then(TraceContext::state));
    put(&mut kept, "subject", event.subject.as_deref());
    put(&mut kept, "erased_at", event.erased_at.map(ms));
    kept
}

pub(crate) fn lane(found: &Document) -> Result<Lane, Failure> {
    let fifo = found.flag("fifo");
    Ok(Lane {
        id: LaneId::from_bytes(found.id("_id")?),
        org: found.named("org")?,
        integration: found.named("integration")?,
        order_key: found.shared("order_key"),
        mode: if fifo { LaneMode::Fifo } else { LaneMode::Parallel },
        weight: found.small("weight")?,
        pass: found.int("pass")?,
        runnable: found.flag("runnable"),
        next_due: found.maybe_time("next_due"),
        in_flight: found.small("in_flight")?,
        max_in_flight: found.small("max_in_flight")?,
        blocked_until: found.maybe_time("blocked_until"),
        paused: found.int("rests")? != 0,
        rules: found.read("rules")?.unwrap_or_default(),
        health: found.read("health")?.unwrap_or_default(),
        pace: Pace {
            minute: found.int("pace_minute")?,
            ended: found.int("pace_ended")?.cast_unsigned(),
            before: found.int("pace_before")?.cast_unsigned(),
        },
    })
}

/// An attempt as it is kept within its delivery, with the call that wrote it.
pub(crate) fn attempt_document(attempt: &Attempt, by: ObjectId) -> Result<Document, Failure> {
    let micros = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    let mut made = doc! {
        "epoch": i64::from(attempt.epoch),
        "number": i64::from(attempt.number),
        "started_at": ms(attempt.started_at),
        "outcome": kept(&attempt.outcome)?,
        "total": micros(attempt.timings.total),
        "by": by,
    };
    put(&mut made, "status", attempt.status.map(i32::from));
    put(&mut made, "dns", attempt.timings.dns.map(micros));
    put(&mut made, "connect", attempt.timings.connect.map(micros));
    put(&mut made, "first_byte", attempt.timings.first_byte.map(micros));
    put(&mut made, "exchange", attempt.exchange.as_deref().map(kept).transpose()?);
    put(&mut made, "message", attempt.message.as_deref());
    put(&mut made, "transcript", attempt.transcript.as_deref().map(kept).transpose()?);
    Ok(made)
}

pub(crate) fn attempt(delivery: DeliveryId, found: &Document) -> Result<Attempt, Failure> {
    let micros = |key: &str| found.maybe_int(key).map(i64::cast_unsigned);
    let status = found.maybe_int("status").map(u16::try_from).transpose();
    Ok(Attempt {
        delivery,
        epoch: found.small("epoch")?,
        number: found.small("number")?,
        started_at: found.time("started_at")?,
        outcome: found.read("outcome")?.ok_or_else(|| missing("outcome"))?,
        status: status.map_err(|_| missing("status"))?,
        timings: AttemptTimings {
            dns: micros("dns"),
            connect: micros("connect"),
            first_byte: micros("first_byte"),
            total: micros("total").unwrap_or_default(),
        },
        exchange: found.read("exchange")?,
        message: found.maybe_text("message").map(str::to_owned),
        transcript: found.read("transcript")?,
    })
}

/// The `limit` that tells whether more than so many follow.
pub(crate) fn more_than(limit: usize) -> i64 {
    i64::try_from(limit.saturating_add(1)).unwrap_or(i64::MAX)
}

pub(crate) fn count(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
