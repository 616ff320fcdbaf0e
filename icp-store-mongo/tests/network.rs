//! Engines on MongoDB behind a network that fails.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod database;

use std::sync::Arc;
use std::time::Duration;

use icp_core::store::Store;
use icp_store_mongo::MongoStore;
use icp_testkit::faults::{self, Fixture};
use icp_testkit::proxy::{Pattern, Proxy};

use database::{Emptied, REMEDY, database, url};

/// Counts of lanes that nothing happens to are set right after 10 s.
const SETTLING: Duration = Duration::from_secs(20);

fn main() {
    // Fails before the first behaviour, with what to do, where there is no server.
    let _ = url();
    faults::main("mongodb", || async {
        let name = database(&url()).await;
        let direct = MongoStore::builder(url()).database(&name).connect().await;
        let direct = direct.unwrap_or_else(|error| panic!("no replica set: {error}; {REMEDY}"));
        let guard = Emptied(direct.database().clone());
        let (proxy, through) = Proxy::in_front_of(&url()).await;
        let through = format!("{through}&directConnection=true");
        let open = move || {
            let store = MongoStore::builder(&through).database(&name);
            async move { Ok(Arc::new(store.connect().await?) as Arc<dyn Store>) }
        };
        let fixture = Fixture::new(Arc::new(direct), proxy, open).committing_with(lasting());
        // The driver waits for half a second after each connection that breaks.
        fixture.cutting(20).settling_within(SETTLING).guarded_by(guard)
    });
}

/// The one write of an operation that commits it asks for the majority: `w` of its write concern.
fn lasting() -> Pattern {
    Pattern::holding(*b"\x02w\0\x09\0\0\0majority\0")
}
