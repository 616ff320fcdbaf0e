//! How long a call may take, and how long it took.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The limits of one call; each is enforced by itself, `total` over all of them.
///
/// In documents each is a whole number of milliseconds: `connect_ms`, `headers_ms`, `body_ms`,
/// `total_ms`. Zero means the phase fails at once, not that it is unlimited; an integration's
/// target refuses it.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Timeouts {
    /// Milliseconds for the name lookup, the TCP connection and the TLS handshake together;
    /// default 5000.
    #[serde(rename = "connect_ms", with = "millis")]
    #[schemars(with = "u64")]
    pub connect: Duration,
    /// Milliseconds from the start of the call to the response's head, connecting included;
    /// default 15000.
    #[serde(rename = "headers_ms", with = "millis")]
    #[schemars(with = "u64")]
    pub headers: Duration,
    /// Milliseconds from the response's head to the end of its body; default 10000.
    #[serde(rename = "body_ms", with = "millis")]
    #[schemars(with = "u64")]
    pub body: Duration,
    /// Milliseconds for the whole call; default 20000.
    #[serde(rename = "total_ms", with = "millis")]
    #[schemars(with = "u64")]
    pub total: Duration,
}

impl Timeouts {
    /// Every limit with its name in documents.
    #[must_use]
    pub const fn fields(&self) -> [(&'static str, Duration); 4] {
        [
            ("connect_ms", self.connect),
            ("headers_ms", self.headers),
            ("body_ms", self.body),
            ("total_ms", self.total),
        ]
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            headers: Duration::from_secs(15),
            body: Duration::from_secs(10),
            total: Duration::from_secs(20),
        }
    }
}

/// Where the time of a call went; serialized as whole microseconds (`dns_us` and so on).
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(default)]
pub struct Timings {
    /// Microseconds of the name lookup; absent for an address, a reused connection, or when not
    /// reached.
    #[serde(rename = "dns_us", with = "micros", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<u64>")]
    pub dns: Option<Duration>,
    /// Microseconds of the TCP connection and the TLS handshake; absent for a reused connection,
    /// or when not reached.
    #[serde(rename = "connect_us", with = "micros", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<u64>")]
    pub connect: Option<Duration>,
    /// Microseconds from the start of the call to the response's head; absent when none came.
    #[serde(rename = "first_byte_us", with = "micros", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<u64>")]
    pub first_byte: Option<Duration>,
    /// Microseconds of the whole call; absent when it ended before it began.
    #[serde(rename = "total_us", with = "micros", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<u64>")]
    pub total: Option<Duration>,
}

mod millis {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(value: &Duration, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_u64(u64::try_from(value.as_millis()).unwrap_or(u64::MAX))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Duration, D::Error> {
        u64::deserialize(d).map(Duration::from_millis)
    }
}

mod micros {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    #[expect(clippy::ref_option, reason = "the signature is serde's")]
    pub(super) fn serialize<S: Serializer>(
        value: &Option<Duration>,
        s: S,
    ) -> Result<S::Ok, S::Error> {
        match value {
            Some(value) => s.serialize_u64(u64::try_from(value.as_micros()).unwrap_or(u64::MAX)),
            None => s.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        d: D,
    ) -> Result<Option<Duration>, D::Error> {
        Ok(Option::<u64>::deserialize(d)?.map(Duration::from_micros))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_in_named_units_and_read_back() {
        let timeouts: Timeouts = serde_json::from_str(r#"{"connect_ms":250}"#).unwrap();
        assert_eq!(timeouts.connect, Duration::from_millis(250));
        assert_eq!(timeouts.total, Timeouts::default().total);
        assert!(serde_json::from_str::<Timeouts>(r#"{"connect":250}"#).is_err());

        let timings = Timings { dns: Some(Duration::from_micros(7)), ..Timings::default() };
        let text = serde_json::to_string(&timings).unwrap();
        assert_eq!(text, r#"{"dns_us":7}"#);
        assert_eq!(serde_json::from_str::<Timings>(&text).unwrap(), timings);
    }
}
