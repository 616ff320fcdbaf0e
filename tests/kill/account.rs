//! The ledger of a scenario.

use std::collections::BTreeMap;

use icp::id::EventId;
use icp_testkit::faults::Ledger;
use icp_testkit::receiver::Receiver;

use crate::database::{self, Database};
use crate::node;

pub(crate) const PATH: &str = "/hook";

/// Finishes what is left and closes the ledger: nothing is lost, and at most `again` events were
/// sent again, each under its own id and another epoch.
pub(crate) async fn close(
    database: &Database,
    receiver: &Receiver,
    acknowledged: BTreeMap<u64, EventId>,
    again: u64,
) {
    node::finish(&database.url).await;
    let store = database::open(&database.url).await;
    let received = receiver.requests(PATH);
    let ledger = Ledger::read(store.as_ref(), &node::org(), acknowledged, &received).await;
    let findings = ledger.close();
    assert!(findings.is_clean(), "{findings:#?}");
    let duplicates = findings.duplicates as u64;
    assert!(duplicates <= again, "{duplicates} were sent again, at most {again} may be");
}
