use std::collections::HashMap;
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::access::Access;
use super::batch::{BatchLimits, Batcher};
use super::config::EngineConfig;
use super::doze::Doze;
use super::session::Session;
use super::supervise::Duties;
use crate::access::Organization;
use crate::analytics::tally::Tally;
use crate::delivery::Lease;
use crate::delivery::room::Rooms;
use crate::delivery::settle::Outcome;
use crate::delivery::suspect::Suspects;
use crate::egress::{AddressPolicy, Transport};
use crate::error::Result;
use crate::event::{IngestItem, Ingested, publish};
use crate::id::{DeliveryId, IdSource, OrgId, ResourceId};
use crate::integration::{CompiledIntegration, IntegrationSpec, MatchIndex};
use crate::live::Hub;
use crate::lookup::Lookups;
use crate::notice::{Failing, Health};
use crate::resource::{Index, OrgEntry, Resources, Spec};
use crate::store::Store;
use crate::telemetry::{Metrics, SpanParent, SystemLog};
use crate::time::{Clock, Timestamp};
use crate::transform::{Outlet, Transformer};
use crate::trial::Gate;

/// What the parts of one engine share.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) ids: Arc<dyn IdSource>,
    pub(crate) config: EngineConfig,
    pub(crate) metrics: Metrics,
    pub(crate) tasks: TaskTracker,
    pub(crate) index: Arc<Index>,
    pub(crate) resources: Resources,
    pub(crate) transformer: Arc<dyn Transformer>,
    /// Through what requests are sent that are no deliveries: those of programs, and to issuers.
    outlet: Option<Transport>,
    /// What every organization may reach, where that is not as it is configured.
    development: Option<Arc<AddressPolicy>>,
    pub(crate) session: Session,
    /// What the process told last.
    pub(crate) system_log: SystemLog,
    pub(crate) span_parent: Option<SpanParent>,
    /// When it was made, by this process's own clock.
    pub(crate) born: Duration,
    /// Who watches.
    pub(crate) live: Hub,
    /// What this node has counted for analytics and not written yet.
    pub(crate) tally: Tally,
    pub(crate) duties: Duties,
    pub(crate) access: Access,
    pub(crate) tests: Gate,
    pub(crate) dry_runs: Gate,
    pub(crate) publisher: Batcher<IngestItem, Ingested>,
    pub(crate) settler: Batcher<Outcome, ()>,
    /// Room for attempts on this node.
    pub(crate) rooms: Arc<Rooms>,
    /// Whose turn it is of the deliveries that may have taken a process down.
    pub(crate) suspects: Arc<Suspects>,
    /// Says that deliveries may be due.
    pub(crate) due: Notify,
    /// Says that a replay may have work.
    pub(crate) replays: Notify,
    /// Deliveries that this node made or made due and has not seen claimed; a hint.
    pub(crate) waiting: AtomicI64,
    pub(crate) running: AtomicBool,
    /// Ends claims and every duty but the beat.
    pub(crate) stop: CancellationToken,
    /// Ends attempts under way; their tries are given back.
    pub(crate) abort: CancellationToken,
    /// Ends the attempts to record outcomes while the store fails.
    pub(crate) give_up: CancellationToken,
    /// What this node knows of endpoints that fail.
    pub(crate) health: Health,
    /// Says that this node put something into the outbox.
    pub(crate) outbox: Notify,
    /// What follows event sources.
    pub(crate) pumps: TaskTracker,
    pub(crate) finished: AtomicU64,
    pub(crate) released: AtomicU64,
    leases: Mutex<HashMap<DeliveryId, HeldLease>>,
}

/// A lease this node holds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HeldLease {
    pub(crate) lease: Lease,
    /// When it ends, by this process's own clock.
    pub(crate) until: Duration,
}

/// The parts of a [`Core`] that are chosen by the host.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) ids: Arc<dyn IdSource>,
    pub(crate) config: EngineConfig,
    pub(crate) tasks: TaskTracker,
    pub(crate) index: Arc<Index>,
    pub(crate) resources: Resources,
    pub(crate) transformer: Arc<dyn Transformer>,
    pub(crate) outlet: Option<Transport>,
    pub(crate) development: Option<Arc<AddressPolicy>>,
    pub(crate) system_log: SystemLog,
    pub(crate) span_parent: Option<SpanParent>,
}

impl Core {
    pub(crate) fn new(parts: Parts) -> Arc<Self> {
        let Parts {
            store,
            clock,
            ids,
            config,
            tasks,
            index,
            resources,
            transformer,
            outlet,
            development,
            system_log,
            span_parent,
        } = parts;
        if !config.doze.is_zero() {
            index.doze().tell_every(config.doze / 3);
        }
        Arc::new_cyclic(|core| {
            let limits = BatchLimits {
                items: config.publish_batch,
                queue: config.publish_queue,
                linger: config.publish_linger,
                linger_from: 8,
            };
            let weak = core.clone();
            let publisher = Batcher::new(tasks.clone(), limits, move |items| {
                Box::pin(publish::commit(weak.clone(), items))
            });
            let limits = BatchLimits {
                items: config.settle_batch,
                queue: usize::MAX,
                linger: config.settle_linger,
                linger_from: 0,
            };
            let weak = core.clone();
            let settler = Batcher::new(tasks.clone(), limits, move |items| {
                Box::pin(crate::delivery::settle::record(weak.clone(), items))
            });
            let session = Session::new(ids.as_ref(), clock.as_ref());
            Self {
                born: clock.monotonic(),
                system_log,
                span_parent,
                live: Hub::default(),
                tally: Tally::new(session.id()),
                session,
                rooms: Rooms::new(config.max_in_flight),
                suspects: Arc::default(),
                metrics: Metrics::new(config.organization_metrics),
                duties: Duties::default(),
                access: Access::default(),
                tests: Gate::new("test deliveries", config.tests_per_minute),
                dry_runs: Gate::new("dry runs", config.dry_runs_per_minute),
                due: Notify::new(),
                replays: Notify::new(),
                waiting: AtomicI64::new(0),
                running: AtomicBool::new(false),
                stop: CancellationToken::new(),
                abort: CancellationToken::new(),
                give_up: CancellationToken::new(),
                health: Health::default(),
                outbox: Notify::new(),
                pumps: TaskTracker::new(),
                finished: AtomicU64::new(0),
                released: AtomicU64::new(0),
                leases: Mutex::default(),
                store,
                clock,
                ids,
                config,
                tasks,
                index,
                resources,
                transformer,
                outlet,
                development,
                publisher,
                settler,
            }
        })
    }

    /// The organization as this node knows it, ready for matching.
    pub(crate) async fn org(&self, org: &OrgId) -> Result<Arc<OrgView>> {
        OrgView::of(self.index.org(org).await?)
    }

    /// As [`org`](Self::org), for a duty of which a node that dozes is not to be roused.
    pub(crate) async fn known_org(&self, org: &OrgId) -> Result<Arc<OrgView>> {
        OrgView::of(self.index.known(org).await?)
    }

    /// How the programs of `organization` send requests; none where they may not.
    pub(crate) fn outlet(&self, organization: &Organization) -> Option<Outlet> {
        self.way_out(organization).filter(|_| organization.program_http)
    }

    /// How the engine asks on behalf of `organization`.
    pub(crate) fn way_out(&self, organization: &Organization) -> Option<Outlet> {
        let transport = self.outlet.as_ref()?;
        let policy = self.development.as_ref().unwrap_or(&organization.policy);
        Some(Outlet { transport: transport.clone(), policy: Arc::clone(policy) })
    }

    pub(crate) fn is_running(&self) -> bool {
        self.running.load(Ordering::Acquire) && !self.stop.is_cancelled()
    }

    pub(crate) fn leases(&self) -> MutexGuard<'_, HashMap<DeliveryId, HeldLease>> {
        self.leases.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a delivery that is due at `due_at` would be late if the next poll were to find it.
    pub(crate) fn is_soon(&self, due_at: Timestamp, now: Timestamp) -> bool {
        due_at > now && due_at < now + self.config.poll
    }

    /// Whether this node dozes.
    pub(crate) fn doze(&self) -> &Doze {
        self.index.doze()
    }

    /// Notes that there is work, and tells other nodes, which might doze.
    pub(crate) fn stir(&self) {
        let now = self.clock.monotonic();
        self.doze().stir(now);
        if self.doze().tells(now) {
            let store = Arc::clone(&self.store);
            self.tasks.spawn(async move {
                if let Err(error) = store.hint_others().await {
                    tracing::debug!(icp.error = error.code().as_str(), "no hint: {error}");
                }
            });
        }
    }

    /// How often a node that dozes looks at the outbox.
    pub(crate) fn look_interval(&self) -> Duration {
        self.config.relay.max(self.config.doze / 3)
    }

    /// When `at` will be, by the monotonic clock.
    pub(crate) fn until(&self, at: Option<Timestamp>) -> Option<Duration> {
        at.map(|at| self.clock.monotonic() + at.since(self.clock.now()))
    }

    /// Says that deliveries may be due that were not.
    pub(crate) fn look_for_due(&self) {
        self.due.notify_one();
        self.stir();
    }

    /// Says that `count` deliveries wait to be claimed.
    pub(crate) fn announce(&self, count: usize) {
        self.waiting.fetch_add(i64::try_from(count).unwrap_or(i64::MAX), Ordering::AcqRel);
        self.look_for_due();
    }
}

/// An organization with its integrations, ready for matching.
#[derive(Debug)]
pub(crate) struct OrgView {
    pub(crate) entry: Arc<OrgEntry>,
    parts: Arc<OrgParts>,
}

impl OrgView {
    fn of(entry: Arc<OrgEntry>) -> Result<Arc<Self>> {
        let parts = entry.derived(OrgParts::new)?;
        Ok(Arc::new(Self { entry, parts }))
    }
}

impl Deref for OrgView {
    type Target = OrgParts;

    fn deref(&self) -> &OrgParts {
        &self.parts
    }
}

/// What is made of an organization once. Its entry holds it, so it must not hold the entry.
#[derive(Debug)]
pub(crate) struct OrgParts {
    pub(crate) organization: Arc<Organization>,
    pub(crate) matching: MatchIndex,
    /// Its lookup tables.
    pub(crate) lookups: Lookups,
    /// The integrations whose endpoints fail, as their status says.
    pub(crate) failing: HashMap<ResourceId, Failing>,
}

impl OrgParts {
    fn new(entry: &Arc<OrgEntry>) -> Result<Self> {
        let organization = entry.organization()?;
        let matching = MatchIndex::new(
            &organization,
            entry.compiled::<CompiledIntegration>(IntegrationSpec::KIND),
        );
        for (id, error) in matching.waiting() {
            tracing::error!(
                icp.org = %entry.org(),
                icp.integration.id = %id,
                icp.error = error.code().as_str(),
                "the deliveries of an integration wait because it cannot be used: {error}"
            );
        }
        let lookups = Lookups::of(entry)?;
        let integrations = entry.resources(IntegrationSpec::KIND);
        let failing = integrations
            .filter_map(|(id, entry)| Some((id.clone(), Failing::of(&entry.status)?)))
            .collect();
        Ok(Self { organization, matching, lookups, failing })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use crate::access::OrganizationSpec;
    use crate::engine::Engine;
    use crate::id::OrgId;
    use crate::resource::{Actor, Draft, Expect, Spec};
    use crate::store::MemoryStore;

    #[tokio::test]
    async fn what_an_organization_was_is_let_go() {
        let engine = Engine::builder(MemoryStore::new()).build().unwrap();
        let (org, kind) = (OrgId::new("acme").unwrap(), OrganizationSpec::KIND);
        let draft = || Draft::read(&json!({ "spec": {} })).unwrap();
        let (resources, host) = (engine.resources(), Actor::host());
        let made = resources.create(&org, kind, draft(), &host).await.unwrap();
        let before = engine.core.org(&org).await.unwrap();
        let (entry, parts) = (Arc::downgrade(&before.entry), Arc::downgrade(&before.parts));
        drop(before);
        let changed = resources.replace(&org, kind, &made.id, draft(), Expect::Any, &host);
        changed.await.unwrap();
        engine.core.org(&org).await.unwrap();
        assert!(entry.upgrade().is_none() && parts.upgrade().is_none());
    }
}
