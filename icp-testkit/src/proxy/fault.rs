use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::pump::Way;

/// What goes wrong between a client and its server.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Fault {
    /// Everything arrives, in order, but later: each stretch of bytes after `delay` and up to
    /// `jitter` more, drawn from `seed`.
    Latency {
        /// The least that each stretch is late.
        delay: Duration,
        /// How much more it may be.
        jitter: Duration,
        /// What the draws start from.
        seed: u64,
    },
    /// No more than so many bytes pass in a second, each way of each connection.
    Bandwidth(u64),
    /// Nothing passes until [`heal`](super::Proxy::heal), and then everything does: a network that
    /// is cut, and whose packets are sent again.
    Stall,
    /// Connections are taken and nothing ever comes out of them: what is sent is swallowed.
    BlackHole,
    /// Every connection is reset, and every new one as soon as it is made.
    Reset,
    /// A connection is reset when its client sends something; that does not reach the server.
    ResetOnRequest,
    /// The client is told that no more answers come, while its requests go on to the server.
    HalfClose,
    /// A connection is reset in the middle of an answer, after its first so many bytes. An answer
    /// is what comes after a request; one that is not longer passes.
    CutAnswer(usize),
    /// A connection is reset instead of a request that fits: the server never sees it.
    CutBefore(Pattern),
    /// A request that fits reaches the server, and the connection is reset in place of its answer:
    /// the client cannot know what became of it.
    CutAfter(Pattern),
    /// The end of a connection is passed on after so long.
    SlowClose(Duration),
    /// No connection can be made; those that are open live on.
    Refused,
    /// So many of a hundred new connections are lost, drawn from the seed: they are made, and
    /// nothing ever comes out of them.
    LoseConnections {
        /// How many of a hundred.
        percent: u32,
        /// What the draws start from.
        seed: u64,
    },
}

/// Tells requests apart by their bytes, as they come from the client: one stretch of bytes is what
/// one read gave, which for the short commands of a database driver is the whole command.
#[derive(Clone)]
pub struct Pattern(Arc<Fits>);

type Fits = dyn Fn(&[u8]) -> bool + Send + Sync;

impl Pattern {
    /// Requests for which `fits` answers so.
    pub fn new(fits: impl Fn(&[u8]) -> bool + Send + Sync + 'static) -> Self {
        Self(Arc::new(fits))
    }

    /// Requests that hold `text`, in letters of either case.
    #[must_use]
    pub fn holding(text: impl Into<Vec<u8>>) -> Self {
        let text = text.into();
        Self::new(move |bytes| {
            bytes.windows(text.len().max(1)).any(|window| window.eq_ignore_ascii_case(&text))
        })
    }

    /// The end of a transaction in the protocols of PostgreSQL and MySQL (the statement `COMMIT`
    /// by itself) and of MongoDB (the command `commitTransaction`).
    #[must_use]
    pub fn commit() -> Self {
        Self::new(|bytes| is_statement(bytes, b"COMMIT") || holds(bytes, b"commitTransaction\0"))
    }

    /// Requests that fit this or `other`.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self::new(move |bytes| self.fits(bytes) || other.fits(bytes))
    }

    pub(super) fn fits(&self, bytes: &[u8]) -> bool {
        (self.0)(bytes)
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pattern")
    }
}

fn holds(bytes: &[u8], text: &[u8]) -> bool {
    bytes.windows(text.len()).any(|window| window == text)
}

/// Whether `word` stands there as a statement of its own: a text protocol has a byte of length or
/// of command before it and an end, a byte of zero or a new packet after it.
fn is_statement(bytes: &[u8], word: &[u8]) -> bool {
    bytes.windows(word.len()).enumerate().any(|(at, window)| {
        let before = at.checked_sub(1).map(|at| bytes[at]);
        let after = bytes.get(at + word.len());
        window.eq_ignore_ascii_case(word)
            && before.is_some_and(|byte| byte < b' ')
            && after.is_none_or(|byte| *byte < b' ' || *byte == b';')
    })
}

/// What is done with a new connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Welcome {
    Take,
    Reset,
    Lose,
}

/// What is done with a stretch of bytes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Verdict {
    Pass,
    Late(Duration),
    Hold,
    Swallow,
    /// So many bytes pass, then the connection is reset.
    CutAt(usize),
    /// It passes, and the connection is reset at the answer.
    PassAndCut,
}

impl Fault {
    /// What is done with the connection that is made as number `count` under this fault.
    pub(super) fn welcome(&self, count: u64) -> Welcome {
        match self {
            Self::Reset => Welcome::Reset,
            Self::LoseConnections { percent, seed } => {
                let mut random = StdRng::seed_from_u64(seed.wrapping_add(count));
                if random.random_range(0..100) < *percent { Welcome::Lose } else { Welcome::Take }
            }
            _ => Welcome::Take,
        }
    }

    /// What is done with `bytes`, of which `before` of the same answer came already.
    pub(super) fn judge(&self, way: Way, bytes: &[u8], before: usize, draw: u64) -> Verdict {
        match (self, way) {
            (Self::Latency { delay, jitter, seed }, _) => {
                let mut random = StdRng::seed_from_u64(seed.wrapping_add(draw));
                Verdict::Late(*delay + jitter.mul_f64(random.random_range(0.0..=1.0)))
            }
            (Self::Bandwidth(rate), _) => {
                let seconds = bytes.len() as f64 / (*rate).max(1) as f64;
                Verdict::Late(Duration::from_secs_f64(seconds))
            }
            (Self::Stall, _) => Verdict::Hold,
            (Self::BlackHole, _) | (Self::HalfClose, Way::Answer) => Verdict::Swallow,
            (Self::Reset, _) | (Self::ResetOnRequest, Way::Request) => Verdict::CutAt(0),
            (Self::CutAnswer(after), Way::Answer) if before + bytes.len() > *after => {
                Verdict::CutAt(after.saturating_sub(before))
            }
            (Self::CutBefore(pattern), Way::Request) if pattern.fits(bytes) => Verdict::CutAt(0),
            (Self::CutAfter(pattern), Way::Request) if pattern.fits(bytes) => Verdict::PassAndCut,
            _ => Verdict::Pass,
        }
    }

    /// Whether each stretch waits for the one before it to be through.
    pub(super) fn is_narrow(&self) -> bool {
        matches!(self, Self::Bandwidth(_))
    }

    /// How much later the end of a connection is passed on.
    pub(super) fn close_after(&self) -> Duration {
        match self {
            Self::SlowClose(pause) => *pause,
            _ => Duration::ZERO,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_is_told_in_every_protocol() {
        let commit = Pattern::commit();
        for request in [
            &b"Q\0\0\0\x0bCOMMIT\0"[..],
            b"\x07\0\0\0\x03COMMIT",
            b"\x07\0\0\0\x03commit",
            b"Q\0\0\0\x0ccommit;\0",
            b"P\0\0\0\x0f\0COMMIT\0\0\0B\0\0\0\x0c\0\0\0\0\0\0\0\0",
            b"\x10commitTransaction\0\x01\0\0\0",
        ] {
            assert!(commit.fits(request), "{}", request.escape_ascii());
        }
        for request in [
            &b"Q\0\0\0\x30INSERT INTO t VALUES ('to COMMIT or not')\0"[..],
            b"\x10abortTransaction\0",
            b"Q\0\0\0\x0dCOMMITTED\0",
            b"",
        ] {
            assert!(!commit.fits(request), "{}", request.escape_ascii());
        }
        let either = Pattern::holding("insert").or(Pattern::holding("commit"));
        assert!(either.fits(b"\x03INSERT INTO t") && either.fits(b"...Commit"));
        assert!(!either.fits(b"SELECT 1"));
    }

    #[test]
    fn draws_repeat_themselves_and_meet_their_share() {
        let fault = Fault::LoseConnections { percent: 50, seed: 7 };
        let lost = (0..10_000).filter(|n| fault.welcome(*n) == Welcome::Lose).count();
        assert!((4_700..5_300).contains(&lost), "{lost}");
        assert!((0..100).all(|n| fault.welcome(n) == fault.welcome(n)));
        let (delay, jitter) = (Duration::from_millis(10), Duration::from_millis(5));
        let fault = Fault::Latency { delay, jitter, seed: 7 };
        let late: Vec<_> = (0..100).map(|n| fault.judge(Way::Request, b"x", 0, n)).collect();
        for verdict in &late {
            let Verdict::Late(by) = verdict else { panic!("{verdict:?}") };
            assert!((delay..=delay + jitter).contains(by), "{by:?}");
        }
        assert_ne!(late[0], late[1]);
    }

    #[test]
    fn an_answer_is_cut_where_it_grows_too_long() {
        let fault = Fault::CutAnswer(6);
        assert_eq!(fault.judge(Way::Answer, b"1234", 0, 0), Verdict::Pass);
        assert_eq!(fault.judge(Way::Answer, b"1234", 4, 0), Verdict::CutAt(2));
        assert_eq!(fault.judge(Way::Answer, b"1234567", 0, 0), Verdict::CutAt(6));
        assert_eq!(fault.judge(Way::Request, b"1234567", 0, 0), Verdict::Pass);
    }
}
