//! What an engine asks of its database in a minute in which nothing happens.

use std::sync::Arc;
use std::time::Duration;

use icp::delivery::DeliveryState;
use icp::engine::{Engine, EngineConfig};
use icp::event::NewEvent;
use icp::id::OrgId;
use icp::resource::{Actor, Draft};
use icp::secret::LocalKeys;
use icp_testkit::receiver::{PATIENCE, Receiver};
use serde_json::json;

use crate::store::{Counted, Kind};

/// So much shorter is the minute, and with it every interval of the engine, so that as much is
/// done as in a whole one.
const SHORTER: u32 = 6;
const MINUTE: Duration = Duration::from_secs(60);
const SEALING_KEY: &str = "k1:AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";

macro_rules! within {
    ($name:ident, $kind:expr, $most:expr) => {
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            hold($kind, $most).await;
        }
    };
}

within!(sqlite, Kind::Sqlite, 860);
within!(postgres, Kind::Postgres, 860);
within!(mysql, Kind::MySql, 860);
within!(mongodb, Kind::MongoDb, 1300);
within!(mongodb_alone, Kind::MongoDbAlone, 1300);

async fn hold(kind: Kind, most: u64) {
    let counted = Counted::fresh(kind).await;
    let figure = idle(&counted, awake()).await;
    assert!(figure <= most, "{kind:?}: {figure} statements in an idle minute, not {most} or less");
    // Duties that stand still would be quiet too.
    assert!(figure >= most / 2, "{kind:?}: {figure} statements; put the bound of {most} near them");
}

/// A node that hears hints dozes where there is nothing to do; it looks about every ten minutes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_that_dozes() {
    const MINUTES: u32 = 10;
    const SHORTER: u32 = 20;
    let counted = Counted::fresh(Kind::Postgres).await;
    let lull = Lull { config: config(SHORTER), dozes: true, length: MINUTE * MINUTES / SHORTER };
    let figure = idle(&counted, lull).await;
    let most = 10 * u64::from(MINUTES);
    assert!(figure <= most, "{figure} statements in {MINUTES} minutes, not {most} or less");
    assert!(figure >= most / 3, "{figure} statements in {MINUTES} minutes: does it look about?");
}

/// A time in which nothing happens.
struct Lull {
    config: EngineConfig,
    /// Whether it begins when the node dozes.
    dozes: bool,
    length: Duration,
}

/// The minute after a delivery.
fn awake() -> Lull {
    Lull { config: config(SHORTER), dozes: false, length: MINUTE / SHORTER }
}

/// Statements in a lull, after a delivery has been made.
async fn idle(counted: &Counted, lull: Lull) -> u64 {
    let receiver = Receiver::start().await;
    let engine = Engine::builder_on(Arc::clone(&counted.store))
        .keys(LocalKeys::parse(SEALING_KEY).unwrap())
        .allow_loopback()
        .config(lull.config)
        .build()
        .unwrap();
    let (org, host) = (OrgId::new("acme").unwrap(), Actor::host());
    let draft = |spec| Draft { spec, ..Draft::default() };
    engine.resources().create(&org, "organization", draft(json!({})), &host).await.unwrap();
    let target = json!({ "kind": "http", "url": receiver.url("/crm") });
    let integration = json!({ "events": ["*"], "target": target });
    engine.resources().create(&org, "integration", draft(integration), &host).await.unwrap();
    let running = engine.start().await.unwrap();
    engine.publish(NewEvent::json("acme", "order.paid", &json!({})).unwrap()).await.unwrap();
    let delivered = async {
        while engine.counts().await.unwrap() != [(DeliveryState::Delivered, 1)] {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, delivered).await.unwrap();

    if lull.dozes {
        let dozes = async {
            while !engine.metrics().render().contains("icp_dozing 1") {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, dozes).await.unwrap();
        // So that the look about, and the whole of it, comes within the time.
        tokio::time::sleep(lull.length / 10).await;
    }
    let before = counted.statements();
    // Not to wait for anything: the time is what is measured.
    tokio::time::sleep(lull.length).await;
    let figure = counted.statements() - before;
    running.shutdown(PATIENCE).await;
    figure
}

fn config(shorter: u32) -> EngineConfig {
    let mut config = EngineConfig::default();
    for interval in [
        &mut config.doze,
        &mut config.beat,
        &mut config.poll,
        &mut config.feed,
        &mut config.sweep,
        &mut config.relay,
        &mut config.replay,
        &mut config.prune,
    ] {
        *interval /= shorter;
    }
    config
}
