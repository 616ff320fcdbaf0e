//! The run itself: publish everything, deliver it against all odds, account for it.

use std::collections::BTreeSet;
use std::error::Error;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use icp::delivery::Audit;
use icp::engine::{Engine, EngineConfig};
use icp::event::{JSON, NewEvent};
use icp::id::OrgId;
use icp::resource::{Actor, Draft, Expect};
use icp::secret::{LocalKeys, SystemEntropy};
use icp::store_sql::sqlite::SqliteStore;
use icp_testkit::receiver::{Reaction, Receiver};
use serde_json::json;

use crate::endpoints::{self, Endpoint, ORGS};
use crate::ledger::{Ledger, Row};
use crate::payloads::Payload;
use crate::progress::Progress;

pub(crate) type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// How long deliveries may take before the ledger is drawn up as it is.
const PATIENCE: Duration = Duration::from_secs(180);

/// What is run.
#[derive(Debug)]
pub(crate) struct Scenario<'a> {
    pub(crate) payloads: Vec<Payload>,
    /// A database file that does not exist yet.
    pub(crate) database: &'a Path,
    /// What the failures are drawn from.
    pub(crate) seed: u64,
}

impl Scenario<'_> {
    /// Runs it, tells `out` how it goes, and answers with the ledger.
    ///
    /// # Errors
    ///
    /// Where something other than a delivery fails.
    pub(crate) async fn run(&self, out: &mut dyn Write, terminal: bool) -> Result<Ledger> {
        let receiver = Receiver::start().await;
        let endpoints = endpoints::all()?;
        let engine = self.engine().await?;
        for endpoint in &endpoints {
            receiver.behave(&endpoint.path(), endpoint.behaviour(self.seed));
        }
        configure(&engine, &endpoints, &receiver).await?;
        let running = engine.start().await?;
        let mut progress = Progress::new(out, terminal, engine.now());
        let published = self.publish(&engine, &endpoints, &mut progress).await?;
        for endpoint in endpoints.iter().filter(|endpoint| endpoint.quits) {
            receiver.behave(&endpoint.path(), endpoint.quitting(self.seed));
        }
        let switched_on = deliver(&engine, &endpoints, &receiver, &mut progress).await?;
        running.shutdown(Duration::from_secs(10)).await;
        progress.end()?;
        let mut rows = Vec::new();
        for (endpoint, published) in endpoints.iter().zip(&published) {
            let mut row = Row::of(endpoint, published, &engine, &receiver).await?;
            row.switched_on = if endpoint.quits { switched_on } else { 0 };
            rows.push(row);
        }
        let audit: Audit = engine.verify().await?;
        Ok(Ledger { rows, audit })
    }

    async fn engine(&self) -> Result<Engine> {
        if self.database.exists() {
            let message = format!("{} is there already; name a new file", self.database.display());
            return Err(message.into());
        }
        let store = SqliteStore::open(self.database).await?;
        let mut config = EngineConfig::default();
        config.poll = Duration::from_millis(100);
        let keys = LocalKeys::generate("example", &SystemEntropy)?;
        Ok(Engine::builder(store).keys(keys).allow_loopback().config(config).build()?)
    }

    /// Publishes every payload to every organization; answers which events each endpoint is to
    /// get.
    async fn publish(
        &self,
        engine: &Engine,
        endpoints: &[Endpoint],
        progress: &mut Progress<'_>,
    ) -> Result<Vec<BTreeSet<String>>> {
        let mut meant = vec![BTreeSet::new(); endpoints.len()];
        for org in ORGS {
            for payloads in self.payloads.chunks(50) {
                let events = payloads.iter().map(|payload| {
                    NewEvent::raw(org, payload.event_type(), JSON, payload.body.clone())
                        .ordering_key(payload.event.as_str())
                });
                let answers = engine.publish_batch(events.collect()).await;
                for (payload, answer) in payloads.iter().zip(answers) {
                    let id = answer?.id.to_string();
                    for (endpoint, meant) in endpoints.iter().zip(&mut meant) {
                        if endpoint.org.as_str() == org && (endpoint.wants)(payload) {
                            meant.insert(id.clone());
                        }
                    }
                }
                progress.show(engine).await?;
            }
        }
        Ok(meant)
    }
}

async fn configure(engine: &Engine, endpoints: &[Endpoint], receiver: &Receiver) -> Result<()> {
    let actor = Actor::engine();
    for org in ORGS {
        let draft = Draft { spec: json!({}), ..Draft::default() };
        engine.resources().create(&OrgId::new(org)?, "organization", draft, &actor).await?;
    }
    for endpoint in endpoints {
        let (id, spec) = (Some(endpoint.id.clone()), endpoint.spec(receiver));
        let draft = Draft { id, spec, ..Draft::default() };
        engine.resources().create(&endpoint.org, "integration", draft, &actor).await?;
    }
    Ok(())
}

/// Waits for the end of every delivery; answers how often an endpoint had to be switched on.
async fn deliver(
    engine: &Engine,
    endpoints: &[Endpoint],
    receiver: &Receiver,
    progress: &mut Progress<'_>,
) -> Result<usize> {
    let mut switched_on = 0;
    let begin = engine.now();
    let mut beat = tokio::time::interval(Duration::from_millis(100));
    while engine.now().since(begin) < PATIENCE {
        beat.tick().await;
        let open = progress.show(engine).await?;
        for endpoint in endpoints.iter().filter(|endpoint| endpoint.quits) {
            let answered = receiver
                .seen()
                .to(&endpoint.path())
                .any(|request| request.reaction == Reaction::Status(410));
            if answered && switch_on(engine, endpoint).await? {
                switched_on += 1;
            }
        }
        if open == 0 {
            break;
        }
    }
    Ok(switched_on)
}

/// Switches an integration on where it is off; answers whether it was.
async fn switch_on(engine: &Engine, endpoint: &Endpoint) -> Result<bool> {
    let resources = engine.resources();
    let found = resources.get(&endpoint.org, "integration", &endpoint.id).await?;
    if found.spec["enabled"] != json!(false) {
        return Ok(false);
    }
    let patch = json!({ "spec": { "enabled": true } });
    let (expect, actor) = (Expect::Present, Actor::engine());
    resources
        .merge_patch(&endpoint.org, "integration", &endpoint.id, &patch, expect, &actor)
        .await?;
    Ok(true)
}
