use std::fmt::Write as _;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::Engine;
use crate::erasure::{Erase, Erasure, KIND, MAX_EVENTS, Target};
use crate::error::{Code, Error, Result};
use crate::id::{EventId, OrgId, ResourceId};
use crate::resource::{Actor, Change, Expect, ListQuery, Record, Revision, Write};
use crate::store::{Page, PageQuery};
use crate::time::Timestamp;

/// How many events one call of the store erases: a transaction, but on MongoDB.
const BATCH: usize = 50;

impl Engine {
    /// Erases events of an organization, up to 1,000 at once: their bodies, and what was captured
    /// of their attempts. Their deliveries that wait are called off. An id that is unknown is
    /// passed over.
    ///
    /// # Errors
    ///
    /// [`Code::BatchTooLarge`], and those of the store: then the receipt stays open, and asking
    /// again finishes the work.
    ///
    /// # Cancellation
    ///
    /// A call that is dropped may leave an open receipt.
    pub async fn erase_events(
        &self,
        org: &OrgId,
        events: Vec<EventId>,
        actor: &Actor,
    ) -> Result<Erasure> {
        if events.len() > MAX_EVENTS {
            let message = format!("{} events at once, at most {MAX_EVENTS} are", events.len());
            return Err(Error::new(Code::BatchTooLarge, message).during("erase"));
        }
        let mut receipt = self.receipt(actor);
        receipt.requested = Some(events.clone());
        let targets = events.chunks(BATCH).map(|chunk| Target::Events(chunk.to_vec())).collect();
        self.erase(org, receipt, targets, actor).await
    }

    /// Erases every event of an organization that was published with this subject. The receipt
    /// holds a hash of the subject only.
    ///
    /// # Errors
    ///
    /// As [`erase_events`](Self::erase_events).
    ///
    /// # Cancellation
    ///
    /// As [`erase_events`](Self::erase_events).
    pub async fn erase_subject(
        &self,
        org: &OrgId,
        subject: &str,
        actor: &Actor,
    ) -> Result<Erasure> {
        let mut receipt = self.receipt(actor);
        receipt.subject_sha256 = Some(digest(subject));
        self.erase(org, receipt, vec![Target::Subject(Arc::from(subject))], actor).await
    }

    /// The receipt of an erasure.
    ///
    /// # Errors
    ///
    /// [`Code::ErasureNotFound`], and those of the store.
    pub async fn erasure(&self, org: &OrgId, id: &ResourceId) -> Result<Erasure> {
        let found = self.core().store.resource(org, KIND, id).await?;
        let missing = || Error::new(Code::ErasureNotFound, format!("there is no erasure `{id}`"));
        read(&found.ok_or_else(missing)?)
    }

    /// The receipts of an organization, ordered by id.
    ///
    /// # Errors
    ///
    /// Those of the store.
    pub async fn erasures(
        &self,
        org: &OrgId,
        page: PageQuery<ResourceId>,
    ) -> Result<Page<Erasure>> {
        let query = ListQuery { labels: Vec::new(), page };
        let found = self.core().store.resources(org, KIND, &query).await?;
        let items = found.items.iter().map(read).collect::<Result<_>>()?;
        Ok(Page { items, more: found.more })
    }

    fn receipt(&self, actor: &Actor) -> Erasure {
        Erasure {
            id: ResourceId::generate(self.ids()),
            actor: actor.name.clone(),
            requested: None,
            subject_sha256: None,
            started_at: self.now(),
            completed_at: None,
            events: 0,
            cancelled: 0,
            attempts: 0,
            under_way: 0,
        }
    }

    async fn erase(
        &self,
        org: &OrgId,
        mut receipt: Erasure,
        targets: Vec<Target>,
        actor: &Actor,
    ) -> Result<Erasure> {
        self.keep(org, &receipt, Expect::Absent, "erase", actor).await?;
        for target in targets {
            let mut erase = Erase { org: org.clone(), target, limit: BATCH, now: self.now() };
            loop {
                let erased = self.core().store.erase(&erase).await?;
                receipt.events += erased.events;
                receipt.cancelled += erased.cancelled;
                receipt.attempts += erased.attempts;
                receipt.under_way += erased.under_way;
                // Events that are named are erased by one call.
                if !erased.more || matches!(erase.target, Target::Events(_)) {
                    break;
                }
                erase.now = self.now();
            }
        }
        self.core().metrics.erased.inc_by(receipt.events);
        receipt.completed_at = Some(self.now());
        self.keep(org, &receipt, Expect::Present, "erase_done", actor).await?;
        Ok(receipt)
    }

    async fn keep(
        &self,
        org: &OrgId,
        receipt: &Erasure,
        expect: Expect,
        action: &str,
        actor: &Actor,
    ) -> Result<()> {
        let spec = serde_json::to_value(receipt).map_err(|error| {
            Error::new(Code::Internal, "a receipt has no json form").caused_by(error)
        })?;
        let record = Record {
            org: org.clone(),
            kind: KIND.into(),
            id: receipt.id.clone(),
            name: None,
            labels: std::collections::BTreeMap::new(),
            spec,
            status: serde_json::Value::Null,
            revision: Revision::ZERO,
            version: 0,
            created_at: Timestamp::EPOCH,
            updated_at: Timestamp::EPOCH,
            deleted: false,
        };
        let change = Change { record, expect, action: action.to_owned(), effects: Vec::new() };
        let write = Write { changes: vec![change], actor: actor.clone(), now: self.now() };
        self.core().store.write(write).await.map(drop).map_err(|error| error.during("erase"))
    }
}

fn read(record: &Record) -> Result<Erasure> {
    serde_json::from_value(record.spec.clone()).map_err(|error| {
        Error::new(Code::StoreCorrupt, "a receipt cannot be read").caused_by(error)
    })
}

fn digest(subject: &str) -> String {
    Sha256::digest(subject).iter().fold(String::with_capacity(64), |mut text, byte| {
        // Writing to a `String` does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
