use std::time::Duration;

use crate::time::Timestamp;

const MINUTE: i64 = 60_000;

/// How many deliveries of a lane ended in the running minute and in the one before: enough to
/// tell how fast it goes, in what a settle writes anyway.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Pace {
    /// The running minute, counted from 1970.
    pub minute: i64,
    /// How many ended in it.
    pub ended: u64,
    /// How many ended in the minute before.
    pub before: u64,
}

impl Pace {
    /// The minute that `now` is in.
    #[must_use]
    pub const fn minute_of(now: Timestamp) -> i64 {
        now.as_millis() / MINUTE
    }

    /// Counts `ended` deliveries.
    #[must_use]
    pub fn counted(self, ended: u64, now: Timestamp) -> Self {
        let turned = self.turned(now);
        Self { ended: turned.ended + ended, ..turned }
    }

    fn turned(self, now: Timestamp) -> Self {
        let minute = Self::minute_of(now);
        match minute - self.minute {
            ..=0 => self,
            1 => Self { minute, ended: 0, before: self.ended },
            _ => Self { minute, ended: 0, before: 0 },
        }
    }

    /// How long `count` deliveries take at the pace of the running minute and the one before;
    /// `None` where none ended in them.
    #[must_use]
    pub fn time_for(self, count: u64, now: Timestamp) -> Option<Duration> {
        let turned = self.turned(now);
        let ended = turned.ended + turned.before;
        if count == 0 {
            return Some(Duration::ZERO);
        }
        let running = now.as_millis().rem_euclid(MINUTE);
        let span = if turned.before > 0 { MINUTE + running } else { running.max(1_000) };
        let millis = count.saturating_mul(span.unsigned_abs()).checked_div(ended)?;
        Some(Duration::from_millis(millis))
    }
}
