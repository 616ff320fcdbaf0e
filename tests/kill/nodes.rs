//! Three processes share a store, and one of them is killed and comes back.

use std::collections::BTreeMap;

use icp_testkit::receiver::Receiver;
use rustix::process::Signal;

use crate::account::{self, PATH};
use crate::child::{Act, Other};
use crate::database::{Database, Kind};
use crate::node::{self, MOST_UNDER_WAY};
use crate::rounds;

pub(crate) async fn go_on_when_one_of_three_is_killed(kind: Kind) {
    let rounds = rounds(4);
    let receiver = Receiver::start().await;
    let database = Database::fresh(kind).await;
    node::prepare(&database, &[receiver.url(PATH)], MOST_UNDER_WAY).await;
    let mut acknowledged = BTreeMap::new();
    let mut others: Vec<_> =
        (0..3).map(|life| Other::start(Act::Work, &database, life, None)).collect();
    for other in &mut others {
        other.said(|told| told.acknowledged.len() >= 10).await;
    }
    for round in 0..rounds {
        let enough = receiver.seen().count(PATH) + 60;
        receiver.wait_until(|seen| seen.count(PATH) >= enough).await;
        acknowledged.extend(others.remove(0).kill().await.acknowledged);
        // The two that are left go on alone.
        let enough = receiver.seen().count(PATH) + 60;
        receiver.wait_until(|seen| seen.count(PATH) >= enough).await;
        let mut next = Other::start(Act::Work, &database, 3 + round, None);
        next.said(|told| told.started).await;
        others.push(next);
    }
    for other in others {
        other.signal(Signal::TERM);
        let (status, told) = other.end().await;
        assert!(status.success(), "{status}");
        acknowledged.extend(told.acknowledged);
    }
    account::close(&database, &receiver, acknowledged, rounds * MOST_UNDER_WAY).await;
}
