//! A host publishes in transactions of its own, takes back some of them, and is killed in between.

use std::collections::BTreeSet;

use icp_testkit::faults::Ledger;
use icp_testkit::receiver::Receiver;

use crate::account::PATH;
use crate::child::{Act, Other};
use crate::database::{self, Database, Kind};
use crate::host::End;
use crate::node::{self, MOST_UNDER_WAY, say};
use crate::rounds;

/// How many transactions one life of the host makes before it is killed, at the least.
const TRANSACTIONS: u64 = 80;

/// Makes transactions until it is killed; every third of ten is taken back.
pub(crate) async fn host(url: &str, first: u64) -> ! {
    let engine = node::engine(url).await;
    let mut host = database::host(url).await;
    say("started");
    for number in first.. {
        let event = engine.accept(node::event(number)).await.unwrap();
        let end = if number % 10 < 3 { End::Rollback } else { End::Commit };
        host.order(number, &event, end).await;
        if end == End::Commit {
            say(format_args!("acknowledged {number} {}", event.id));
        }
    }
    std::process::exit(1)
}

pub(crate) async fn emits_what_was_committed_and_nothing_else(kind: Kind) {
    let lives = rounds(10);
    let receiver = Receiver::start().await;
    let database = Database::fresh(kind).await;
    node::prepare(&database, &[receiver.url(PATH)], MOST_UNDER_WAY).await;
    let mut orders = database::host(&database.url).await;
    orders.prepare().await;
    let node = Other::start(Act::Deliver, &database, 0, None);
    let mut acknowledged = std::collections::BTreeMap::new();
    for life in 0..lives {
        let mut host = Other::start(Act::Host, &database, life, None);
        // Seven of ten are committed, and another moment of a transaction is met each time.
        let enough = TRANSACTIONS * 7 / 10 + life % 10;
        host.said(|told| told.acknowledged.len() as u64 >= enough).await;
        acknowledged.extend(host.kill().await.acknowledged);
    }
    drop(node.kill().await);
    node::finish(&database.url).await;
    emptied(&database).await;

    let committed = orders.orders().await;
    assert!(committed.len() as u64 >= lives * TRANSACTIONS * 7 / 10);
    assert!(acknowledged.keys().all(|number| committed.contains(number)));
    let store = database::open(&database.url).await;
    let received = receiver.requests(PATH);
    let ledger = Ledger::read(store.as_ref(), &node::org(), acknowledged, &received).await;
    let emitted: BTreeSet<_> =
        ledger.received.iter().filter_map(|receipt| receipt.number).collect();
    assert_eq!(emitted, committed);
    assert_eq!(ledger.events.len(), committed.len());
    let findings = ledger.close();
    assert!(findings.is_clean(), "{findings:#?}");
    assert!(findings.duplicates as u64 <= MOST_UNDER_WAY, "{}", findings.duplicates);
}

/// Nothing waits in the outbox; where something does, it is relayed and delivered first.
async fn emptied(database: &Database) {
    let store = database::open(&database.url).await;
    let engine = node::engine(&database.url).await;
    let running = engine.start().await.unwrap();
    let relayed = async {
        while !store.outbox(&[], 1).await.unwrap().is_empty() {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(crate::PATIENCE, relayed).await.unwrap();
    running.shutdown(node::GRACE).await;
    node::finish(&database.url).await;
}
