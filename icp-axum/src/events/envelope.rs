use std::time::Duration;

use axum::http::{HeaderMap, HeaderValue};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use icp_core::event::{JSON, NewEvent, TraceContext};
use icp_core::id::OrgId;
use icp_core::time::Timestamp;
use icp_core::{Code, Violation};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::extract::{Input, header, read};
use crate::problem::{Problem, Result};

pub(super) const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// One event to publish: a JSON body in `data`, or any other in `body_base64` with its
/// `content_type`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Envelope {
    /// What happened, as in `order.paid`.
    r#type: String,
    /// The body as JSON of any kind; it is delivered byte for byte as it is written here.
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "Option<Value>")]
    data: Option<Box<RawValue>>,
    /// The body in standard base64, where it is not JSON.
    #[serde(default)]
    body_base64: Option<String>,
    /// The media type of the body. Default `application/json`; needed with `body_base64`.
    #[serde(default)]
    content_type: Option<String>,
    /// The unit it happened in.
    #[serde(default)]
    unit: Option<String>,
    /// Makes publishing repeatable; the same as the header field `Idempotency-Key`.
    #[serde(default)]
    idempotency_key: Option<String>,
    /// The sequence the event belongs to.
    #[serde(default)]
    ordering_key: Option<String>,
    /// Whom it is about, for erasing; never sent to receivers.
    #[serde(default)]
    subject: Option<String>,
    /// When its deliveries may start.
    #[serde(default)]
    due_at: Option<Timestamp>,
    /// When deliveries that are not done end as `expired`; not beside `ttl_seconds`.
    #[serde(default)]
    expires_at: Option<Timestamp>,
    /// After how many seconds deliveries that are not done end as `expired`.
    #[serde(default)]
    ttl_seconds: Option<u64>,
}

/// Events to publish together.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Batch {
    /// Up to 1,000 events. One that is refused does not keep the others out.
    #[schemars(with = "Vec<Envelope>")]
    events: Vec<Box<RawValue>>,
}

impl Input for Envelope {
    const INVALID: Code = Code::EventInvalid;
}

impl Input for Batch {
    const INVALID: Code = Code::EventInvalid;
}

/// `null` is a body; only a field that is missing is none.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Box<RawValue>>, D::Error> {
    Box::<RawValue>::deserialize(deserializer).map(Some)
}

/// What the header fields of a request say of its events.
#[derive(Debug, Default)]
pub(crate) struct Sender {
    idempotency_key: Option<String>,
    traceparent: Option<String>,
    tracestate: Option<String>,
}

impl Sender {
    pub(super) fn of(headers: &HeaderMap) -> Result<Self> {
        let idempotency_key = header(headers, IDEMPOTENCY_KEY)?.map(str::to_owned);
        let (traceparent, tracestate) = trace(headers).unzip();
        Ok(Self { idempotency_key, traceparent, tracestate: tracestate.flatten() })
    }
}

/// The W3C trace context of a request, as proxies and instrumentation put it there. As the
/// recommendation has it, one that is malformed is no context, and the fields of `tracestate` are
/// one list.
fn trace(headers: &HeaderMap) -> Option<(String, Option<String>)> {
    let mut parents = headers.get_all("traceparent").iter();
    let (Some(parent), None) = (parents.next(), parents.next()) else { return None };
    let parent = parent.to_str().ok().filter(|text| TraceContext::new(text, None).is_ok())?;
    let states = headers.get_all("tracestate").iter().map(HeaderValue::to_str);
    let states: Vec<&str> = states.collect::<Result<_, _>>().unwrap_or_default();
    let state = Some(states.join(",")).filter(|state| !state.is_empty());
    Some((parent.to_owned(), state))
}

impl Batch {
    pub(super) fn len(&self) -> usize {
        self.events.len()
    }

    /// Every event, or what is wrong with it.
    pub(super) fn events(&self, org: &OrgId, sender: &Sender) -> Vec<Result<NewEvent>> {
        let event = |index: usize, raw: &RawValue| {
            let at = format!("/events/{index}");
            read::<Envelope>(raw.get().as_bytes(), &at)?.event(org, sender, &at)
        };
        self.events.iter().enumerate().map(|(index, raw)| event(index, raw)).collect()
    }
}

impl Envelope {
    /// The event for the engine; `at` is the pointer to the envelope in the body.
    pub(crate) fn event(mut self, org: &OrgId, sender: &Sender, at: &str) -> Result<NewEvent> {
        let refuse = |field: &str, code: &str, message: &str| {
            let violation = Violation::new(format!("{at}/{field}"), code, message);
            Problem::violations(Code::EventInvalid, vec![violation])
        };
        if let Some(key) = &sender.idempotency_key
            && self.idempotency_key.get_or_insert_with(|| key.clone()) != key
        {
            let message = "differs from the header field `idempotency-key`; send one of them";
            return Err(refuse("idempotency_key", "ambiguous", message));
        }
        if self.expires_at.is_some() && self.ttl_seconds.is_some() {
            let message = "does not go together with `expires_at`; send one of them";
            return Err(refuse("ttl_seconds", "ambiguous", message));
        }
        let (content_type, body) = match (self.data.take(), self.body_base64.take()) {
            (Some(_), Some(_)) => {
                let message = "does not go together with `data`; send one of them";
                return Err(refuse("body_base64", "ambiguous", message));
            }
            (None, None) => return Err(refuse("data", "required", "is missing")),
            (Some(data), None) => {
                let body: Box<str> = data.into();
                (
                    self.content_type.take().unwrap_or_else(|| JSON.to_owned()),
                    Bytes::from(body.into_string()),
                )
            }
            (None, Some(text)) => {
                let Some(content_type) = self.content_type.take() else {
                    return Err(refuse("content_type", "required", "is missing"));
                };
                let body = STANDARD.decode(text);
                let body =
                    body.map_err(|_| refuse("body_base64", "malformed", "is not standard base64"))?;
                (content_type, body.into())
            }
        };
        Ok(self
            .finish(NewEvent::raw(org.as_str(), self.r#type.clone(), content_type, body), sender))
    }

    fn finish(&self, mut event: NewEvent, sender: &Sender) -> NewEvent {
        if let Some(unit) = &self.unit {
            event = event.unit(unit);
        }
        if let Some(key) = &self.idempotency_key {
            event = event.idempotency_key(key);
        }
        if let Some(key) = &self.ordering_key {
            event = event.ordering_key(key);
        }
        if let Some(subject) = &self.subject {
            event = event.subject(subject);
        }
        if let Some(due_at) = self.due_at {
            event = event.due_at(due_at);
        }
        if let Some(expires_at) = self.expires_at {
            event = event.expires_at(expires_at);
        }
        if let Some(seconds) = self.ttl_seconds {
            event = event.expires_after(Duration::from_secs(seconds));
        }
        if let Some(traceparent) = &sender.traceparent {
            event = event.trace(traceparent, sender.tracestate.clone());
        }
        event
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_trace_context_is_taken_as_the_recommendation_says() {
        let of = |fields: &[(&'static str, &'static str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in fields {
                headers.append(*name, HeaderValue::from_static(value));
            }
            trace(&headers)
        };
        let parent = ("traceparent", PARENT);
        assert_eq!(of(&[parent]), Some((PARENT.to_owned(), None)));
        let several = of(&[parent, ("tracestate", "a=1"), ("tracestate", "b=2,c=3")]);
        assert_eq!(several.unwrap().1.as_deref(), Some("a=1,b=2,c=3"));
        for nothing in [&[][..], &[("traceparent", "00-0-0-0")], &[parent, parent]] {
            assert_eq!(of(nothing), None, "{nothing:?}");
        }
        assert_eq!(of(&[("tracestate", "a=1")]), None);
    }
}
