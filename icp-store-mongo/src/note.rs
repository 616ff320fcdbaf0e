use async_trait::async_trait;
use futures_util::TryStreamExt;
use icp_core::error::Result;
use icp_core::id::OrgId;
use icp_core::resource::{Actor, AuditEntry, AuditHead, AuditLink, Note, NoteStore, Revision};
use mongodb::bson::{Document, doc};

use super::batch::{Lasts, Miss, Statement};
use super::commit;
use super::error::{Failure, told};
use super::finish::at_most;
use super::row::{Fields, ms, put};
use super::store::{AUDIT_HEAD, DELIVERY, MongoStore};

#[async_trait]
impl NoteStore for MongoStore {
    async fn note(&self, note: Note) -> Result<Revision> {
        let entry = AuditEntry::of_note(&note, Revision::ZERO);
        told("write an audit row", commit::note(self, &note.org, entry, None).await)
    }
}

/// An audit row as it is kept.
pub(crate) fn document(org: &OrgId, entry: &AuditEntry) -> Document {
    let mut row = doc! {
        "_id": entry.revision.0.cast_signed(),
        "org": org.as_str(),
        "at": ms(entry.at),
        "action": &entry.action,
        "kind": &entry.kind,
        "id": entry.id.as_str(),
        "actor": &entry.actor.name,
        "number": entry.number.cast_signed(),
        "chain": &entry.chain,
    };
    put(&mut row, "acting_as", entry.actor.acting_as.as_deref());
    put(&mut row, "request", entry.actor.request_id.as_deref());
    put(&mut row, "before", entry.before.as_deref());
    put(&mut row, "after", entry.after.as_deref());
    put(&mut row, "note", entry.note.as_deref());
    row
}

pub(crate) fn entry(found: &Document) -> Result<AuditEntry> {
    let owned = |key: &str| found.maybe_text(key).map(str::to_owned);
    let AuditLink { revision, number, chain } = link(found, "_id")?;
    Ok(AuditEntry {
        revision,
        number,
        at: found.time("at")?,
        actor: Actor {
            name: found.text("actor")?.to_owned(),
            acting_as: owned("acting_as"),
            request_id: owned("request"),
            may: None,
        },
        action: found.text("action")?.to_owned(),
        kind: found.text("kind")?.to_owned(),
        id: found.named("id")?,
        before: owned("before"),
        after: owned("after"),
        note: owned("note"),
        chain,
    })
}

/// The two ends of the organization's chain, as of the last write that was finished.
pub(crate) async fn head(store: &MongoStore, org: &OrgId) -> Result<Option<AuditHead>, Failure> {
    let found = store.light(AUDIT_HEAD).find_one(doc! { "_id": org.as_str() }).await?;
    let Some(found) = found else { return Ok(None) };
    let pruned = found.get_document("pruned").ok().map(|pruned| link(pruned, "revision"));
    let pruned = pruned.transpose()?.unwrap_or_default();
    Ok(Some(AuditHead { newest: link(&found, "revision")?, pruned }))
}

pub(crate) fn link(found: &Document, revision: &str) -> Result<AuditLink> {
    Ok(AuditLink {
        revision: Revision(found.int(revision)?.cast_unsigned()),
        number: found.int("number")?.cast_unsigned(),
        chain: found.text("chain")?.to_owned(),
    })
}

/// Moves the ends of chains to the rows, which are in order; an older one moves none.
pub(crate) async fn advance(store: &MongoStore, rows: &[Document]) -> Result<(), Failure> {
    for row in rows {
        let AuditLink { revision, number, chain } = link(row, "_id")?;
        let revision = revision.0.cast_signed();
        let newest = doc! {
            "revision": revision, "number": number.cast_signed(), "chain": chain,
        };
        let statement = Statement {
            filter: doc! { "_id": row.text("org")?, "revision": { "$lt": revision } },
            change: doc! { "$set": newest }.into(),
        };
        store.update(AUDIT_HEAD, &[statement], Miss::Known, Lasts::Yes).await?;
    }
    Ok(())
}

/// Notes that the organization's rows up to this one are about to be removed.
pub(crate) async fn pruned(
    store: &MongoStore,
    org: &OrgId,
    last: &AuditLink,
) -> Result<(), Failure> {
    let revision = last.revision.0.cast_signed();
    let pruned = doc! {
        "revision": revision, "number": last.number.cast_signed(), "chain": &last.chain,
    };
    let before = vec![
        doc! { "pruned": { "$exists": false } },
        doc! { "pruned.revision": { "$lt": revision } },
    ];
    let same = doc! { "_id": org.as_str(), "$or": before };
    store.lasting(AUDIT_HEAD).update_one(same, doc! { "$set": { "pruned": pruned } }).await?;
    Ok(())
}

/// A note that is written together with a change of a delivery, under a name of its own, so that
/// it is written to the log once.
pub(crate) fn owed(note: &Note) -> Document {
    let mut row = document(&note.org, &AuditEntry::of_note(note, Revision::ZERO));
    let text = note.note.as_deref().unwrap_or_default();
    row.insert("src", format!("{}/{}/{text}", note.id, note.action));
    row
}

/// Writes the notes to the log that changes of deliveries owe it.
pub(crate) async fn finish_owed(store: &MongoStore, limit: usize) -> Result<(), Failure> {
    let found: Vec<Document> = store
        .light(DELIVERY)
        .find(doc! { "owed.src": { "$exists": true } })
        .projection(doc! { "owed": 1 })
        .limit(at_most(limit))
        .await?
        .try_collect()
        .await?;
    for found in found {
        pay(store, &found).await?;
    }
    Ok(())
}

/// Writes the note that a delivery owes.
pub(crate) async fn pay(store: &MongoStore, delivery: &Document) -> Result<(), Failure> {
    let Ok(owed) = delivery.get_document("owed") else { return Ok(()) };
    let src = owed.text("src")?;
    commit::note(store, &owed.named("org")?, entry(owed)?, Some(src)).await?;
    let same = doc! { "_id": delivery.get("_id"), "owed.src": src };
    store.light(DELIVERY).update_one(same, doc! { "$unset": { "owed": "" } }).await?;
    Ok(())
}
