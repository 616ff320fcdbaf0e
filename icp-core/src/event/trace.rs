use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::id::EventId;

/// A W3C trace context: the `traceparent` and `tracestate` of whoever published.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct TraceContext {
    trace_id: u128,
    parent_id: u64,
    flags: u8,
    state: Option<Arc<str>>,
}

impl TraceContext {
    /// Reads the two header values of the W3C recommendation, version 00.
    ///
    /// A `tracestate` of more than 512 characters or with control characters is left out, as
    /// the recommendation allows.
    ///
    /// # Errors
    ///
    /// A message for people where `parent` is malformed.
    pub fn new(parent: &str, state: Option<&str>) -> Result<Self, &'static str> {
        let mut parts = parent.split('-');
        let (Some(version), Some(trace), Some(span), Some(flags)) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err("is not of the form 00-<32 hex>-<16 hex>-<2 hex>");
        };
        let version = hex(version, 2).ok_or("has a version that is not two hex digits")?;
        if version == 0xff || (version == 0 && parts.next().is_some()) {
            return Err("has a version that the w3c recommendation forbids");
        }
        let trace_id = hex(trace, 32).filter(|id| *id != 0).ok_or("has no valid trace id")?;
        let parent_id = hex(span, 16).filter(|id| *id != 0).ok_or("has no valid parent id")?;
        let flags = hex(flags, 2).ok_or("has flags that are not two hex digits")?;
        Ok(Self {
            trace_id,
            parent_id: u64::try_from(parent_id).unwrap_or_default(),
            flags: u8::try_from(flags).unwrap_or_default(),
            state: state
                .filter(|s| {
                    !s.is_empty() && s.len() <= 512 && s.bytes().all(|b| (0x20..0x7f).contains(&b))
                })
                .map(Into::into),
        })
    }

    /// The context of an event whose publisher named none: its trace id is the event's id, so
    /// that its attempts still hang together.
    #[must_use]
    pub fn of_event(event: EventId) -> Self {
        let trace_id = u128::from_be_bytes(event.to_bytes());
        Self {
            trace_id,
            parent_id: u64::try_from(trace_id & u128::from(u64::MAX)).unwrap_or(1).max(1),
            flags: 0,
            state: None,
        }
    }

    /// The same trace with `span_id` as the parent of what follows; zero is replaced by one.
    #[must_use]
    pub fn child(&self, span_id: u64) -> Self {
        Self { parent_id: span_id.max(1), ..self.clone() }
    }

    /// The `traceparent` header value.
    #[must_use]
    pub fn parent(&self) -> String {
        self.to_string()
    }

    /// The `tracestate` header value.
    #[must_use]
    pub fn state(&self) -> Option<&str> {
        self.state.as_deref()
    }
}

impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace_id, self.parent_id, self.flags)
    }
}

fn hex(text: &str, digits: usize) -> Option<u128> {
    let fine = text.len() == digits
        && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    fine.then(|| u128::from_str_radix(text, 16).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn reads_and_writes_the_header() {
        let trace = TraceContext::new(PARENT, Some("a=1")).unwrap();
        assert_eq!(trace.parent(), PARENT);
        assert_eq!(trace.state(), Some("a=1"));
        assert_eq!(
            trace.child(0xab).parent(),
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00000000000000ab-01"
        );
    }

    #[test]
    fn refuses_what_the_recommendation_forbids() {
        for bad in [
            "",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x",
        ] {
            assert!(TraceContext::new(bad, None).is_err(), "{bad}");
        }
        assert_eq!(TraceContext::new(PARENT, Some(&"x".repeat(513))).unwrap().state(), None);
    }
}
