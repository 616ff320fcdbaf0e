use std::fmt::Debug;

use async_trait::async_trait;

use super::{Letter, LetterGroups, Note};
use crate::delivery::{Delivery, DeliveryState, EndReason, Lane};
use crate::error::Result;
use crate::id::{DeliveryId, OrgId, ResourceId};
use crate::time::Timestamp;

/// Keeps what is known of dead deliveries beside the deliveries themselves.
///
/// A dead delivery needs no record of its own to be a letter: one that nothing was noted on and
/// that was not judged is pending.
#[async_trait]
pub trait LetterStore: Debug + Send + Sync + 'static {
    /// The letters of the organization among `ids`, in the order of `ids`; what is not there or
    /// not dead is left out.
    async fn letters(&self, org: &OrgId, ids: &[DeliveryId]) -> Result<Vec<Letter>>;

    /// The newest letters by integration, code and class; the largest group first, ties by
    /// integration, code and class.
    async fn letter_groups(&self, org: &OrgId, query: &GroupQuery) -> Result<LetterGroups>;

    /// Notes something on a letter. The same note of the same author and moment counts once.
    ///
    /// # Errors
    ///
    /// [`DeliveryNotFound`](crate::Code::DeliveryNotFound);
    /// [`DeliveryStateConflict`](crate::Code::DeliveryStateConflict) where it is not dead.
    async fn annotate(&self, note: NewNote) -> Result<()>;

    /// Gives letters up in one transaction, and calls off their next automatic rounds. One that
    /// was given up before stays as it is.
    async fn abandon(&self, abandon: Abandon) -> Result<Vec<Abandoned>>;

    /// Letters of all organizations that were not judged yet, and those whose next round is due:
    /// at most `limit`, those not judged first.
    async fn due_letters(&self, now: Timestamp, limit: usize) -> Result<Vec<DueLetter>>;

    /// Applies verdicts in one transaction; answers for each whether it was applied.
    ///
    /// A verdict holds only while the letter is as it was when it was judged: not given up, not
    /// repeated by a round, and with the same moment for its next round. So of several nodes that
    /// judge one letter, one wins. [`Verdict::Retry`] holds only while nothing carries the letter
    /// on ([`DueLetter::carried_on`]); it makes a new delivery of the same event,
    /// integration and lane with round + 1 and the same expiry, linked to the letter and due at
    /// once, and wakes its lane; a letter has at most one such delivery ever.
    async fn judge(&self, judgements: &[Judgement], now: Timestamp) -> Result<Vec<bool>>;
}

/// Which letters to group.
#[derive(Clone, Debug)]
pub struct GroupQuery {
    /// Only those of this integration.
    pub integration: Option<ResourceId>,
    /// How many letters are counted, the newest first.
    pub limit: usize,
}

/// Something to note on a letter.
#[derive(Clone, Debug)]
pub struct NewNote {
    /// The organization.
    pub org: OrgId,
    /// The letter.
    pub delivery: DeliveryId,
    /// The note.
    pub note: Note,
}

/// Letters to give up.
#[derive(Clone, Debug)]
pub struct Abandon {
    /// The organization.
    pub org: OrgId,
    /// The letters.
    pub deliveries: Vec<DeliveryId>,
    /// Who gives them up.
    pub actor: String,
    /// Why.
    pub reason: EndReason,
    /// The engine's time.
    pub now: Timestamp,
}

/// What became of one letter that was to be given up.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Abandoned {
    /// It is given up.
    Done,
    /// It was before.
    Already,
    /// It is not dead.
    NotDead(DeliveryState),
    /// The organization has no such delivery.
    NotFound,
}

/// A letter that waits to be judged.
#[derive(Clone, Debug, PartialEq)]
pub struct DueLetter {
    /// The dead delivery.
    pub delivery: Delivery,
    /// Its lane.
    pub lane: Option<Lane>,
    /// When its next round was due; nothing where it was not judged yet.
    pub due_at: Option<Timestamp>,
    /// Whether a delivery that repeats it carries it on, or one that repeats a repeat of it: any
    /// newer one of its event to its integration; see [`carries_on`](super::carries_on).
    pub carried_on: bool,
}

/// What becomes of a letter.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Verdict {
    /// Its next round is due at this moment.
    Plan {
        /// The moment.
        due_at: Timestamp,
    },
    /// A round makes a new delivery of it.
    Retry {
        /// The id of the new delivery.
        id: DeliveryId,
    },
    /// It is given up.
    Abandon {
        /// Why.
        reason: EndReason,
    },
    /// It is left to people.
    Leave,
}

/// The verdict on one letter, and what it rests on.
#[derive(Clone, Debug)]
pub struct Judgement {
    /// The letter.
    pub delivery: DeliveryId,
    /// The moment of its next round when it was judged.
    pub seen: Option<Timestamp>,
    /// The verdict.
    pub verdict: Verdict,
}
