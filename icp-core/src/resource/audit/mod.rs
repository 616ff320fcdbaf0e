//! The audit log of an organization: who changed what, each row chained to the one before.

mod check;
mod entry;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

pub use check::{AuditBreak, AuditCheck, AuditFault, verify_audit};
pub use entry::{AuditEntry, AuditQuery};

use super::Revision;
use crate::id::OrgId;

/// What the form of a row that is hashed begins with; another form has another.
const FORM: &str = "icp-audit-1";

/// Where a row stands in the chain. The default stands before the first.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize, schemars::JsonSchema)]
pub struct AuditLink {
    /// The row's revision; 0 before the first.
    pub revision: Revision,
    /// The row's number; 0 before the first.
    pub number: u64,
    /// The row's chain; empty before the first.
    pub chain: String,
}

impl AuditLink {
    /// The place of `entry`.
    #[must_use]
    pub fn of(entry: &AuditEntry) -> Self {
        let AuditEntry { revision, number, chain, .. } = entry;
        Self { revision: *revision, number: *number, chain: chain.clone() }
    }
}

/// The two ends of an organization's chain.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize, schemars::JsonSchema)]
pub struct AuditHead {
    /// The newest row.
    pub newest: AuditLink,
    /// The last row that retention removed; those after it are kept.
    pub pruned: AuditLink,
}

impl AuditHead {
    /// Makes `entry` the newest row: gives it its number and its chain.
    pub fn append(&mut self, org: &OrgId, entry: &mut AuditEntry) {
        entry.number = self.newest.number + 1;
        entry.chain = chain(&self.newest.chain, org, entry);
        self.newest = AuditLink::of(entry);
    }
}

/// Lower-case hex SHA-256 of a row and of the chain of the row before it.
///
/// What is hashed is a JSON array of texts, numbers and nulls without spaces: the name of the form,
/// `previous`, and the fields of the row in the order in which they stand below.
fn chain(previous: &str, org: &OrgId, entry: &AuditEntry) -> String {
    let form = serde_json::json!([
        FORM,
        previous,
        org.as_str(),
        entry.number,
        entry.revision,
        entry.at.as_millis(),
        entry.actor.name,
        entry.actor.acting_as,
        entry.actor.request_id,
        entry.action,
        entry.kind,
        entry.id.as_str(),
        entry.before,
        entry.after,
        entry.note,
    ]);
    hex(&Sha256::digest(form.to_string()))
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(64), |mut text, byte| {
        // Writing to a `String` does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::ResourceId;
    use crate::resource::Actor;
    use crate::time::Timestamp;

    pub(super) fn entry(revision: u64) -> AuditEntry {
        AuditEntry {
            revision: Revision(revision),
            number: 1,
            at: Timestamp::from_millis(1_000),
            actor: Actor {
                name: "user:ada".into(),
                acting_as: Some("user:bob".into()),
                request_id: Some("req".into()),
                may: None,
            },
            action: "update".into(),
            kind: "integration".into(),
            id: ResourceId::new("hook").unwrap(),
            before: Some("b".into()),
            after: Some("a".into()),
            note: Some("n".into()),
            chain: String::new(),
        }
    }

    #[test]
    fn every_field_that_changes_changes_the_chain() {
        let acme = OrgId::new("acme").unwrap();
        let told = chain("", &acme, &entry(7));
        assert_eq!(told.len(), 64);
        let changes: [fn(&mut AuditEntry); 17] = [
            |e| e.revision = Revision(8),
            |e| e.number = 2,
            |e| e.at = Timestamp::from_millis(1_001),
            |e| e.actor.name = "user:bob".into(),
            |e| e.actor.acting_as = None,
            |e| e.actor.acting_as = Some("user:cyd".into()),
            |e| e.actor.request_id = None,
            |e| e.action = "create".into(),
            |e| e.kind = "lookup".into(),
            |e| e.id = ResourceId::new("other").unwrap(),
            |e| e.before = None,
            |e| e.before = Some(String::new()),
            |e| e.after = None,
            |e| e.note = None,
            |e| e.note = Some("n\",\"".into()),
            // What moves from one field to the next is told apart, too.
            |e| (e.action, e.kind) = ("updatei".into(), "ntegration".into()),
            |e| (e.before, e.after) = (e.after.clone(), e.before.clone()),
        ];
        let mut seen = vec![told.clone()];
        for change in changes {
            let mut changed = entry(7);
            change(&mut changed);
            seen.push(chain("", &acme, &changed));
        }
        seen.push(chain("x", &acme, &entry(7)));
        seen.push(chain("", &OrgId::new("beta").unwrap(), &entry(7)));
        let distinct: std::collections::BTreeSet<_> = seen.iter().collect();
        assert_eq!(distinct.len(), seen.len());
        let of_itself = AuditEntry { chain: "any".into(), ..entry(7) };
        assert_eq!(chain("", &acme, &of_itself), told);
    }

    #[test]
    fn rows_are_counted_and_chained() {
        let (acme, mut head) = (OrgId::new("acme").unwrap(), AuditHead::default());
        let (mut first, mut second) = (entry(3), entry(9));
        head.append(&acme, &mut first);
        head.append(&acme, &mut second);
        assert_eq!((first.number, second.number), (1, 2));
        assert_eq!(second.chain, chain(&first.chain, &acme, &second));
        assert_eq!(head.newest, AuditLink::of(&second));
        assert_eq!(head.pruned, AuditLink::default());
    }
}
