//! Why a call brought no response.

use std::fmt;

use super::timing::Timings;
use crate::error::{Code, Error, Fault};

/// The phase in which a limit was reached.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Phase {
    /// Name lookup, TCP connection or TLS handshake.
    Connect,
    /// Waiting for the response's head.
    Headers,
    /// Reading the response's body.
    Body,
    /// The whole call.
    Total,
}

/// What kind of failure it was.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum FailureClass {
    /// The URL or the method cannot be sent: scheme, user name, missing host.
    UrlInvalid,
    /// The policy forbids the host, the port or an address of it.
    AddressDenied,
    /// The name did not resolve.
    Dns,
    /// No TCP connection came about.
    Connect,
    /// The TLS handshake or the peer's certificate failed.
    Tls,
    /// A limit of [`Timeouts`](super::Timeouts) was reached.
    Timeout(Phase),
    /// The connection ended before the response was complete: the peer closed it, or answered no
    /// more pings on it.
    Reset,
    /// The peer's answer is not HTTP, or its head is larger than the limit.
    Protocol,
    /// A layer refused the call before it was sent, to shed load.
    Overloaded,
}

impl FailureClass {
    /// The stable text form, lower case with underscores.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::UrlInvalid => "url_invalid",
            Self::AddressDenied => "address_denied",
            Self::Dns => "dns_failed",
            Self::Connect => "connect_failed",
            Self::Tls => "tls_failed",
            Self::Timeout(Phase::Connect) => "timeout_connect",
            Self::Timeout(Phase::Headers) => "timeout_headers",
            Self::Timeout(Phase::Body) => "timeout_body",
            Self::Timeout(Phase::Total) => "timeout_total",
            Self::Reset => "connection_reset",
            Self::Protocol => "protocol_error",
            Self::Overloaded => "overloaded",
        }
    }

    /// Whether the same call can succeed later.
    #[must_use]
    pub const fn fault(self) -> Fault {
        match self {
            Self::UrlInvalid | Self::AddressDenied => Fault::Permanent,
            Self::Dns
            | Self::Connect
            | Self::Tls
            | Self::Timeout(_)
            | Self::Reset
            | Self::Protocol
            | Self::Overloaded => Fault::Transient,
        }
    }
}

impl fmt::Display for FailureClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A call that brought no response.
///
/// The message names host and port at most: no user name, path, query or header.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
#[non_exhaustive]
pub struct EgressError {
    /// What kind of failure it was.
    pub class: FailureClass,
    /// One line for people.
    pub message: String,
    /// Where the time went until then.
    pub timings: Timings,
}

impl EgressError {
    /// A failure without timings.
    pub fn new(class: FailureClass, message: impl Into<String>) -> Self {
        Self { class, message: message.into(), timings: Timings::default() }
    }

    /// Sets the timings.
    #[must_use]
    pub fn with_timings(mut self, timings: Timings) -> Self {
        self.timings = timings;
        self
    }
}

impl From<EgressError> for Error {
    /// For callers that answer a request with it, such as a test delivery.
    fn from(error: EgressError) -> Self {
        let code = match error.class {
            FailureClass::UrlInvalid => Code::UrlInvalid,
            FailureClass::AddressDenied => Code::AddressDenied,
            FailureClass::Overloaded => Code::Overloaded,
            FailureClass::Dns => Code::DnsFailed,
            FailureClass::Connect
            | FailureClass::Tls
            | FailureClass::Timeout(_)
            | FailureClass::Reset
            | FailureClass::Protocol => Code::EndpointFailed,
        };
        Self::new(code, error.message.clone()).caused_by(error)
    }
}
