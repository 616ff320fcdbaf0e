//! Identifiers: typed, ordered by time, with a readable prefix.

use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::{Code, Error};
use crate::time::{Clock, Timestamp};

const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
const DIGITS: usize = 26;

macro_rules! ids {
    ($($(#[doc = $doc:literal])+ $name:ident = $prefix:literal;)+) => {$(
        $(#[doc = $doc])+
        ///
        /// 128 bits laid out as UUIDv7; the text form is the prefix
        #[doc = concat!("`", $prefix, "_`")]
        /// and 26 digits of lower-case Crockford base 32, which sorts by time.
        #[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
        pub struct $name(u128);

        impl $name {
            /// The prefix of the text form, without the underscore.
            pub const PREFIX: &'static str = $prefix;

            /// The next id of `source`.
            pub fn generate(source: &dyn IdSource) -> Self {
                Self(source.next())
            }

            /// From the 16 bytes that stores keep.
            #[must_use]
            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(u128::from_be_bytes(bytes))
            }

            /// The 16 bytes that stores keep; they sort as the id does.
            #[must_use]
            pub const fn to_bytes(self) -> [u8; 16] {
                self.0.to_be_bytes()
            }

            /// The moment the id was made.
            #[must_use]
            pub fn timestamp(self) -> Timestamp {
                Timestamp::from_millis(i64::try_from(self.0 >> 80).unwrap_or(i64::MAX))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write(f, $prefix, self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write(f, $prefix, self.0)
            }
        }

        impl FromStr for $name {
            type Err = Error;

            fn from_str(text: &str) -> Result<Self, Error> {
                read($prefix, text).map(Self)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }

        impl schemars::JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({
                    "type": "string",
                    "pattern": concat!("^", $prefix, "_[0-9a-hjkmnp-tv-z]{26}$"),
                })
            }
        }
    )+};
}

ids! {
    /// Names an event; also the `webhook-id` of every request that carries it.
    EventId = "evt";
    /// Names a delivery: one event bound to one integration.
    DeliveryId = "dlv";
    /// Names one run of one engine, the owner of its leases.
    SessionId = "ses";
    /// Names a replay: a job that sends a range of events again.
    ReplayId = "rpl";
    /// Names an API key.
    ApiKeyId = "key";
}

fn write(f: &mut fmt::Formatter<'_>, prefix: &str, value: u128) -> fmt::Result {
    let mut digits = [0u8; DIGITS];
    for (place, digit) in digits.iter_mut().rev().enumerate() {
        *digit = ALPHABET[usize::try_from((value >> (5 * place)) & 31).unwrap_or_default()];
    }
    f.write_str(prefix)?;
    f.write_str("_")?;
    f.write_str(std::str::from_utf8(&digits).map_err(|_| fmt::Error)?)
}

fn read(prefix: &str, text: &str) -> Result<u128, Error> {
    let refuse = || {
        let shown: String = text.chars().take(64).collect();
        Error::new(
            Code::IdInvalid,
            format!("`{shown}` is not an id of the form `{prefix}_` and 26 letters or digits"),
        )
    };
    let digits = text
        .strip_prefix(prefix)
        .and_then(|rest| rest.strip_prefix('_'))
        .filter(|rest| rest.len() == DIGITS)
        .ok_or_else(refuse)?;
    let mut value: u128 = 0;
    for (place, byte) in digits.bytes().enumerate() {
        let digit = ALPHABET.iter().position(|a| *a == byte).ok_or_else(refuse)?;
        if place == 0 && digit > 7 {
            return Err(refuse());
        }
        value = value << 5 | digit as u128;
    }
    Ok(value)
}

/// The tenant: an opaque text of 1 to 64 characters out of `A-Z a-z 0-9 . _ -`, which does not
/// begin with a dot.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct OrgId(Arc<str>);

/// Names a resource within its organization and kind; the same form as [`OrgId`].
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ResourceId(Arc<str>);

macro_rules! names {
    ($($name:ident = $what:literal, $generated:literal;)+) => {$(
        impl $name {
            /// Takes `text` as a name.
            ///
            /// # Errors
            ///
            /// [`Code::IdInvalid`] where the text is not of the form the type describes.
            pub fn new(text: impl AsRef<str>) -> Result<Self, Error> {
                let text = text.as_ref();
                let fine = (1..=64).contains(&text.len())
                    && !text.starts_with('.')
                    && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
                if fine {
                    return Ok(Self(text.into()));
                }
                let shown: String = text.chars().take(64).collect();
                Err(Error::new(
                    Code::IdInvalid,
                    format!(
                        concat!("`{}` is not ", $what, " id: use 1 to 64 of A-Z a-z 0-9 . _ -, not beginning with a dot"),
                        shown,
                    ),
                ))
            }

            /// A new name, unique and ordered by time.
            pub fn generate(source: &dyn IdSource) -> Self {
                struct Text(u128);
                impl fmt::Display for Text {
                    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        write(f, $generated, self.0)
                    }
                }
                Self(Text(source.next()).to_string().into())
            }

            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// The text, shared and not copied.
            #[must_use]
            pub fn shared(&self) -> Arc<str> {
                Arc::clone(&self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = Error;

            fn from_str(text: &str) -> Result<Self, Error> {
                Self::new(text)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                Self::new(text).map_err(serde::de::Error::custom)
            }
        }

        impl schemars::JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({
                    "type": "string",
                    "minLength": 1,
                    "maxLength": 64,
                    "pattern": "^[A-Za-z0-9_-][A-Za-z0-9._-]*$",
                })
            }
        }
    )+};
}

names! {
    OrgId = "an organization", "org";
    ResourceId = "a resource", "res";
}

/// The source of new identifiers of an engine.
pub trait IdSource: fmt::Debug + Send + Sync + 'static {
    /// A fresh id: UUIDv7 bits, greater than every id this source gave before.
    fn next(&self) -> u128;
}

/// Ids from a clock and a random generator, monotonic within the source.
#[derive(Debug)]
pub struct ClockIds<C> {
    clock: C,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    rng: StdRng,
    last: u128,
}

impl<C: Clock> ClockIds<C> {
    /// Ids that cannot be guessed, seeded by the operating system.
    ///
    /// # Errors
    ///
    /// [`Code::Internal`] where the operating system gives no random bytes.
    pub fn new(clock: C) -> Result<Self, Error> {
        let mut seed = [0u8; 32];
        getrandom::fill(&mut seed).map_err(|error| {
            Error::new(Code::Internal, "the operating system gave no random bytes").caused_by(error)
        })?;
        Ok(Self::with_rng(clock, StdRng::from_seed(seed)))
    }

    /// Ids that repeat for the same seed and clock, for tests.
    pub fn seeded(clock: C, seed: u64) -> Self {
        Self::with_rng(clock, StdRng::seed_from_u64(seed))
    }

    fn with_rng(clock: C, rng: StdRng) -> Self {
        Self { clock, state: Mutex::new(State { rng, last: 0 }) }
    }
}

impl<C: Clock> IdSource for ClockIds<C> {
    fn next(&self) -> u128 {
        let millis = u128::from(self.clock.now().as_millis().unsigned_abs());
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let random = u128::from(state.rng.next_u64()) << 64 | u128::from(state.rng.next_u64());
        // Within one millisecond, or when the clock steps back, counting up from the last id by a
        // random step keeps ids ordered and hard to guess.
        let fresh = uuid7(millis, random);
        let next = if fresh > state.last && state.last >> 80 != millis {
            fresh
        } else {
            successor(state.last, (random & 0xffff_ffff) | 1)
        };
        state.last = next;
        next
    }
}

fn uuid7(millis: u128, random: u128) -> u128 {
    let rand_a = random >> 64 & 0xfff;
    let rand_b = random & ((1 << 61) - 1);
    millis << 80 | 0x7 << 76 | rand_a << 64 | 0b10 << 62 | rand_b
}

fn successor(last: u128, step: u128) -> u128 {
    let low = last & ((1 << 62) - 1);
    let mid = last >> 64 & 0xfff;
    let count = (mid << 62 | low) + step;
    let (mid, low) = (count >> 62, count & ((1 << 62) - 1));
    let millis = (last >> 80) + (mid >> 12);
    millis << 80 | 0x7 << 76 | (mid & 0xfff) << 64 | 0b10 << 62 | low
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Debug)]
    struct Still(Mutex<i64>);

    impl Clock for Still {
        fn now(&self) -> Timestamp {
            Timestamp::from_millis(*self.0.lock().unwrap())
        }

        fn monotonic(&self) -> std::time::Duration {
            std::time::Duration::ZERO
        }
    }

    #[test]
    fn ids_grow_even_when_the_clock_steps_back() {
        let clock = Arc::new(Still(Mutex::new(1_700_000_000_000)));
        let ids = ClockIds::seeded(Arc::clone(&clock), 1);
        let mut last = 0;
        for round in 0..10_000 {
            if round == 5_000 {
                *clock.0.lock().unwrap() -= 60_000;
            }
            let next = ids.next();
            assert!(next > last);
            assert_eq!(next >> 76 & 0xf, 7);
            assert_eq!(next >> 62 & 0b11, 0b10);
            last = next;
        }
    }

    #[test]
    fn text_form_is_strict() {
        let id = EventId::from_bytes([7; 16]);
        assert_eq!(id.to_string().parse::<EventId>().unwrap(), id);
        for bad in [
            "",
            "evt_",
            "dlv_00000000000000000000000000",
            "evt_8zzzzzzzzzzzzzzzzzzzzzzzzz",
            "evt_0000000000000000000000000U",
            "evt_00000000000000000000000000 ",
        ] {
            assert_eq!(bad.parse::<EventId>().unwrap_err().code(), Code::IdInvalid, "{bad}");
        }
    }

    #[test]
    fn organization_ids_are_bounded() {
        assert!(OrgId::new("acme-1.eu_x").is_ok());
        for bad in ["", ".hidden", "a b", "a/b", "ä", &"x".repeat(65)] {
            assert!(OrgId::new(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn text_and_bytes_round_trip(value: u128) {
            let id = DeliveryId::from_bytes(value.to_be_bytes());
            prop_assert_eq!(id.to_string().parse::<DeliveryId>().unwrap(), id);
            prop_assert_eq!(id.to_bytes(), value.to_be_bytes());
        }

        #[test]
        fn text_sorts_as_the_bits_do(a: u128, b: u128) {
            let (x, y) = (EventId::from_bytes(a.to_be_bytes()), EventId::from_bytes(b.to_be_bytes()));
            prop_assert_eq!(x.to_string().cmp(&y.to_string()), a.cmp(&b));
        }
    }
}
