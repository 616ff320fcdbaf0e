//! Whose rows an operation is about, for databases that can hold it to that.

use std::collections::BTreeSet;

use icp_core::event::Ingest;
use icp_core::id::OrgId;
use icp_core::resource::Write;

/// Whose rows an operation may see and write.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Scope<'a> {
    /// Everybody's: a duty of the node.
    Node,
    /// Those of one organization.
    Of(&'a OrgId),
    /// Those of the organizations of which there are events in a batch.
    Batch(&'a Ingest),
    /// Those of the organizations of which resources are written.
    Written(&'a Write),
}

impl Scope<'_> {
    /// `*` for everybody, else the organizations with commas in between; an id has neither sign,
    /// nor a quote.
    #[cfg_attr(
        not(any(test, feature = "postgres")),
        expect(dead_code, reason = "PostgreSQL alone holds an operation to its scope")
    )]
    pub(crate) fn value(self) -> String {
        let several: BTreeSet<&str> = match self {
            Self::Node => return "*".to_owned(),
            Self::Of(org) => return org.as_str().to_owned(),
            Self::Batch(batch) => batch.items.iter().map(|item| item.event.org.as_str()).collect(),
            Self::Written(write) => {
                write.changes.iter().map(|change| change.record.org.as_str()).collect()
            }
        };
        several.into_iter().collect::<Vec<_>>().join(",")
    }
}

#[cfg(test)]
mod tests {
    use icp_core::resource::Actor;
    use icp_core::time::Timestamp;

    use super::*;

    #[test]
    fn a_scope_names_the_node_an_organization_or_nobody() {
        let (acme, now) = (OrgId::new("acme").unwrap(), Timestamp::from_millis(0));
        assert_eq!(Scope::Node.value(), "*");
        assert_eq!(Scope::Of(&acme).value(), "acme");
        let nothing = Ingest { items: [].into(), direct: None, now };
        assert_eq!(Scope::Batch(&nothing).value(), "");
        let nothing = Write { changes: Vec::new(), actor: Actor::host(), now };
        assert_eq!(Scope::Written(&nothing).value(), "");
    }
}
