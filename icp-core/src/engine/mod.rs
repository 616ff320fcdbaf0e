//! The engine: what a host holds, starts and stops.

mod access;
mod analytics;
mod audit;
mod batch;
mod builder;
mod cancel;
mod catalogue;
mod config;
pub(crate) mod core;
mod dashboard;
pub(crate) mod doze;
mod dry_run;
pub(crate) mod duty;
mod erase;
mod explain;
mod impersonate;
mod introspection;
mod issuers;
mod keys;
mod letters;
mod live;
mod log;
mod oidc;
mod passwords;
mod pause;
mod replay;
mod running;
mod session;
mod sessions;
mod sight;
mod sources;
mod status;
pub(crate) mod supervise;
mod timeline;
mod within;

use std::collections::BTreeMap;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use builder::EngineBuilder;
pub use config::EngineConfig;
pub use explain::{Explained, Explanation};
pub use impersonate::Impersonation;
pub use introspection::Introspected;
pub use keys::{IssuedKey, KEY_OVERLAP, MAX_KEY_OVERLAP};
pub use oidc::{LOGIN_LIFE, LoginReturn, LoginStart, LoginStarted};
pub use running::{Drained, Running};
pub use sessions::{ACCESS_TOKEN, Login, SESSION_IDLE, SESSION_LIFE, Tokens};
pub use status::SystemStatus;
pub use supervise::DutyState;
pub use timeline::{Happened, Moment, Passed, Timeline};
pub use within::{EventPage, LetterPage, LetterQuery, Within};

use self::core::Core;
use crate::delivery::{
    Attempt, Audit, Delivery, DeliveryQuery, DeliveryState, Lane, LaneId, LaneStatus, Replay,
};
use crate::error::{Code, Error, Result};
use crate::event::{self, Event, EventLimits, EventQuery, EventSummary, NewEvent, Published};
use crate::id::{DeliveryId, EventId, IdSource, OrgId};
use crate::lookup::LookupLimits;
use crate::resource::{Actor, Resources};
use crate::slot::SlotStore;
use crate::store::{Page, PageQuery, Store, StoreInfo};
use crate::telemetry::Metrics;
use crate::time::{Clock, Timestamp};
use crate::trial::{self, CurlCommand, Sample, TestOf, TestReport};

/// A handle to one engine; cloning it is cheap.
///
/// An engine that is not started takes events and configuration all the same; what it took is
/// delivered by any started engine on the same store.
#[derive(Clone, Debug)]
pub struct Engine {
    core: Arc<Core>,
}

impl Engine {
    /// Begins an engine on `store`.
    pub fn builder(store: impl Store) -> EngineBuilder {
        EngineBuilder::new(Arc::new(store))
    }

    /// Begins an engine on a store that is shared with others.
    pub fn builder_on(store: Arc<dyn Store>) -> EngineBuilder {
        EngineBuilder::new(store)
    }

    /// Publishes one event. When this returns, the event and all of its deliveries are in the
    /// store; concurrent calls share a transaction.
    ///
    /// # Errors
    ///
    /// [`Code::OrganizationUnknown`], [`Code::OrganizationSuspended`], [`Code::UnitUnknown`],
    /// [`Code::IdempotencyConflict`], those of [`NewEvent::accept`], [`Code::Overloaded`], and
    /// those of the store. After a transient error the event may have been taken: publish again
    /// with the same idempotency key.
    ///
    /// # Cancellation
    ///
    /// A call that is dropped may still publish.
    pub async fn publish(&self, event: NewEvent) -> Result<Published> {
        let published = event::publish::publish_one(&self.core, event).await;
        published.map_err(|error| error.during("publish"))
    }

    /// Publishes events together; one answer for each, in order. One event that is refused does
    /// not keep the others out.
    pub async fn publish_batch(&self, events: Vec<NewEvent>) -> Vec<Result<Published>> {
        event::publish::publish(&self.core, events).await
    }

    /// Validates an event for a host that writes it in a transaction of its own, with the
    /// `publish_in` of its store.
    ///
    /// # Errors
    ///
    /// As [`publish`](Self::publish), but for those of the store's write.
    pub async fn accept(&self, event: NewEvent) -> Result<Event> {
        let accepted = event::publish::accept(&self.core, event).await;
        accepted.map(|(event, _)| event).map_err(|error| error.during("accept"))
    }

    /// Starts the background duties: deliveries go out.
    ///
    /// # Errors
    ///
    /// [`Code::ConfigInvalid`] where it was started before, and those of the store.
    pub async fn start(&self) -> Result<Running> {
        running::start(&self.core).await
    }

    /// Reads and changes the configuration.
    #[must_use]
    pub fn resources(&self) -> &Resources {
        &self.core.resources
    }

    /// One event.
    ///
    /// # Errors
    ///
    /// [`Code::EventNotFound`], and those of the store.
    pub async fn event(&self, org: &OrgId, id: EventId) -> Result<Event> {
        self.core
            .store
            .event(org, id)
            .await?
            .ok_or_else(|| Error::new(Code::EventNotFound, format!("there is no event `{id}`")))
    }

    /// Events of an organization, newest first, without bodies.
    ///
    /// # Errors
    ///
    /// Those of the store.
    pub async fn events(&self, org: &OrgId, query: &EventQuery) -> Result<Page<EventSummary>> {
        self.core.store.events(org, query).await
    }

    /// Why an event went, or did not go, to each integration of its organization, judged by the
    /// configuration it was published under.
    ///
    /// # Errors
    ///
    /// [`Code::EventNotFound`], and those of the store.
    pub async fn explain(&self, org: &OrgId, id: EventId) -> Result<Explanation> {
        explain::explain(self, org, id).await
    }

    /// One delivery.
    ///
    /// # Errors
    ///
    /// [`Code::DeliveryNotFound`], and those of the store.
    pub async fn delivery(&self, org: &OrgId, id: DeliveryId) -> Result<Delivery> {
        self.core.store.delivery(org, id).await?.ok_or_else(|| not_found(id))
    }

    /// Deliveries of an organization, newest first.
    ///
    /// # Errors
    ///
    /// Those of the store.
    pub async fn deliveries(&self, org: &OrgId, query: &DeliveryQuery) -> Result<Page<Delivery>> {
        self.core.store.deliveries(org, query).await
    }

    /// The deliveries of an organization that ended as dead letters, newest first.
    ///
    /// # Errors
    ///
    /// Those of the store.
    pub async fn dead_letters(&self, org: &OrgId, query: &DeliveryQuery) -> Result<Page<Delivery>> {
        let query = DeliveryQuery { state: Some(DeliveryState::Dead), ..query.clone() };
        self.deliveries(org, &query).await
    }

    /// The attempts of a delivery, oldest first.
    ///
    /// # Errors
    ///
    /// [`Code::DeliveryNotFound`], and those of the store.
    pub async fn attempts(&self, org: &OrgId, id: DeliveryId) -> Result<Vec<Attempt>> {
        self.delivery(org, id).await?;
        self.core.store.attempts(org, id).await
    }

    /// The lanes of an organization, ordered by id. Each ordering key has one, so they may be many.
    ///
    /// # Errors
    ///
    /// Those of the store.
    pub async fn lanes(&self, org: &OrgId, page: PageQuery<LaneId>) -> Result<Page<Lane>> {
        self.core.store.lanes(org, page).await
    }

    /// How the lanes of an organization are doing, ordered by id: what waits and for how long,
    /// whether their breakers are open, what is left of their rates, and when they will be done.
    ///
    /// # Errors
    ///
    /// Those of the store.
    pub async fn lane_statuses(
        &self,
        org: &OrgId,
        page: PageQuery<LaneId>,
    ) -> Result<Page<LaneStatus>> {
        sight::statuses(&self.core, org, page).await
    }

    /// The same as metrics, in OpenMetrics text form: what waits in each lane and for how long, what
    /// is under way, and in how long nothing waits. Lanes of ordering keys are left out while they
    /// have nothing to do.
    ///
    /// [`metrics`](Self::metrics) has the sums over all organizations alone, so that its size does
    /// not grow with them.
    ///
    /// # Errors
    ///
    /// Those of the store.
    pub async fn lane_metrics(&self, org: &OrgId) -> Result<String> {
        sight::metrics(&self.core, org).await
    }

    /// Delivers an ended delivery once more: a new delivery with the same `webhook-id`, linked
    /// to the old one, by the configuration of now. An expiry of the event is not taken over.
    ///
    /// # Errors
    ///
    /// [`Code::DeliveryNotFound`], [`Code::DeliveryStateConflict`] where it has not ended,
    /// [`Code::IntegrationNotFound`], and those of the store.
    pub async fn replay(&self, org: &OrgId, id: DeliveryId, actor: &Actor) -> Result<Delivery> {
        let old = self.delivery(org, id).await?;
        if self.core.org(org).await?.matching.bound(&old.integration).is_none() {
            let message = format!("the integration `{}` was deleted", old.integration);
            return Err(Error::new(Code::IntegrationNotFound, message).during("replay"));
        }
        let replay = Replay {
            org: org.clone(),
            delivery: id,
            id: DeliveryId::generate(self.core.ids.as_ref()),
            expires_at: None,
            actor: Some(actor.clone()),
            now: self.now(),
        };
        let delivery = self.core.store.replay(replay).await?;
        self.core.announce(1);
        Ok(delivery)
    }

    /// Tries an integration out, saved or not: the whole path of a delivery, by the same rules, for
    /// one event that is not stored. It is sent at most once, whatever the integration's retry
    /// policy is, with the header field `icp-test`. Without a sample it is an event of the type
    /// `icp.test`, for which neither event types nor conditions are asked.
    ///
    /// Each node makes [`EngineConfig::tests_per_minute`] for an organization.
    ///
    /// # Errors
    ///
    /// [`Code::ResourceInvalid`] with everything that is wrong with a draft,
    /// [`Code::ResourceNotFound`], [`Code::TestsLimited`], those of [`NewEvent::accept`],
    /// [`Code::OrganizationUnknown`], [`Code::OrganizationSuspended`], [`Code::UnitUnknown`], and
    /// those of the store. That nothing was sent for another reason is no error but a
    /// [`TestOutcome`](crate::trial::TestOutcome).
    ///
    /// # Cancellation
    ///
    /// A call that is dropped may have sent its request.
    pub async fn test_delivery(
        &self,
        org: &OrgId,
        of: TestOf,
        sample: Sample,
    ) -> Result<TestReport> {
        trial::test(&self.core, org, of, sample).await
    }

    /// The request of a test delivery as a command for a shell. Sends nothing.
    ///
    /// # Errors
    ///
    /// As [`test_delivery`](Self::test_delivery), and [`Code::SigningFailed`].
    pub async fn integration_curl(
        &self,
        org: &OrgId,
        of: TestOf,
        sample: Sample,
    ) -> Result<CurlCommand> {
        trial::integration_curl(&self.core, org, of, sample).await
    }

    /// An attempt as a command for a shell. The body is made by the transformation of now and
    /// signed anew, because neither is kept with attempts; the notes say what is not as it was.
    ///
    /// A try that is given back, as when the receiver asked to wait, shares its number with the
    /// next: `epoch`, which no two attempts share, tells them apart. Without it the latest is
    /// meant.
    ///
    /// # Errors
    ///
    /// [`Code::DeliveryNotFound`], [`Code::AttemptNotFound`], and those of the store.
    pub async fn attempt_curl(
        &self,
        org: &OrgId,
        delivery: DeliveryId,
        number: u32,
        epoch: Option<u32>,
    ) -> Result<CurlCommand> {
        trial::attempt_curl(self, org, delivery, number, epoch).await
    }

    /// Checks the delivery protocol's invariants on everything stored; read-only.
    ///
    /// # Errors
    ///
    /// Those of the store.
    pub async fn verify(&self) -> Result<Audit> {
        self.core.store.audit().await
    }

    /// How many deliveries are in each state, over all organizations.
    ///
    /// # Errors
    ///
    /// Those of the store.
    pub async fn counts(&self) -> Result<Vec<(DeliveryState, u64)>> {
        self.core.store.counts().await
    }

    /// How the engine and its parts are doing; asks the store.
    pub async fn health(&self) -> Health {
        let store = self.core.store.ping().await;
        let duties = self.core.duties.states();
        let ready = store.is_ok()
            && self.core.is_running()
            && duties.values().all(|state| *state == DutyState::Running);
        Health {
            ready,
            store: self.core.store.info(),
            store_error: store.err().map(|error| error.code().as_str().to_owned()),
            duties: duties.into_iter().map(|(duty, state)| (duty.to_owned(), state)).collect(),
        }
    }

    /// What the engine counts.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.core.metrics
    }

    /// What events may be.
    #[must_use]
    pub fn event_limits(&self) -> &EventLimits {
        &self.core.config.events
    }

    /// How large lookup tables may be.
    #[must_use]
    pub fn lookup_limits(&self) -> LookupLimits {
        self.core.config.lookups
    }

    /// The engine's time.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.core.clock.now()
    }

    /// The engine's source of ids.
    #[must_use]
    pub fn ids(&self) -> &dyn IdSource {
        self.core.ids.as_ref()
    }

    /// Small values with an end, kept where all nodes see them.
    #[must_use]
    pub fn slots(&self) -> &dyn SlotStore {
        &*self.core.store
    }

    /// The engine's clock.
    #[must_use]
    pub fn clock(&self) -> &dyn Clock {
        self.core.clock.as_ref()
    }

    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.core
    }
}

fn not_found(id: DeliveryId) -> Error {
    Error::new(Code::DeliveryNotFound, format!("there is no delivery `{id}`"))
}

/// How an engine and its parts are doing.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[non_exhaustive]
pub struct Health {
    /// Whether the engine delivers: started, every duty at work, the store answering.
    pub ready: bool,
    /// Facts about the store.
    pub store: StoreInfo,
    /// The code of the store's error, where it does not answer.
    pub store_error: Option<String>,
    /// Every background duty and its state.
    pub duties: BTreeMap<String, DutyState>,
}
