//! Order by key, at size: receivers that fail and nodes that die change nothing about it.
//!
//! `ICP_ORDER_EVENTS` is how many events each key has; 40 by default.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use icp::delivery::{AttemptTimings, DeliveryState};
use icp::egress::AddressPolicy;
use icp::engine::Engine;
use icp::error::{Result, Violation};
use icp::event::NewEvent;
use icp::id::OrgId;
use icp::integration::{
    Binding, Connector, Failure, Hint, Integration, Judgement, Outgoing, Preview, Sent,
};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::poison::{Node, hasty};
use crate::stage::{Backend, create};

const KEYS: u64 = 100;
const KILLS: u64 = 5;
const BATCH: u64 = 500;

/// A receiver within the process that keeps the books of every key.
#[derive(Clone, Debug)]
struct Ledger {
    books: Arc<Mutex<Books>>,
    taken: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Books {
    /// How many of each key were taken, one after the other.
    keys: HashMap<u64, u64>,
    requests: u64,
    repeats: u64,
    /// One came that was before the last that was taken.
    inversions: u64,
    /// One came before those it follows were taken.
    gaps: u64,
}

impl Ledger {
    fn new() -> Self {
        Self { books: Arc::default(), taken: watch::Sender::new(0) }
    }

    /// Enters a request; answers whether the sender learns that it was taken.
    fn enter(&self, key: u64, number: u64) -> bool {
        let mut books = self.books.lock().unwrap();
        books.requests += 1;
        // Six of a hundred requests fail; half of these were taken all the same.
        let draw = (books.requests.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) % 100;
        let before = *books.keys.entry(key).or_default();
        match number {
            n if n == before => {
                if (3..6).contains(&draw) {
                    return false;
                }
                books.keys.insert(key, before + 1);
                self.taken.send_modify(|taken| *taken += 1);
            }
            n if n + 1 == before => books.repeats += 1,
            n if n < before => books.inversions += 1,
            _ => books.gaps += 1,
        }
        draw >= 3
    }
}

impl Connector for Ledger {
    fn kind(&self) -> &'static str {
        "ledger"
    }

    fn validate(&self, _: &Value, _: &str, _: &AddressPolicy) -> Vec<Violation> {
        Vec::new()
    }

    fn schema(&self) -> Value {
        json!({ "type": "object" })
    }

    fn bind(&self, _: Binding<'_>) -> Result<Arc<dyn Integration>> {
        Ok(Arc::new(self.clone()))
    }
}

#[async_trait]
impl Integration for Ledger {
    async fn send(&self, outgoing: Outgoing<'_>) -> Sent {
        let [key, number]: [u64; 2] = serde_json::from_slice(&outgoing.body).unwrap();
        let known = self.enter(key, number);
        // Here a node may die: the receiver has it, and the sender does not know.
        tokio::task::yield_now().await;
        let failure = || Failure {
            class: "status_500".into(),
            message: "as the test wants it".into(),
            hint: Hint::Retry,
        };
        Sent {
            judgement: if known { Judgement::Delivered } else { Judgement::Failed(failure()) },
            status: Some(if known { 200 } else { 500 }),
            exchange: None,
            timings: AttemptTimings::default(),
        }
    }

    fn preview(&self, _: &Outgoing<'_>) -> Result<Preview> {
        unreachable!("the test shows no request")
    }
}

fn engine(backend: &Backend, ledger: &Ledger) -> Engine {
    let mut config = hasty();
    // Everything a node held when it died was rescued: here that makes no poison.
    config.max_rescues = 1_000;
    backend.builder().config(config).connector(ledger.clone()).build().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn by_key_nothing_is_overtaken_or_left_out() {
    let each = events_of_each_key();
    let (backend, ledger, org) =
        (Backend::sqlite().await, Ledger::new(), OrgId::new("acme").unwrap());
    let host = engine(&backend, &ledger);
    create(&host, &org, "organization", None, json!({})).await.unwrap();
    let spec = json!({
        "events": ["**"],
        "target": { "kind": "ledger" },
        "ordering": "by_key",
        "retry": { "schedule": { "type": "list", "delays_seconds": vec![0; 30] } },
        "breaker": { "enabled": false },
    });
    create(&host, &org, "integration", None, spec).await.unwrap();

    let total = KEYS * each;
    let publish = async {
        for from in (0..total).step_by(BATCH.try_into().unwrap()) {
            let events = (from..total.min(from + BATCH)).map(|n| {
                let (key, number) = (n % KEYS, n / KEYS);
                let event = NewEvent::json("acme", "step.done", &json!([key, number])).unwrap();
                event.ordering_key(format!("key-{key}"))
            });
            for answer in host.publish_batch(events.collect()).await {
                answer.unwrap();
            }
        }
    };
    let work = async {
        let mut taken = ledger.taken.subscribe();
        let mut rescued = 0;
        for kill in 1..=KILLS {
            let next = engine(&backend, &ledger);
            let node = Node::start(next.clone());
            taken.wait_for(|taken| *taken >= total * kill / (KILLS + 1)).await.unwrap();
            drop(node);
            rescued += rescues(&next);
        }
        let last = engine(&backend, &ledger);
        let running = last.start().await.unwrap();
        taken.wait_for(|taken| *taken == total).await.unwrap();
        // Of the last one its sender may not know yet that it was taken.
        let mut beat = tokio::time::interval(std::time::Duration::from_millis(5));
        while !last.counts().await.unwrap().contains(&(DeliveryState::Delivered, total)) {
            beat.tick().await;
        }
        (running, rescued + rescues(&last))
    };
    let ((), (running, rescued)) = tokio::join!(publish, work);
    let drained = running.shutdown(std::time::Duration::from_secs(20)).await;
    assert_eq!((drained.released, drained.unsettled), (0, 0));

    let counts = host.counts().await.unwrap();
    let delivered = (DeliveryState::Delivered, total);
    assert!(counts.iter().all(|found| found.1 == 0 || *found == delivered), "{counts:?}");
    assert!(host.verify().await.unwrap().is_clean());
    let books = ledger.books.lock().unwrap();
    assert_eq!((books.inversions, books.gaps), (0, 0));
    assert!(books.keys.len() as u64 == KEYS && books.keys.values().all(|taken| *taken == each));
    assert!(rescued > 0 && books.repeats > 0, "nothing went wrong: {rescued} rescued");
}

#[expect(clippy::disallowed_methods, reason = "a test is told its size by the environment")]
fn events_of_each_key() -> u64 {
    std::env::var("ICP_ORDER_EVENTS").map_or(40, |each| each.parse().unwrap())
}

/// How many leases of dead nodes this one took away.
fn rescues(engine: &Engine) -> u64 {
    let metrics = engine.metrics().render();
    let line = metrics.lines().find_map(|line| line.strip_prefix("icp_deliveries_rescued_total "));
    line.unwrap().parse().unwrap()
}
