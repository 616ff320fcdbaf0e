//! Resources as far as somebody reaches: what is beyond is as if it were not there.

use serde_json::Value;

use super::{Record, Resources};
use crate::access::Reach;
use crate::error::{Code, Error, Result};
use crate::id::{OrgId, ResourceId};
use crate::resource::search::{Found, Position, Search, Sort};
use crate::resource::{Document, Kind, ListQuery, Violations};
use crate::store::Page;

impl Resources {
    /// The same resources for somebody who reaches only so far: every other one is as missing, and
    /// none can be made or moved beyond. Only kinds whose resources may belong to units have any
    /// within units.
    ///
    /// An id is taken all the same where a resource beyond has it.
    #[must_use]
    pub fn within(&self, reach: Reach) -> Self {
        Self { reach, ..self.clone() }
    }

    /// Refuses what is about the whole organization where that is not within reach.
    pub(super) fn whole(&self) -> Result<()> {
        if self.reach.is_whole() {
            return Ok(());
        }
        Err(Error::new(Code::PermissionDenied, "this is about the whole organization"))
    }

    /// The present resources of a kind within reach, ordered by id; never none where more follow.
    pub(super) async fn list_in_reach(
        &self,
        org: &OrgId,
        kind: &str,
        query: &ListQuery,
    ) -> Result<Page<Document>> {
        let mut search = Search {
            labels: query.labels.clone(),
            filters: Vec::new(),
            sort: Sort::default(),
            after: query.page.after.clone().map(Position::at),
            limit: query.page.limit,
        };
        loop {
            let Found { items, next } = self.search(org, kind, &search).await?;
            if !items.is_empty() || next.is_none() {
                return Ok(Page { items, more: next.is_some() });
            }
            search.after = next;
        }
    }

    /// The present version of a resource, where it is within reach.
    pub(super) async fn seen(
        &self,
        org: &OrgId,
        kind: &dyn Kind,
        id: &ResourceId,
    ) -> Result<Option<Record>> {
        let found = self.store.resource(org, kind.name(), id).await?;
        Ok(found.filter(|record| self.sees(kind, record)))
    }

    /// Whether a version is within reach.
    pub(super) fn sees(&self, kind: &dyn Kind, record: &Record) -> bool {
        self.reach.is_whole() || self.reach.covers(unit(kind, &record.spec).as_ref())
    }

    /// Whether the versions of a resource are to be looked at: its latest is within reach, be it
    /// that of its deletion.
    pub(super) async fn reaches_history(
        &self,
        org: &OrgId,
        kind: &dyn Kind,
        id: &ResourceId,
    ) -> Result<bool> {
        if self.reach.is_whole() {
            return Ok(true);
        }
        let latest = self.store.history(org, kind.name(), id, None, 1).await?;
        Ok(latest.first().is_some_and(|record| self.sees(kind, record)))
    }

    /// Refuses a spec that would put its resource out of reach.
    pub(super) fn check_reach(&self, kind: &dyn Kind, spec: &Value, violations: &mut Violations) {
        if !self.reach.is_whole() && !self.reach.covers(unit(kind, spec).as_ref()) {
            let message = "name a unit that you have this permission in";
            violations.add("/spec/unit", "not_granted", message);
        }
    }
}

/// The unit that a resource with this spec belongs to.
pub(super) fn unit(kind: &dyn Kind, spec: &Value) -> Option<ResourceId> {
    let named = spec.get("unit").filter(|_| kind.in_units())?;
    ResourceId::new(named.as_str()?).ok()
}
