use super::Engine;
#[cfg(doc)]
use crate::error::Code;
use crate::error::Result;
use crate::id::OrgId;
use crate::trial::{self, DryRunOn, FilterOf, FilterReport, TransformOf, TransformReport};

impl Engine {
    /// Runs a transformation on an event as a delivery would, and tells what it made of it. Writes
    /// nothing, sends nothing, and counts as no delivery.
    ///
    /// Each node makes [`EngineConfig::dry_runs_per_minute`](super::EngineConfig) for an
    /// organization.
    ///
    /// # Errors
    ///
    /// [`Code::DryRunInvalid`] with everything that is wrong with a transformation that is not
    /// saved, [`Code::ResourceNotFound`], [`Code::SampleNotFound`], [`Code::EventNotFound`],
    /// [`Code::TestsLimited`], those of [`NewEvent::accept`](crate::event::NewEvent::accept),
    /// [`Code::OrganizationUnknown`], [`Code::OrganizationSuspended`], [`Code::UnitUnknown`], and
    /// those of the store. That the transformation fails is no error but a
    /// [`TransformOutcome`](crate::trial::TransformOutcome).
    pub async fn dry_run_transform(
        &self,
        org: &OrgId,
        of: TransformOf,
        on: DryRunOn,
    ) -> Result<TransformReport> {
        trial::run_transform(&self.core, org, of, on).await
    }

    /// Asks a filter about an event, as publishing it would.
    ///
    /// # Errors
    ///
    /// As [`dry_run_transform`](Self::dry_run_transform). That an expression fails on the event
    /// is told by the report.
    pub async fn dry_run_filter(
        &self,
        org: &OrgId,
        of: FilterOf,
        on: DryRunOn,
    ) -> Result<FilterReport> {
        trial::run_filter(&self.core, org, of, on).await
    }
}
