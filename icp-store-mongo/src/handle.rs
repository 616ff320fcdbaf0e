//! By which texts resources are found: a field of the resource itself, so that no late repetition
//! of a write gives one back that another resource has by now.

use std::collections::HashMap;

use icp_core::access::Holder;
use icp_core::error::{Code, Error, Result};
use icp_core::resource::{Change, Effect, Write};
use mongodb::bson::{Bson, Document, doc};

use super::commit;
use super::error::Failure;
use super::row::Fields;
use super::store::{MongoStore, RESOURCE};

pub(crate) async fn holder(store: &MongoStore, handle: &str) -> Result<Option<Holder>, Failure> {
    commit::finish(store).await?;
    let fields = doc! { "org": 1, "kind": 1, "id": 1 };
    let found =
        store.light(RESOURCE).find_one(doc! { "handles": handle }).projection(fields).await?;
    let Some(found) = found else { return Ok(None) };
    Ok(Some(Holder {
        org: found.named("org")?,
        kind: found.text("kind")?.into(),
        id: found.named("id")?,
    }))
}

/// The handles of the resources that a write is about or that hold what it asks for, by place.
#[derive(Debug, Default)]
pub(crate) struct Handles(HashMap<String, Vec<String>>);

impl Handles {
    /// Those of `present`, which are to be changed, and of the holders of what is asked for.
    pub(crate) async fn read(
        store: &MongoStore,
        write: &Write,
        present: &[Document],
    ) -> Result<Self, Failure> {
        let wanted: Vec<Bson> = write
            .changes
            .iter()
            .filter_map(wanted)
            .flatten()
            .map(|handle| Bson::from(handle.as_str()))
            .collect();
        let mut handles = Self::default();
        present.iter().try_for_each(|found| handles.note(found))?;
        if !wanted.is_empty() {
            let filter = doc! { "handles": { "$in": wanted } };
            let holders = store.all(RESOURCE, filter, doc! { "handles": 1 }).await?;
            holders.iter().try_for_each(|found| handles.note(found))?;
        }
        Ok(handles)
    }

    fn note(&mut self, found: &Document) -> Result<()> {
        let held = found.list("handles").iter().filter_map(Bson::as_str).map(str::to_owned);
        self.0.insert(found.text("_id")?.to_owned(), held.collect());
        Ok(())
    }

    /// What the resource at `place` is found by once the change is made.
    pub(crate) fn change(&mut self, place: &str, change: &Change) -> Result<&[String]> {
        let new = match wanted(change) {
            _ if change.record.deleted => Some(&[][..]),
            wanted => wanted,
        };
        if let Some(new) = new {
            let mut others = self.0.iter().filter(|(other, _)| *other != place);
            if others.any(|(_, held)| held.iter().any(|held| new.contains(held))) {
                let message = "another resource is found by one of the handles; use another";
                return Err(Error::new(Code::HandleTaken, message));
            }
            self.0.insert(place.to_owned(), new.to_vec());
        }
        Ok(self.0.get(place).map_or(&[], Vec::as_slice))
    }
}

fn wanted(change: &Change) -> Option<&[String]> {
    change.effects.iter().rev().find_map(|effect| match effect {
        Effect::Handles { handles } => Some(handles.as_slice()),
        _ => None,
    })
}
