use serde::{Deserialize, Serialize};

use super::Verdict;
use crate::time::Timestamp;

/// A lane that lets fewer deliveries go side by side than it may, as its receiver was overloaded.
///
/// Halved by an overloaded answer, at most once for what was under way together; one more after
/// as many deliveries as go side by side.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Narrowed {
    /// How many deliveries go side by side, from 1.
    pub limit: u32,
    /// Deliveries since the limit last changed.
    credit: u32,
    /// When it was last halved.
    cut_at: i64,
}

impl Narrowed {
    /// What an attempt that began at `started` makes of `before`; `None` at the `ceiling`.
    #[must_use]
    pub fn after(
        before: Option<Self>,
        ceiling: u32,
        verdict: Verdict,
        started: Timestamp,
        now: Timestamp,
    ) -> Option<Self> {
        let ceiling = ceiling.max(1);
        let after = match (verdict, before) {
            (Verdict::Overloaded, Some(seen)) if started.as_millis() <= seen.cut_at => Some(seen),
            (Verdict::Overloaded, seen) => {
                let limit = seen.map_or(ceiling, |seen| seen.limit).min(ceiling) / 2;
                Some(Self { limit: limit.max(1), credit: 0, cut_at: now.as_millis() })
            }
            (Verdict::Delivered, Some(seen)) => Some(seen.widened()),
            (_, seen) => seen,
        };
        after.filter(|after| after.limit < ceiling)
    }

    fn widened(mut self) -> Self {
        self.credit += 1;
        if self.credit >= self.limit {
            self.limit = self.limit.saturating_add(1);
            self.credit = 0;
        }
        self
    }
}
