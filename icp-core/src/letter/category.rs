use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What kind of error killed a delivery, coarse enough to decide what to do.
#[derive(
    Clone, Copy, Debug, Deserialize, Eq, Hash, JsonSchema, Ord, PartialEq, PartialOrd, Serialize,
)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Category {
    /// A limit of time was reached.
    Timeout,
    /// No connection, no name, no complete answer.
    Network,
    /// The endpoint failed: 500 to 599.
    ServerError,
    /// The endpoint asked to be called less: 429.
    RateLimit,
    /// The endpoint refused the request: 400 to 499, but for those below.
    ClientError,
    /// The endpoint did not accept who calls, or the request could not be authenticated.
    AuthError,
    /// The payload could not be made into what is sent.
    DataError,
    /// The endpoint found the payload unacceptable: 400, 413, 415 or 422; or the target itself
    /// cannot be used.
    ValidationError,
    /// None of these.
    Unknown,
}

impl Category {
    /// The category of a failure's class, as in `status_503` or `timeout_connect`.
    #[must_use]
    pub fn of(class: &str) -> Self {
        if let Some(status) = class.strip_prefix("status_") {
            return status.parse().map_or(Self::Unknown, Self::of_status);
        }
        match class {
            "dns_failed" | "connect_failed" | "tls_failed" | "connection_reset"
            | "protocol_error" | "endpoint_failed" => Self::Network,
            "address_denied" | "url_invalid" => Self::ValidationError,
            "signing_failed" | "secret_invalid" | "key_unreadable" | "unauthenticated" => {
                Self::AuthError
            }
            "overloaded" => Self::RateLimit,
            "deadline" => Self::Timeout,
            _ if class.starts_with("timeout_") => Self::Timeout,
            _ if class.starts_with("signer_") => Self::AuthError,
            _ if class.starts_with("transform_") => Self::DataError,
            _ => Self::Unknown,
        }
    }

    const fn of_status(status: u16) -> Self {
        match status {
            408 | 504 => Self::Timeout,
            429 => Self::RateLimit,
            401 | 403 | 407 => Self::AuthError,
            400 | 413 | 415 | 422 => Self::ValidationError,
            402 | 404..=406 | 409..=412 | 414 | 416..=421 | 423..=428 | 430..=499 => {
                Self::ClientError
            }
            500..=599 => Self::ServerError,
            _ => Self::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::egress::FailureClass;
    use crate::egress::Phase;

    #[test]
    fn classes_have_categories() {
        let cases = [
            ("status_500", Category::ServerError),
            ("status_504", Category::Timeout),
            ("status_408", Category::Timeout),
            ("status_429", Category::RateLimit),
            ("status_401", Category::AuthError),
            ("status_404", Category::ClientError),
            ("status_410", Category::ClientError),
            ("status_422", Category::ValidationError),
            ("status_302", Category::Unknown),
            ("status_x", Category::Unknown),
            ("timeout_attempt", Category::Timeout),
            ("transform_failed", Category::DataError),
            ("signing_failed", Category::AuthError),
            ("signer_timeout", Category::AuthError),
            ("poison", Category::Unknown),
            ("", Category::Unknown),
        ];
        for (class, category) in cases {
            assert_eq!(Category::of(class), category, "{class}");
        }
    }

    #[test]
    fn no_failure_of_the_client_is_unknown() {
        for class in [
            FailureClass::UrlInvalid,
            FailureClass::AddressDenied,
            FailureClass::Dns,
            FailureClass::Connect,
            FailureClass::Tls,
            FailureClass::Timeout(Phase::Connect),
            FailureClass::Timeout(Phase::Total),
            FailureClass::Reset,
            FailureClass::Protocol,
            FailureClass::Overloaded,
        ] {
            assert_ne!(Category::of(class.as_str()), Category::Unknown, "{class}");
        }
    }

    #[test]
    fn no_refusal_and_no_fault_is_unknown() {
        for status in 400..=599 {
            assert_ne!(Category::of(&format!("status_{status}")), Category::Unknown, "{status}");
        }
    }
}
