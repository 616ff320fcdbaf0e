use std::fmt;

use crate::{access, egress, integration, organization, queue, signing, transform};

/// Does an operation once.
pub type Round = Box<dyn FnMut()>;

/// How long what is prepared for an operation serves it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Lasts {
    /// For as many rounds as one likes.
    Forever,
    /// For the rounds that it was prepared for: each uses something up.
    ForRounds,
}

/// Something that is timed and counted.
pub struct Operation {
    /// The name, as in `match/10000`.
    pub name: &'static str,
    /// How many of what the name says one round does.
    pub each: u32,
    /// How long what is prepared serves.
    pub lasts: Lasts,
    prepare: fn(rounds: u32) -> Round,
}

impl Operation {
    const fn new(name: &'static str, prepare: fn(u32) -> Round) -> Self {
        Self { name, each: 1, lasts: Lasts::Forever, prepare }
    }

    /// One round of which does `each` deliveries, and uses them up.
    const fn batch(name: &'static str, prepare: fn(u32) -> Round) -> Self {
        Self { name, each: queue::BATCH, lasts: Lasts::ForRounds, prepare }
    }

    /// Makes everything ready for so many rounds.
    #[must_use]
    pub fn prepare(&self, rounds: u32) -> Round {
        (self.prepare)(rounds)
    }

    /// The operation of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<&'static Self> {
        OPERATIONS.iter().find(|operation| operation.name == name)
    }
}

impl fmt::Debug for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Operation").field("name", &self.name).finish_non_exhaustive()
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// Every operation.
pub const OPERATIONS: &[Operation] = &[
    Operation::new("match/1", |_| integration::matching(1, integration::By::Type)),
    Operation::new("match/100", |_| integration::matching(100, integration::By::Type)),
    Operation::new("match/10000", |_| integration::matching(10_000, integration::By::Type)),
    Operation::new("match/10000 patterns", |_| {
        integration::matching(10_000, integration::By::Pattern)
    }),
    Operation::new("filter/declarative", |_| integration::filter(integration::DECLARATIVE)),
    Operation::new("filter/jmespath", |_| integration::filter(integration::JMESPATH)),
    Operation::new("transform/mapping", |_| transform::mapping()),
    Operation::new("transform/jmespath", |_| transform::jmespath()),
    Operation::new("sign", |_| signing::sign()),
    Operation::new("verify", |_| signing::verify()),
    Operation::batch("claim/memory", |rounds| queue::claims(queue::Kind::Memory, rounds)),
    Operation::batch("claim/sqlite", |rounds| queue::claims(queue::Kind::Sqlite, rounds)),
    Operation::batch("settle/memory", |rounds| queue::settles(queue::Kind::Memory, rounds)),
    Operation::batch("settle/sqlite", |rounds| queue::settles(queue::Kind::Sqlite, rounds)),
    Operation::batch("deliver/memory", |rounds| queue::delivers(queue::Kind::Memory, rounds)),
    Operation::batch("deliver/sqlite", |rounds| queue::delivers(queue::Kind::Sqlite, rounds)),
    Operation::new("publish/1", |_| organization::publish(1, organization::Beside::Nothing)),
    Operation::new("publish/10", |_| organization::publish(10, organization::Beside::Nothing)),
    Operation::new("index update/10000", |_| organization::update(10_000)),
    Operation::new("api key", |_| access::key()),
    Operation::new("egress/address", |_| egress::address()),
    Operation::new("egress/url", |_| egress::url()),
];
