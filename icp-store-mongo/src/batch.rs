//! Many small writes in one round trip.

use std::collections::BTreeSet;
use std::future::IntoFuture;

use futures_util::TryStreamExt;
use mongodb::Collection;
use mongodb::bson::{Bson, Document, doc};
use mongodb::error::ErrorKind;

use super::error::{DUPLICATE_KEY, Failure, GONE, refused};
use super::row::Fields;
use super::store::MongoStore;

/// How many statements go in one command.
const STATEMENTS: usize = 1_000;

/// One guarded change of one document.
#[derive(Clone, Debug)]
pub(crate) struct Statement {
    pub(crate) filter: Document,
    pub(crate) change: Bson,
}

/// What became of statements.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// How many found their document.
    pub(crate) matched: usize,
    /// Which did not, by place; told of [`Miss::Known`] ones only.
    pub(crate) missed: BTreeSet<usize>,
}

/// What a statement does that does not find its document.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Miss {
    /// Nothing; only the count tells.
    Counted,
    /// It is told by its place. The document must be there, whether or not it passes the guard:
    /// the server tries to insert another of the same `_id`, and tells that it cannot. A lane may
    /// be gone, as [`lane::statement`](super::lane::statement) makes none.
    Known,
}

/// Whether a write has to outlive the loss of a member; see [`MongoStore::light`] for what need not.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Lasts {
    Yes,
    No,
}

impl MongoStore {
    /// Makes each change whose document passes its guard.
    pub(crate) async fn update(
        &self,
        noun: &str,
        statements: &[Statement],
        miss: Miss,
        lasts: Lasts,
    ) -> Result<Outcome, Failure> {
        let mut outcome = Outcome::default();
        for (round, chunk) in statements.chunks(STATEMENTS).enumerate() {
            let updates: Vec<Bson> = chunk
                .iter()
                .map(|statement| {
                    doc! {
                        "q": statement.filter.clone(),
                        "u": statement.change.clone(),
                        "upsert": miss == Miss::Known,
                    }
                    .into()
                })
                .collect();
            outcome.take(&self.write(noun, updates, lasts).await?, round * STATEMENTS)?;
        }
        Ok(outcome)
    }

    /// Makes each change in all the documents it names by `_id` that pass its guard; answers how
    /// many did.
    ///
    /// Of one that is guarded by more than its `_id`, the server plans anew how to find it, and that
    /// takes as long as half the write where a collection has many indexes. Here it plans once for
    /// all documents.
    pub(crate) async fn update_sets(
        &self,
        noun: &str,
        statements: Vec<Statement>,
        lasts: Lasts,
    ) -> Result<usize, Failure> {
        let statement = |Statement { filter, change }| {
            doc! { "q": filter, "u": change, "multi": true, "hint": { "_id": 1 } }.into()
        };
        let updates: Vec<Bson> = statements.into_iter().map(statement).collect();
        let mut outcome = Outcome::default();
        for chunk in updates.chunks(STATEMENTS) {
            outcome.take(&self.write(noun, chunk.to_vec(), lasts).await?, 0)?;
        }
        Ok(outcome.matched)
    }

    async fn write(
        &self,
        noun: &str,
        updates: Vec<Bson>,
        lasts: Lasts,
    ) -> Result<Document, Failure> {
        let concern = match lasts {
            Lasts::Yes => doc! { "w": "majority", "j": true },
            Lasts::No => doc! { "w": 1 },
        };
        let command = doc! {
            "update": self.name(noun),
            "updates": updates,
            "ordered": false,
            "writeConcern": concern,
        };
        Ok(self.0.db.run_command(command).await?)
    }

    /// Waits until the documents that match outlive the loss of a member; answers how many there
    /// are. What is read may be what another call has written and still waits for.
    pub(crate) async fn outlast(&self, noun: &str, filter: Document) -> Result<usize, Failure> {
        // A write that changes nothing waits for all that were before it.
        let same = doc! { "$set": {} };
        let matched = self.lasting(noun).update_many(filter, same).await?.matched_count;
        Ok(usize::try_from(matched).unwrap_or(usize::MAX))
    }

    /// All documents that match.
    pub(crate) async fn all(
        &self,
        noun: &str,
        filter: Document,
        fields: Document,
    ) -> Result<Vec<Document>, Failure> {
        let found = self.light(noun).find(filter).projection(fields).batch_size(1_000).await?;
        Ok(found.try_collect().await?)
    }

    /// The first document that matches, in the order of the `order`.
    pub(crate) async fn first(
        &self,
        noun: &str,
        filter: Document,
        order: Document,
        fields: Document,
    ) -> Result<Option<Document>, Failure> {
        Ok(self.light(noun).find_one(filter).sort(order).projection(fields).await?)
    }

    pub(crate) async fn aggregate(
        &self,
        noun: &str,
        stages: Vec<Document>,
    ) -> Result<Vec<Document>, Failure> {
        let found = self.light(noun).aggregate(stages).batch_size(1_000).await?;
        Ok(found.try_collect().await?)
    }
}

impl Outcome {
    fn take(&mut self, answer: &Document, offset: usize) -> Result<(), Failure> {
        for fault in answer.documents("writeErrors") {
            let code = i32::try_from(fault.int("code")?).unwrap_or_default();
            let at = usize::try_from(fault.int("index")?).unwrap_or_default();
            if code != DUPLICATE_KEY && code != GONE {
                let message = fault.maybe_text("errmsg").unwrap_or_default();
                return Err(refused(code, message).into());
            }
            self.missed.insert(offset + at);
        }
        if let Ok(fault) = answer.get_document("writeConcernError") {
            let code = i32::try_from(fault.int("code")?).unwrap_or_default();
            let message = fault.maybe_text("errmsg").unwrap_or_default();
            return Err(refused(code, message).into());
        }
        self.matched += usize::try_from(answer.maybe_int("n").unwrap_or_default()).unwrap_or(0);
        Ok(())
    }
}

/// Inserts documents that may be there already; answers the places of those that were.
pub(crate) async fn insert(
    collection: Collection<Document>,
    documents: &[Document],
) -> Result<BTreeSet<usize>, Failure> {
    if documents.is_empty() {
        return Ok(BTreeSet::new());
    }
    let done = collection.insert_many(documents).ordered(false).into_future().await;
    let Err(error) = done else { return Ok(BTreeSet::new()) };
    let ErrorKind::InsertMany(fault) = &*error.kind else { return Err(error.into()) };
    let errors = fault.write_errors.as_deref().unwrap_or_default();
    let known = fault.write_concern_error.is_none()
        && errors.iter().all(|error| error.code == DUPLICATE_KEY);
    if !known {
        return Err(error.into());
    }
    Ok(errors.iter().map(|error| error.index).collect())
}
