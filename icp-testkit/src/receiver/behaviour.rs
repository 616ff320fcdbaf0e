use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// What a receiver does with one request.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Reaction {
    /// Answers with this status and a short body.
    Status(u16),
    /// Answers with this status and a `Retry-After` of so many seconds.
    RetryAfter(u16, u64),
    /// Answers with this status and a `Retry-After` that is an HTTP date so many seconds ahead.
    RetryAfterDate(u16, u64),
    /// Answers 307 to this address.
    Redirect(String),
    /// Answers nothing until [`Receiver::release`](super::Receiver::release), then 200.
    Hang,
    /// Resets the connection without an answer.
    Reset,
    /// Answers 200 at once, then one byte of the body after each pause, without an end.
    SlowBody(Duration),
    /// Answers 200 with a body of so many bytes, as fast as they are taken.
    LargeBody(usize),
    /// Answers 200 with a body that is not what its `Content-Encoding` says: `gzip`.
    Undecodable,
}

impl Reaction {
    /// Takes the request.
    pub const OK: Self = Self::Status(200);

    /// Whether the sender sees a complete answer with a status of 200 to 299.
    #[must_use]
    pub fn is_success(&self) -> bool {
        matches!(self, Self::Status(200..=299))
    }
}

/// What a receiver does with the requests to one path.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Behaviour {
    /// The same for each.
    Always(Reaction),
    /// One reaction after the other, then `rest` for each.
    Script {
        /// For the first requests, in order of arrival.
        first: Vec<Reaction>,
        /// For all that follow.
        rest: Reaction,
    },
    /// One reaction to a single request, another behaviour before and after it.
    Once {
        /// The number of the request, from 0.
        at: usize,
        /// The reaction to it.
        reaction: Reaction,
        /// What is done with all others.
        otherwise: Box<Behaviour>,
    },
    /// Takes a part of the requests, drawn at random, otherwise than with 200.
    ///
    /// The draw depends on the seed, the `webhook-id` and how often that id came before, so it
    /// does not change with the order of arrival.
    Share {
        /// What the draws start from.
        seed: u64,
        /// How many of a hundred requests fail.
        percent: u32,
        /// How they fail, each as likely as the others.
        failures: Vec<Reaction>,
    },
}

impl Behaviour {
    /// `first` in order, then 200.
    #[must_use]
    pub fn script(first: impl Into<Vec<Reaction>>) -> Self {
        Self::Script { first: first.into(), rest: Reaction::OK }
    }

    /// The reaction to the request that came as number `count` (from 0) to its path, and as
    /// number `repeat` (from 0) with its `id`.
    pub(super) fn react(&self, count: usize, id: &str, repeat: usize) -> Reaction {
        match self {
            Self::Always(reaction) => reaction.clone(),
            Self::Script { first, rest } => first.get(count).unwrap_or(rest).clone(),
            Self::Once { at, reaction, .. } if *at == count => reaction.clone(),
            Self::Once { otherwise, .. } => otherwise.react(count, id, repeat),
            Self::Share { seed, percent, failures } => {
                let mut hasher = DefaultHasher::new();
                (seed, id, repeat).hash(&mut hasher);
                if id.is_empty() {
                    count.hash(&mut hasher);
                }
                let mut random = StdRng::seed_from_u64(hasher.finish());
                if failures.is_empty() || random.random_range(0..100) >= *percent {
                    return Reaction::OK;
                }
                failures[random.random_range(0..failures.len())].clone()
            }
        }
    }
}

impl From<Reaction> for Behaviour {
    fn from(reaction: Reaction) -> Self {
        Self::Always(reaction)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_ends_with_its_rest() {
        let behaviour = Behaviour::script([Reaction::Status(500), Reaction::Reset]);
        let reactions: Vec<_> = (0..4).map(|count| behaviour.react(count, "a", 0)).collect();
        let expected = [Reaction::Status(500), Reaction::Reset, Reaction::OK, Reaction::OK];
        assert_eq!(reactions, expected);
    }

    #[test]
    fn once_is_once() {
        let otherwise = Box::new(Reaction::Status(500).into());
        let behaviour = Behaviour::Once { at: 1, reaction: Reaction::Status(410), otherwise };
        let reactions: Vec<_> = (0..3).map(|count| behaviour.react(count, "a", 0)).collect();
        assert_eq!(reactions, [500, 410, 500].map(Reaction::Status));
    }

    #[test]
    fn a_share_is_met_and_repeats_itself() {
        let failures = vec![Reaction::Status(500), Reaction::Reset];
        let behaviour = Behaviour::Share { seed: 7, percent: 30, failures };
        let draw = |n: usize| behaviour.react(n, &format!("msg_{n}"), n % 3);
        let failed = (0..10_000).filter(|n| !draw(*n).is_success()).count();
        assert!((2_800..3_200).contains(&failed), "{failed}");
        let resets = (0..10_000).filter(|n| draw(*n) == Reaction::Reset).count();
        assert!((1_300..1_700).contains(&resets), "{resets}");
        assert!((0..100).all(|n| behaviour.react(1, "a", n) == behaviour.react(9, "a", n)));
    }
}
