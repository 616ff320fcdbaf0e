use std::num::NonZeroUsize;
use std::sync::Arc;

use tokio_util::task::TaskTracker;

use super::Engine;
use super::config::EngineConfig;
use super::core::{Core, Parts};
use crate::access::{ApiKeySpec, OrganizationSpec, RoleSpec, UserSpec};
use crate::egress::Transport;
use crate::error::{Code, Error, Result};
use crate::event::TraceContext;
use crate::event_type::EventTypeSpec;
use crate::id::{ClockIds, IdSource};
use crate::integration::auth::{RequestSigner, RequestSigners};
use crate::integration::{Connector, Connectors, IntegrationSpec};
use crate::issuer::IssuerSpec;
use crate::lookup::LookupSpec;
use crate::resource::{Index, KindRegistry, Resources, Services, Spec};
use crate::secret::{KeyProvider, Sealer};
use crate::signing::{Profile, Profiles};
use crate::source::{EventSource, EventSources, SourceSpec};
use crate::store::Store;
use crate::telemetry::{SpanParent, SystemLog};
use crate::time::{Clock, SystemClock};
use crate::transform::{InPlace, Transformer};

/// Builds an [`Engine`]. What is not chosen has a default that fits production.
#[must_use = "a builder does nothing until it is built"]
pub struct EngineBuilder {
    store: Arc<dyn Store>,
    config: EngineConfig,
    clock: Arc<dyn Clock>,
    ids: Option<Arc<dyn IdSource>>,
    tasks: TaskTracker,
    keys: Option<Arc<dyn KeyProvider>>,
    connectors: Connectors,
    profiles: Profiles,
    signers: RequestSigners,
    sources: EventSources,
    transformer: Arc<dyn Transformer>,
    outlet: Option<Transport>,
    kinds: Result<KindRegistry>,
    system_log: SystemLog,
    span_parent: Option<SpanParent>,
    #[cfg(feature = "http")]
    development: Option<crate::egress::AddressPolicy>,
}

impl std::fmt::Debug for EngineBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EngineBuilder").field("config", &self.config).finish_non_exhaustive()
    }
}

impl EngineBuilder {
    pub(super) fn new(store: Arc<dyn Store>) -> Self {
        Self {
            store,
            config: EngineConfig::default(),
            clock: Arc::new(SystemClock),
            ids: None,
            tasks: TaskTracker::new(),
            keys: None,
            connectors: Connectors::new(),
            profiles: Profiles::default(),
            signers: RequestSigners::default(),
            sources: EventSources::default(),
            transformer: Arc::new(InPlace),
            outlet: None,
            kinds: builtin_kinds(),
            system_log: SystemLog::new(1, SystemClock),
            span_parent: None,
            #[cfg(feature = "http")]
            development: None,
        }
    }

    /// The settings. Default: [`EngineConfig::default`].
    pub fn config(mut self, config: EngineConfig) -> Self {
        self.config = config;
        self
    }

    /// The keys that seal secrets. Without them, configuration that holds a secret is refused.
    pub fn keys(mut self, keys: impl KeyProvider) -> Self {
        self.keys = Some(Arc::new(keys));
        self
    }

    /// The source of time. Default: [`SystemClock`].
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// The source of ids. Default: [`ClockIds`] on the engine's clock.
    pub fn ids(mut self, ids: impl IdSource) -> Self {
        self.ids = Some(Arc::new(ids));
        self
    }

    /// Where the engine's tasks are counted. Default: a tracker of its own.
    pub fn tasks(mut self, tasks: TaskTracker) -> Self {
        self.tasks = tasks;
        self
    }

    /// Adds a connector; one of the same kind is replaced. Default, with the feature `http`:
    /// [`HttpConnector`](crate::integration::http::HttpConnector) over a guarded client.
    pub fn connector(mut self, connector: impl Connector) -> Self {
        self.connectors = self.connectors.with(Arc::new(connector));
        self
    }

    /// Adds a signing profile.
    pub fn signing_profile(mut self, profile: impl Profile) -> Self {
        self.profiles = self.profiles.with(Arc::new(profile));
        self
    }

    /// Adds a signer for integrations whose `auth` is `{"type": "host", "handler": name}`; one of the
    /// same name is replaced. Default: none. An integration whose signer is not there is saved all
    /// the same, as another program on the store may have it; its attempts fail with
    /// `signer_no_handler` and are tried again.
    pub fn request_signer(mut self, name: impl Into<String>, signer: impl RequestSigner) -> Self {
        self.signers = self.signers.with(name, Arc::new(signer));
        self
    }

    /// The signer that is asked for every name that no other is registered by. Default: none.
    pub fn other_request_signers(mut self, signer: impl RequestSigner) -> Self {
        self.signers = self.signers.with_others(Arc::new(signer));
        self
    }

    /// Adds what resources of the kind `event_source` pull from whose `type` is `name`: 1 to 64
    /// letters, digits, dots, hyphens and underscores; one of the same name is replaced. Default:
    /// none. A started engine leaves sources of other names to other programs on the store.
    pub fn event_source(mut self, name: impl Into<String>, source: impl EventSource) -> Self {
        self.sources = self.sources.with(name, Arc::new(source));
        self
    }

    /// What is polled for every name that no other event source is registered by. Default: none.
    pub fn other_event_sources(mut self, source: impl EventSource) -> Self {
        self.sources = self.sources.with_others(Arc::new(source));
        self
    }

    /// What checks and runs transformations. Default: [`InPlace`], which takes mappings only.
    pub fn transformer(mut self, transformer: impl Transformer) -> Self {
        self.transformer = Arc::new(transformer);
        self
    }

    /// Through what requests are sent that are no deliveries: those of programs, for organizations
    /// that are granted `program_http`, and those to outside issuers of tokens. Default, with the
    /// feature `http`: a guarded client.
    pub fn program_transport(mut self, transport: Transport) -> Self {
        self.outlet = Some(transport);
        self
    }

    /// The log of the process, to be looked at through the engine; its layer belongs to the host's
    /// subscriber. Default: none.
    pub fn system_log(mut self, log: SystemLog) -> Self {
        self.system_log = log;
        self
    }

    /// Joins attempts to the trace of whoever published: called with the span of an attempt, before
    /// it is entered, and the trace context that the event was published with. With
    /// `tracing-opentelemetry` it calls `set_parent`. It must not block. Default: the span is a
    /// root, and `icp.trace.parent` names the context.
    pub fn span_parent(
        mut self,
        set: impl Fn(&tracing::Span, &TraceContext) + Send + Sync + 'static,
    ) -> Self {
        self.span_parent = Some(SpanParent::new(set));
        self
    }

    /// Adds a kind of resource.
    pub fn kind<S: Spec>(mut self) -> Self {
        self.kinds = self.kinds.and_then(|mut kinds| {
            kinds.register::<S>()?;
            Ok(kinds)
        });
        self
    }

    /// Lets every organization send to this machine's loopback addresses, on any port and by
    /// plain HTTP. For development and tests only; the engine says so in its log when it is
    /// built.
    #[cfg(feature = "http")]
    pub fn allow_loopback(mut self) -> Self {
        self.development = Some(crate::egress::AddressPolicy::builder().allow_loopback().build());
        self
    }

    /// Validates everything once and makes the engine. Nothing runs yet.
    ///
    /// # Errors
    ///
    /// [`Code::ConfigInvalid`] with every setting at fault.
    pub fn build(self) -> Result<Engine> {
        self.config.validate()?;
        #[cfg(feature = "http")]
        let (connectors, outlet) = self.connectors_with_http()?;
        #[cfg(not(feature = "http"))]
        let (connectors, outlet) = (self.connectors.clone(), self.outlet.clone());
        #[cfg(feature = "http")]
        let development = self.development.map(Arc::new);
        #[cfg(not(feature = "http"))]
        let development = None;
        let capacity = NonZeroUsize::new(self.config.index_capacity).unwrap_or(NonZeroUsize::MIN);
        let keys = self.keys.unwrap_or_else(|| Arc::new(NoKeys));
        let services = Services {
            sealer: Arc::new(Sealer::new(keys)),
            profiles: Arc::new(self.profiles),
            signers: Arc::new(self.signers),
            connectors: Arc::new(connectors),
            transformer: Arc::clone(&self.transformer),
            lookups: self.config.lookups,
            sources: Arc::new(self.sources),
        };
        let kinds = Arc::new(self.kinds?);
        let ids = match self.ids {
            Some(ids) => ids,
            None => Arc::new(ClockIds::new(Arc::clone(&self.clock))?),
        };
        let index = Arc::new(Index::new(
            Arc::clone(&self.store),
            Arc::clone(&kinds),
            services.clone(),
            capacity,
        ));
        let resources = Resources::new(
            Arc::clone(&self.store),
            kinds,
            services,
            Arc::clone(&index),
            Arc::clone(&self.clock),
            Arc::clone(&ids),
        );
        let core = Core::new(Parts {
            store: self.store,
            clock: self.clock,
            ids,
            config: self.config,
            tasks: self.tasks,
            index,
            resources,
            transformer: self.transformer,
            outlet,
            development,
            system_log: self.system_log,
            span_parent: self.span_parent,
        });
        Ok(Engine { core })
    }

    /// The connectors with the built-in one, and the way out for programs: one client for both,
    /// where the host chose neither.
    #[cfg(feature = "http")]
    fn connectors_with_http(&self) -> Result<(Connectors, Option<Transport>)> {
        use crate::integration::http::{HttpConnector, KIND};
        let connected = self.connectors.get(KIND).is_ok();
        let (transport, outlet) = match &self.outlet {
            Some(outlet) if connected => {
                return Ok((self.connectors.clone(), Some(outlet.clone())));
            }
            Some(outlet) => (self.client()?, outlet.clone()),
            None => {
                let client = self.client()?;
                (client.clone(), client)
            }
        };
        if connected {
            return Ok((self.connectors.clone(), Some(outlet)));
        }
        let mut connector = HttpConnector::new(transport);
        if let Some(policy) = &self.development {
            tracing::warn!(policy = policy.describe(), "DEVELOPMENT: addresses are not guarded");
            connector = connector.development_policy(policy.clone());
        }
        Ok((self.connectors.clone().with(Arc::new(connector)), Some(outlet)))
    }

    #[cfg(feature = "http")]
    fn client(&self) -> Result<Transport> {
        use crate::egress::{Client, stack};
        let client = Client::builder().build().map_err(|error| {
            Error::new(Code::ConfigInvalid, "the http client cannot be made").caused_by(error)
        })?;
        let base = client.into_transport();
        Ok(stack(base, self.config.max_in_flight, tower::layer::util::Identity::new()))
    }
}

fn builtin_kinds() -> Result<KindRegistry> {
    let mut kinds = KindRegistry::new();
    kinds.register::<OrganizationSpec>()?.register::<IntegrationSpec>()?;
    kinds.register::<LookupSpec>()?.register::<EventTypeSpec>()?;
    kinds.register::<ApiKeySpec>()?.register::<RoleSpec>()?.register::<UserSpec>()?;
    kinds.register::<IssuerSpec>()?.register::<SourceSpec>()?;
    Ok(kinds)
}

/// Stands where the host handed in no keys.
#[derive(Debug)]
struct NoKeys;

impl NoKeys {
    fn refuse<T>() -> Result<T> {
        let message = "the engine has no key to seal secrets with; hand one to its builder";
        Err(Error::new(Code::KeyUnreadable, message))
    }
}

impl KeyProvider for NoKeys {
    fn current(&self) -> Result<crate::secret::Key> {
        Self::refuse()
    }

    fn by_id(&self, _: &str) -> Result<crate::secret::Key> {
        Self::refuse()
    }
}
