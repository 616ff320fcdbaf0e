//! A small kind, and a node that serves it, for the tests of this module.

use std::borrow::Cow;
use std::num::NonZeroUsize;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{
    Actor, Compiled, Document, Draft, Effect, Expect, Index, KindRegistry, Resources, Services,
    Spec, SpecContext, Violations,
};
use crate::access::Area;
use crate::access::OrganizationSpec;
use crate::error::{Code, Error, Result};
use crate::id::{ClockIds, OrgId, ResourceId};
use crate::integration::{Connectors, IntegrationSpec};
use crate::lookup::LookupLimits;
use crate::secret::{LocalKeys, Place, Sealer, Secret, SecretVisitor, SystemEntropy};
use crate::signing::Profiles;
use crate::store::Store;
use crate::time::{Timestamp, TokioClock};
use crate::transform::{InPlace, PlanSpec};

pub(super) const NOTE: &str = Note::KIND;

/// A note; one that says `broken` does not compile.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Note {
    pub(super) text: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) secret: Option<Secret>,
}

impl Spec for Note {
    const KIND: &'static str = "note";
    const PLURAL: &'static str = "notes";
    const AREA: Area = Area::Settings;

    fn validate(&self, _: &SpecContext<'_>, violations: &mut Violations) {
        if self.text.is_empty() {
            violations.add("/text", "empty", "write something");
        }
    }

    fn visit_secrets(&mut self, visitor: &mut dyn SecretVisitor) -> Result<()> {
        match &mut self.secret {
            Some(secret) => visitor.secret(Place::new("secret", "/secret"), secret),
            None => Ok(()),
        }
    }

    fn effects(&self, _: &ResourceId) -> Vec<Effect> {
        Vec::new()
    }

    fn plans(&self) -> Vec<(&'static str, Cow<'_, PlanSpec>)> {
        Vec::new()
    }

    fn compile(&self, _: &SpecContext<'_>) -> Result<Compiled> {
        if self.text == "broken" {
            return Err(Error::new(Code::ConfigInvalid, "cannot be used"));
        }
        Ok(Arc::new(self.clone()))
    }
}

/// One node on a store that it may share with others.
#[derive(Clone)]
pub(super) struct Node {
    pub(super) index: Arc<Index>,
    pub(super) resources: Resources,
}

impl Node {
    pub(super) fn new(store: Arc<dyn Store>, capacity: usize) -> Self {
        let mut kinds = KindRegistry::new();
        kinds.register::<OrganizationSpec>().unwrap().register::<Note>().unwrap();
        kinds.register::<IntegrationSpec>().unwrap();
        let kinds = Arc::new(kinds);
        let services = services(Connectors::new());
        let index = Arc::new(Index::new(
            Arc::clone(&store),
            Arc::clone(&kinds),
            services.clone(),
            NonZeroUsize::new(capacity).unwrap(),
        ));
        let clock = Arc::new(TokioClock::starting_at(Timestamp::from_millis(1_800_000_000_000)));
        let ids = Arc::new(ClockIds::seeded(Arc::clone(&clock), 7));
        let resources = Resources::new(store, kinds, services, Arc::clone(&index), clock, ids);
        Self { index, resources }
    }

    pub(super) async fn organization(&self, org: &str) -> OrgId {
        let org = OrgId::new(org).unwrap();
        let draft = Draft { spec: json!({}), ..Draft::default() };
        self.resources.create(&org, "organization", draft, &Actor::host()).await.unwrap();
        org
    }

    /// Writes a note, new or not.
    pub(super) async fn note(&self, org: &OrgId, name: &str, text: &str) -> Document {
        let name = id(name);
        let draft = |id| Draft { id, spec: json!({ "text": text }), ..Draft::default() };
        let host = Actor::host();
        match self.resources.create(org, NOTE, draft(Some(name.clone())), &host).await {
            Err(error) if error.code() == Code::ResourceExists => {
                let draft = draft(None);
                self.resources.replace(org, NOTE, &name, draft, Expect::Present, &host).await
            }
            other => other,
        }
        .unwrap()
    }

    pub(super) async fn delete(&self, org: &OrgId, kind: &str, name: &str) {
        let host = Actor::host();
        self.resources.delete(org, kind, &id(name), Expect::Present, &host).await.unwrap();
    }

    /// The notes as this node's index holds them.
    pub(super) async fn seen(&self, org: &OrgId) -> Result<Vec<(String, String)>> {
        let entry = self.index.org(org).await?;
        let notes = entry.compiled::<Note>(NOTE);
        Ok(notes.map(|(id, note)| (id.to_string(), text(note))).collect())
    }
}

fn text(note: Result<Arc<Note>>) -> String {
    note.map_or_else(|error| error.code().to_string(), |note| note.text.clone())
}

pub(super) fn id(text: &str) -> ResourceId {
    ResourceId::new(text).unwrap()
}

pub(crate) fn services(connectors: Connectors) -> Services {
    let keys = LocalKeys::generate("k1", &SystemEntropy).unwrap();
    Services {
        sealer: Arc::new(Sealer::new(Arc::new(keys))),
        profiles: Arc::new(Profiles::default()),
        signers: Arc::default(),
        connectors: Arc::new(connectors),
        transformer: Arc::new(InPlace),
        lookups: LookupLimits::default(),
        sources: Arc::default(),
    }
}
