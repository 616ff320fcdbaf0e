//! The ledger: what was published is delivered, dead or still to be done, and nothing is missing.

use std::time::Duration;

use icp::delivery::DeliveryState;
use serde::Serialize;

use crate::Result;
use crate::engine::Subject;
use crate::receiver::{Receiver, Stats};

/// The account of one run.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Ledger {
    pub(crate) published: u64,
    pub(crate) delivered: u64,
    pub(crate) dead: u64,
    pub(crate) outstanding: u64,
    pub(crate) received: u64,
    pub(crate) duplicates: u64,
    pub(crate) broken_invariants: bool,
}

impl Ledger {
    /// Whether it closes.
    pub(crate) fn closes(&self) -> bool {
        !self.broken_invariants
            && self.published == self.delivered + self.dead + self.outstanding
            && self.received >= self.delivered
    }
}

/// Waits until at most `outstanding` deliveries are open, then reads the account.
pub(crate) async fn settle(
    subject: &Subject,
    receiver: &Receiver,
    published: u64,
    outstanding: u64,
) -> Result<(Ledger, Stats)> {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(120);
    loop {
        let counts = subject.engine.counts().await?;
        let count = |wanted: &[DeliveryState]| -> u64 {
            counts.iter().filter(|(state, _)| wanted.contains(state)).map(|(_, n)| n).sum()
        };
        let open = count(&[DeliveryState::Ready, DeliveryState::Leased]);
        if open <= outstanding || tokio::time::Instant::now() > deadline {
            let stats = receiver.stats().await?;
            let ledger = Ledger {
                published,
                delivered: count(&[DeliveryState::Delivered]),
                dead: count(&[DeliveryState::Dead]),
                outstanding: open,
                received: stats.distinct,
                duplicates: stats.requests - stats.distinct,
                broken_invariants: !subject.engine.verify().await?.is_clean(),
            };
            return Ok((ledger, stats));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
