//! Documents that were shown and may be shown again, so that a resource that many look at is not
//! read and masked each time.

use std::num::NonZeroUsize;
use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use lru::LruCache;

use super::{Document, Kind, Record, Resources, Revision};
use crate::error::{Code, Error, Result};
use crate::id::{OrgId, ResourceId};

/// How many documents a node keeps.
const KEPT: NonZeroUsize = NonZeroUsize::MIN.saturating_add(4_095);

/// The largest spec that is kept, in bytes of its JSON as the store has it.
const LARGEST: usize = 16 << 10;

/// For how long this node relies on what it knows of the writes of others.
const FRESH: Duration = Duration::from_secs(2);

/// A document that is shown, and may be shown again: its JSON is written once.
#[derive(Debug)]
pub struct Shown {
    document: Document,
    json: OnceLock<Bytes>,
}

impl Shown {
    fn new(document: Document) -> Self {
        Self { document, json: OnceLock::new() }
    }

    /// The document as JSON.
    ///
    /// # Errors
    ///
    /// [`Code::Internal`] where it cannot be written.
    pub fn json(&self) -> Result<Bytes> {
        if let Some(json) = self.json.get() {
            return Ok(json.clone());
        }
        let json = serde_json::to_vec(&self.document).map_err(|error| {
            Error::new(Code::Internal, "a document cannot be written").caused_by(error)
        })?;
        Ok(self.json.get_or_init(|| Bytes::from(json)).clone())
    }

    pub(super) fn into_document(self: Arc<Self>) -> Document {
        Arc::try_unwrap(self).map_or_else(|shared| shared.document.clone(), |shown| shown.document)
    }
}

impl Deref for Shown {
    type Target = Document;

    fn deref(&self) -> &Document {
        &self.document
    }
}

/// The documents that a node showed last.
#[derive(Debug)]
pub(super) struct Recent {
    /// By the number of the write that made them. A database that lost writes, or a store of a
    /// host's own, may give one twice, so that what is found is compared.
    documents: Mutex<LruCache<Revision, Arc<Shown>>>,
    /// When the change feed was last read to its end, by the monotonic clock.
    current: Mutex<Option<Duration>>,
}

impl Default for Recent {
    fn default() -> Self {
        Self { documents: Mutex::new(LruCache::new(KEPT)), current: Mutex::default() }
    }
}

impl Recent {
    fn documents(&self) -> MutexGuard<'_, LruCache<Revision, Arc<Shown>>> {
        self.documents.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn current(&self) -> MutexGuard<'_, Option<Duration>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Resources {
    /// Notes that at `asked` of the monotonic clock nothing was left in the change feed.
    pub(crate) fn caught_up(&self, asked: Duration) {
        *self.recent.current() = Some(asked);
    }

    /// The document of the version that this node knows as the present one, where it was shown
    /// before. None where the feed was not read for two seconds: then others may have written.
    pub(super) async fn recent(
        &self,
        org: &OrgId,
        kind: &dyn Kind,
        id: &ResourceId,
    ) -> Option<Arc<Shown>> {
        let current = (*self.recent.current())?;
        if self.clock.monotonic().saturating_sub(current) > FRESH {
            return None;
        }
        let entry = self.index.org(org).await.ok()?;
        self.remembered(entry.resource(kind.name(), id)?.revision, org, kind, id)
    }

    /// The document of `record`, masked where that was not done before.
    pub(super) fn shown(&self, kind: &dyn Kind, record: Record) -> Result<Arc<Shown>> {
        let revision = record.revision;
        if let Some(kept) = self.remembered(revision, &record.org, kind, &record.id) {
            return Ok(kept);
        }
        let small = size_of(&record.spec) <= LARGEST;
        let shown = Arc::new(Shown::new(Document::of(kind, record)?));
        if small {
            self.recent.documents().put(revision, Arc::clone(&shown));
        }
        Ok(shown)
    }

    fn remembered(
        &self,
        revision: Revision,
        org: &OrgId,
        kind: &dyn Kind,
        id: &ResourceId,
    ) -> Option<Arc<Shown>> {
        let mut documents = self.recent.documents();
        let kept = documents.get(&revision)?;
        let is_it = (&kept.org, kept.kind.as_str(), &kept.id) == (org, kind.name(), id);
        is_it.then(|| Arc::clone(kept))
    }
}

/// About how many bytes of memory a value holds on to.
fn size_of(value: &serde_json::Value) -> usize {
    use serde_json::Value;
    match value {
        Value::String(text) => text.len(),
        Value::Array(items) => items.iter().map(|item| 16 + size_of(item)).sum(),
        Value::Object(fields) => {
            fields.iter().map(|(name, value)| 16 + name.len() + size_of(value)).sum()
        }
        _ => 8,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::resource::fixture::{NOTE, Node, id};
    use crate::store::MemoryStore;

    async fn text(node: &Node, org: &OrgId) -> String {
        let document = node.resources.look_at(org, NOTE, &id("a")).await.unwrap();
        document.spec["text"].as_str().unwrap().to_owned()
    }

    #[tokio::test(start_paused = true)]
    async fn what_another_node_wrote_is_seen_when_the_feed_brings_it_or_is_late() {
        let store = Arc::new(MemoryStore::new());
        let (here, there) = (Node::new(store.clone(), 10), Node::new(store, 10));
        let org = here.organization("acme").await;
        here.note(&org, "a", "one").await;
        assert_eq!(text(&there, &org).await, "one");
        there.index.feed_once(100).await.unwrap();
        there.index.org(&org).await.unwrap();
        there.resources.caught_up(there.resources.clock.monotonic());
        assert_eq!(text(&there, &org).await, "one");

        here.note(&org, "a", "two").await;
        assert_eq!(text(&here, &org).await, "two", "the node that wrote sees it at once");
        assert_eq!(text(&there, &org).await, "one", "it was shown, and the feed brought nothing");
        there.index.feed_once(100).await.unwrap();
        assert_eq!(text(&there, &org).await, "two");

        here.note(&org, "a", "three").await;
        tokio::time::sleep(FRESH + Duration::from_millis(1)).await;
        assert_eq!(text(&there, &org).await, "three", "a feed that is late is not relied on");
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_that_reads_no_feed_asks_the_store_each_time() {
        let store = Arc::new(MemoryStore::new());
        let (here, there) = (Node::new(store.clone(), 10), Node::new(store, 10));
        let org = here.organization("acme").await;
        for round in ["one", "two", "three"] {
            here.note(&org, "a", round).await;
            assert_eq!(text(&there, &org).await, round);
        }
        here.delete(&org, NOTE, "a").await;
        assert!(there.resources.look_at(&org, NOTE, &id("a")).await.is_err());
    }

    #[tokio::test]
    async fn a_number_that_was_given_twice_shows_nobody_the_document_of_another() {
        let node = Node::new(Arc::new(MemoryStore::new()), 10);
        let (acme, other) = (node.organization("acme").await, node.organization("other").await);
        node.note(&acme, "a", "one").await;
        let kind = node.resources.kinds.get(NOTE).unwrap();
        let record = node.resources.present(&acme, kind, &id("a")).await.unwrap();
        let first = node.resources.shown(&**kind, record.clone()).unwrap();
        assert_eq!((&first.org, &first.id), (&acme, &id("a")));
        for (org, name) in [(&acme, "b"), (&other, "a")] {
            let twin = Record { org: org.clone(), id: id(name), ..record.clone() };
            let shown = node.resources.shown(&**kind, twin).unwrap();
            assert_eq!((&shown.org, &shown.id), (org, &id(name)));
        }
    }

    #[test]
    fn a_value_is_about_as_large_as_its_texts() {
        assert!((1_000..1_100).contains(&size_of(&json!({"a": ["x".repeat(1_000)], "b": null}))));
    }
}
