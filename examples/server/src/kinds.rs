//! The kinds of resources that this build knows.

use icp::Engine;
use icp::access::OrganizationSpec;
use icp::resource::{Kind, Spec};
use icp::store::MemoryStore;

use crate::failure::{Failure, Result};

/// The kind that all others belong to.
pub(crate) const ORGANIZATION: &str = OrganizationSpec::KIND;

/// Who may call, and not what is configured: left out of exports and of what is pruned.
const PRINCIPALS: [&str; 2] = ["api_key", "user"];

/// Whether resources of this kind go with the files of an organization.
pub(crate) fn is_configuration(kind: &str) -> bool {
    kind != ORGANIZATION && !PRINCIPALS.contains(&kind)
}

/// The kinds of resources, as an engine of this build has them.
#[derive(Debug)]
pub(crate) struct Kinds(Engine);

impl Kinds {
    pub(crate) fn new() -> Result<Self> {
        Ok(Self(Engine::builder(MemoryStore::new()).build()?))
    }

    fn iter(&self) -> impl Iterator<Item = &dyn Kind> {
        self.0.resources().kinds().iter().map(AsRef::as_ref)
    }

    /// The kind that `word` names, one or many, with `-` or `_`.
    pub(crate) fn find(&self, word: &str) -> Result<&dyn Kind> {
        let wanted = canonical(word);
        let is_it = |kind: &&dyn Kind| {
            canonical(kind.name()) == wanted || canonical(kind.plural()) == wanted
        };
        self.iter().find(is_it).ok_or_else(|| {
            let near = self
                .iter()
                .map(|kind| (strsim::jaro_winkler(&wanted, &canonical(kind.name())), kind.name()))
                .max_by(|(a, _), (b, _)| a.total_cmp(b));
            let near = near.map(|(_, name)| name).unwrap_or_default();
            let known: Vec<_> = self.iter().map(Kind::name).collect();
            let known = known.join(", ");
            Failure::Input(format!(
                "`{word}` is not a kind; did you mean `{near}`? there are: {known}"
            ))
        })
    }

    /// What an export holds beside the organization itself, in the order it is applied in.
    pub(crate) fn exported(&self) -> Vec<&dyn Kind> {
        let mut kinds: Vec<_> = self.iter().filter(|kind| is_configuration(kind.name())).collect();
        kinds.sort_by_key(|kind| (rank(kind.name()), kind.name()));
        kinds
    }
}

/// Where a kind comes in order: what others name goes before them.
pub(crate) fn rank(kind: &str) -> u8 {
    match kind {
        ORGANIZATION => 0,
        "integration" => 2,
        _ => 1,
    }
}

/// The path of one resource, or of all where there is no `id`.
pub(crate) fn path<'a>(kind: &dyn Kind, org: &'a str, id: Option<&'a str>) -> Vec<&'a str> {
    if kind.name() == ORGANIZATION {
        return std::iter::once("organizations").chain(id).collect();
    }
    ["organizations", org, kind.plural()].into_iter().chain(id).collect()
}

fn canonical(word: &str) -> String {
    word.to_lowercase().replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_found_by_either_name() {
        let kinds = Kinds::new().unwrap();
        for (word, name) in [
            ("integration", "integration"),
            ("Integrations", "integration"),
            ("event-type", "event_type"),
            ("event_types", "event_type"),
            ("organizations", "organization"),
        ] {
            assert_eq!(kinds.find(word).unwrap().name(), name);
        }
        let failure = kinds.find("integratoin").unwrap_err().to_string();
        assert!(failure.contains("did you mean `integration`?"), "{failure}");
    }

    #[test]
    fn integrations_come_last_and_organizations_apart() {
        let kinds = Kinds::new().unwrap();
        let names: Vec<_> = kinds.exported().iter().map(|kind| kind.name()).collect();
        assert_eq!(names.last(), Some(&"integration"));
        assert!(!names.contains(&"organization") && names.contains(&"lookup"), "{names:?}");
        for principal in PRINCIPALS {
            assert!(!names.contains(&principal) && kinds.find(principal).is_ok(), "{principal}");
        }
    }
}
