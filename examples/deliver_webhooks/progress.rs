//! How it goes: one line that is rewritten on a terminal, a line every two seconds elsewhere.

use std::io::{self, Write};
use std::time::Duration;

use icp::delivery::DeliveryState;
use icp::engine::Engine;
use icp::time::Timestamp;

use crate::scenario::Result;

const EVERY: Duration = Duration::from_secs(2);

pub(crate) struct Progress<'a> {
    out: &'a mut dyn Write,
    terminal: bool,
    begin: Timestamp,
    shown: Option<Timestamp>,
}

impl<'a> Progress<'a> {
    pub(crate) fn new(out: &'a mut dyn Write, terminal: bool, begin: Timestamp) -> Self {
        Self { out, terminal, begin, shown: None }
    }

    /// Shows how far the deliveries are; answers how many are still open.
    pub(crate) async fn show(&mut self, engine: &Engine) -> Result<u64> {
        let counts = engine.counts().await?;
        let total: u64 = counts.iter().map(|(_, count)| count).sum();
        let open: u64 = counts.iter().filter(|(s, _)| !s.is_final()).map(|(_, n)| n).sum();
        let now = engine.now();
        let due = self.shown.is_none_or(|shown| now.since(shown) >= EVERY);
        if !self.terminal && !due && open > 0 {
            return Ok(open);
        }
        self.shown = Some(now);
        let of = |state| counts.iter().find(|(s, _)| *s == state).map_or(0, |(_, count)| *count);
        let line = format!(
            "{:5.1} s  {} of {total} ended: {} delivered, {} dead, {} skipped",
            now.since(self.begin).as_secs_f64(),
            total - open,
            of(DeliveryState::Delivered),
            of(DeliveryState::Dead),
            of(DeliveryState::Skipped),
        );
        if self.terminal {
            write!(self.out, "\r\x1b[2K{line}")?;
            self.out.flush()?;
        } else {
            writeln!(self.out, "{line}")?;
        }
        Ok(open)
    }

    /// Leaves the line.
    pub(crate) fn end(&mut self) -> io::Result<()> {
        if self.terminal { writeln!(self.out) } else { Ok(()) }
    }
}
