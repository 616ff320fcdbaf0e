//! The tables of an organization as one node knows them.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::Value;

use super::{Found, LookupSpec, Table};
use crate::access::UnitTree;
use crate::document::Path;
use crate::error::Result;
use crate::id::ResourceId;
use crate::resource::{OrgEntry, Revision, Spec};

/// The tables of one organization as of a revision. A change makes a new snapshot; whoever reads
/// this one goes on with it.
#[derive(Debug, Default)]
pub struct Lookups {
    revision: Revision,
    tables: HashMap<ResourceId, Result<Arc<Table>>>,
    units: UnitTree,
}

/// The tables as an event sees them: entries of its unit come before those of the organization.
#[derive(Clone, Copy, Debug)]
pub struct LookupView<'a> {
    lookups: &'a Lookups,
    unit: Option<&'a ResourceId>,
}

/// Why a table cannot be searched.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum LookupError {
    /// The organization has no table of this name.
    #[error("there is no such lookup table; make it, or name another")]
    Unknown,
    /// What is stored of the table cannot be used.
    #[error("the lookup table cannot be used; correct it or restore an older version")]
    Unusable,
}

impl Lookups {
    /// The tables of `entry`. A table that cannot be used is an error only to whoever asks for it.
    ///
    /// # Errors
    ///
    /// Where the organization itself cannot be used.
    pub fn of(entry: &OrgEntry) -> Result<Self> {
        Ok(Self {
            revision: entry.revision(),
            tables: entry.compiled(LookupSpec::KIND).collect(),
            units: entry.organization()?.units.clone(),
        })
    }

    /// The tables that `specs` make, for whoever tries a transformer without an engine.
    ///
    /// # Errors
    ///
    /// [`Code::ResourceInvalid`](crate::Code::ResourceInvalid) where a path of a table cannot be
    /// read.
    pub fn made_of(
        units: UnitTree,
        specs: impl IntoIterator<Item = (ResourceId, LookupSpec)>,
    ) -> Result<Self> {
        let tables = specs.into_iter().map(|(id, spec)| Ok((id, Ok(Arc::new(spec.table()?)))));
        Ok(Self { revision: Revision::ZERO, tables: tables.collect::<Result<_>>()?, units })
    }

    /// The latest change that this snapshot knows.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// The tables as an event of `unit` sees them.
    #[must_use]
    pub fn view<'a>(&'a self, unit: Option<&'a ResourceId>) -> LookupView<'a> {
        LookupView { lookups: self, unit }
    }
}

impl<'a> LookupView<'a> {
    /// The table of this name.
    ///
    /// # Errors
    ///
    /// [`LookupError`].
    pub fn table(self, name: &ResourceId) -> Result<&'a Table, LookupError> {
        match self.lookups.tables.get(name) {
            Some(Ok(table)) => Ok(table),
            Some(Err(_)) => Err(LookupError::Unusable),
            None => Err(LookupError::Unknown),
        }
    }

    /// The entry of `table` with this key.
    #[must_use]
    pub fn by_key(self, table: &'a Table, key: &str) -> Option<Found<'a>> {
        table.by_key(self.units(), key)
    }

    /// The first entry of `table` whose value has `wanted` at `path`.
    #[must_use]
    pub fn by_value(self, table: &'a Table, path: &Path, wanted: &Value) -> Option<Found<'a>> {
        table.by_value(self.units(), path, wanted)
    }

    fn units(self) -> impl Iterator<Item = &'a ResourceId> {
        self.unit.into_iter().flat_map(|unit| self.lookups.units.ancestors(unit))
    }
}
