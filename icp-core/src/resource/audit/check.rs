//! Whether the rows of a log are those that were written.

use serde::{Deserialize, Serialize};

use super::{AuditEntry, AuditHead, AuditLink, AuditQuery, chain};
use crate::error::Result;
use crate::id::OrgId;
use crate::resource::{ResourceStore, Revision};
use crate::store::PageQuery;

/// How many rows are held at a time.
const PAGE: usize = 500;

/// What a look at every audit row of an organization found.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, schemars::JsonSchema)]
pub struct AuditCheck {
    /// How many rows were looked at.
    pub entries: u64,
    /// The first place, from the oldest row on, where the log is not as it was written; `None`
    /// where it is.
    pub broken: Option<AuditBreak>,
    /// The newest row. Whoever keeps it elsewhere can tell later whether the log was written anew
    /// as a whole.
    pub newest: AuditLink,
    /// The last row that retention removed, if any.
    pub pruned: AuditLink,
}

/// A place where a log is not as it was written.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, schemars::JsonSchema)]
pub struct AuditBreak {
    /// The revision of the row.
    pub revision: Revision,
    /// What is wrong there.
    pub fault: AuditFault,
}

/// How a log is not as it was written.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum AuditFault {
    /// The row is not the one that was written, or stands in another place.
    Changed,
    /// Rows before this one are missing.
    MissingBefore,
    /// The newest rows, of which this was the last, are missing.
    CutOff,
    /// What the store remembers of the newest row is missing or older than the row.
    HeadLost,
}

/// Looks at every audit row of an organization, page by page from the newest on, and says whether
/// each is the one that was written. Rows that are written meanwhile are left to the next look.
///
/// # Errors
///
/// Those of the store.
pub async fn verify_audit(store: &dyn ResourceStore, org: &OrgId) -> Result<AuditCheck> {
    let head = store.audit_head(org).await?;
    let mut query = AuditQuery { page: PageQuery { after: None, limit: 1 }, ..Default::default() };
    let newest = store.audit_log(org, &query).await?.items.pop();
    // Read again, as both may be written in between.
    let head_now = store.audit_head(org).await?.unwrap_or_default();
    let mut walk = Walk::new(org, head.unwrap_or_default());
    if let Some(newest) = newest.filter(|newest| newest.revision > head_now.newest.revision) {
        walk.fails(newest.revision, AuditFault::HeadLost);
    }
    let beyond = walk.head.newest.revision.0.saturating_add(1);
    query.page = PageQuery { after: Some(Revision(beyond)), limit: PAGE };
    loop {
        let page = store.audit_log(org, &query).await?;
        // Read after the page, so that what is pruned meanwhile is known to be.
        let pruned = store.audit_head(org).await?.unwrap_or_default().pruned;
        query.page.after = page.items.last().map(|entry| entry.revision);
        let kept = page.items.into_iter().filter(|entry| entry.revision > pruned.revision);
        kept.for_each(|entry| walk.step(entry));
        if !page.more {
            return Ok(walk.end(pruned));
        }
    }
}

/// A walk over the rows from the newest to the oldest.
struct Walk<'a> {
    org: &'a OrgId,
    head: AuditHead,
    /// The row before this step, on which the next older one decides.
    newer: Option<AuditEntry>,
    entries: u64,
    broken: Option<AuditBreak>,
}

impl<'a> Walk<'a> {
    fn new(org: &'a OrgId, head: AuditHead) -> Self {
        Self { org, head, newer: None, entries: 0, broken: None }
    }

    fn step(&mut self, entry: AuditEntry) {
        self.entries += 1;
        match self.newer.take() {
            Some(newer) => self.judge(&newer, &AuditLink::of(&entry)),
            None if entry.revision < self.head.newest.revision => {
                self.fails(self.head.newest.revision, AuditFault::CutOff);
            }
            None if AuditLink::of(&entry) != self.head.newest => {
                self.fails(entry.revision, AuditFault::Changed);
            }
            None => {}
        }
        self.newer = Some(entry);
    }

    fn end(mut self, pruned: AuditLink) -> AuditCheck {
        match self.newer.take() {
            Some(oldest) if oldest.revision > pruned.revision => self.judge(&oldest, &pruned),
            None if self.head.newest.revision > pruned.revision => {
                self.fails(self.head.newest.revision, AuditFault::CutOff);
            }
            _ => {}
        }
        let Self { head, entries, broken, .. } = self;
        AuditCheck { entries, broken, newest: head.newest, pruned }
    }

    fn judge(&mut self, entry: &AuditEntry, before: &AuditLink) {
        if entry.number > before.number.saturating_add(1) {
            self.fails(entry.revision, AuditFault::MissingBefore);
        } else if entry.number != before.number.saturating_add(1)
            || entry.chain != chain(&before.chain, self.org, entry)
        {
            self.fails(entry.revision, AuditFault::Changed);
        }
    }

    /// Notes the oldest place only: what is looked at later is older.
    fn fails(&mut self, revision: Revision, fault: AuditFault) {
        if self.broken.as_ref().is_none_or(|broken| revision <= broken.revision) {
            self.broken = Some(AuditBreak { revision, fault });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::audit::tests::entry;

    fn acme() -> OrgId {
        OrgId::new("acme").unwrap()
    }

    /// A log of the revisions 2, 4, ... 10, oldest first.
    fn log() -> (AuditHead, Vec<AuditEntry>) {
        let mut head = AuditHead::default();
        let rows = (1..=5).map(|n| {
            let mut entry = entry(2 * n);
            head.append(&acme(), &mut entry);
            entry
        });
        let rows = rows.collect();
        (head, rows)
    }

    fn check(head: &AuditHead, rows: &[AuditEntry]) -> AuditCheck {
        let org = acme();
        let mut walk = Walk::new(&org, head.clone());
        rows.iter().rev().for_each(|entry| walk.step(entry.clone()));
        walk.end(head.pruned.clone())
    }

    fn broken(head: &AuditHead, rows: &[AuditEntry]) -> Option<(u64, AuditFault)> {
        check(head, rows).broken.map(|broken| (broken.revision.0, broken.fault))
    }

    #[test]
    fn a_log_as_it_was_written_is_whole() {
        let (mut head, rows) = log();
        let found = check(&head, &rows);
        assert_eq!((found.entries, &found.broken, &found.newest), (5, &None, &head.newest));
        head.pruned = AuditLink::of(&rows[1]);
        assert_eq!(broken(&head, &rows[2..]), None);
        head.pruned = head.newest.clone();
        assert_eq!(broken(&head, &[]), None);
        assert_eq!(broken(&AuditHead::default(), &[]), None);
    }

    #[test]
    fn what_is_wrong_is_named_with_its_oldest_place() {
        use AuditFault::{Changed, CutOff, MissingBefore};
        type Case = (&'static str, fn(&mut Vec<AuditEntry>), (u64, AuditFault));
        let cases: [Case; 9] = [
            ("changed", |rows| rows[2].action = "x".into(), (6, Changed)),
            ("two changed", |rows| (rows[1].note, rows[3].note) = (None, None), (4, Changed)),
            ("first changed", |rows| rows[0].note = None, (2, Changed)),
            ("last changed", |rows| rows[4].note = None, (10, Changed)),
            ("removed", |rows| drop(rows.remove(2)), (8, MissingBefore)),
            ("cut at the front", |rows| drop(rows.drain(..2)), (6, MissingBefore)),
            ("cut at the end", |rows| drop(rows.drain(3..)), (10, CutOff)),
            ("all gone", |rows| rows.clear(), (10, CutOff)),
            (
                "moved",
                |rows| {
                    let (a, b) = (rows[1].revision, rows[2].revision);
                    rows.swap(1, 2);
                    (rows[1].revision, rows[2].revision) = (a, b);
                },
                (4, MissingBefore),
            ),
        ];
        for (name, tamper, expected) in cases {
            let (head, mut rows) = log();
            tamper(&mut rows);
            assert_eq!(broken(&head, &rows), Some(expected), "{name}");
        }
    }

    #[test]
    fn a_row_chained_anew_is_told_by_those_after_it_and_by_the_head() {
        let (head, mut rows) = log();
        rows[4].action = "x".into();
        rows[4].chain = chain(&rows[3].chain, &acme(), &rows[4]);
        assert_eq!(broken(&head, &rows), Some((10, AuditFault::Changed)));
        let (head, mut rows) = log();
        rows[2].action = "x".into();
        rows[2].chain = chain(&rows[1].chain, &acme(), &rows[2]);
        assert_eq!(broken(&head, &rows), Some((8, AuditFault::Changed)));
    }
}
