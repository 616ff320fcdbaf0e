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

/// What every endpoint's messages are signed with.
pub(crate) const SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";

/// Who gets what.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Crowd {
    pub(crate) orgs: usize,
    /// How many endpoints each organization has.
    pub(crate) endpoints: usize,
    /// Of how many endpoints the first takes 20 seconds to answer; none where 0.
    pub(crate) one_stalls_of: usize,
    /// The size of a body.
    pub(crate) bytes: usize,
}

impl Crowd {
    /// Ten organizations with one endpoint each, which get a KiB.
    pub(crate) const TEN: Self = Self { orgs: 10, endpoints: 1, one_stalls_of: 0, bytes: 1024 };

    fn path(&self, number: usize) -> &'static str {
        let stalls = self.one_stalls_of > 0 && number.is_multiple_of(self.one_stalls_of);
        if stalls { "stall" } else { "ok" }
    }
}

/// An engine with organizations and their integrations.
#[derive(Debug)]
pub(crate) struct Subject {
    pub(crate) engine: Engine,
    pub(crate) orgs: Vec<OrgId>,
    bytes: usize,
    _folder: Option<tempfile::TempDir>,
}

impl Subject {
    /// Ten organizations, each with one endpoint; the first `stalled` answer late.
    pub(crate) async fn new(base: &str, stalled: usize, mode: Synchronous) -> Result<Self> {
        let (engine, folder) = fresh(mode).await?;
        let path = |number| if number < stalled { "stall" } else { "ok" };
        Self::with(engine, "org", Some(folder), Crowd::TEN, |number, _| {
            format!("{base}/{}/{number}", path(number))
        })
        .await
    }

    /// This crowd, on a SQLite file with `synchronous=NORMAL`.
    pub(crate) async fn of(base: &str, crowd: Crowd) -> Result<Self> {
        let (engine, folder) = fresh(Synchronous::Normal).await?;
        Self::with(engine, "org", Some(folder), crowd, |number, endpoint| {
            let number = number * crowd.endpoints + endpoint;
            format!("{base}/{}/{number}", crowd.path(number))
        })
        .await
    }

    /// Ten organizations on the file at `path`, for looking at the store directly.
    pub(crate) async fn at(path: &Path, url: &str) -> Result<Self> {
        let engine = open(path, Synchronous::Normal).await?;
        Self::with(engine, "org", None, Crowd::TEN, |_, _| url.to_owned()).await
    }

    /// Ten organizations of `engine` whose names begin with `prefix`.
    pub(crate) async fn on(engine: Engine, prefix: &str, base: &str) -> Result<Self> {
        Self::with(engine, prefix, None, Crowd::TEN, |number, _| format!("{base}/ok/{number}"))
            .await
    }

    async fn with(
        engine: Engine,
        prefix: &str,
        folder: Option<tempfile::TempDir>,
        crowd: Crowd,
        url: impl Fn(usize, usize) -> String,
    ) -> Result<Self> {
        let mut orgs = Vec::new();
        for number in 0..crowd.orgs {
            let org = OrgId::new(format!("{prefix}-{number}"))?;
            organization(&engine, &org).await?;
            for endpoint in 0..crowd.endpoints {
                integration(&engine, &org, endpoint, &url(number, endpoint)).await?;
            }
            orgs.push(org);
        }
        Ok(Self { engine, orgs, bytes: crowd.bytes, _folder: folder })
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
            let bytes = self.bytes;
            callers.spawn(async move {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= count {
                        return Result::Ok(());
                    }
                    let org = &orgs[usize::try_from(number)? % orgs.len()];
                    let mut event = event(org, usage::now(), bytes);
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
                event(org, Duration::ZERO, self.bytes)
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
            let (engine, event) = (self.engine.clone(), event(org, scheduled, self.bytes));
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
    body_of(1024, at_micros)
}

fn body_of(bytes: usize, at_micros: u128) -> Vec<u8> {
    let mut body = format!("{{\"at\":{at_micros},\"fill\":\"").into_bytes();
    body.resize(bytes - 2, b'x');
    body.extend_from_slice(b"\"}");
    body
}

fn event(org: &OrgId, scheduled: Duration, bytes: usize) -> NewEvent {
    NewEvent::raw(org.as_str(), "order.paid", JSON, body_of(bytes, scheduled.as_micros()))
}

async fn fresh(mode: Synchronous) -> Result<(Engine, tempfile::TempDir)> {
    let folder = tempfile::tempdir()?;
    Ok((open(&folder.path().join("icp.db"), mode).await?, folder))
}

async fn open(path: &Path, mode: Synchronous) -> Result<Engine> {
    let store = SqliteStore::builder(path).synchronous(mode).open().await?;
    let keys = LocalKeys::generate("bench", &SystemEntropy)?;
    Ok(Engine::builder(store).keys(keys).allow_loopback().build()?)
}

async fn organization(engine: &Engine, org: &OrgId) -> Result<()> {
    let organization = Draft { spec: json!({}), ..Draft::default() };
    engine.resources().create(org, "organization", organization, &Actor::host()).await?;
    Ok(())
}

async fn integration(engine: &Engine, org: &OrgId, number: usize, url: &str) -> Result<()> {
    let id = if number == 0 { "hook".to_owned() } else { format!("hook-{number}") };
    let integration = Draft {
        id: Some(ResourceId::new(id)?),
        spec: json!({
            "events": ["order.*"],
            "target": { "kind": "http", "url": url, "timeouts": { "headers_ms": 30_000, "total_ms": 30_000 } },
            "signing": { "keys": [{ "secret": SECRET }] },
            "max_in_flight": 100,
        }),
        ..Draft::default()
    };
    engine.resources().create(org, "integration", integration, &Actor::host()).await?;
    Ok(())
}
