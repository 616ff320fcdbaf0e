//! A process is told to stop while 500 requests are under way.

use std::collections::BTreeMap;
use std::time::Duration;

use icp_testkit::faults::Ledger;
use icp_testkit::receiver::{Reaction, Receiver};
use rustix::process::Signal;

use crate::child::{Act, Other};
use crate::database::{self, Database, Kind};
use crate::node;

const UNDER_WAY: u64 = 250;
const WAITING: u64 = 50;
const ANSWERED: &str = "/answered";
const STUCK: &str = "/stuck";

pub(crate) async fn under_load_finishes_or_gives_back(kind: Kind) {
    let receiver = Receiver::start().await;
    let database = Database::fresh(kind).await;
    let targets = [ANSWERED, STUCK].map(|path| receiver.url(path));
    node::prepare(&database, &targets, UNDER_WAY).await;
    receiver.behave(ANSWERED, Reaction::Hang);
    receiver.behave(STUCK, Reaction::Hang);
    let publisher = node::engine(&database.url).await;
    let events = (0..UNDER_WAY + WAITING).map(node::event).collect();
    let published = publisher.publish_batch(events).await;
    let acknowledged: BTreeMap<_, _> =
        (0..).zip(published.into_iter().map(|published| published.unwrap().id)).collect();
    let process = Other::start(Act::Deliver, &database, 0, None);
    let all = usize::try_from(UNDER_WAY).unwrap();
    let under_way = |path: &'static str| {
        let receiver = &receiver;
        async move { receiver.wait_until(|seen| seen.count(path) >= all).await }
    };
    tokio::join!(under_way(ANSWERED), under_way(STUCK));

    process.signal(Signal::TERM);
    // The process is to have heard it before its lanes get room again.
    tokio::time::sleep(Duration::from_millis(100)).await;
    receiver.release(ANSWERED);
    let (status, told) = process.end().await;
    assert!(status.success(), "{status}");
    assert_eq!(told.drained, Some((UNDER_WAY, UNDER_WAY, 0)));
    let seen = receiver.seen();
    assert_eq!((seen.count(ANSWERED), seen.count(STUCK)), (all, all), "claims went on");

    receiver.release(STUCK);
    node::finish(&database.url).await;
    let store = database::open(&database.url).await;
    for (path, again) in [(ANSWERED, 0), (STUCK, all)] {
        let received = receiver.requests(path);
        let ids = receiver.seen().ids(path);
        assert!(acknowledged.values().all(|id| ids.contains_key(&id.to_string())));
        assert_eq!(received.len() - ids.len(), again, "{path}");
    }
    let received: Vec<_> = [ANSWERED, STUCK].map(|path| receiver.requests(path)).concat();
    let findings =
        Ledger::read(store.as_ref(), &node::org(), acknowledged, &received).await.close();
    assert!(findings.is_clean(), "{findings:#?}");
}
