//! Events as hosts publish them: an envelope of the HTTP API with the organization in it.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use icp::event::{JSON, NewEvent};
use icp::time::Timestamp;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::settings::{missing, read};
use crate::status::Failure;

/// What of an envelope is read here, at once and without copies. An envelope that is none of
/// these, or not acceptable, goes to the route of the HTTP API, which knows and says why.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Envelope {
    org: String,
    r#type: String,
    #[serde(default, deserialize_with = "present")]
    data: Option<Box<RawValue>>,
    body_base64: Option<String>,
    content_type: Option<String>,
    unit: Option<String>,
    idempotency_key: Option<String>,
    ordering_key: Option<String>,
    subject: Option<String>,
    due_at: Option<Timestamp>,
    expires_at: Option<Timestamp>,
    ttl_seconds: Option<u64>,
}

/// `null` is a body; only a field that is missing is none.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Box<RawValue>>, D::Error> {
    Box::<RawValue>::deserialize(deserializer).map(Some)
}

/// The event of an envelope; none where the HTTP API is to say what it is.
pub(super) fn quick(json: &[u8]) -> Option<NewEvent> {
    let envelope: Envelope = serde_json::from_slice(json).ok()?;
    let (content_type, body) = match (envelope.data, envelope.body_base64) {
        (Some(data), None) => {
            let body = String::from(Box::<str>::from(data)).into_bytes();
            (envelope.content_type.unwrap_or_else(|| JSON.to_owned()), body)
        }
        (None, Some(text)) => (envelope.content_type?, STANDARD.decode(text).ok()?),
        _ => return None,
    };
    if envelope.expires_at.is_some() && envelope.ttl_seconds.is_some() {
        return None;
    }
    let mut event = NewEvent::raw(envelope.org, envelope.r#type, content_type, body);
    if let Some(unit) = envelope.unit {
        event = event.unit(unit);
    }
    if let Some(key) = envelope.idempotency_key {
        event = event.idempotency_key(key);
    }
    if let Some(key) = envelope.ordering_key {
        event = event.ordering_key(key);
    }
    if let Some(subject) = envelope.subject {
        event = event.subject(subject);
    }
    if let Some(due_at) = envelope.due_at {
        event = event.due_at(due_at);
    }
    if let Some(expires_at) = envelope.expires_at {
        event = event.expires_at(expires_at);
    }
    if let Some(seconds) = envelope.ttl_seconds {
        event = event.expires_after(Duration::from_secs(seconds));
    }
    Some(event)
}

/// The event of an envelope that no route of the HTTP API takes.
pub(crate) fn strict(json: &[u8]) -> Result<NewEvent, Failure> {
    if let Some(event) = quick(json) {
        return Ok(event);
    }
    let envelope: Envelope = read(json)?;
    Err(match (&envelope.data, &envelope.body_base64) {
        (None, None) => missing("/data", "give it, or `body_base64`"),
        (Some(_), Some(_)) => Failure::at("/body_base64", "does not go together with `data`"),
        (None, Some(_)) if envelope.content_type.is_none() => {
            missing("/content_type", "say what `body_base64` is")
        }
        (None, Some(_)) => Failure::at("/body_base64", "should be base64"),
        (Some(_), None) => Failure::at("/ttl_seconds", "does not go together with `expires_at`"),
    })
}

/// The organization, and the rest of the document as it was written.
pub(super) fn parted(json: &[u8]) -> Result<(String, Vec<u8>), Failure> {
    let mut members: BTreeMap<String, Box<RawValue>> = read(json)?;
    let org = members.remove("org").ok_or_else(|| missing("/org", "name the organization"))?;
    let org = serde_json::from_str(org.get());
    let org = org.map_err(|_| Failure::at("/org", "should be a string"))?;
    Ok((org, super::json(&members)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A member that is added to the envelope of the HTTP API is to be read here as well.
    #[test]
    fn the_members_are_those_of_the_http_api_and_the_organization() {
        let known = ["data", "body_base64", "content_type", "unit", "idempotency_key", "type"];
        let more = ["ordering_key", "subject", "due_at", "expires_at", "ttl_seconds"];
        let mut ours: Vec<_> = known.into_iter().chain(more).collect();
        ours.sort_unstable();
        let document = crate::reference::openapi();
        let schema = &document["components"]["schemas"]["Envelope"]["properties"];
        let mut theirs: Vec<_> = schema.as_object().unwrap().keys().map(String::as_str).collect();
        theirs.sort_unstable();
        assert_eq!(ours, theirs);
        for name in ours {
            let error = serde_json::from_str::<Envelope>(&format!("{{\"{name}\":[]}}")).err();
            let text = error.map(|error| error.to_string()).unwrap_or_default();
            assert!(!text.contains("unknown field"), "{text}");
        }
    }

    #[test]
    fn a_body_stays_as_it_was_written() {
        let json = br#"{"data":{"b": 1.0, "a":99999999999999999999},"org":"o","type":"a.b"}"#;
        let (org, rest) = parted(json).unwrap();
        assert_eq!(org, "o");
        let rest = String::from_utf8(rest).unwrap();
        assert_eq!(rest, r#"{"data":{"b": 1.0, "a":99999999999999999999},"type":"a.b"}"#);
        assert!(quick(json).is_some());
    }

    #[test]
    fn what_is_not_plain_is_left_to_the_api() {
        for json in [
            r#"{"org":"o","type":"a.b"}"#,
            r#"{"org":"o","type":"a.b","data":1,"body_base64":"aGk="}"#,
            r#"{"org":"o","type":"a.b","body_base64":"aGk="}"#,
            r#"{"org":"o","type":"a.b","data":1,"more":2}"#,
            r#"{"org":"o","type":"a.b","data":1,"ttl_seconds":1,"expires_at":"2030-01-01T00:00:00Z"}"#,
            "[]",
        ] {
            assert!(quick(json.as_bytes()).is_none(), "{json}");
            assert_eq!(strict(json.as_bytes()).unwrap_err().number(), 1, "{json}");
        }
        assert!(quick(br#"{"org":"o","type":"a.b","data":null}"#).is_some());
    }
}
