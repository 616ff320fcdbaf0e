use std::time::Duration;

use crate::error::{Code, Error, Result, Violation};
use crate::event::EventLimits;
use crate::retention::Retention;

/// The settings of an engine. Every field has a default that fits one node of a product.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct EngineConfig {
    /// What events may be. Default: bodies of 1 MiB, due times of 366 days ahead.
    pub events: EventLimits,
    /// How long an idempotency key is kept. Default 7 days.
    pub idempotency_window: Duration,
    /// How many attempts this node makes at once, up to 1,000,000. Default 2,048. An organization
    /// may hold three times what is free: one alone gets three quarters.
    pub max_in_flight: usize,
    /// How many deliveries are claimed in one go. Default 100.
    pub claim_batch: usize,
    /// How many outcomes are recorded in one go. Default 200.
    pub settle_batch: usize,
    /// How long an outcome may wait for others before it is recorded. Default 5 ms. Together with
    /// `settle_batch` this bounds what is sent twice after a crash.
    pub settle_linger: Duration,
    /// How many events are taken in by one transaction. Default 256.
    pub publish_batch: usize,
    /// How long a transaction waits for more events where many come in at the same time. Default
    /// 1 ms; a publisher that is alone does not wait.
    pub publish_linger: Duration,
    /// How many events may wait for their transaction before more are refused as overloaded.
    /// Default 10,000.
    pub publish_queue: usize,
    /// How long a lease is valid before it is renewed or lost. Default 60 s.
    pub lease: Duration,
    /// How long one attempt may take at the very most, whatever its integration says. Default
    /// 150 s.
    pub attempt_deadline: Duration,
    /// How often this node shows that it lives. Default 2 s.
    pub beat: Duration,
    /// After how many missed beats a node is taken for dead. Default 5.
    pub missed_beats: u32,
    /// With how many rescues a delivery is poison. Default 3.
    pub max_rescues: u32,
    /// How often the store is asked for due deliveries where nothing hints at any. Default 1 s.
    pub poll: Duration,
    /// How often the change feed is read. Default 500 ms.
    pub feed: Duration,
    /// How often expired deliveries and sleeping lanes are looked for. Default 5 s.
    pub sweep: Duration,
    /// How often the outbox is read where nothing hints at a row. Default 250 ms.
    pub relay: Duration,
    /// How often replays of other nodes are looked for. Default 1 s.
    pub replay: Duration,
    /// How many test deliveries this node makes for one organization in a minute. Default 20; with
    /// 0 it makes none.
    pub tests_per_minute: u32,
    /// How often it is looked for records that are older than they are kept. Default 60 s.
    pub prune: Duration,
    /// How long records are kept where an organization does not say so itself; each at least one
    /// hour.
    pub retention: Retention,
    /// How many organizations are held ready in memory. Default 10,000.
    pub index_capacity: usize,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            events: EventLimits::default(),
            idempotency_window: Duration::from_secs(7 * 86_400),
            max_in_flight: 2_048,
            claim_batch: 100,
            settle_batch: 200,
            settle_linger: Duration::from_millis(5),
            publish_batch: 256,
            publish_linger: Duration::from_millis(1),
            publish_queue: 10_000,
            lease: Duration::from_secs(60),
            attempt_deadline: Duration::from_secs(150),
            beat: Duration::from_secs(2),
            missed_beats: 5,
            max_rescues: 3,
            poll: Duration::from_secs(1),
            feed: Duration::from_millis(500),
            sweep: Duration::from_secs(5),
            relay: Duration::from_millis(250),
            replay: Duration::from_secs(1),
            tests_per_minute: 20,
            prune: Duration::from_secs(60),
            retention: Retention::default(),
            index_capacity: 10_000,
        }
    }
}

/// More attempts at once than a process has sockets for.
const MOST_IN_FLIGHT: usize = 1_000_000;

impl EngineConfig {
    pub(super) fn validate(&self) -> Result<()> {
        let mut violations = Vec::new();
        let mut check = |fine: bool, field: &str, message: &str| {
            if !fine {
                violations.push(Violation::new(format!("/{field}"), "out_of_range", message));
            }
        };
        let positive = "must be at least 1";
        check(
            (1..=MOST_IN_FLIGHT).contains(&self.max_in_flight),
            "max_in_flight",
            "use 1 to 1000000",
        );
        check((1..=1_000).contains(&self.claim_batch), "claim_batch", "use 1 to 1000");
        check((1..=1_000).contains(&self.settle_batch), "settle_batch", "use 1 to 1000");
        check((1..=1_000).contains(&self.publish_batch), "publish_batch", "use 1 to 1000");
        check(self.publish_queue > 0, "publish_queue", positive);
        check(self.missed_beats >= 2, "missed_beats", "must be at least 2");
        check(self.max_rescues > 0, "max_rescues", positive);
        check(self.index_capacity > 0, "index_capacity", positive);
        for (field, value) in [
            ("attempt_deadline", self.attempt_deadline),
            ("beat", self.beat),
            ("poll", self.poll),
            ("feed", self.feed),
            ("sweep", self.sweep),
            ("relay", self.relay),
            ("replay", self.replay),
            ("prune", self.prune),
        ] {
            check(!value.is_zero(), field, "must be longer than zero");
        }
        for (field, value) in self.retention.fields() {
            let hour = Duration::from_secs(3_600);
            check(value >= hour, &format!("retention/{field}"), "must be at least one hour");
        }
        check(
            self.lease >= self.beat * self.missed_beats,
            "lease",
            "must not be shorter than `beat` times `missed_beats`",
        );
        if violations.is_empty() {
            return Ok(());
        }
        Err(Error::violations(Code::ConfigInvalid, violations).during("build engine"))
    }
}
