//! Targets of the kind `host`: a handler of the host delivers.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use icp::delivery::AttemptTimings;
use icp::egress::AddressPolicy;
use icp::integration::{
    Binding, Connector, Failure, Hint, Integration, Judgement, Outgoing, Preview, Sent,
};
use icp::{Code, Error, Result, Violation};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{Asked, check_name};
use crate::request::{HandlerKind, Requests};

/// Binds targets that a handler of the host delivers to.
#[derive(Debug)]
pub(crate) struct HostConnector {
    requests: Arc<Requests>,
}

/// The target document.
#[derive(Clone, Debug, Deserialize)]
struct Target {
    handler: String,
    #[serde(default)]
    config: Option<Value>,
}

/// A bound target.
#[derive(Debug)]
struct HostTarget {
    requests: Arc<Requests>,
    target: Target,
}

/// What a handler answers: that it delivered, or why not.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Answer {
    /// The status of the protocol, to be shown with the attempt.
    status: Option<u16>,
    failed: Option<Failed>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Failed {
    #[serde(default)]
    class: Option<String>,
    message: String,
    #[serde(default)]
    again: Again,
    /// How long the receiver asks to wait, all of the lane.
    #[serde(default)]
    wait_ms: Option<u64>,
}

/// What follows a failure.
#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Again {
    #[default]
    Retry,
    Wait,
    Refused,
    Impossible,
    Gone,
}

impl HostConnector {
    pub(crate) fn new(requests: Arc<Requests>) -> Self {
        Self { requests }
    }
}

impl Connector for HostConnector {
    fn kind(&self) -> &'static str {
        "host"
    }

    fn validate(&self, target: &Value, at: &str, _: &AddressPolicy) -> Vec<Violation> {
        let name = target.get("handler").and_then(Value::as_str).unwrap_or_default();
        let fault = check_name(name).err();
        fault
            .map(|text| Violation::new(format!("{at}/handler"), "handler_name", text))
            .into_iter()
            .collect()
    }

    fn schema(&self) -> Value {
        json!({
            "type": "object",
            "description": "A handler of the program that the engine is embedded in.",
            "properties": {
                "kind": { "const": "host" },
                "handler": {
                    "type": "string",
                    "description": "The name that the handler is registered by.",
                    "minLength": 1,
                    "maxLength": 64
                },
                "config": { "description": "What the handler is told beside the payload; no secrets." }
            },
            "required": ["kind", "handler"],
            "additionalProperties": false
        })
    }

    /// Neither credentials nor signatures reach a handler, so a target with either is refused.
    fn bind(&self, binding: Binding<'_>) -> Result<Arc<dyn Integration>> {
        if binding.signer.is_some() || !binding.auth.is_none() {
            let message = "a handler of the host signs and authenticates by itself; leave \
                           `signing` and `auth` out";
            return Err(Error::new(Code::ResourceInvalid, message));
        }
        let target = Target::deserialize(binding.target).map_err(|error| {
            Error::new(Code::ResourceInvalid, "the target names no handler").caused_by(error)
        })?;
        Ok(Arc::new(HostTarget { requests: Arc::clone(&self.requests), target }))
    }
}

#[async_trait]
impl Integration for HostTarget {
    async fn send(&self, outgoing: Outgoing<'_>) -> Sent {
        let began = Instant::now();
        let name = &self.target.handler;
        let body = |timeout_ms| self.asked(&outgoing, timeout_ms);
        let asked = self.requests.ask(HandlerKind::Target, name, body).await;
        let (judgement, status) = match asked {
            Ok(answer) => judged(&answer),
            Err(why) => {
                let (class, message) = why.told(name);
                (failed(class, &message, Hint::Retry), None)
            }
        };
        let total = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
        let timings = AttemptTimings { total, ..AttemptTimings::default() };
        Sent { judgement, status, timings, exchange: None }
    }

    fn preview(&self, outgoing: &Outgoing<'_>) -> Result<Preview> {
        Ok(Preview {
            method: "HOST".to_owned(),
            url: format!("host:{}", self.target.handler),
            headers: Vec::new(),
            body: outgoing.body.clone(),
        })
    }
}

impl HostTarget {
    fn asked(&self, outgoing: &Outgoing<'_>, timeout_ms: u64) -> Vec<u8> {
        let event = outgoing.event;
        let (payload, payload_base64) = payload(event.is_json(), &outgoing.body);
        let asked = Asked {
            handler: &self.target.handler,
            kind: HandlerKind::Target,
            org: event.org.as_str(),
            event: event.id.to_string(),
            r#type: event.event_type.as_str(),
            integration: None,
            delivery: Some(outgoing.delivery.to_string()),
            attempt: outgoing.number,
            timeout_ms,
            config: self.target.config.as_ref(),
            payload,
            payload_base64,
            content_type: Some(&event.content_type),
            request: None,
            test: outgoing.test,
        };
        // Texts and documents always have a JSON form.
        serde_json::to_vec(&asked).unwrap_or_default()
    }
}

fn payload(is_json: bool, body: &Bytes) -> (Option<&RawValue>, Option<String>) {
    let raw = if is_json { serde_json::from_slice(body).ok() } else { None };
    match raw {
        Some(raw) => (Some(raw), None),
        None => (None, Some(STANDARD.encode(body))),
    }
}

fn judged(answer: &[u8]) -> (Judgement, Option<u16>) {
    let answer: Answer = match answer {
        b"" | b"null" => Answer::default(),
        json => match serde_json::from_slice(json) {
            Ok(answer) => answer,
            Err(_) => {
                let message = "the handler's answer is none: use `{}` or `{\"failed\": ..}`";
                return (failed("handler_answer", message, Hint::Retry), None);
            }
        },
    };
    let Some(why) = answer.failed else { return (Judgement::Delivered, answer.status) };
    let hint = match why.again {
        Again::Retry => Hint::Retry,
        Again::Wait => Hint::Wait(why.wait_ms.map(Duration::from_millis)),
        Again::Refused => Hint::Refused,
        Again::Impossible => Hint::Impossible,
        Again::Gone => Hint::Gone,
    };
    let class = why.class.filter(|class| is_class(class));
    (failed(class.as_deref().unwrap_or("handler"), &why.message, hint), answer.status)
}

/// Lower case with underscores, as the classes of failures are.
fn is_class(class: &str) -> bool {
    let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    (1..=64).contains(&class.len()) && class.chars().all(good)
}

fn failed(class: &str, message: &str, hint: Hint) -> Judgement {
    Judgement::Failed(Failure { class: class.to_owned(), message: message.to_owned(), hint })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_judged() {
        for (answer, hint) in [
            ("", None),
            ("null", None),
            ("{}", None),
            (r#"{"status":204}"#, None),
            (r#"{"failed":{"message":"x"}}"#, Some(Hint::Retry)),
            (r#"{"failed":{"message":"x","again":"gone"}}"#, Some(Hint::Gone)),
            (r#"{"failed":{"message":"x","again":"wait"}}"#, Some(Hint::Wait(None))),
            (
                r#"{"failed":{"message":"x","again":"wait","wait_ms":5}}"#,
                Some(Hint::Wait(Some(Duration::from_millis(5)))),
            ),
            (r#"{"delivered":true}"#, Some(Hint::Retry)),
            ("ok", Some(Hint::Retry)),
        ] {
            let found = match judged(answer.as_bytes()).0 {
                Judgement::Failed(failure) => Some(failure.hint),
                _ => None,
            };
            assert_eq!(found, hint, "{answer}");
        }
        let class = |text: &str| match judged(text.as_bytes()).0 {
            Judgement::Failed(failure) => failure.class,
            _ => String::new(),
        };
        assert_eq!(class(r#"{"failed":{"message":"x","class":"quota"}}"#), "quota");
        assert_eq!(class(r#"{"failed":{"message":"x","class":"Not so"}}"#), "handler");
    }

    #[test]
    fn a_payload_that_is_no_json_is_encoded() {
        let json = Bytes::from_static(br#"{"a":1}"#);
        assert_eq!(payload(true, &json).0.unwrap().get(), r#"{"a":1}"#);
        assert_eq!(payload(false, &json).1.unwrap(), STANDARD.encode(&json));
        assert!(payload(true, &Bytes::from_static(b"{")).1.is_some());
    }
}
