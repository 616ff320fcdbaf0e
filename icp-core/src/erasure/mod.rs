//! Taking what events carried out of the store, with a receipt.

mod store;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use store::{Erase, Erased, ErasureStore, Target};

use crate::id::{EventId, ResourceId};
use crate::time::Timestamp;

/// The most events that one call erases by their ids.
pub const MAX_EVENTS: usize = 1_000;

/// The kind under which receipts are kept; their history and audit rows are those of resources.
pub const KIND: &str = "erasure";

/// The receipt of an erasure. It tells what was erased without repeating it.
///
/// It is written before the first event is erased, and completed after the last: one that has no
/// `completed_at` broke off, and asking for the same again finishes the work.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct Erasure {
    /// The id.
    pub id: ResourceId,
    /// Who asked for it, as in `key:key_01…`.
    pub actor: String,
    /// The events that were named, where they were.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requested: Option<Vec<EventId>>,
    /// The lower-case hex SHA-256 of the subject, where one was named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject_sha256: Option<String>,
    /// When it began.
    pub started_at: Timestamp,
    /// When the last event was erased.
    pub completed_at: Option<Timestamp>,
    /// How many events were erased; those that were before are not counted.
    pub events: u64,
    /// How many deliveries that were waiting were called off.
    pub cancelled: u64,
    /// How many attempts lost what was captured of them.
    pub attempts: u64,
    /// How many deliveries were under way when their event was erased; the receipt is not changed
    /// when they end. Each is tried no more: one that fails ends as `cancelled`. What its attempt
    /// captures is erased by a sweep after its end, which `attempts` does not count.
    pub under_way: u64,
}
