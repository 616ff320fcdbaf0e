use async_trait::async_trait;
use futures_util::TryStreamExt;
use icp_core::error::Result;
use icp_core::resource::{Actor, Note, NoteStore, Revision};
use mongodb::bson::{Document, doc};

use super::commit;
use super::error::{Failure, told};
use super::finish::at_most;
use super::row::{Fields, ms, put};
use super::store::{AUDIT, DELIVERY, MongoStore};

#[async_trait]
impl NoteStore for MongoStore {
    async fn note(&self, note: Note) -> Result<Revision> {
        told("write an audit row", commit::note(self, document(&note), note.now).await)
    }
}

/// An audit row, but for its number.
pub(crate) fn document(note: &Note) -> Document {
    let mut row = doc! {
        "org": note.org.as_str(),
        "at": ms(note.now),
        "action": &note.action,
        "kind": &note.kind,
        "id": note.id.as_str(),
    };
    by(&mut row, &note.actor);
    put(&mut row, "note", note.note.as_deref());
    row
}

pub(crate) fn by(row: &mut Document, actor: &Actor) {
    row.insert("actor", &actor.name);
    put(row, "request", actor.request_id.as_deref());
}

/// A note that is written together with a change of a delivery, under a name of its own, so that
/// it is written to the log once.
pub(crate) fn owed(note: &Note) -> Document {
    let mut row = document(note);
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
    let written = store.light(AUDIT).find_one(doc! { "src": src }).await?;
    if written.is_none() {
        commit::note(store, owed.clone(), owed.time("at")?).await?;
    }
    let same = doc! { "_id": delivery.get("_id"), "owed.src": src };
    store.light(DELIVERY).update_one(same, doc! { "$unset": { "owed": "" } }).await?;
    Ok(())
}
