//! What is configured for an integration, and what the engine makes of it.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::auth::{Auth, AuthSpec};
use super::filter::{CompiledFilter, Condition, DeferredFilter, Filter};
use super::pattern::{EventPattern, PatternSet};
use super::retry::RetrySpec;
use super::{Binding, Connector, Integration, OnFailure};
use crate::access::Area;
use crate::delivery::LaneMode;
use crate::delivery::health::{BreakerSpec, LaneRules, RateLimit};
use crate::egress::AddressPolicy;
use crate::error::{Code, Error, Result, Violation, unwound};
use crate::id::ResourceId;
use crate::letter::AutoRetry;
use crate::lookup;
use crate::notice::FailingSpec;
use crate::resource::{Compiled, Effect, OrgEntry, Spec, SpecContext, Structure, Violations};
use crate::secret::SecretVisitor;
use crate::signing::{Signer, SigningSpec};
use crate::transform::{Addressee, Plan, PlanSpec, Program, Vars};

/// The most event-type patterns of an integration.
pub const MAX_PATTERNS: usize = 256;

/// The most deliveries of an integration that may be under way at once.
pub const MAX_IN_FLIGHT: u32 = 1_000;

/// Which events go, how they are shaped, and where they are delivered.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct IntegrationSpec {
    /// Whether events are delivered. While it is off, events do not match, and deliveries that
    /// were made before wait. Default `true`.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// The event types, as patterns: `order.paid`, `order.*`, `order.**`, or `*` for all.
    #[schemars(length(min = 1, max = 256))]
    pub events: Vec<EventPattern>,
    /// The unit the integration belongs to; none for the whole organization. It may be made
    /// later: until then the integration matches nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<ResourceId>,
    /// Whether events of units below take part. Default `include_children`.
    #[serde(default)]
    pub scope: Scope,
    /// Units below whose events take no part, with all that is below them; only with
    /// `include_children`.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub excluded_units: BTreeSet<ResourceId>,
    /// A condition on the event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<Filter>,
    /// What is made of the body before it is sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transform: Option<PlanSpec>,
    /// The constants that its programs read; at most 16 KiB of JSON. They are no place for
    /// secrets.
    #[serde(default, skip_serializing_if = "Vars::is_empty")]
    pub vars: Vars,
    /// Whether events with the same ordering key are delivered one after the other. Default
    /// `none`.
    #[serde(default)]
    pub ordering: Ordering,
    /// What a failed delivery does to those behind it; only with the ordering `by_key`. Default
    /// `block`.
    #[serde(default, skip_serializing_if = "is_block")]
    pub on_failure: OnFailure,
    /// How many deliveries may be under way at once, 1 to 1,000. Default 10.
    #[serde(default = "ten")]
    #[schemars(range(min = 1, max = 1000))]
    pub max_in_flight: u32,
    /// Whether fewer deliveries go at once while the receiver is overloaded: halved by timeouts,
    /// 429 and 503, then one more at a time up to `max_in_flight`. Default `true`.
    #[serde(default = "yes")]
    pub adaptive_concurrency: bool,
    /// When to stop asking a receiver that fails, and for how long. Default: for 30 s after 5
    /// failures in a row or half of at least 20 outcomes, then longer.
    #[serde(default)]
    pub breaker: BreakerSpec,
    /// How many requests are sent in a time; no limit by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_limit: Option<RateLimit>,
    /// Where to, by the connector that `kind` names.
    #[schemars(extend("required" = ["kind"]))]
    pub target: serde_json::Map<String, serde_json::Value>,
    /// How requests authenticate. Default none.
    #[serde(default)]
    pub auth: AuthSpec,
    /// How requests are signed; not at all where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signing: Option<SigningSpec>,
    /// When failed deliveries are tried again.
    #[serde(default)]
    pub retry: RetrySpec,
    /// What becomes of the integration while its endpoint keeps failing.
    #[serde(default)]
    pub failing: FailingSpec,
    /// Whether dead letters are delivered once more by themselves. Default `off`.
    #[serde(default)]
    pub auto_retry: AutoRetry,
}

fn yes() -> bool {
    true
}

fn ten() -> u32 {
    10
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde asks for")]
fn is_block(choice: &OnFailure) -> bool {
    *choice == OnFailure::Block
}

/// Whether events of units below an integration's own take part.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// They do.
    #[default]
    IncludeChildren,
    /// Only events of the unit itself; without a unit, only events that name none.
    UnitOnly,
}

/// Whether an integration keeps the order of events.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Ordering {
    /// It does not.
    #[default]
    None,
    /// Events with the same ordering key go one after the other; what a failed one does to
    /// those behind it says `on_failure`. Events without a key keep no order.
    ByKey,
}

impl Spec for IntegrationSpec {
    const KIND: &'static str = "integration";
    const PLURAL: &'static str = "integrations";
    const AREA: Area = Area::Integrations;
    const IN_UNITS: bool = true;
    // Its target is judged by the address policy of the organization.
    const ASKS_ORGANIZATION: bool = true;

    fn validate(&self, context: &SpecContext<'_>, violations: &mut Violations) {
        if self.events.is_empty() || self.events.len() > MAX_PATTERNS {
            let message = format!("use 1 to {MAX_PATTERNS} patterns");
            violations.add("/events", "out_of_range", message);
        }
        if self.scope == Scope::UnitOnly && !self.excluded_units.is_empty() {
            let message = "goes only with the scope `include_children`";
            violations.add("/excluded_units", "not_applicable", message);
        }
        if !(1..=MAX_IN_FLIGHT).contains(&self.max_in_flight) {
            let message = format!("use 1 to {MAX_IN_FLIGHT}");
            violations.add("/max_in_flight", "out_of_range", message);
        }
        violations.extend("", self.breaker.validate("/breaker"));
        if let Some(limit) = &self.rate_limit {
            violations.extend("", limit.validate("/rate_limit"));
        }
        if let Some(filter) = &self.filter {
            violations.extend("", filter.condition("/filter").err().unwrap_or_default());
        }
        if let Some(plan) = &self.transform {
            violations.extend("", transform_violations(plan, context.within));
        }
        violations.extend("", self.vars.validate("/vars"));
        violations.extend("", self.validate_target(context));
        violations.extend("", self.auth.validate("/auth"));
        if let Some(signing) = &self.signing {
            let profiles = &context.services.profiles;
            violations.extend("", signing.validate("/signing", profiles));
            let signed = signing.headers(profiles);
            if self.auth.headers().iter().any(|name| signed.contains(name)) {
                let message = "a signature is in the same header field; use another one";
                violations.add("/auth", "header_signed", message);
            }
        }
        violations.extend("", self.retry.validate("/retry"));
        violations.extend("", self.failing.validate("/failing"));
        let ordered = self.ordering == Ordering::ByKey;
        violations.extend("", self.on_failure.validate("/on_failure", ordered));
        violations.extend("", self.auto_retry.validate("/auto_retry"));
    }

    fn visit_secrets(&mut self, visitor: &mut dyn SecretVisitor) -> Result<()> {
        self.auth.visit_secrets("/auth", visitor)?;
        match &mut self.signing {
            Some(signing) => signing.visit_secrets("/signing", visitor),
            None => Ok(()),
        }
    }

    fn effects(&self, id: &ResourceId) -> Vec<Effect> {
        vec![
            Effect::Lanes {
                integration: id.clone(),
                max_in_flight: self.max_in_flight,
                paused: !self.enabled,
            },
            Effect::Rules { integration: id.clone(), rules: self.rules() },
        ]
    }

    fn plans(&self) -> Vec<(&'static str, Cow<'_, PlanSpec>)> {
        let transform = self.transform.iter().map(|plan| ("/transform", Cow::Borrowed(plan)));
        let filter = self.filter.as_ref().and_then(Filter::plan);
        transform.chain(filter.map(|plan| ("/filter", Cow::Owned(plan)))).collect()
    }

    fn compile(&self, context: &SpecContext<'_>) -> Result<Compiled> {
        let unusable = |violations| Error::violations(Code::ResourceInvalid, violations);
        let condition = self.filter.as_ref().map(|filter| filter.condition("/filter"));
        let (filter, deferred) = match condition.transpose().map_err(unusable)? {
            None => (None, None),
            Some(Condition::InPlace(filter)) => (Some(filter), None),
            Some(Condition::Deferred(filter)) => (None, Some(filter)),
        };
        Ok(Arc::new(CompiledIntegration {
            id: context.id.clone(),
            name: context.name.map(Arc::from),
            enabled: self.enabled,
            patterns: self.events.iter().cloned().collect(),
            unit: self.unit.clone(),
            scope: self.scope,
            excluded_units: self.excluded_units.clone(),
            filter,
            deferred,
            plan: self
                .transform
                .as_ref()
                .map(|p| p.compile("/transform"))
                .transpose()
                .map_err(unusable)?,
            vars: self.vars.clone(),
            ordering: self.ordering,
            on_failure: self.on_failure,
            max_in_flight: self.max_in_flight,
            rules: self.rules(),
            retry: self.retry.clone(),
            disable_after: self.failing.disable_after_seconds.map(Duration::from_secs),
            auto_retry: self.auto_retry.clone(),
            target: self.target.clone().into(),
            signs: self.signing.is_some(),
            asks: matches!(self.auth, AuthSpec::Host { .. }),
            access: self.access(context),
        }))
    }
}

impl IntegrationSpec {
    fn rules(&self) -> LaneRules {
        LaneRules {
            breaker: self.breaker,
            adaptive: self.adaptive_concurrency,
            rate_limit: self.rate_limit,
        }
    }

    /// What is needed to send, but for where to. It may be out of reach for now, for want of a
    /// key, say, and must not keep the integration from matching.
    fn access(&self, context: &SpecContext<'_>) -> Result<Access> {
        let opener = context.opener();
        let signing = self.signing.as_ref();
        Ok(Access {
            connector: context.services.connectors.get(self.target_kind())?,
            auth: self.auth.open(&opener)?.signed_by(&context.services.signers),
            signer: signing.map(|s| s.signer(&opener, &context.services.profiles)).transpose()?,
        })
    }

    fn target_kind(&self) -> &str {
        self.target.get("kind").and_then(serde_json::Value::as_str).unwrap_or_default()
    }

    fn validate_target(&self, context: &SpecContext<'_>) -> Vec<Violation> {
        match context.services.connectors.get(self.target_kind()) {
            Ok(connector) => {
                let organization = context.within.and_then(|entry| entry.organization().ok());
                let policy = organization.map(|organization| Arc::clone(&organization.policy));
                target_violations(
                    &*connector,
                    &self.target.clone().into(),
                    &policy.unwrap_or_default(),
                )
            }
            Err(error) => vec![Violation::new("/target/kind", "unknown", error.message())],
        }
    }
}

/// What is wrong with a transformation, where the organization is known with what it asks for.
fn transform_violations(plan: &PlanSpec, within: Option<&OrgEntry>) -> Vec<Violation> {
    match (plan.compile("/transform"), within) {
        (Ok(plan), Some(within)) => {
            let mut found = lookup::unusable(&plan, within);
            found.extend(ungranted(&plan, within));
            found
        }
        (Ok(_), None) => Vec::new(),
        (Err(violations), _) => violations,
    }
}

/// The programs that want to send requests, where those of the organization may not.
fn ungranted(plan: &Plan, within: &OrgEntry) -> Vec<Violation> {
    // An organization that cannot be read is told where it is.
    if within.organization().map_or(true, |organization| organization.program_http) {
        return Vec::new();
    }
    let refused = |program: &Program| {
        let pointer = format!("{}/http", program.at());
        let message = "programs of this organization may not send requests; ask for `program_http`";
        Violation::new(pointer, "not_granted", message)
    };
    plan.programs().filter(|program| program.sends()).map(refused).collect()
}

/// What the connector's schema says of a target, then what the connector itself says.
fn target_violations(
    connector: &dyn Connector,
    target: &serde_json::Value,
    policy: &AddressPolicy,
) -> Vec<Violation> {
    const AT: &str = "/target";
    // A connector whose schema is not usable judges alone.
    let Ok(structure) = Structure::new(connector.schema()) else {
        return connector.validate(target, AT, policy);
    };
    let (found, known) = structure.check(target);
    let mut violations = Violations::default();
    violations.extend(AT, found);
    let broken = !violations.as_slice().is_empty();
    let own = connector.validate(&known, AT, policy);
    // "Malformed" as a whole, where the schema said what exactly.
    violations.complete(own.into_iter().filter(|own| !broken || own.pointer != AT));
    violations.into_list()
}

/// An integration, ready for matching; [`bind`](Self::bind) tells whether it can send as well.
#[derive(Debug)]
pub struct CompiledIntegration {
    /// The id.
    pub id: ResourceId,
    /// Its name for people.
    pub name: Option<Arc<str>>,
    /// Whether it is on.
    pub enabled: bool,
    /// The event types.
    pub patterns: PatternSet,
    /// The unit it belongs to.
    pub unit: Option<ResourceId>,
    /// Whether events of units below take part.
    pub scope: Scope,
    /// Units below that take no part.
    pub excluded_units: BTreeSet<ResourceId>,
    /// The condition.
    pub filter: Option<CompiledFilter>,
    /// The condition, where it is judged before each attempt: matching leaves it open.
    pub deferred: Option<DeferredFilter>,
    /// The transformation.
    pub plan: Option<Plan>,
    /// The constants for its programs.
    pub vars: Vars,
    /// Whether it keeps order.
    pub ordering: Ordering,
    /// What a failed delivery does to those behind it.
    pub on_failure: OnFailure,
    /// How many deliveries may be under way at once.
    pub max_in_flight: u32,
    /// How its lanes treat their receiver.
    pub rules: LaneRules,
    /// When failed deliveries are tried again.
    pub retry: RetrySpec,
    /// How long its endpoint may fail before it is switched off; `None` for as long as it may.
    pub disable_after: Option<Duration>,
    /// Whether dead letters are delivered once more by themselves.
    pub auto_retry: AutoRetry,
    target: serde_json::Value,
    signs: bool,
    asks: bool,
    access: Result<Access>,
}

/// The means of sending.
#[derive(Debug)]
struct Access {
    connector: Arc<dyn Connector>,
    auth: Auth,
    signer: Option<Arc<dyn Signer>>,
}

impl CompiledIntegration {
    /// The integration as its programs know it.
    #[must_use]
    pub fn addressee(&self) -> Addressee<'_> {
        Addressee { id: &self.id, name: self.name.as_deref() }
    }

    /// Whether its requests are signed.
    #[must_use]
    pub fn signs(&self) -> bool {
        self.signs
    }

    /// Whether a signer of the host is asked for header fields of each request.
    #[must_use]
    pub fn asks_signer(&self) -> bool {
        self.asks
    }

    /// Binds the target under the organization's address policy.
    ///
    /// # Errors
    ///
    /// [`Code::KeyUnreadable`] where a secret cannot be opened, [`Code::ResourceInvalid`] where
    /// the connector is not registered, and those of [`Connector::bind`];
    /// [`Code::Internal`] where the connector panics.
    pub fn bind(&self, policy: Arc<AddressPolicy>) -> Result<Arc<dyn Integration>> {
        let access = self.access.as_ref().map_err(Clone::clone)?;
        unwound("bind the target", || {
            access.connector.bind(Binding {
                target: &self.target,
                auth: access.auth.clone(),
                signer: access.signer.clone(),
                policy,
            })
        })
    }

    /// Whether a stored spec sends to the same target.
    pub(crate) fn aims_as(&self, spec: &serde_json::Value) -> bool {
        spec.get("target") == Some(&self.target)
    }

    /// The order of the lane an event with this ordering key goes to.
    #[must_use]
    pub fn lane_mode(&self, ordering_key: Option<&str>) -> LaneMode {
        match (self.ordering, ordering_key) {
            (Ordering::ByKey, Some(_)) => LaneMode::Fifo,
            _ => LaneMode::Parallel,
        }
    }
}

#[cfg(test)]
mod tests;
