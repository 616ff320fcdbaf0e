use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};

use super::health::{LaneHealth, LaneRules, Pace};
use crate::error::{Code, Error};
use crate::id::{OrgId, ResourceId};
use crate::time::Timestamp;

/// Names a lane; follows from organization, integration and order key, so every node names the
/// same lane alike.
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct LaneId([u8; 16]);

impl LaneId {
    /// The lane of `integration` for `order_key`.
    #[must_use]
    pub fn of(org: &OrgId, integration: &ResourceId, order_key: Option<&str>) -> Self {
        let mut hash = Sha256::new();
        hash.update(org.as_str());
        hash.update([0]);
        hash.update(integration.as_str());
        if let Some(key) = order_key {
            hash.update([0]);
            hash.update(key);
        }
        let mut id = [0; 16];
        id.copy_from_slice(&hash.finalize()[..16]);
        Self(id)
    }

    /// From the bytes that stores keep.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The bytes that stores keep.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; 16] {
        self.0
    }
}

impl fmt::Display for LaneId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("lane_")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for LaneId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let digits = text.strip_prefix("lane_").filter(|digits| {
            digits.len() == 32 && digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        });
        let bits = digits.and_then(|digits| u128::from_str_radix(digits, 16).ok());
        bits.map(|bits| Self(bits.to_be_bytes())).ok_or_else(|| {
            Error::new(Code::IdInvalid, "a lane is named by `lane_` and 32 hexadecimal digits")
        })
    }
}

impl Serialize for LaneId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for LaneId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl schemars::JsonSchema for LaneId {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "LaneId".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "pattern": "^lane_[0-9a-f]{32}$" })
    }
}

impl fmt::Debug for LaneId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Whether a lane keeps order.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LaneMode {
    /// Deliveries go side by side, up to the lane's limit.
    Parallel,
    /// One delivery at a time, in the order of their ids; a delivery that waits for its next
    /// try holds up those behind it.
    Fifo,
}

/// The unit of order, concurrency and fairness.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Lane {
    /// The id.
    pub id: LaneId,
    /// The organization.
    pub org: OrgId,
    /// The integration.
    pub integration: ResourceId,
    /// The order key of a fifo lane.
    pub order_key: Option<Arc<str>>,
    /// Whether it keeps order.
    pub mode: LaneMode,
    /// The organization's share.
    pub weight: u32,
    /// Virtual time: what the lane has used up, in strides. The lowest goes first.
    pub pass: i64,
    /// Whether a due delivery may be waiting.
    pub runnable: bool,
    /// When the next delivery gets due, where none is.
    pub next_due: Option<Timestamp>,
    /// How many deliveries are leased.
    pub in_flight: u32,
    /// How many may be.
    pub max_in_flight: u32,
    /// Until when nothing of it is claimed: the receiver asked to wait, the breaker is open, or
    /// the integration's rate is used up.
    pub blocked_until: Option<Timestamp>,
    /// Whether it rests.
    pub paused: bool,
    /// How it treats its receiver.
    pub rules: LaneRules,
    /// What is remembered of its receiver.
    pub health: LaneHealth,
    /// How fast its deliveries end.
    pub pace: Pace,
}

impl Lane {
    /// The pass one delivery costs an organization of weight 1 with one runnable lane.
    pub const STRIDE: i64 = 1 << 20;

    /// What one claimed delivery adds to the pass of a lane of an organization of `weight` that
    /// has `runnable` runnable lanes: an organization gains nothing by having many endpoints.
    ///
    /// Every store charges by this function.
    #[must_use]
    pub fn stride(weight: u32, runnable: u32) -> i64 {
        Self::STRIDE * i64::from(runnable.max(1)) / i64::from(weight.clamp(1, 100))
    }

    /// Whether nothing but deliveries could be lost with the lane: it keeps the order of a key,
    /// leases nothing, is in good health and not blocked.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.order_key.is_some()
            && self.in_flight == 0
            && self.blocked_until.is_none()
            && self.health.is_well()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_of_different_keys_differ() {
        let (org, integration) = (OrgId::new("a").unwrap(), ResourceId::new("b").unwrap());
        let plain = LaneId::of(&org, &integration, None);
        assert_eq!(plain, LaneId::of(&org, &integration, None));
        assert_ne!(plain, LaneId::of(&org, &integration, Some("")));
        assert_ne!(
            plain,
            LaneId::of(&OrgId::new("ab").unwrap(), &ResourceId::new("x").unwrap(), None)
        );
    }

    #[test]
    fn names_of_lanes_round_trip() {
        let lane = LaneId::from_bytes([0x0a; 16]);
        assert_eq!(lane.to_string().parse::<LaneId>().unwrap(), lane);
        for bad in ["", "lane_", "0a0a", "lane_+a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a", "LANE_00"] {
            assert_eq!(bad.parse::<LaneId>().unwrap_err().code(), Code::IdInvalid, "{bad}");
        }
    }

    #[test]
    fn many_lanes_gain_nothing() {
        assert_eq!(Lane::stride(1, 1) * 5, Lane::stride(1, 5));
        assert_eq!(Lane::stride(1, 1), Lane::stride(4, 1) * 4);
    }
}
