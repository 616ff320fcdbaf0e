//! Event sources that handlers of the host are.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use icp::source::{EventSource, PollRequest, Polled, SOURCE_TIMEOUT, SourceError, SourceEvent};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::request::{HandlerKind, Requests};
use crate::work::event;

/// Asks the host for events, whatever source is named.
#[derive(Debug)]
pub(crate) struct HostSource {
    requests: Arc<Requests>,
}

/// What a handler is asked, as the body of a REQUEST item.
#[derive(Serialize)]
struct Asked<'a> {
    /// The name it is registered by: the `type` of the source.
    handler: &'a str,
    kind: HandlerKind,
    org: &'a str,
    /// The id of the source.
    source: &'a str,
    config: Option<&'a Value>,
    /// The secrets of the source, opened.
    secrets: BTreeMap<&'a str, &'a str>,
    /// Everything up to it is dealt with.
    checkpoint: Option<&'a Value>,
    /// The most events that are taken at once.
    limit: usize,
    /// How long the engine waits for the answer, in milliseconds.
    timeout_ms: u64,
}

/// What a handler answers; nothing new where it answers nothing.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Answer {
    events: Vec<BTreeMap<String, Box<RawValue>>>,
    checkpoint: Option<Value>,
    more: bool,
}

impl HostSource {
    pub(crate) fn new(requests: Arc<Requests>) -> Self {
        Self { requests }
    }
}

#[async_trait]
impl EventSource for HostSource {
    async fn poll(&self, request: &PollRequest<'_>) -> Result<Polled, SourceError> {
        let name = request.name;
        let body = |timeout_ms| asked(request, timeout_ms);
        let answer = self.requests.ask(HandlerKind::EventSource, name, body).await;
        let answer = answer.map_err(|why| {
            let (code, message) = why.told(name);
            SourceError::new(code, message)
        })?;
        read(&answer, request.org.as_str()).map_err(|why| {
            let message = format!("the answer of the handler `{name}` is not taken: {why}");
            SourceError::new("answer_invalid", message)
        })
    }

    fn is_ready(&self, name: &str) -> bool {
        self.requests.has(HandlerKind::EventSource, name)
    }
}

fn asked(request: &PollRequest<'_>, timeout_ms: u64) -> Vec<u8> {
    let secrets = request.secrets.iter().map(|(name, secret)| (name.as_str(), secret.expose()));
    let asked = Asked {
        handler: request.name,
        kind: HandlerKind::EventSource,
        org: request.org.as_str(),
        source: request.source.as_str(),
        config: request.config,
        secrets: secrets.collect(),
        checkpoint: request.after,
        limit: request.limit,
        timeout_ms: timeout_ms.min(u64::try_from(SOURCE_TIMEOUT.as_millis()).unwrap_or(u64::MAX)),
    };
    // Texts and documents always have a JSON form.
    serde_json::to_vec(&asked).unwrap_or_default()
}

fn read(answer: &[u8], org: &str) -> Result<Polled, String> {
    let form = || {
        "use `{\"events\": [{\"id\": .., \"type\": .., \"data\": ..}], \"checkpoint\": ..}`"
            .to_owned()
    };
    let answer: Answer = match answer {
        b"" | b"null" => Answer::default(),
        // A list would be read as the members in their order.
        json if !json.trim_ascii_start().starts_with(b"{") => return Err(form()),
        json => serde_json::from_slice(json).map_err(|_| form())?,
    };
    let events = answer.events.into_iter().enumerate();
    let events = events.map(|(place, members)| {
        event_of(members, org).map_err(|why| format!("/events/{place}{why}"))
    });
    let events = events.collect::<Result<_, _>>()?;
    Ok(Polled { events, checkpoint: answer.checkpoint, more: answer.more })
}

/// An envelope with an id, for the organization of the source.
fn event_of(
    mut members: BTreeMap<String, Box<RawValue>>,
    org: &str,
) -> Result<SourceEvent, String> {
    let id = members.remove("id").ok_or("/id: name the event within its source")?;
    let id: String = serde_json::from_str(id.get()).map_err(|_| "/id: should be a string")?;
    for given in ["org", "idempotency_key"] {
        if members.contains_key(given) {
            return Err(format!("/{given}: is set by the engine; leave it out"));
        }
    }
    let org = serde_json::value::to_raw_value(org).map_err(|error| error.to_string())?;
    members.insert("org".to_owned(), org);
    let envelope = serde_json::to_vec(&members).map_err(|error| error.to_string())?;
    let event = event::strict(&envelope).map_err(|failure| {
        format!("{}: {}", failure.path().unwrap_or_default(), failure.message())
    })?;
    Ok(SourceEvent::new(id, event))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn told(answer: &Value) -> Result<Polled, String> {
        read(answer.to_string().as_bytes(), "acme")
    }

    #[test]
    fn answers_are_events_with_ids() {
        for nothing in ["", "null", "{}"] {
            let polled = read(nothing.as_bytes(), "acme").unwrap();
            assert!(polled.events.is_empty() && polled.checkpoint.is_none() && !polled.more);
        }
        let polled = told(&json!({
            "events": [
                { "id": "7", "type": "order.paid", "data": { "order": 7 }, "unit": "eu" },
                { "id": "8", "type": "order.scanned", "content_type": "image/png",
                  "body_base64": "AQID" },
            ],
            "checkpoint": { "offset": 8 },
            "more": true,
        }));
        let polled = polled.unwrap();
        let events = polled.events.iter().map(|one| (one.id.as_str(), one.event.org()));
        assert_eq!(events.collect::<Vec<_>>(), [("7", "acme"), ("8", "acme")]);
        assert_eq!(polled.events[0].event.unit_named(), Some("eu"));
        assert_eq!((polled.checkpoint, polled.more), (Some(json!({ "offset": 8 })), true));
    }

    #[test]
    fn what_is_wrong_with_an_answer_is_told_with_its_place() {
        let good = json!({ "id": "7", "type": "order.paid", "data": 1 });
        for (member, value, place) in [
            ("id", Value::Null, "/events/1/id: should be a string"),
            ("org", json!("globex"), "/events/1/org: is set by the engine"),
            ("idempotency_key", json!("k"), "/events/1/idempotency_key: is set by"),
            ("body_base64", json!("AQ=="), "/events/1/body_base64: does not go together"),
            ("colour", json!("red"), "/events/1/colour"),
        ] {
            let mut bad = good.clone();
            bad[member] = value;
            let why = told(&json!({ "events": [good, bad], "checkpoint": 1 })).unwrap_err();
            assert!(why.contains(place), "{member}: {why}");
        }
        for answer in [json!([]), json!({ "event": [] }), json!({ "events": {} })] {
            assert!(told(&answer).unwrap_err().starts_with("use `{"), "{answer}");
        }
    }
}
