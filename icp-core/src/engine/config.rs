use std::time::Duration;

use crate::error::{Code, Error, Result, Violation};
use crate::event::EventLimits;
use crate::lookup::LookupLimits;
use crate::retention::Retention;

/// The settings of an engine. Every field has a default that fits one node of a product.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct EngineConfig {
    /// What events may be. Default: bodies of 1 MiB, due times of 366 days ahead.
    pub events: EventLimits,
    /// How long an idempotency key is kept, up to 3,660 days. Default 7 days.
    pub idempotency_window: Duration,
    /// How many attempts this node makes at once, up to 1,000,000. Default 2,048. An organization
    /// may hold three times what is free: one alone gets three quarters.
    pub max_in_flight: usize,
    /// How many deliveries are claimed in one go. Default 100.
    pub claim_batch: usize,
    /// How many outcomes are recorded in one go. Default 200.
    pub settle_batch: usize,
    /// How long an outcome may wait for others before it is recorded, up to 10 s; 0 does not wait.
    /// Default 5 ms. Together with `settle_batch` this bounds what is sent twice after a crash.
    pub settle_linger: Duration,
    /// How many events are taken in by one transaction. Default 256.
    pub publish_batch: usize,
    /// How long a transaction waits for more events where many come in at the same time, up to
    /// 10 s; 0 does not wait. Default 1 ms; a publisher that is alone does not wait.
    pub publish_linger: Duration,
    /// How many events may wait for their transaction before more are refused as overloaded.
    /// Default 10,000.
    pub publish_queue: usize,
    /// How long a lease is valid before it is renewed or lost, up to a day. Default 60 s.
    pub lease: Duration,
    /// How long one attempt may take at the very most, whatever its integration says; up to an
    /// hour. Default 150 s.
    pub attempt_deadline: Duration,
    /// How often this node shows that it lives. This and each interval below is more than zero and
    /// at most a day. Default 2 s.
    pub beat: Duration,
    /// After how many missed beats a node is taken for dead, 2 to 1,000. Default 5.
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
    /// After how long without work this node dozes, up to a day; 0 never. Default 60 s.
    ///
    /// Only where the store brings it the hints of other processes (PostgreSQL that may listen, see
    /// [`Store::hears`](crate::store::Store::hears)), where no event source is registered, and while
    /// nobody follows live streams. A node that dozes delivers as before: it is roused at once by
    /// whoever uses it, by what gets due, and by other nodes with work. What gives no hint waits
    /// longer then: a row of the outbox that another program wrote up to a third of this, and
    /// expiries, automatic rounds of dead letters and records to be removed up to ten times this. A
    /// host that writes rows without hints keeps its nodes awake for sixty times this. All nodes of
    /// a store should have the same.
    pub doze: Duration,
    /// How many test deliveries this node makes for one organization in a minute. Default 20; with
    /// 0 it makes none.
    pub tests_per_minute: u32,
    /// How many transformations and filters this node runs dry for one organization in a minute.
    /// Default 120; with 0 it runs none.
    pub dry_runs_per_minute: u32,
    /// How often it is looked for records that are older than they are kept; up to 32 times as seldom
    /// where none are found. Default 60 s.
    pub prune: Duration,
    /// How often sums of outcomes are written for analytics; a node that is killed loses what it
    /// counted since. Default 10 s.
    pub tally: Duration,
    /// How long records are kept where an organization does not say so itself; each at least one
    /// hour.
    pub retention: Retention,
    /// How large lookup tables may be. Default: 10,000 entries and 1 MiB each, 200 tables and
    /// 16 MiB for an organization.
    pub lookups: LookupLimits,
    /// How many organizations are held ready in memory. Default 10,000.
    pub index_capacity: usize,
    /// For how many organizations metrics are counted apart, up to 10,000; all beyond share the
    /// label `(other)`. Default 0: no metric has an organization as a label.
    pub organization_metrics: usize,
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
            doze: Duration::from_secs(60),
            tests_per_minute: 20,
            dry_runs_per_minute: 120,
            prune: Duration::from_secs(60),
            tally: Duration::from_secs(10),
            retention: Retention::default(),
            lookups: LookupLimits::default(),
            index_capacity: 10_000,
            organization_metrics: 0,
        }
    }
}

/// More attempts at once than a process has sockets for.
const MOST_IN_FLIGHT: usize = 1_000_000;

const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);
/// Longer than anything is gained by waiting for company.
const LONGEST_LINGER: Duration = Duration::from_secs(10);

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
        check(self.events.max_body > 0, "events/max_body", positive);
        check((2..=1_000).contains(&self.missed_beats), "missed_beats", "use 2 to 1000");
        check(self.max_rescues > 0, "max_rescues", positive);
        check(self.index_capacity > 0, "index_capacity", positive);
        check(self.organization_metrics <= 10_000, "organization_metrics", "use at most 10000");
        let most = LookupLimits::MAX;
        let entries = (1..=most.entries).contains(&self.lookups.entries);
        check(entries, "lookups/entries", "use 1 to 100000");
        let bytes = (1..=most.bytes).contains(&self.lookups.bytes);
        check(bytes, "lookups/bytes", "use 1 to 8388608");
        let tables = (1..=most.tables).contains(&self.lookups.tables);
        check(tables, "lookups/tables", "use 1 to 10000");
        let all = (1..=most.all_bytes).contains(&self.lookups.all_bytes);
        check(all, "lookups/all_bytes", "use 1 to 1073741824");
        for (field, value, most, message) in self.times() {
            check(!value.is_zero() && value <= most, field, message);
        }
        for (field, value) in
            [("settle_linger", self.settle_linger), ("publish_linger", self.publish_linger)]
        {
            check(value <= LONGEST_LINGER, field, "use at most 10 seconds");
        }
        check(self.doze <= DAY, "doze", "use at most one day");
        for (field, value) in self.retention.fields() {
            check(value >= HOUR, &format!("retention/{field}"), "must be at least one hour");
        }
        check(
            self.lease >= self.beat.saturating_mul(self.missed_beats),
            "lease",
            "must not be shorter than `beat` times `missed_beats`",
        );
        if violations.is_empty() {
            return Ok(());
        }
        Err(Error::violations(Code::ConfigInvalid, violations).during("build engine"))
    }

    /// The times that cannot be zero, each with its longest.
    fn times(&self) -> [(&'static str, Duration, Duration, &'static str); 11] {
        let day = "must be longer than zero and at most one day";
        [
            ("attempt_deadline", self.attempt_deadline, HOUR, "use up to one hour, but not zero"),
            ("beat", self.beat, DAY, day),
            ("poll", self.poll, DAY, day),
            ("feed", self.feed, DAY, day),
            ("sweep", self.sweep, DAY, day),
            ("relay", self.relay, DAY, day),
            ("replay", self.replay, DAY, day),
            ("prune", self.prune, DAY, day),
            ("tally", self.tally, DAY, day),
            ("lease", self.lease, DAY, day),
            (
                "idempotency_window",
                self.idempotency_window,
                DAY * 3_660,
                "use up to 3660 days, but not zero",
            ),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pointers(change: impl FnOnce(&mut EngineConfig)) -> Vec<String> {
        let mut config = EngineConfig::default();
        change(&mut config);
        let Err(error) = config.validate() else { return Vec::new() };
        assert_eq!(error.code(), Code::ConfigInvalid);
        error.list().iter().map(|found| found.pointer.clone()).collect()
    }

    #[test]
    fn times_are_neither_zero_nor_absurd() {
        type Field = fn(&mut EngineConfig) -> &mut Duration;
        let fields: [(&str, Field, Duration); 10] = [
            ("/attempt_deadline", |c| &mut c.attempt_deadline, HOUR),
            ("/poll", |c| &mut c.poll, DAY),
            ("/feed", |c| &mut c.feed, DAY),
            ("/sweep", |c| &mut c.sweep, DAY),
            ("/relay", |c| &mut c.relay, DAY),
            ("/replay", |c| &mut c.replay, DAY),
            ("/prune", |c| &mut c.prune, DAY),
            ("/tally", |c| &mut c.tally, DAY),
            ("/lease", |c| &mut c.lease, DAY),
            ("/idempotency_window", |c| &mut c.idempotency_window, DAY * 3_660),
        ];
        for (pointer, field, most) in fields {
            for bad in [Duration::ZERO, most + Duration::from_millis(1), Duration::MAX] {
                let found = pointers(|config| *field(config) = bad);
                assert_eq!(found.first().map(String::as_str), Some(pointer), "{bad:?}");
            }
            assert!(pointers(|config| *field(config) = most).is_empty(), "{pointer}");
        }
        let lingers: [Field; 3] =
            [|c| &mut c.settle_linger, |c| &mut c.publish_linger, |c| &mut c.doze];
        for field in lingers {
            assert!(pointers(|config| *field(config) = Duration::ZERO).is_empty());
            assert_eq!(pointers(|config| *field(config) = Duration::MAX).len(), 1);
        }
    }

    #[test]
    fn a_lease_outlives_the_beats_of_its_node() {
        assert_eq!(pointers(|config| config.beat = Duration::ZERO), ["/beat"]);
        assert_eq!(pointers(|config| config.beat = Duration::MAX), ["/beat", "/lease"]);
        assert_eq!(pointers(|config| config.missed_beats = u32::MAX), ["/missed_beats", "/lease"]);
        assert_eq!(pointers(|config| config.lease = Duration::from_secs(9)), ["/lease"]);
        assert_eq!(pointers(|config| config.lookups.entries = 0), ["/lookups/entries"]);
        assert_eq!(pointers(|config| config.lookups.bytes = (8 << 20) + 1), ["/lookups/bytes"]);
        assert_eq!(pointers(|config| config.lookups.tables = 0), ["/lookups/tables"]);
        assert_eq!(pointers(|config| config.lookups.all_bytes = 0), ["/lookups/all_bytes"]);
        assert_eq!(pointers(|config| config.events.max_body = 0), ["/events/max_body"]);
        let organizations = pointers(|config| config.organization_metrics = 10_001);
        assert_eq!(organizations, ["/organization_metrics"]);
    }
}
