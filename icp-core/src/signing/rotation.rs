//! Several keys at once, so that a key can be replaced without a failed request.

use crate::error::{Code, Error, Result};
use crate::time::Timestamp;

/// The most keys a ring holds.
pub const MAX_KEYS: usize = 10;

/// Keys in the order of preference, each with the moment it stops being used.
///
/// To rotate, put the new key in front and let the old one expire once every receiver knows the
/// new one; meanwhile both sign.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct KeyRing<K>(Vec<(K, Option<Timestamp>)>);

impl<K> KeyRing<K> {
    /// A ring of 1 to [`MAX_KEYS`] keys; one without a moment never expires.
    ///
    /// # Errors
    ///
    /// [`Code::SecretInvalid`] where there are none or too many.
    pub fn new(keys: impl IntoIterator<Item = (K, Option<Timestamp>)>) -> Result<Self> {
        let keys: Vec<_> = keys.into_iter().collect();
        if keys.is_empty() || keys.len() > MAX_KEYS {
            return Err(Error::new(
                Code::SecretInvalid,
                format!("{} keys are given; use 1 to {MAX_KEYS}", keys.len()),
            ));
        }
        Ok(Self(keys))
    }

    /// A ring of one key that never expires.
    #[must_use]
    pub fn single(key: K) -> Self {
        Self(vec![(key, None)])
    }

    /// The keys in use at `now`: a key is used until the moment it expires, which is outside.
    pub fn live(&self, now: Timestamp) -> impl Iterator<Item = &K> {
        self.0
            .iter()
            .filter(move |(_, expires_at)| expires_at.is_none_or(|moment| now < moment))
            .map(|(key, _)| key)
    }

    /// The same ring with each key put through `parse`.
    ///
    /// # Errors
    ///
    /// The first error of `parse`.
    pub fn try_map<T>(&self, mut parse: impl FnMut(&K) -> Result<T>) -> Result<KeyRing<T>> {
        let keys = self.0.iter().map(|(key, expires_at)| Ok((parse(key)?, *expires_at)));
        Ok(KeyRing(keys.collect::<Result<_>>()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    #[test]
    fn a_key_is_live_until_it_expires() {
        let ring = KeyRing::new([("new", None), ("old", Some(at(1000))), ("older", Some(at(10)))]);
        let ring = ring.unwrap();
        for (now, live) in [
            (0, vec!["new", "old", "older"]),
            (9, vec!["new", "old", "older"]),
            (10, vec!["new", "old"]),
            (999, vec!["new", "old"]),
            (1000, vec!["new"]),
            (i64::MAX, vec!["new"]),
        ] {
            assert_eq!(ring.live(at(now)).copied().collect::<Vec<_>>(), live, "{now}");
        }
    }

    #[test]
    fn a_ring_can_run_dry() {
        assert_eq!(KeyRing::new([("k", Some(at(5)))]).unwrap().live(at(5)).count(), 0);
    }

    #[test]
    fn the_size_is_bounded() {
        for (count, fine) in [(0, false), (1, true), (MAX_KEYS, true), (MAX_KEYS + 1, false)] {
            assert_eq!(KeyRing::new((0..count).map(|key| (key, None))).is_ok(), fine, "{count}");
        }
    }
}
