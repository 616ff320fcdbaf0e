//! The way in: match, then one transaction for all who publish at the same time.

mod accept;
mod commit;
mod item;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub(crate) use accept::{accept, accept_own, prepare_of_source};
pub(crate) use commit::{commit, commit_alone, take_in};
pub(crate) use item::{delivery, item};

use super::{IngestItem, Ingested, NewEvent};
use crate::engine::core::Core;
use crate::error::{Code, Error, Result};
use crate::id::EventId;

/// What became of a published event.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Published {
    /// The event's id; for a duplicate the id of the first.
    pub id: EventId,
    /// Whether the idempotency key was used before with the same body, so that nothing was
    /// published now.
    pub duplicate: bool,
    /// How many integrations it goes to; zero for a duplicate.
    pub deliveries: usize,
}

/// Publishes events; one answer for each, in order.
pub(crate) async fn publish(core: &Core, events: Vec<NewEvent>) -> Vec<Result<Published>> {
    let mut answers: Vec<Option<Result<Published>>> = Vec::with_capacity(events.len());
    let mut incoming = Vec::with_capacity(events.len());
    let mut places = Vec::with_capacity(events.len());
    for (place, event) in events.into_iter().enumerate() {
        match accept::prepare_of_host(core, event).await {
            Ok(item) => {
                places.push((place, item.event.id, item.deliveries.len()));
                incoming.push(item);
                answers.push(None);
            }
            Err(error) => answers.push(Some(Err(error.during("publish")))),
        }
    }
    match core.publisher.submit(incoming).await {
        Ok(ingested) => {
            for ((place, id, deliveries), ingested) in places.into_iter().zip(ingested) {
                answers[place] = Some(ingested.and_then(|i| published(id, deliveries, &i)));
            }
        }
        Err(error) => {
            for (place, ..) in places {
                answers[place] = Some(Err(error.clone()));
            }
        }
    }
    let lost = || Err(Error::new(Code::Internal, "an event got no answer"));
    answers.into_iter().map(|a| a.unwrap_or_else(lost).map_err(|e| e.during("publish"))).collect()
}

/// Publishes an event of a host.
pub(crate) async fn publish_one(core: &Core, event: NewEvent) -> Result<Published> {
    let item = accept::prepare_of_host(core, event).await?;
    commit_one(core, item).await
}

/// Publishes one operational event.
pub(crate) async fn publish_own(core: &Core, event: NewEvent) -> Result<Published> {
    let item = {
        let (event, view) = accept_own(core, event).await?;
        item(core, &view, event, None)
    };
    commit_one(core, item).await
}

async fn commit_one(core: &Core, item: IngestItem) -> Result<Published> {
    let (id, deliveries) = (item.event.id, item.deliveries.len());
    published(id, deliveries, &core.publisher.submit_one(item).await?)
}

/// What is told of an event with this id and these deliveries.
fn published(id: EventId, deliveries: usize, ingested: &Ingested) -> Result<Published> {
    match ingested {
        Ingested::Accepted { .. } => Ok(Published { id, duplicate: false, deliveries }),
        // The answer of an earlier try of the same commit.
        Ingested::Duplicate { of } if *of == id => {
            Ok(Published { id, duplicate: false, deliveries })
        }
        Ingested::Duplicate { of } => Ok(Published { id: *of, duplicate: true, deliveries: 0 }),
        Ingested::Conflict { with } => Err(Error::new(
            Code::IdempotencyConflict,
            format!("the idempotency key belongs to {with}, which has another body; use a new key"),
        )),
        Ingested::Gone => Err(Error::new(Code::Internal, "the event was not in the outbox")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size<A, B, F>(_: fn(A, B) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn a_call_that_publishes_is_small() {
        let bytes = size::<&'static Core, NewEvent, _>(publish_one);
        assert!(bytes <= 2_048, "{bytes} bytes: box what a call seldom needs");
    }
}
