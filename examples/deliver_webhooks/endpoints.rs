//! Eight endpoints of three organizations, and how badly they behave.

use std::time::Duration;

use icp::id::{OrgId, ResourceId};
use icp::secret::{SecretString, SystemEntropy};
use icp::signing::standard::generate_secret;
use icp_testkit::receiver::{Behaviour, Reaction, Receiver};
use serde_json::{Value, json};

use crate::payloads::Payload;
use crate::scenario::Result;

pub(crate) const ORGS: [&str; 3] = ["acme", "globex", "initech"];

/// How many of a hundred calls fail.
const FAILING: u32 = 30;

/// An endpoint and the integration that sends to it.
pub(crate) struct Endpoint {
    pub(crate) org: OrgId,
    pub(crate) id: ResourceId,
    pub(crate) secret: SecretString,
    /// The endpoint answers 410 to one call, once everything is published.
    pub(crate) quits: bool,
    /// What the integration sets beside what all have in common.
    more: Value,
    /// The example's own idea of which payloads match, to check the engine's by.
    pub(crate) wants: Wants,
}

type Wants = fn(&Payload) -> bool;

fn everything(_: &Payload) -> bool {
    true
}

/// All endpoints.
///
/// # Errors
///
/// Where the system gives no randomness.
pub(crate) fn all() -> Result<Vec<Endpoint>> {
    let filter = json!({ "data.action": { "$in": ["opened", "closed", "reopened"] } });
    let mapping = json!({
        "base": "empty",
        "rules": [
            { "target": "repository", "from": "repository.full_name", "required": true },
            { "target": "by", "from": "sender.login" },
            { "target": "title", "template": "{{sender.login}} in {{repository.full_name}}" },
        ],
        "drop": {
            "when": { "repository.full_name": { "$exists": false } },
            "reason": "it belongs to no repository",
        },
    });
    let table: [(&str, &str, Value, Wants); 8] = [
        ("acme", "archive", json!({}), everything),
        ("acme", "issues", json!({ "events": ["github.issues.*"] }), |p| p.event == "issues"),
        ("acme", "opened-or-closed", json!({ "filter": filter }), |p| {
            matches!(p.action(), Some("opened" | "closed" | "reopened"))
        }),
        ("globex", "archive", json!({}), everything),
        ("globex", "in-order", json!({ "ordering": "by_key" }), everything),
        ("globex", "mapped", json!({ "transform": [{ "map": mapping }] }), everything),
        ("initech", "archive", json!({}), everything),
        ("initech", "quits", json!({ "max_in_flight": 4 }), everything),
    ];
    let endpoint = |(org, id, more, wants)| -> Result<Endpoint> {
        Ok(Endpoint {
            org: OrgId::new(org)?,
            id: ResourceId::new(id)?,
            secret: generate_secret(&SystemEntropy)?,
            quits: id == "quits",
            more,
            wants,
        })
    };
    table.into_iter().map(endpoint).collect()
}

impl Endpoint {
    pub(crate) fn path(&self) -> String {
        format!("/{}/{}", self.org, self.id)
    }

    /// The integration's spec.
    pub(crate) fn spec(&self, receiver: &Receiver) -> Value {
        let mut spec = json!({
            "events": ["github.**"],
            "max_in_flight": 20,
            "target": {
                "kind": "http",
                "url": receiver.url(&self.path()),
                "timeouts": { "total_ms": 1000 },
            },
            "signing": { "keys": [{ "secret": self.secret.expose() }] },
            "retry": { "schedule": { "type": "list", "delays_seconds": [0, 0, 1, 1, 1] } },
            "breaker": { "open_seconds": 1, "max_open_seconds": 1 },
            // The receiver fails by chance: fewer calls at once would not help it.
            "adaptive_concurrency": false,
        });
        if let (Some(spec), Some(more)) = (spec.as_object_mut(), self.more.as_object()) {
            spec.extend(more.clone());
        }
        spec
    }

    /// Fails in every way that can pass.
    pub(crate) fn behaviour(&self, seed: u64) -> Behaviour {
        let failures = vec![
            Reaction::Status(500),
            Reaction::Status(503),
            Reaction::RetryAfter(429, 1),
            Reaction::Hang,
            Reaction::Reset,
            Reaction::SlowBody(Duration::from_millis(100)),
        ];
        Behaviour::Share { seed, percent: FAILING, failures }
    }

    /// As [`behaviour`](Self::behaviour), but the next call is answered 410.
    pub(crate) fn quitting(&self, seed: u64) -> Behaviour {
        let otherwise = Box::new(self.behaviour(seed));
        Behaviour::Once { at: 0, reaction: Reaction::Status(410), otherwise }
    }
}
