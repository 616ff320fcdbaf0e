use serde_json::Value;

use super::Engine;
#[cfg(doc)]
use crate::error::Code;
use crate::error::Result;
use crate::event::EventType;
use crate::event_type::{self, Fit, Inferred, TypeSample};
use crate::id::{OrgId, ResourceId};
use crate::lookup::{self, Resolve, Resolved};

impl Engine {
    /// A body that an event of this type may have: the sample in the catalogue, else one that the
    /// schema suggests.
    ///
    /// # Errors
    ///
    /// [`Code::ResourceNotFound`] where the type is not in the catalogue,
    /// [`Code::SampleNotFound`], and those of the store.
    pub async fn event_type_sample(
        &self,
        org: &OrgId,
        event_type: &EventType,
    ) -> Result<TypeSample> {
        event_type::sample(&self.core, org, event_type).await
    }

    /// Whether `body` fits the schema of a type, whatever the policy of the type is.
    ///
    /// # Errors
    ///
    /// [`Code::OrganizationUnknown`], [`Code::ResourceNotFound`] where the type is not in the
    /// catalogue, and those of the store.
    pub async fn event_type_fit(
        &self,
        org: &OrgId,
        event_type: &EventType,
        body: &Value,
    ) -> Result<Fit> {
        event_type::fit(&self.core, org, event_type, body).await
    }

    /// A schema of the newest stored events of a type, at most `most` of them and at most
    /// [`MAX_SEEN`](event_type::MAX_SEEN). The type need not be in the catalogue.
    ///
    /// # Errors
    ///
    /// [`Code::OrganizationUnknown`], and those of the store.
    pub async fn infer_schema(
        &self,
        org: &OrgId,
        event_type: &EventType,
        most: usize,
    ) -> Result<Inferred> {
        event_type::inferred(&self.core, org, event_type, most).await
    }

    /// Looks values up in a table as this node knows it, and answers what each stands for, in
    /// order.
    ///
    /// # Errors
    ///
    /// [`Code::OrganizationUnknown`], [`Code::ResourceNotFound`], [`Code::ResolveInvalid`],
    /// [`Code::UnitUnknown`], and those of the store.
    pub async fn resolve_lookup(
        &self,
        org: &OrgId,
        table: &ResourceId,
        asked: Resolve,
    ) -> Result<Vec<Resolved>> {
        lookup::resolve(&self.core, org, table, asked).await
    }
}
