//! What becomes of deliveries that died: why, what people noted, and whether they are tried again.

mod category;
mod group;
mod policy;
mod round;
mod store;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use category::Category;
pub use group::{IntegrationLetters, LetterGroup, LetterGroups};
pub use policy::AutoRetry;
pub(crate) use round::{CLOSED, Known, judge};
pub use store::{
    Abandon, Abandoned, DueLetter, GroupQuery, Judgement, LetterStore, NewNote, Verdict,
};

use crate::delivery::{Delivery, DeliveryState, EndReason};
use crate::id::DeliveryId;
use crate::time::Timestamp;

/// The most dead letters that one call abandons.
pub const MAX_BULK: usize = 100;

/// The longest note, in characters.
pub const MAX_NOTE: usize = 2_000;

/// The header field of a delivery that an automatic round makes; its value is `true`.
pub const RETRY_HEADER: &str = "icp-dead-letter-retry";

/// A delivery that ended without success, with what is known of it and what was done about it.
#[derive(Clone, Debug, PartialEq)]
pub struct Letter {
    /// The delivery; its state is `dead`.
    pub delivery: Delivery,
    /// The stable name of what went wrong last, as in `status_500`.
    pub class: String,
    /// What kind of error that is.
    pub category: Category,
    /// Where the letter stands.
    pub status: LetterStatus,
    /// When the next automatic round makes a new delivery of it.
    pub retry_at: Option<Timestamp>,
    /// Who gave it up, and why.
    pub abandonment: Option<Abandonment>,
    /// What people noted, oldest first.
    pub notes: Vec<Note>,
    /// The newest delivery that repeats it.
    pub successor: Option<DeliveryId>,
}

/// Where a dead letter stands.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum LetterStatus {
    /// Nothing was made of it yet.
    Pending,
    /// A delivery that repeats it is on its way.
    Retrying,
    /// A delivery that repeats it was delivered.
    Resolved,
    /// What repeated it ended too, without success; where that died, it is a letter of its own.
    Superseded,
    /// It was given up.
    Abandoned,
}

impl LetterStatus {
    /// The status that follows from what is stored: success counts before all else, and what is
    /// on its way before having been given up.
    #[must_use]
    pub fn of(abandoned: bool, successors: &[DeliveryState]) -> Self {
        if successors.contains(&DeliveryState::Delivered) {
            Self::Resolved
        } else if successors.iter().any(|state| !state.is_final()) {
            Self::Retrying
        } else if abandoned {
            Self::Abandoned
        } else if successors.is_empty() {
            Self::Pending
        } else {
            Self::Superseded
        }
    }
}

/// Whether a delivery in this state, which repeats a letter, leaves nothing to an automatic round
/// of it: it is on its way, it was delivered, or it died and is a letter with rounds of its own.
#[must_use]
pub const fn carries_on(successor: DeliveryState) -> bool {
    use DeliveryState::{Cancelled, Dead, Delivered, Expired, Leased, Ready, Skipped};
    match successor {
        Ready | Leased | Delivered | Dead => true,
        Cancelled | Skipped | Expired => false,
    }
}

/// That a dead letter was given up.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct Abandonment {
    /// When.
    pub at: Timestamp,
    /// Who, as in `key:key_01…`, or `engine` where its automatic rounds were spent.
    pub actor: String,
    /// Why: `abandoned` by a person, or `rounds_exhausted`.
    pub reason: EndReason,
}

/// What somebody noted on a dead letter.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, Ord, PartialEq, PartialOrd, Serialize)]
pub struct Note {
    /// When.
    pub at: Timestamp,
    /// Who, as in `key:key_01…`.
    pub author: String,
    /// What, up to 2,000 characters.
    pub text: String,
}

/// What went wrong last with a dead delivery: the class of its last attempt, but for deaths that
/// no attempt tells of.
#[must_use]
pub fn class_of(reason: Option<&EndReason>, last_attempt: Option<&str>) -> String {
    let code = reason.map_or("unknown", |reason| reason.code.as_str());
    match last_attempt {
        Some(class) if code != POISON => class.to_owned(),
        _ => code.to_owned(),
    }
}

/// The reason of deliveries whose leases ended without an outcome too often.
const POISON: &str = "poison";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_follows_from_what_repeats_the_letter() {
        use DeliveryState::{Cancelled, Dead, Delivered, Leased, Ready};
        let cases: [(bool, &[DeliveryState], LetterStatus); 8] = [
            (false, &[], LetterStatus::Pending),
            (true, &[], LetterStatus::Abandoned),
            (false, &[Ready], LetterStatus::Retrying),
            (true, &[Dead, Leased], LetterStatus::Retrying),
            (true, &[Dead], LetterStatus::Abandoned),
            (false, &[Dead], LetterStatus::Superseded),
            (false, &[Cancelled], LetterStatus::Superseded),
            (true, &[Dead, Delivered], LetterStatus::Resolved),
        ];
        for (abandoned, successors, expected) in cases {
            assert_eq!(LetterStatus::of(abandoned, successors), expected, "{successors:?}");
        }
    }

    #[test]
    fn poison_is_its_own_class() {
        let reason = EndReason::new("exhausted", "status_500: no");
        assert_eq!(class_of(Some(&reason), Some("status_500")), "status_500");
        assert_eq!(class_of(Some(&reason), None), "exhausted");
        let poison = EndReason::new(POISON, "too often");
        assert_eq!(class_of(Some(&poison), Some("status_500")), "poison");
        assert_eq!(class_of(None, None), "unknown");
    }
}
