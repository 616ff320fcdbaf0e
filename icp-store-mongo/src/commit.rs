//! The log of configuration: one document for each write, numbered on from the one before.
//!
//! The insert of a document under the next number commits the write and puts it in order: of two
//! writers one finds the number taken, and looks again. What the document says is then written to
//! where it is read, and only after that comes the next one. So whoever reads or writes first
//! finishes the last document, where that is not done.

use icp_core::id::OrgId;
use icp_core::resource::{AuditEntry, Revision};
use icp_core::time::Timestamp;
use mongodb::bson::{Bson, Document, doc};

use super::batch::{self, Lasts, Miss, Statement};
use super::error::{Failure, contended};
use super::row::{Fields, put};
use super::store::{AUDIT, COMMIT, MongoStore, RESOURCE, VERSION};
use super::{effect, note};

/// How often a number is asked for where other writers were quicker.
const ROUNDS: usize = 1_000;

/// What a write comes to.
#[derive(Debug, Default)]
pub(crate) struct Commit {
    /// The versions, each with the revision of the one before as `prev`.
    pub(crate) versions: Vec<Document>,
    /// The audit rows.
    pub(crate) audits: Vec<Document>,
    /// What else changes.
    pub(crate) effects: Vec<Document>,
}

/// The number of the last write, after finishing it.
pub(crate) async fn finish(store: &MongoStore) -> Result<i64, Failure> {
    let newest = || store.first(COMMIT, doc! {}, doc! { "_id": -1 }, doc! {});
    for _ in 0..ROUNDS {
        let Some(seen) = newest().await? else { return Ok(0) };
        if !seen.flag("open") {
            return Ok(seen.int("last")?);
        }
        // Its writer may still be waiting for it, and another one get its number.
        store.outlast(COMMIT, doc! { "_id": seen.get("_id") }).await?;
        let again = newest().await?.filter(|again| again.get("_id") == seen.get("_id"));
        let Some(last) = again else { continue };
        if last.flag("open") {
            apply(store, &last).await?;
        }
        return Ok(last.int("last")?);
    }
    Err(contended().into())
}

/// Writes a document that takes `numbers` numbers, unless another writer took the first of them.
pub(crate) async fn append(
    store: &MongoStore,
    last: i64,
    numbers: usize,
    commit: Commit,
    now: Timestamp,
) -> Result<bool, Failure> {
    let end = last + i64::try_from(numbers.max(1)).unwrap_or(i64::MAX);
    let document = doc! {
        "_id": last + 1,
        "last": end,
        "open": true,
        "at": now.as_millis(),
        "versions": commit.versions,
        "audits": commit.audits,
        "effects": commit.effects,
    };
    let documents = [document];
    if !batch::insert(store.lasting(COMMIT), &documents).await?.is_empty() {
        return Ok(false);
    }
    apply(store, &documents[0]).await?;
    Ok(true)
}

/// Writes an audit row, again where another writer was quicker; one that has a name is written once.
pub(crate) async fn note(
    store: &MongoStore,
    org: &OrgId,
    mut entry: AuditEntry,
    name: Option<&str>,
) -> Result<Revision, Failure> {
    for _ in 0..ROUNDS {
        let last = finish(store).await?;
        // Asked each time: who was quicker may have written this very row, and a row that is not
        // inserted must not be in the chain.
        if let Some(name) = name
            && let Some(written) = store.light(AUDIT).find_one(doc! { "src": name }).await?
        {
            return Ok(Revision(written.int("_id")?.cast_unsigned()));
        }
        entry.revision = Revision((last + 1).cast_unsigned());
        note::head(store, org).await?.unwrap_or_default().append(org, &mut entry);
        let mut audit = note::document(org, &entry);
        put(&mut audit, "src", name);
        let commit = Commit { audits: vec![audit], ..Commit::default() };
        if append(store, last, 1, commit, entry.at).await? {
            return Ok(entry.revision);
        }
    }
    Err(contended().into())
}

/// Writes what a document says to where it is read; repeatable.
async fn apply(store: &MongoStore, commit: &Document) -> Result<(), Failure> {
    let versions: Vec<Document> = commit.documents("versions").into_iter().cloned().collect();
    let now = commit.time("at")?;
    project(store, &versions, now).await?;
    let audits: Vec<Document> = commit.documents("audits").into_iter().cloned().collect();
    batch::insert(store.lasting(AUDIT), &audits).await?;
    note::advance(store, &audits).await?;
    for effect in commit.documents("effects") {
        effect::apply(store, effect).await?;
    }
    let id = commit.int("_id")?;
    let done = doc! { "$unset": { "open": "", "versions": "", "audits": "", "effects": "" } };
    store.light(COMMIT).update_one(doc! { "_id": id }, done).await?;
    Ok(())
}

/// Removes what is left of writes before a moment. The last stays, as the next counts on from it;
/// those of late stay, as a writer that has read before them must find its number taken.
pub(crate) async fn prune(store: &MongoStore, before: Timestamp) -> Result<(), Failure> {
    let last = finish(store).await?;
    let old = doc! { "at": { "$lt": before.as_millis() }, "last": { "$lt": last } };
    store.light(COMMIT).delete_many(old).await?;
    Ok(())
}

async fn project(store: &MongoStore, versions: &[Document], now: Timestamp) -> Result<(), Failure> {
    if versions.is_empty() {
        return Ok(());
    }
    batch::insert(store.lasting(VERSION), versions).await?;
    let replaced: Vec<Statement> = versions
        .iter()
        .filter_map(|version| {
            let filter = doc! { "_id": version.maybe_int("prev")? };
            let change = doc! { "$set": { "next_at": now.as_millis() } }.into();
            Some(Statement { filter, change })
        })
        .collect();
    if !replaced.is_empty() {
        store.update(VERSION, &replaced, Miss::Counted, Lasts::Yes).await?;
    }
    for version in versions {
        let mut present = version.clone();
        let revision = present.remove("_id").unwrap_or(Bson::Null);
        let place = place(version.text("kind")?, version.text("org")?, version.text("id")?);
        present.insert("revision", revision.clone());
        let mut change = doc! { "$set": present };
        if !version.contains_key("handles") {
            change.insert("$unset", doc! { "handles": "" });
        }
        let filter = doc! { "_id": place, "revision": { "$lt": revision } };
        let statement = Statement { filter, change: change.into() };
        // A later version is there already where this one is missed.
        store.update(RESOURCE, &[statement], Miss::Known, Lasts::Yes).await?;
    }
    Ok(())
}

/// What names a resource among all.
pub(crate) fn place(kind: &str, org: &str, id: &str) -> String {
    format!("{kind}/{org}/{id}")
}
