//! How the tables come to be: embedded steps, in order, each noted in a ledger with its checksum.
//!
//! What is to be done is decided here from what the ledger says; each database does it its own
//! way, one node at a time.

use std::fmt;

use async_trait::async_trait;
use icp_core::error::{Code, Error, Result};
use sha2::{Digest, Sha256};

use crate::error::Failure;
use crate::names::Names;

/// One step; once released it never changes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Migration {
    pub(crate) version: u32,
    pub(crate) sql: &'static str,
    /// Whether code that knows all steps but this one may go on using the database.
    pub(crate) compatible: bool,
}

impl Migration {
    pub(crate) fn checksum(&self) -> Vec<u8> {
        Sha256::digest(self.sql).to_vec()
    }

    /// The names of the tables it makes, as they are written.
    fn tables(&self) -> impl Iterator<Item = &'static str> {
        self.sql.lines().filter_map(|line| {
            let table = line.strip_prefix("CREATE TABLE ")?;
            let table = table.strip_prefix("IF NOT EXISTS ").unwrap_or(table);
            table.split([' ', '(']).next()
        })
    }
}

/// A row of the ledger.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) version: u32,
    pub(crate) checksum: Vec<u8>,
    pub(crate) compatible: bool,
    /// Whether it was carried through, for databases that cannot undo a step cut short.
    pub(crate) finished: bool,
}

/// What there is in a database.
#[derive(Clone, Debug, Default)]
pub(crate) struct Found {
    /// The ledger, in order of the versions; empty where there is none.
    pub(crate) entries: Vec<Entry>,
    /// The tables whose names begin with the prefix.
    pub(crate) tables: Vec<String>,
}

/// A database's way to keep the ledger.
#[async_trait]
pub(crate) trait Ledger: Send + Sync {
    fn known(&self) -> &[Migration];

    fn names(&self) -> &Names;

    /// Looks without changing or locking anything.
    async fn find(&self) -> Result<Found, Failure>;

    /// Carries out what [`pending`] says, judged again while all other nodes wait.
    async fn apply(&self) -> Result<(), Failure>;
}

/// Brings the tables up to date, or, where it may not, makes sure that they are.
pub(crate) async fn prepare(ledger: &dyn Ledger, may_change: bool) -> Result<()> {
    let missing = missing(ledger).await?;
    if missing.is_empty() {
        return Ok(());
    }
    if may_change {
        return Ok(ledger.apply().await?);
    }
    Err(Error::new(
        Code::StoreOutdated,
        format!(
            "{} migrations are pending; apply them with `migrations().apply()`, or let the store \
             do it with `migrate(true)`",
            missing.len()
        ),
    ))
}

async fn missing(ledger: &dyn Ledger) -> Result<Vec<Migration>> {
    let found = ledger.find().await?;
    Ok(pending(ledger.known(), &found, ledger.names())?.into_iter().copied().collect())
}

/// The steps that are to be done, in order.
///
/// # Errors
///
/// [`StoreTooNew`](Code::StoreTooNew), [`StoreCorrupt`](Code::StoreCorrupt), or
/// [`StoreForeign`](Code::StoreForeign) where there are tables that a step would make.
pub(crate) fn pending<'k>(
    known: &'k [Migration],
    found: &Found,
    names: &Names,
) -> Result<Vec<&'k Migration>> {
    check(known, &found.entries)?;
    let entry = |step: &Migration| found.entries.iter().find(|e| e.version == step.version);
    let names = names.bare();
    for step in known.iter().filter(|step| entry(step).is_none()) {
        let foreign = step.tables().map(|table| names.put(table.to_owned()));
        if let Some(table) = foreign.into_iter().find(|table| found.tables.contains(table)) {
            return Err(Error::new(
                Code::StoreForeign,
                format!(
                    "there is a table {table} that icp did not make; choose another table prefix, \
                     schema or database, or rename that table"
                ),
            ));
        }
    }
    Ok(known.iter().filter(|step| entry(step).is_none_or(|e| !e.finished)).collect())
}

fn check(known: &[Migration], entries: &[Entry]) -> Result<()> {
    let latest = known.last().map_or(0, |step| step.version);
    let newer: Vec<_> = entries.iter().filter(|entry| entry.version > latest).collect();
    if let Some(last) = newer.last().filter(|last| newer.len() > 1 || !last.compatible) {
        return Err(Error::new(
            Code::StoreTooNew,
            format!("the database has schema {}; use a version of icp that knows it", last.version),
        ));
    }
    for entry in entries.iter().filter(|entry| entry.version <= latest) {
        let step = known.iter().find(|step| step.version == entry.version);
        if step.is_none_or(|step| step.checksum() != entry.checksum) {
            return Err(Error::new(
                Code::StoreCorrupt,
                format!(
                    "migration {} was applied with other content than this build has; use the \
                     build that made the database, or restore a backup",
                    entry.version
                ),
            ));
        }
    }
    Ok(())
}

/// The steps by which a store's tables come to be.
///
/// Any number of nodes may apply them at once: one does, the others wait for it. A node that is
/// killed on the way leaves nothing half done that the next would not finish.
#[must_use = "nothing is looked at before it is asked"]
pub struct Migrations(Box<dyn Ledger>);

impl Migrations {
    pub(crate) fn new(ledger: impl Ledger + 'static) -> Self {
        Self(Box::new(ledger))
    }

    /// Which steps were applied, and which are to come; changes nothing.
    ///
    /// # Errors
    ///
    /// As for opening the store, except that a newer database is told and no error.
    pub async fn status(&self) -> Result<MigrationStatus> {
        let found = self.0.find().await.map_err(during)?;
        let (mut status, known) = (MigrationStatus::default(), self.0.known());
        let latest = known.last().map_or(0, |step| step.version);
        for entry in found.entries.iter().filter(|entry| entry.finished) {
            let side = if entry.version > latest { &mut status.newer } else { &mut status.applied };
            side.push(entry.version);
        }
        let done = |step: &&Migration| !status.applied.contains(&step.version);
        status.pending = known.iter().filter(done).map(|step| step.version).collect();
        Ok(status)
    }

    /// What [`apply`](Self::apply) would do; changes nothing.
    ///
    /// # Errors
    ///
    /// As for [`apply`](Self::apply).
    pub async fn dry_run(&self) -> Result<Vec<PlannedMigration>> {
        let missing = missing(&*self.0).await.map_err(|error| error.during("migrate"))?;
        let names = self.0.names().bare();
        let plan = missing.iter().map(|step| PlannedMigration {
            version: step.version,
            sql: names.put(step.sql.to_owned()),
        });
        Ok(plan.collect())
    }

    /// Applies what is pending.
    ///
    /// # Errors
    ///
    /// As for opening the store; [`StoreForeign`](Code::StoreForeign) where there are tables of
    /// someone else under our names, which are left alone.
    pub async fn apply(&self) -> Result<()> {
        prepare(&*self.0, true).await.map_err(|error| error.during("migrate"))
    }
}

fn during(failure: Failure) -> Error {
    Error::from(failure).during("migrate")
}

impl fmt::Debug for Migrations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Migrations").field("names", self.0.names()).finish_non_exhaustive()
    }
}

/// How far a database is.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct MigrationStatus {
    /// The versions applied that this build knows, in order.
    pub applied: Vec<u32>,
    /// The versions to be applied, in order.
    pub pending: Vec<u32>,
    /// The versions applied by a newer build. One that is marked as compatible is no obstacle, so
    /// that nodes of two neighbouring versions can run side by side.
    pub newer: Vec<u32>,
}

/// A step that would be applied.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct PlannedMigration {
    /// Its version.
    pub version: u32,
    /// What would run, within the schema of the store.
    pub sql: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Migration =
        Migration { version: 1, sql: "CREATE TABLE icp_a (x);", compatible: false };
    const TWO: Migration =
        Migration { version: 2, sql: "CREATE TABLE IF NOT EXISTS icp_b (x);", compatible: true };
    const THREE: Migration = Migration { version: 3, sql: "SELECT 3", compatible: true };

    fn found(steps: &[Migration], tables: &[&str]) -> Found {
        let entry = |step: &Migration| Entry {
            version: step.version,
            checksum: step.checksum(),
            compatible: step.compatible,
            finished: true,
        };
        Found {
            entries: steps.iter().map(entry).collect(),
            tables: tables.iter().map(ToString::to_string).collect(),
        }
    }

    fn versions(known: &[Migration], found: &Found) -> Result<Vec<u32>, Code> {
        let pending = pending(known, found, &Names::default());
        pending.map(|all| all.iter().map(|m| m.version).collect()).map_err(|e| e.code())
    }

    #[test]
    fn what_is_pending_follows_from_the_ledger() {
        let all = [ONE, TWO, THREE];
        assert_eq!(versions(&all, &found(&[], &[])), Ok(vec![1, 2, 3]));
        assert_eq!(versions(&all, &found(&[ONE], &["icp_a"])), Ok(vec![2, 3]));
        assert_eq!(versions(&all, &found(&all, &["icp_a", "icp_b"])), Ok(vec![]));
    }

    #[test]
    fn one_compatible_step_ahead_is_accepted_and_no_more() {
        assert_eq!(versions(&[ONE], &found(&[ONE, TWO], &[])), Ok(vec![]));
        assert_eq!(versions(&[ONE], &found(&[ONE, TWO, THREE], &[])), Err(Code::StoreTooNew));
        let hard = Migration { compatible: false, ..TWO };
        assert_eq!(versions(&[ONE], &found(&[ONE, hard], &[])), Err(Code::StoreTooNew));
    }

    #[test]
    fn changed_steps_and_foreign_tables_are_refused() {
        let changed = Migration { sql: "SELECT 1", ..ONE };
        assert_eq!(versions(&[changed], &found(&[ONE], &[])), Err(Code::StoreCorrupt));
        assert_eq!(versions(&[ONE], &found(&[], &["icp_a"])), Err(Code::StoreForeign));
        let second = versions(&[ONE, TWO], &found(&[ONE], &["icp_a", "icp_b"]));
        assert_eq!(second, Err(Code::StoreForeign));
        assert_eq!(versions(&[ONE], &found(&[], &["icp_other", "a"])), Ok(vec![1]));
    }

    #[test]
    fn a_step_cut_short_is_done_again() {
        let mut cut = found(&[ONE], &["icp_a"]);
        cut.entries[0].finished = false;
        assert_eq!(versions(&[ONE, TWO], &cut), Ok(vec![1, 2]));
    }
}
