use super::Engine;
use crate::delivery::{Delivery, DeliveryQuery, DeliveryState, EndReason};
use crate::error::{Code, Error, Result};
use crate::id::{DeliveryId, OrgId, ResourceId};
use crate::letter::{
    Abandon, Abandoned, GroupQuery, Letter, LetterGroups, MAX_BULK, MAX_NOTE, NewNote, Note,
};
use crate::resource::Actor;
use crate::store::Page;

/// How many letters are counted, so that a flood of them does not make counting slow.
const COUNTED: usize = 10_000;

impl Engine {
    /// The dead letters of an organization with what is known of them, newest first.
    ///
    /// # Errors
    ///
    /// Those of the store.
    pub async fn letters(&self, org: &OrgId, query: &DeliveryQuery) -> Result<Page<Letter>> {
        let page = self.dead_letters(org, query).await?;
        let ids: Vec<_> = page.items.iter().map(|delivery| delivery.id).collect();
        Ok(Page { items: self.core().store.letters(org, &ids).await?, more: page.more })
    }

    /// One dead letter.
    ///
    /// # Errors
    ///
    /// [`Code::DeliveryNotFound`], [`Code::DeliveryStateConflict`] where the delivery is not
    /// dead, and those of the store.
    pub async fn letter(&self, org: &OrgId, id: DeliveryId) -> Result<Letter> {
        let found = self.core().store.letters(org, &[id]).await?.pop();
        match found {
            Some(letter) => Ok(letter),
            None => Err(not_dead(&self.delivery(org, id).await?)),
        }
    }

    /// The newest 10,000 dead letters by integration and error, the largest group first.
    ///
    /// # Errors
    ///
    /// Those of the store.
    pub async fn letter_groups(
        &self,
        org: &OrgId,
        integration: Option<ResourceId>,
    ) -> Result<LetterGroups> {
        self.core().store.letter_groups(org, &GroupQuery { integration, limit: COUNTED }).await
    }

    /// Notes something on a dead letter.
    ///
    /// # Errors
    ///
    /// [`Code::NoteInvalid`], [`Code::DeliveryNotFound`], [`Code::DeliveryStateConflict`] where
    /// the delivery is not dead, and those of the store.
    pub async fn note_letter(
        &self,
        org: &OrgId,
        id: DeliveryId,
        text: &str,
        actor: &Actor,
    ) -> Result<Letter> {
        check(text)?;
        let note = Note { at: self.now(), author: actor.name.clone(), text: text.to_owned() };
        self.core().store.annotate(NewNote { org: org.clone(), delivery: id, note }).await?;
        self.letter(org, id).await
    }

    /// Delivers up to 100 dead letters once more. One answer for each, in order: the new delivery,
    /// or why there is none.
    ///
    /// # Errors
    ///
    /// [`Code::BatchTooLarge`]; for a single letter those of [`letter`](Self::letter) and
    /// [`replay`](Self::replay).
    pub async fn retry_letters(
        &self,
        org: &OrgId,
        ids: &[DeliveryId],
        actor: &Actor,
    ) -> Result<Vec<Result<Delivery>>> {
        if ids.len() > MAX_BULK {
            let message = format!("{} dead letters at once, at most {MAX_BULK} are", ids.len());
            return Err(Error::new(Code::BatchTooLarge, message).during("retry"));
        }
        let mut made = Vec::with_capacity(ids.len());
        for id in ids {
            made.push(match self.letter(org, *id).await {
                Ok(_) => self.replay(org, *id, actor).await,
                Err(error) => Err(error),
            });
        }
        Ok(made)
    }

    /// Gives up to 100 dead letters up: their automatic rounds end. One answer for each, in
    /// order; one that cannot be given up does not keep the others from it. They can still be
    /// replayed.
    ///
    /// # Errors
    ///
    /// [`Code::BatchTooLarge`], [`Code::NoteInvalid`], and those of the store; for a single
    /// letter those of [`letter`](Self::letter).
    pub async fn abandon_letters(
        &self,
        org: &OrgId,
        ids: &[DeliveryId],
        why: &str,
        actor: &Actor,
    ) -> Result<Vec<Result<Letter>>> {
        if ids.len() > MAX_BULK {
            let message = format!("{} dead letters at once, at most {MAX_BULK} are", ids.len());
            return Err(Error::new(Code::BatchTooLarge, message).during("abandon"));
        }
        check(why)?;
        let abandon = Abandon {
            org: org.clone(),
            deliveries: ids.to_vec(),
            actor: actor.name.clone(),
            reason: EndReason::new("abandoned", why),
            now: self.now(),
        };
        let answers = self.core().store.abandon(abandon).await?;
        let mut letters = Vec::with_capacity(ids.len());
        for (id, answer) in ids.iter().zip(answers) {
            if answer == Abandoned::Done {
                self.core().metrics.letters_abandoned.inc();
            }
            letters.push(self.letter(org, *id).await);
        }
        Ok(letters)
    }
}

fn check(text: &str) -> Result<()> {
    if (1..=MAX_NOTE).contains(&text.chars().count()) {
        return Ok(());
    }
    Err(Error::new(Code::NoteInvalid, format!("use 1 to {MAX_NOTE} characters for a note")))
}

fn not_dead(delivery: &Delivery) -> Error {
    debug_assert_ne!(delivery.state, DeliveryState::Dead, "it would have been found");
    let message = format!("delivery `{}` is {}, not a dead letter", delivery.id, delivery.state);
    Error::new(Code::DeliveryStateConflict, message)
}
