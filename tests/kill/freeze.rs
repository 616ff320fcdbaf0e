//! A process is stopped for longer than its lease lasts, and goes on.

use std::collections::BTreeMap;
use std::time::Duration;

use icp::id::SessionId;
use icp::store::Store;
use icp::time::Timestamp;
use icp_testkit::receiver::Receiver;
use rustix::process::Signal;

use crate::account::{self, PATH};
use crate::child::{Act, Other};
use crate::database::{self, Database, Kind};
use crate::node::{self, MOST_UNDER_WAY};
use crate::{PATIENCE, rounds};

/// How long another process may take to take over.
const TAKEN_OVER: Duration = PATIENCE;

/// How long a write of this test may take before it is held to be locked out.
const LOCKED_OUT: Duration = Duration::from_millis(300);

pub(crate) async fn past_its_lease_records_nothing(kind: Kind) {
    let rounds = rounds(6);
    let receiver = Receiver::start().await;
    let database = Database::fresh(kind).await;
    node::prepare(&database, &[receiver.url(PATH)], MOST_UNDER_WAY).await;
    let store = database::open(&database.url).await;
    let mut frozen = Other::start(Act::Work, &database, 0, None);
    frozen.said(|told| told.started).await;
    let mut other = Other::start(Act::Work, &database, 1, None);
    other.said(|told| told.started).await;
    for round in 0..rounds {
        let enough = receiver.seen().count(PATH) + usize::try_from(20 + round % 7 * 5).unwrap();
        receiver.wait_until(|seen| seen.count(PATH) >= enough).await;
        both_are_known(store.as_ref(), true).await;
        freeze(&frozen, store.as_ref()).await;
        both_are_known(store.as_ref(), false).await;
        frozen.signal(Signal::CONT);
    }
    let mut acknowledged = BTreeMap::new();
    for process in [frozen, other] {
        process.signal(Signal::TERM);
        let (status, told) = process.end().await;
        assert!(status.success(), "{status}");
        acknowledged.extend(told.acknowledged);
    }
    account::close(&database, &receiver, acknowledged, rounds * MOST_UNDER_WAY).await;
}

/// Stops the process outside of a write: within one it would keep the lock of an embedded
/// database, and hold up everybody else with itself.
async fn freeze(process: &Other, store: &dyn Store) {
    let nobody = SessionId::from_bytes([0; 16]);
    for _ in 0..100 {
        process.stop();
        let write = store.beat(nobody, Timestamp::from_millis(0));
        if tokio::time::timeout(LOCKED_OUT, write).await.is_ok() {
            return;
        }
        process.signal(Signal::CONT);
        tokio::time::sleep(Duration::from_millis(7)).await;
    }
    panic!("the process stood within a write each time");
}

/// Waits until the store knows both processes, or only one of them.
async fn both_are_known(store: &dyn Store, both: bool) {
    let known = async {
        while (store.sessions().await.unwrap().len() >= 2) != both {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let known = tokio::time::timeout(TAKEN_OVER, known).await;
    assert!(known.is_ok(), "nobody took over from a process, or it did not come back");
}
