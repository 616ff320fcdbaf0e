//! What the engine has to tell about itself: operational events, delivered like any other.
//!
//! Their types begin with `icp.`, which hosts may not publish. An integration hears of them only
//! where a pattern of its own begins with `icp.`; `*` and `**` do not take them. What becomes of
//! their own deliveries is told to nobody, so that they cannot go in circles.

mod health;
mod tell;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub(crate) use health::{FAILING, Health, Observed, Step, next_step};
pub use health::{Failing, FailingSpec};
pub(crate) use tell::{dead, disabled, failing, poisoned, recovered};

use crate::delivery::EndReason;
use crate::id::{DeliveryId, EventId, ResourceId};
use crate::time::Timestamp;

/// An endpoint fails: at once when that is found, and at 50, 70 and 90 percent of the time after
/// which it is switched off. The body is an [`EndpointNotice`].
pub const ENDPOINT_FAILING: &str = "icp.endpoint.failing";
/// An integration was switched off by the engine. The body is an [`EndpointNotice`].
pub const ENDPOINT_DISABLED: &str = "icp.endpoint.disabled";
/// An endpoint that failed takes deliveries again. The body is an [`EndpointNotice`].
pub const ENDPOINT_RECOVERED: &str = "icp.endpoint.recovered";
/// A delivery ended as a dead letter. The body is a [`DeadNotice`].
pub const DELIVERY_DEAD: &str = "icp.delivery.dead";

/// The body of the `icp.endpoint.*` events.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[non_exhaustive]
pub struct EndpointNotice {
    /// The integration.
    pub integration: ResourceId,
    /// Since when it fails; absent where it said itself that it is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failing_since: Option<Timestamp>,
    /// How much of the time is over after which it is switched off, in percent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub percent: Option<u8>,
    /// Why it was switched off: `failing` or `gone`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// The body of `icp.delivery.dead`.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[non_exhaustive]
pub struct DeadNotice {
    /// The delivery.
    pub delivery: DeliveryId,
    /// Its event.
    pub event: EventId,
    /// The type of its event.
    pub event_type: String,
    /// Its integration.
    pub integration: ResourceId,
    /// How many tries were made.
    pub tries: u32,
    /// Why it ended.
    pub reason: EndReason,
}
