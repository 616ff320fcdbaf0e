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
    let figure = idle(&counted).await;
    assert!(figure <= most, "{kind:?}: {figure} statements in an idle minute, not {most} or less");
    // Duties that stand still would be quiet too.
    assert!(figure >= most / 2, "{kind:?}: {figure} statements; put the bound of {most} near them");
}

/// Statements in the minute after a delivery has been made.
async fn idle(counted: &Counted) -> u64 {
    let receiver = Receiver::start().await;
    let engine = Engine::builder_on(Arc::clone(&counted.store))
        .keys(LocalKeys::parse(SEALING_KEY).unwrap())
        .allow_loopback()
        .config(config())
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

    let before = counted.statements();
    // Not to wait for anything: the minute is what is measured.
    tokio::time::sleep(MINUTE / SHORTER).await;
    let figure = counted.statements() - before;
    running.shutdown(PATIENCE).await;
    figure
}

fn config() -> EngineConfig {
    let mut config = EngineConfig::default();
    for interval in [
        &mut config.beat,
        &mut config.poll,
        &mut config.feed,
        &mut config.sweep,
        &mut config.relay,
        &mut config.replay,
        &mut config.prune,
    ] {
        *interval /= SHORTER;
    }
    config
}
