use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Code, Error};
use crate::event::LaneSeed;
use crate::time::Timestamp;

/// Where a delivery stands.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum DeliveryState {
    /// Waiting for its time or its turn.
    Ready,
    /// A node works on it.
    Leased,
    /// The receiver took it.
    Delivered,
    /// It ended without success, and is kept as a dead letter.
    Dead,
    /// It was called off, or its integration is gone.
    Cancelled,
    /// A transformation dropped it on purpose, or a deferred filter does not want it.
    Skipped,
    /// Its time was over before it could be delivered.
    Expired,
}

impl DeliveryState {
    /// Every state, in the order of a delivery's life.
    pub const ALL: [Self; 7] = [
        Self::Ready,
        Self::Leased,
        Self::Delivered,
        Self::Dead,
        Self::Cancelled,
        Self::Skipped,
        Self::Expired,
    ];

    /// Whether the delivery has ended; an ended delivery changes no more.
    #[must_use]
    pub const fn is_final(self) -> bool {
        !matches!(self, Self::Ready | Self::Leased)
    }

    /// The text form, lower case.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Leased => "leased",
            Self::Delivered => "delivered",
            Self::Dead => "dead",
            Self::Cancelled => "cancelled",
            Self::Skipped => "skipped",
            Self::Expired => "expired",
        }
    }
}

impl fmt::Display for DeliveryState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for DeliveryState {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Self::ALL.into_iter().find(|state| state.as_str() == text).ok_or_else(|| {
            let known = Self::ALL.map(Self::as_str).join(", ");
            Error::new(Code::QueryInvalid, format!("`{text}` is not a state; use one of {known}"))
        })
    }
}

/// Why a delivery ended or is tried again.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, schemars::JsonSchema)]
pub struct EndReason {
    /// Stable name, lower case with underscores, as in `status_500` or `exhausted`.
    pub code: String,
    /// For people; without secrets.
    pub message: String,
}

impl EndReason {
    /// A reason.
    pub fn new(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self { code: code.into(), message: message.into() }
    }
}

/// What a settled lease makes of its delivery.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Next {
    /// The receiver took it.
    Delivered,
    /// It is tried again at `due_at`; the try counts.
    Retry {
        /// When.
        due_at: Timestamp,
        /// Why.
        reason: EndReason,
    },
    /// It is tried again at `due_at`; the try is given back.
    Refund {
        /// When.
        due_at: Timestamp,
        /// Whether the receiver asked to wait; counted apart.
        throttled: bool,
    },
    /// It is tried again at `due_at`, and loses its place in order: it goes over to `lane`,
    /// which keeps none, and is `out_of_order` from then on. The try counts.
    StepAside {
        /// When.
        due_at: Timestamp,
        /// Why.
        reason: EndReason,
        /// The integration's lane without order; made where it is missing.
        lane: LaneSeed,
    },
    /// It ends as a dead letter.
    Dead {
        /// Why.
        reason: EndReason,
    },
    /// A transformation dropped it, or a deferred filter does not want it.
    Skipped {
        /// Why.
        reason: EndReason,
    },
    /// It was called off.
    Cancelled {
        /// Why.
        reason: EndReason,
    },
    /// Its time is over.
    Expired,
}

impl Next {
    /// The state that follows a lease.
    #[must_use]
    pub const fn state(&self) -> DeliveryState {
        match self {
            Self::Retry { .. } | Self::Refund { .. } | Self::StepAside { .. } => {
                DeliveryState::Ready
            }
            Self::Delivered => DeliveryState::Delivered,
            Self::Dead { .. } => DeliveryState::Dead,
            Self::Skipped { .. } => DeliveryState::Skipped,
            Self::Cancelled { .. } => DeliveryState::Cancelled,
            Self::Expired => DeliveryState::Expired,
        }
    }

    /// Why, where there is a reason.
    #[must_use]
    pub const fn reason(&self) -> Option<&EndReason> {
        match self {
            Self::Retry { reason, .. }
            | Self::StepAside { reason, .. }
            | Self::Dead { reason }
            | Self::Skipped { reason }
            | Self::Cancelled { reason } => Some(reason),
            Self::Delivered | Self::Refund { .. } | Self::Expired => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip_and_nothing_final_is_claimable() {
        for state in DeliveryState::ALL {
            assert_eq!(state.as_str().parse::<DeliveryState>().unwrap(), state);
        }
        let open: Vec<_> = DeliveryState::ALL.into_iter().filter(|s| !s.is_final()).collect();
        assert_eq!(open, [DeliveryState::Ready, DeliveryState::Leased]);
        assert!("READY".parse::<DeliveryState>().is_err());
    }
}
