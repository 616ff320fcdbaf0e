use std::collections::BTreeMap;

use bytes::Bytes;
use http::{HeaderMap, Method};
use icp_core::time::Timestamp;

use super::Reaction;

/// A request as it came in, and what was done with it.
#[derive(Clone, Debug)]
pub struct Received {
    /// The method.
    pub method: Method,
    /// The path, without the query.
    pub path: String,
    /// The query, as it was sent.
    pub query: Option<String>,
    /// The header fields.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Bytes,
    /// When its last byte came in.
    pub at: Timestamp,
    /// What the receiver does with it.
    pub reaction: Reaction,
}

impl Received {
    /// A header field as text; empty where it is missing or not ASCII.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The `webhook-id`; empty where there is none.
    #[must_use]
    pub fn id(&self) -> &str {
        self.header("webhook-id")
    }
}

/// What a receiver has seen so far.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    requests: Vec<Received>,
}

impl Seen {
    /// All requests, in the order in which they were complete.
    #[must_use]
    pub fn requests(&self) -> &[Received] {
        &self.requests
    }

    /// The requests to `path`.
    pub fn to<'a>(&'a self, path: &'a str) -> impl Iterator<Item = &'a Received> + Clone {
        self.requests.iter().filter(move |request| request.path == path)
    }

    /// How many requests came to `path`.
    #[must_use]
    pub fn count(&self, path: &str) -> usize {
        self.to(path).count()
    }

    /// How often each `webhook-id` came to `path`.
    #[must_use]
    pub fn ids(&self, path: &str) -> BTreeMap<String, usize> {
        tally(self.to(path))
    }

    /// How often each `webhook-id` was taken on `path`; more than once is a duplicate.
    #[must_use]
    pub fn taken(&self, path: &str) -> BTreeMap<String, usize> {
        tally(self.to(path).filter(|request| request.reaction.is_success()))
    }

    /// How often `id` came to `path` so far.
    pub(super) fn repeats(&self, path: &str, id: &str) -> usize {
        self.to(path).filter(|request| request.id() == id).count()
    }

    pub(super) fn push(&mut self, request: Received) {
        self.requests.push(request);
    }
}

fn tally<'a>(requests: impl Iterator<Item = &'a Received>) -> BTreeMap<String, usize> {
    let mut ids = BTreeMap::new();
    for request in requests {
        *ids.entry(request.id().to_owned()).or_default() += 1;
    }
    ids
}
