use super::Within;
use crate::delivery::{
    Attempt, Delivery, DeliveryQuery, DeliveryState, LogPage, LogPlace, LogQuery, LogSummary,
};
use crate::engine::not_found;
use crate::error::{Code, Error, Result};
use crate::id::{DeliveryId, EventId, ResourceId};
use crate::letter::{Letter, MAX_BULK};
use crate::resource::Actor;
use crate::store::PageQuery;
use crate::trial::CurlCommand;

/// Which dead letters are asked for.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct LetterQuery {
    /// Those of this event.
    pub event: Option<EventId>,
    /// Those of this integration.
    pub integration: Option<ResourceId>,
    /// Where the page before ended.
    pub after: Option<LogPlace>,
    /// How many are wanted, at least 1.
    pub limit: usize,
}

/// Some dead letters, newest first.
#[derive(Clone, Debug, Default)]
pub struct LetterPage {
    /// The letters; may be fewer than were asked for, or none, although there is a `next`.
    pub items: Vec<Letter>,
    /// Where to go on; nothing at the end.
    pub next: Option<LogPlace>,
}

impl Within {
    /// One delivery.
    ///
    /// # Errors
    ///
    /// [`Code::DeliveryNotFound`], and those of the store.
    pub async fn delivery(&self, id: DeliveryId) -> Result<Delivery> {
        let delivery = self.engine.delivery(&self.org, id).await?;
        if self.reach.is_whole() {
            return Ok(delivery);
        }
        let event = self.engine.core.store.event(&self.org, delivery.event).await?;
        match event.filter(|event| self.reach.covers(event.unit.as_ref())) {
            Some(_) => Ok(delivery),
            None => Err(not_found(id)),
        }
    }

    /// Fails as a read of the delivery does where it is beyond reach.
    async fn reaches(&self, id: DeliveryId) -> Result<()> {
        if self.reach.is_whole() { Ok(()) } else { self.delivery(id).await.map(drop) }
    }

    /// The attempts of a delivery, oldest first.
    ///
    /// # Errors
    ///
    /// As [`delivery`](Self::delivery).
    pub async fn attempts(&self, id: DeliveryId) -> Result<Vec<Attempt>> {
        self.reaches(id).await?;
        self.engine.attempts(&self.org, id).await
    }

    /// As [`Engine::attempt_curl`](crate::Engine::attempt_curl).
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn attempt_curl(
        &self,
        id: DeliveryId,
        number: u32,
        epoch: Option<u32>,
    ) -> Result<CurlCommand> {
        self.reaches(id).await?;
        self.engine.attempt_curl(&self.org, id, number, epoch).await
    }

    /// As [`Engine::replay`](crate::Engine::replay).
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn replay(&self, id: DeliveryId, actor: &Actor) -> Result<Delivery> {
        self.reaches(id).await?;
        self.engine.replay(&self.org, id, actor).await
    }

    /// As [`Engine::cancel`](crate::Engine::cancel).
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn cancel(&self, id: DeliveryId, why: &str, actor: &Actor) -> Result<Delivery> {
        self.reaches(id).await?;
        self.engine.cancel(&self.org, id, why, actor).await
    }

    /// As [`Engine::delivery_log`](crate::Engine::delivery_log). Of less than the whole
    /// organization deliveries are found by their events, and ordered by these.
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn delivery_log(&self, query: &LogQuery) -> Result<LogPage> {
        self.engine.log(&self.org, query, &self.reach, query.asks_why()).await
    }

    /// The same, with how each delivery went wrong.
    ///
    /// # Errors
    ///
    /// As [`delivery_log`](Self::delivery_log).
    pub async fn delivery_log_with_errors(&self, query: &LogQuery) -> Result<LogPage> {
        self.engine.log(&self.org, query, &self.reach, true).await
    }

    /// As [`Engine::delivery_log_summary`](crate::Engine::delivery_log_summary).
    ///
    /// # Errors
    ///
    /// As [`delivery_log`](Self::delivery_log).
    pub async fn delivery_log_summary(&self, query: &LogQuery) -> Result<LogSummary> {
        self.engine.sum_log(&self.org, query, &self.reach).await
    }

    /// Dead letters with what is known of them, newest first. Of less than the whole organization
    /// they are found by their events, and ordered by these.
    ///
    /// # Errors
    ///
    /// [`Code::CursorInvalid`] for a place in another list, and those of the store.
    pub async fn letters(&self, query: &LetterQuery) -> Result<LetterPage> {
        if !self.reach.is_whole() {
            let query = LogQuery {
                states: vec![DeliveryState::Dead],
                event: query.event,
                integration: query.integration.clone(),
                after: query.after,
                limit: query.limit,
                ..LogQuery::default()
            };
            let page = self.delivery_log(&query).await?;
            let ids: Vec<_> = page.entries.iter().map(|entry| entry.delivery.id).collect();
            let items = self.engine.core.store.letters(&self.org, &ids).await?;
            return Ok(LetterPage { items, next: page.next });
        }
        let after = match query.after {
            Some(LogPlace::Event(_)) => {
                return Err(Error::new(Code::CursorInvalid, "the page belongs to another list"));
            }
            Some(LogPlace::Delivery(after)) => Some(after),
            None => None,
        };
        let query = DeliveryQuery {
            state: None,
            event: query.event,
            integration: query.integration.clone(),
            page: PageQuery { after, limit: query.limit },
        };
        let page = self.engine.letters(&self.org, &query).await?;
        let last = page.items.last().filter(|_| page.more);
        let next = last.map(|letter| LogPlace::Delivery(letter.delivery.id));
        Ok(LetterPage { items: page.items, next })
    }

    /// One dead letter.
    ///
    /// # Errors
    ///
    /// As [`Engine::letter`](crate::Engine::letter).
    pub async fn letter(&self, id: DeliveryId) -> Result<Letter> {
        self.reaches(id).await?;
        self.engine.letter(&self.org, id).await
    }

    /// As [`Engine::note_letter`](crate::Engine::note_letter).
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn note_letter(&self, id: DeliveryId, text: &str, actor: &Actor) -> Result<Letter> {
        self.reaches(id).await?;
        self.engine.note_letter(&self.org, id, text, actor).await
    }

    /// As [`Engine::retry_letters`](crate::Engine::retry_letters).
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn retry_letters(
        &self,
        ids: &[DeliveryId],
        actor: &Actor,
    ) -> Result<Vec<Result<Delivery>>> {
        let beyond = self.beyond(ids).await?;
        let within: Vec<_> = reached(ids, &beyond).collect();
        let done = self.engine.retry_letters(&self.org, &within, actor).await?;
        Ok(in_order(beyond, done))
    }

    /// As [`Engine::abandon_letters`](crate::Engine::abandon_letters).
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn abandon_letters(
        &self,
        ids: &[DeliveryId],
        why: &str,
        actor: &Actor,
    ) -> Result<Vec<Result<Letter>>> {
        let beyond = self.beyond(ids).await?;
        let within: Vec<_> = reached(ids, &beyond).collect();
        let done = self.engine.abandon_letters(&self.org, &within, why, actor).await?;
        Ok(in_order(beyond, done))
    }

    /// For each id why nothing can be done to it, where it is beyond reach.
    async fn beyond(&self, ids: &[DeliveryId]) -> Result<Vec<Option<Error>>> {
        // Too many are refused all the same, and need not be looked at.
        if self.reach.is_whole() || ids.len() > MAX_BULK {
            return Ok(ids.iter().map(|_| None).collect());
        }
        let mut beyond = Vec::with_capacity(ids.len());
        for id in ids {
            beyond.push(match self.reaches(*id).await {
                Err(error) if error.code() == Code::DeliveryNotFound => Some(error),
                other => other.map(|()| None)?,
            });
        }
        Ok(beyond)
    }
}

fn reached<'a>(
    ids: &'a [DeliveryId],
    beyond: &'a [Option<Error>],
) -> impl Iterator<Item = DeliveryId> + 'a {
    ids.iter().zip(beyond).filter(|(_, beyond)| beyond.is_none()).map(|(id, _)| *id)
}

/// One answer for each id: why it is beyond reach, or the next of `done`.
fn in_order<T>(beyond: Vec<Option<Error>>, done: Vec<Result<T>>) -> Vec<Result<T>> {
    let mut done = done.into_iter();
    let lost = || Err(Error::new(Code::Internal, "a dead letter got no answer"));
    let answer = |beyond: Option<Error>| match beyond {
        Some(error) => Err(error),
        None => done.next().unwrap_or_else(lost),
    };
    beyond.into_iter().map(answer).collect()
}
