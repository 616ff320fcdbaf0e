//! Counters with the organization as a label: off by default, and for so many organizations only.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;

use super::family::Families;
use crate::analytics::tally::Target;
use crate::delivery::{Next, Settled, Settlement};
use crate::id::OrgId;

/// The label of those beyond the number that is kept apart. No organization can be called so.
pub(crate) const OTHERS: &str = "(other)";

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
pub(crate) struct Org {
    org: String,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
pub(crate) struct Tried {
    org: String,
    outcome: &'static str,
}

/// What is counted for each organization.
#[derive(Debug)]
pub(crate) struct Organizations {
    most: usize,
    known: Mutex<HashSet<OrgId>>,
    published: Family<Org, Counter>,
    created: Family<Org, Counter>,
    attempts: Family<Tried, Counter>,
    dead: Family<Org, Counter>,
}

impl Organizations {
    /// Counts for the first `most` organizations that are met, and for all others together; with 0
    /// nothing is counted.
    pub(crate) fn new(families: &mut Families, most: usize) -> Self {
        let mut family = |name: &str, help: &str| families.family(name, help, &["org"]);
        let published =
            family("organization_events_published", "Events that were accepted, by organization");
        let created =
            family("organization_deliveries_created", "Deliveries that were made, by organization");
        let dead =
            family("organization_dead_letters", "Deliveries that ended as dead, by organization");
        let attempts = families.family(
            "organization_attempts",
            "Attempts that were recorded, by organization and outcome",
            &["org", "outcome"],
        );
        Self { most, known: Mutex::default(), published, created, attempts, dead }
    }

    /// An event was accepted, with this many deliveries.
    pub(crate) fn published(&self, org: &OrgId, deliveries: u64) {
        let Some(org) = self.label(org) else { return };
        let labels = Org { org };
        self.published.get_or_create(&labels).inc();
        self.created.get_or_create(&labels).inc_by(deliveries);
    }

    /// Outcomes were recorded; those that came too late are left out.
    pub(crate) fn settled(
        &self,
        targets: &[Option<Target>],
        settlements: &[Settlement],
        settled: &[Settled],
    ) {
        if self.most == 0 {
            return;
        }
        for ((target, settlement), settled) in targets.iter().zip(settlements).zip(settled) {
            let org = target.as_ref().and_then(|(org, _)| self.label(org));
            let Some(org) = org.filter(|_| *settled != Settled::Stale) else { continue };
            if let Some(attempt) = &settlement.attempt {
                let outcome = attempt.outcome.name();
                self.attempts.get_or_create(&Tried { org: org.clone(), outcome }).inc();
            }
            if matches!(settlement.next, Next::Dead { .. }) {
                self.dead.get_or_create(&Org { org }).inc();
            }
        }
    }

    /// Shows every counter once.
    #[cfg(test)]
    pub(super) fn touch(&self) {
        let labels = Org { org: "acme".to_owned() };
        for family in [&self.published, &self.created, &self.dead] {
            family.get_or_create(&labels).inc();
        }
        let labels = Tried { org: "acme".to_owned(), outcome: "failed" };
        self.attempts.get_or_create(&labels).inc();
    }

    fn label(&self, org: &OrgId) -> Option<String> {
        if self.most == 0 {
            return None;
        }
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if !known.contains(org) {
            if known.len() >= self.most {
                return Some(OTHERS.to_owned());
            }
            known.insert(org.clone());
        }
        Some(org.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::Metrics;

    fn count(most: usize, orgs: &[&str]) -> String {
        let metrics = Metrics::new(most);
        for org in orgs {
            metrics.organizations.published(&OrgId::new(org).unwrap(), 2);
        }
        metrics.render()
    }

    #[test]
    fn organizations_are_no_label_unless_asked_for() {
        assert!(!count(0, &["a", "b"]).contains("org="));
    }

    #[test]
    fn those_beyond_the_number_are_counted_together() {
        let text = count(2, &["a", "b", "c", "a", "d"]);
        for line in [
            "icp_organization_events_published_total{org=\"a\"} 2",
            "icp_organization_events_published_total{org=\"b\"} 1",
            "icp_organization_events_published_total{org=\"(other)\"} 2",
            "icp_organization_deliveries_created_total{org=\"(other)\"} 4",
        ] {
            assert!(text.contains(line), "{line}: {text}");
        }
        assert!(OrgId::new(OTHERS).is_err());
        assert!(!text.contains("org=\"c\""));
    }
}
