//! Kinds of resources: a typed spec each, registered once and then handled by name.

use std::any::Any;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::{self, Debug};
use std::marker::PhantomData;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::validate::{Structure, Violations};
use super::{Effect, OrgEntry, Record};
use crate::access::{Area, Authority, Permission, PermissionSet};
use crate::error::{Code, Error, Result};
use crate::id::{OrgId, ResourceId};
use crate::integration::Connectors;
use crate::integration::auth::RequestSigners;
use crate::lookup::LookupLimits;
use crate::secret::{MaskAll, Owner, Place, Previous, RefuseSealed, SealAll, Sealer, Secret};
use crate::secret::{Opener, Reseal, SecretVisitor};
use crate::signing::Profiles;
use crate::source::EventSources;
use crate::transform::{Plan, PlanSpec, Transformer};

/// What an index holds of a resource, ready for use.
pub type Compiled = Arc<dyn Any + Send + Sync>;

/// The typed part of a kind of resource.
///
/// The type says what a document may hold; unknown fields are refused whether or not the type
/// denies them itself. Pointers are relative to the spec: the mechanism puts `/spec` before them.
pub trait Spec:
    Serialize + DeserializeOwned + JsonSchema + Clone + Debug + Send + Sync + 'static
{
    /// The name of the kind, as in `integration`.
    const KIND: &'static str;

    /// Its name in lists and routes, as in `integrations`.
    const PLURAL: &'static str;

    /// The part of the API that permissions for it are given in.
    const AREA: Area;

    /// Whether [`validate`](Spec::validate) asks for the organization; default no. A write then
    /// waits until this node has read it.
    const ASKS_ORGANIZATION: bool = false;

    /// Whether a resource may belong to a unit of the organization, which the field `unit` of its
    /// spec then names; default no.
    const IN_UNITS: bool = false;

    /// Adds every rule that is broken beyond what the type says. Pure.
    fn validate(&self, context: &SpecContext<'_>, violations: &mut Violations);

    /// Adds everything by which the present version, none where there is none yet, lets somebody do
    /// what the author of a change may not do: then the change is refused, whatever it is. Pure;
    /// by default nothing.
    fn guard(_present: Option<&Self>, _context: &SpecContext<'_>, _violations: &mut Violations) {}

    /// Shows every secret to `visitor`, each with the same slot and identity in every version.
    ///
    /// # Errors
    ///
    /// The first error of the visitor.
    fn visit_secrets(&mut self, visitor: &mut dyn SecretVisitor) -> Result<()>;

    /// What a write of this spec changes in records of work, in the same transaction.
    fn effects(&self, id: &ResourceId) -> Vec<Effect>;

    /// The texts by which the resource is found, whichever organization it belongs to, each unique
    /// in the store; `None` for a kind that is found by its id alone, which is the default.
    fn handles(&self, _org: &OrgId, _id: &ResourceId) -> Option<Vec<String>> {
        None
    }

    /// The transformations in it, each with the pointer to it: they are checked by the engine's
    /// transformer before the spec is saved.
    fn plans(&self) -> Vec<(&'static str, Cow<'_, PlanSpec>)>;

    /// Makes what the index holds; secrets are sealed in `self`, and opened through `context`.
    ///
    /// # Errors
    ///
    /// Where the spec cannot be used; the index keeps the error beside the resource.
    fn compile(&self, context: &SpecContext<'_>) -> Result<Compiled>;
}

/// What specs are validated and compiled with, the same for all resources of an engine.
#[derive(Clone, Debug)]
pub struct Services {
    /// Seals and opens secrets.
    pub sealer: Arc<Sealer>,
    /// The signing profiles.
    pub profiles: Arc<Profiles>,
    /// The signers of requests that the host put in.
    pub signers: Arc<RequestSigners>,
    /// The connectors of delivery targets.
    pub connectors: Arc<Connectors>,
    /// What checks transformations before they are saved, and runs them.
    pub transformer: Arc<dyn Transformer>,
    /// How large lookup tables may be.
    pub lookups: LookupLimits,
    /// The event sources that the host put in.
    pub sources: Arc<EventSources>,
}

/// Whose spec is validated or compiled, and with what.
#[derive(Clone, Copy, Debug)]
pub struct SpecContext<'a> {
    /// The organization of the resource.
    pub org: &'a OrgId,
    /// The kind of the resource.
    pub kind: &'a str,
    /// The id of the resource.
    pub id: &'a ResourceId,
    /// The name of the resource for people; none for one that is not saved.
    pub name: Option<&'a str>,
    /// What the engine offers.
    pub services: &'a Services,
    /// The organization and its other resources as this node knows them, where a spec that asks for
    /// it is to be saved or tried out.
    pub within: Option<&'a OrgEntry>,
    /// What its author may do; `None` where it is no author's, or one's who may do all.
    pub grantor: Option<&'a Authority>,
}

impl<'a> SpecContext<'a> {
    /// Opens the secrets of this resource, and of no other.
    #[must_use]
    pub fn opener(&self) -> Opener<'a> {
        Opener::new(&self.services.sealer, self.owner())
    }

    /// A permission of `given` that the author does not have, and so may not give.
    #[must_use]
    pub fn beyond(&self, given: PermissionSet) -> Option<Permission> {
        given.difference(self.grantor?.here).iter().next()
    }

    pub(super) fn owner(&self) -> Owner<'a> {
        Owner { org: self.org.as_str(), kind: self.kind, id: self.id.as_str() }
    }
}

/// A resource with its spec typed.
#[derive(Clone, Debug)]
pub struct Resource<S> {
    /// The organization it belongs to.
    pub org: OrgId,
    /// Its id within organization and kind.
    pub id: ResourceId,
    /// A name for people.
    pub name: Option<String>,
    /// Free labels.
    pub labels: BTreeMap<String, String>,
    /// The spec; its secrets are sealed or masked, by where it was read.
    pub spec: S,
    /// What the engine noted about it; `null` where there is nothing.
    pub status: Value,
    /// The number of the write that made this version.
    pub revision: super::Revision,
    /// 1 for the first version, one more for each write.
    pub version: u64,
}

impl<S: Spec> Resource<S> {
    /// The typed view of a stored record.
    ///
    /// # Errors
    ///
    /// [`Code::StoreCorrupt`] where the stored spec cannot be read as `S`.
    pub fn from_record(record: &Record) -> Result<Self> {
        Ok(Self {
            org: record.org.clone(),
            id: record.id.clone(),
            name: record.name.clone(),
            labels: record.labels.clone(),
            spec: stored::<S>(&record.spec)?,
            status: record.status.clone(),
            revision: record.revision,
            version: record.version,
        })
    }
}

/// A spec that passed every check.
#[derive(Clone, Debug)]
pub struct Admitted {
    /// The spec with defaults filled in and secrets sealed.
    pub spec: Value,
    /// What its write changes in records of work.
    pub effects: Vec<Effect>,
    /// The transformations in it, still to be checked by a transformer.
    pub plans: Vec<Plan>,
}

/// A registered kind, with the type of its spec erased.
pub trait Kind: Debug + Send + Sync + 'static {
    /// The name, as in `integration`.
    fn name(&self) -> &'static str;

    /// The name in lists and routes, as in `integrations`.
    fn plural(&self) -> &'static str;

    /// The part of the API that permissions for it are given in.
    fn area(&self) -> Area;

    /// Whether a spec to be saved is judged by its organization.
    fn asks_organization(&self) -> bool;

    /// Whether its resources may belong to a unit of the organization, which the field `unit` of
    /// the spec then names.
    fn in_units(&self) -> bool;

    /// The JSON Schema of the spec.
    fn schema(&self) -> &Value;

    /// Takes a spec as a user sent it: lists everything wrong with it, or seals its secrets.
    /// A masked secret stands for the one in `previous`, the stored spec.
    ///
    /// # Errors
    ///
    /// [`Code::ResourceInvalid`] with every violation; those of sealing.
    fn admit(
        &self,
        context: &SpecContext<'_>,
        spec: &Value,
        previous: Option<&Value>,
    ) -> Result<Admitted>;

    /// Refuses an author who may do less than the present version lets somebody do. One that
    /// cannot be read lets nobody do anything.
    ///
    /// # Errors
    ///
    /// [`Code::PrincipalStronger`].
    fn guard(&self, context: &SpecContext<'_>, present: Option<&Value>) -> Result<()>;

    /// What a write of this stored spec changes in records of work.
    ///
    /// # Errors
    ///
    /// [`Code::StoreCorrupt`] where the stored spec cannot be read.
    fn effects(&self, id: &ResourceId, spec: &Value) -> Result<Vec<Effect>>;

    /// The texts by which a resource with a stored spec is found; `None` for a kind that is found
    /// by its id alone.
    ///
    /// # Errors
    ///
    /// [`Code::StoreCorrupt`] where the spec cannot be read.
    fn handles(&self, record: &Record) -> Result<Option<Vec<String>>>;

    /// The stored spec with every secret masked.
    ///
    /// # Errors
    ///
    /// [`Code::StoreCorrupt`] where the stored spec cannot be read.
    fn mask(&self, spec: &Value) -> Result<Value>;

    /// The stored spec with its secrets sealed for another owner, where they open as before.
    ///
    /// # Errors
    ///
    /// [`Code::KeyUnreadable`] where a secret does not open, and [`Code::StoreCorrupt`].
    fn reseal(
        &self,
        spec: &Value,
        sealer: &Sealer,
        between: (Owner<'_>, Owner<'_>),
    ) -> Result<Value>;

    /// What the index holds of a stored spec.
    ///
    /// # Errors
    ///
    /// Those of [`Spec::compile`], and [`Code::StoreCorrupt`].
    fn compile(&self, context: &SpecContext<'_>, spec: &Value) -> Result<Compiled>;
}

/// The kinds an engine knows.
#[derive(Debug, Default)]
pub struct KindRegistry {
    kinds: BTreeMap<&'static str, Arc<dyn Kind>>,
}

impl KindRegistry {
    /// A registry without kinds.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the kind of `S`; a kind of the same name is replaced.
    ///
    /// # Errors
    ///
    /// [`Code::ConfigInvalid`] where the schema derived from `S` is not usable.
    pub fn register<S: Spec>(&mut self) -> Result<&mut Self> {
        let kind = Typed::<S> { structure: Structure::of::<S>()?, spec: PhantomData };
        self.kinds.insert(S::KIND, Arc::new(kind));
        Ok(self)
    }

    /// The kind of this name.
    ///
    /// # Errors
    ///
    /// [`Code::KindUnknown`].
    pub fn get(&self, name: &str) -> Result<&Arc<dyn Kind>> {
        self.kinds.get(name).ok_or_else(|| {
            let known: Vec<_> = self.kinds.keys().copied().collect();
            Error::new(
                Code::KindUnknown,
                format!("there is no such kind of resource; use one of: {}", known.join(", ")),
            )
        })
    }

    /// Every kind, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<dyn Kind>> {
        self.kinds.values()
    }
}

struct Typed<S> {
    structure: Structure,
    spec: PhantomData<fn() -> S>,
}

impl<S: Spec> Debug for Typed<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Kind").field(&S::KIND).finish()
    }
}

impl<S: Spec> Kind for Typed<S> {
    fn name(&self) -> &'static str {
        S::KIND
    }

    fn plural(&self) -> &'static str {
        S::PLURAL
    }

    fn area(&self) -> Area {
        S::AREA
    }

    fn asks_organization(&self) -> bool {
        S::ASKS_ORGANIZATION
    }

    fn in_units(&self) -> bool {
        S::IN_UNITS
    }

    fn schema(&self) -> &Value {
        self.structure.schema()
    }

    fn admit(
        &self,
        context: &SpecContext<'_>,
        spec: &Value,
        previous: Option<&Value>,
    ) -> Result<Admitted> {
        let mut violations = Violations::at("/spec");
        let parsed = self.structure.read::<S>(spec, &mut violations);
        let Some(mut spec) = parsed else { return Err(violations.into_error()) };
        let mut own = Violations::at("/spec");
        spec.validate(context, &mut own);
        violations.complete(own.into_list());
        let mut kept = Previous::default();
        // A stored spec that cannot be read has no secret to keep, and can be replaced.
        if let Some(Ok(mut previous)) = previous.map(stored::<S>) {
            previous.visit_secrets(&mut kept)?;
        }
        let seal = SealAll::new(&context.services.sealer, context.owner(), kept);
        let mut gate = Gate { seal, violations: Violations::at("/spec") };
        spec.visit_secrets(&mut gate)?;
        violations.complete(gate.violations.into_list());
        violations.into_result()?;
        let effects = spec.effects(context.id);
        let plans = spec.plans().into_iter().map(|(at, plan)| plan.compile(&format!("/spec{at}")));
        let plans = plans
            .collect::<Result<_, _>>()
            .map_err(|found| Error::violations(Code::ResourceInvalid, found))?;
        Ok(Admitted { spec: to_value(&spec)?, effects, plans })
    }

    fn guard(&self, context: &SpecContext<'_>, present: Option<&Value>) -> Result<()> {
        match present.map(stored::<S>) {
            None => refuse_weaker::<S>(None, context),
            Some(Ok(present)) => refuse_weaker(Some(&present), context),
            Some(Err(_)) => Ok(()),
        }
    }

    fn effects(&self, id: &ResourceId, spec: &Value) -> Result<Vec<Effect>> {
        Ok(stored::<S>(spec)?.effects(id))
    }

    fn handles(&self, record: &Record) -> Result<Option<Vec<String>>> {
        Ok(stored::<S>(&record.spec)?.handles(&record.org, &record.id))
    }

    fn mask(&self, spec: &Value) -> Result<Value> {
        let mut spec = stored::<S>(spec)?;
        spec.visit_secrets(&mut MaskAll)?;
        to_value(&spec)
    }

    fn reseal(
        &self,
        spec: &Value,
        sealer: &Sealer,
        (from, to): (Owner<'_>, Owner<'_>),
    ) -> Result<Value> {
        let mut spec = stored::<S>(spec)?;
        spec.visit_secrets(&mut Reseal::new(sealer, from, to))?;
        to_value(&spec)
    }

    fn compile(&self, context: &SpecContext<'_>, spec: &Value) -> Result<Compiled> {
        stored::<S>(spec)?.compile(context)
    }
}

/// Refuses an author who may do less than `present` lets somebody do.
pub(super) fn refuse_weaker<S: Spec>(present: Option<&S>, context: &SpecContext<'_>) -> Result<()> {
    let mut violations = Violations::at("/spec");
    S::guard(present, context, &mut violations);
    match violations.into_list() {
        found if found.is_empty() => Ok(()),
        found => Err(Error::violations(Code::PrincipalStronger, found)),
    }
}

/// Checks and seals each secret, and goes on after a violation so that all are listed.
struct Gate<'a> {
    seal: SealAll<'a>,
    violations: Violations,
}

impl SecretVisitor for Gate<'_> {
    fn secret(&mut self, place: Place<'_>, secret: &mut Secret) -> Result<()> {
        let done =
            RefuseSealed.secret(place, secret).and_then(|()| self.seal.secret(place, secret));
        match done {
            Err(error) if !error.list().is_empty() => {
                self.violations.extend("", error.list().iter().cloned());
                Ok(())
            }
            other => other,
        }
    }
}

pub(super) fn stored<S: DeserializeOwned>(spec: &Value) -> Result<S> {
    S::deserialize(spec).map_err(|error| {
        Error::new(Code::StoreCorrupt, "a stored spec cannot be read; restore an older version")
            .caused_by(error)
    })
}

pub(super) fn to_value<S: Serialize>(spec: &S) -> Result<Value> {
    serde_json::to_value(spec).map_err(|error| {
        Error::new(Code::Internal, "the spec shows not every secret to its visitor")
            .caused_by(error)
    })
}
