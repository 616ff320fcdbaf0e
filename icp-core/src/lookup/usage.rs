//! What a transformation asks of tables, checked when it is saved.

use super::{LookupSpec, Table};
use crate::document::pointer::nearest;
use crate::error::Violation;
use crate::resource::{OrgEntry, Spec};
use crate::transform::{Plan, Step};

/// Every rule of `plan` that asks for a table the organization does not have, or searches one by
/// a path it is not searched by.
pub(crate) fn unusable(plan: &Plan, within: &OrgEntry) -> Vec<Violation> {
    let mut found = Vec::new();
    for step in plan.steps() {
        match step {
            Step::Program(_) | Step::Host(_) => {}
            Step::Map(mapping) => {
                mapping.lookups(&mut |rule, lookup| {
                    let at = format!("{rule}/lookup");
                    let Some(entry) = within.resource(LookupSpec::KIND, &lookup.table) else {
                        found.push(Violation::new(
                            format!("{at}/table"),
                            "lookup_unknown",
                            unknown(lookup.table.as_str(), within),
                        ));
                        return;
                    };
                    // A table that cannot be used is told where it is.
                    let Ok(table) = entry.compiled::<Table>() else { return };
                    if let Some(path) = &lookup.reverse
                        && !table.is_reversible(path)
                    {
                        found.push(Violation::new(
                            format!("{at}/reverse"),
                            "lookup_not_reversible",
                            format!(
                                "the table is not searched by `{path}`; add it to its `reverse`"
                            ),
                        ));
                    }
                });
            }
        }
    }
    found
}

fn unknown(name: &str, within: &OrgEntry) -> String {
    let known: Vec<_> = within.resources(LookupSpec::KIND).map(|(id, _)| id.as_str()).collect();
    format!("there is no lookup table `{name}`{}; make it first", nearest(name, &known))
}
