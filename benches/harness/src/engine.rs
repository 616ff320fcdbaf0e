//! The engine under test: embedded, on a SQLite file, signed, 1 KiB bodies.

use std::path::Path;
use std::slice::SliceIndex;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use icp::event::{JSON, NewEvent};
use icp::id::{OrgId, ResourceId};
use icp::resource::{Actor, Draft};
use icp::secret::{LocalKeys, SystemEntropy};
use icp::store_sql::sqlite::{SqliteStore, Synchronous};
use icp::{Engine, Running};
use serde_json::json;

use crate::{Result, usage};

/// An engine with one integration for each of ten organizations.
#[derive(Debug)]
pub(crate) struct Subject {
    pub(crate) engine: Engine,
    pub(crate) orgs: Vec<OrgId>,
    _folder: Option<tempfile::TempDir>,
}

impl Subject {
    /// Ten organizations, each with one endpoint; those in `stalled` answer late.
    pub(crate) async fn new(base: &str, stalled: usize, mode: Synchronous) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let engine = open(&folder.path().join("icp.db"), mode).await?;
        let path = |number| if number < stalled { "stall" } else { "ok" };
        Self::with(engine, "org", Some(folder), |number| {
            format!("{base}/{}/{number}", path(number))
        })
        .await
    }

    /// Ten organizations on the file at `path`, for looking at the store directly.
    pub(crate) async fn at(path: &Path, url: &str) -> Result<Self> {
        let engine = open(path, Synchronous::Normal).await?;
        Self::with(engine, "org", None, |_| url.to_owned()).await
    }

    /// Ten organizations of `engine` whose names begin with `prefix`.
    pub(crate) async fn on(engine: Engine, prefix: &str, base: &str) -> Result<Self> {
        Self::with(engine, prefix, None, |number| format!("{base}/ok/{number}")).await
    }

    async fn with(
        engine: Engine,
        prefix: &str,
        folder: Option<tempfile::TempDir>,
        url: impl Fn(usize) -> String,
    ) -> Result<Self> {
        let mut orgs = Vec::new();
        for number in 0..10 {
            let org = OrgId::new(format!("{prefix}-{number}"))?;
            organization(&engine, &org, &url(number)).await?;
            orgs.push(org);
        }
        Ok(Self { engine, orgs, _folder: folder })
    }

    pub(crate) async fn start(&self) -> Result<Running> {
        Ok(self.engine.start().await?)
    }

    /// Publishes `count` events from `publishers` callers, each as fast as it is answered.
    pub(crate) async fn burst(
        &self,
        count: u64,
        publishers: u64,
        due_in: Option<Duration>,
    ) -> Result<()> {
        let next = Arc::new(AtomicU64::new(0));
        let mut callers = tokio::task::JoinSet::new();
        for _ in 0..publishers {
            let (engine, orgs, next) = (self.engine.clone(), self.orgs.clone(), Arc::clone(&next));
            callers.spawn(async move {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= count {
                        return Result::Ok(());
                    }
                    let org = &orgs[usize::try_from(number)? % orgs.len()];
                    let mut event = event(org, usage::now());
                    if let Some(due_in) = due_in {
                        event = event.due_at(engine.now() + due_in);
                    }
                    engine.publish(event).await?;
                }
            });
        }
        while let Some(caller) = callers.join_next().await {
            caller??;
        }
        Ok(())
    }

    /// How many organizations there are.
    pub(crate) fn orgs(&self) -> usize {
        self.orgs.len()
    }

    /// Publishes `count` events to the first `orgs` organizations, in batches, whose latency is not
    /// of interest.
    pub(crate) async fn fill(&self, count: u64, orgs: usize) -> Result<()> {
        for first in (0..count).step_by(200) {
            let events = (first..count.min(first + 200)).map(|number| {
                let org = &self.orgs[usize::try_from(number).unwrap_or_default() % orgs];
                event(org, Duration::ZERO)
            });
            for published in self.engine.publish_batch(events.collect()).await {
                published?;
            }
        }
        Ok(())
    }

    /// Publishes `rate` events a second for `length`, each at its scheduled moment whatever
    /// became of those before.
    pub(crate) async fn steady(&self, rate: u32, length: Duration) -> Result<u64> {
        self.steady_of(.., rate, length).await
    }

    /// As [`Self::steady`], of these organizations only.
    pub(crate) async fn steady_of(
        &self,
        which: impl SliceIndex<[OrgId], Output = [OrgId]>,
        rate: u32,
        length: Duration,
    ) -> Result<u64> {
        let orgs = &self.orgs[which];
        let begun = usage::now();
        let gap = Duration::from_secs(1) / rate;
        let mut callers = tokio::task::JoinSet::new();
        let mut count = 0u32;
        while gap * count < length {
            let scheduled = begun + gap * count;
            tokio::time::sleep(scheduled.saturating_sub(usage::now())).await;
            let org = &orgs[usize::try_from(count)? % orgs.len()];
            let (engine, event) = (self.engine.clone(), event(org, scheduled));
            callers.spawn(async move { engine.publish(event).await });
            count += 1;
        }
        while let Some(caller) = callers.join_next().await {
            caller??;
        }
        Ok(u64::from(count))
    }
}

/// One KiB of JSON whose first field is when it was scheduled.
pub(crate) fn body(at_micros: u128) -> Vec<u8> {
    let mut body = format!("{{\"at\":{at_micros},\"fill\":\"").into_bytes();
    body.resize(1022, b'x');
    body.extend_from_slice(b"\"}");
    body
}

fn event(org: &OrgId, scheduled: Duration) -> NewEvent {
    NewEvent::raw(org.as_str(), "order.paid", JSON, body(scheduled.as_micros()))
}

async fn open(path: &Path, mode: Synchronous) -> Result<Engine> {
    let store = SqliteStore::builder(path).synchronous(mode).open().await?;
    let keys = LocalKeys::generate("bench", &SystemEntropy)?;
    Ok(Engine::builder(store).keys(keys).allow_loopback().build()?)
}

async fn organization(engine: &Engine, org: &OrgId, url: &str) -> Result<()> {
    let actor = Actor::host();
    let organization = Draft { spec: json!({}), ..Draft::default() };
    engine.resources().create(org, "organization", organization, &actor).await?;
    let secret = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
    let integration = Draft {
        id: Some(ResourceId::new("hook")?),
        spec: json!({
            "events": ["order.*"],
            "target": { "kind": "http", "url": url, "timeouts": { "headers_ms": 30_000, "total_ms": 30_000 } },
            "signing": { "keys": [{ "secret": secret }] },
            "max_in_flight": 100,
        }),
        ..Draft::default()
    };
    engine.resources().create(org, "integration", integration, &actor).await?;
    Ok(())
}
