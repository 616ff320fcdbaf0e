//! A process is killed again and again: at any moment, and at each named point of its work.

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;

use icp_testkit::receiver::Receiver;
use rustix::process::Signal;

use crate::account::{self, PATH};
use crate::child::{Act, Other};
use crate::database::{self, Database, Kind};
use crate::node::{self, MOST_UNDER_WAY};
use crate::point::{Around, Point, Side};
use crate::rounds;

const SIGKILL: i32 = 9;

pub(crate) async fn loses_nothing_at_any_moment(kind: Kind) {
    let rounds = rounds(12);
    let receiver = Receiver::start().await;
    let database = Database::fresh(kind).await;
    node::prepare(&database, &[receiver.url(PATH)], MOST_UNDER_WAY).await;
    let mut acknowledged = BTreeMap::new();
    for round in 0..rounds {
        let worker = Other::start(Act::Work, &database, round, None);
        // Another moment of its life each time: from its first deliveries to a hundred later.
        let turn = round % 12;
        let enough = receiver.seen().count(PATH) + usize::try_from(turn * turn + 5).unwrap();
        receiver.wait_until(|seen| seen.count(PATH) >= enough).await;
        acknowledged.extend(worker.kill().await.acknowledged);
    }
    assert!(acknowledged.len() > 100, "the workers published only {}", acknowledged.len());
    account::close(&database, &receiver, acknowledged, rounds * MOST_UNDER_WAY).await;
}

pub(crate) async fn at_point(kind: Kind, around: Around) {
    let rounds = rounds(1);
    let receiver = Receiver::start().await;
    let database = Database::fresh(kind).await;
    node::prepare(&database, &[receiver.url(PATH)], MOST_UNDER_WAY).await;
    let store = database::open(&database.url).await;
    let mut acknowledged = BTreeMap::new();
    let mut life = 0;
    for round in 0..rounds {
        for side in [Side::Before, Side::After] {
            let call = 1 + (life * 7 + round) % around.most;
            let point = Point { operation: around.operation.to_owned(), side, call };
            let mut worker = Other::start(Act::Work, &database, life, Some(&point));
            if around.stopping {
                worker.said(|told| told.acknowledged.len() >= 20).await;
                worker.signal(Signal::TERM);
            }
            let (status, told) = worker.end().await;
            assert_eq!(status.signal(), Some(SIGKILL), "{point}: {status}");
            acknowledged.extend(told.acknowledged);
            let audit = store.audit().await.unwrap();
            assert!(audit.is_clean(), "{point}: {audit:?}");
            life += 1;
        }
    }
    account::close(&database, &receiver, acknowledged, life * MOST_UNDER_WAY).await;
}
