//! The products, by the public APIs that they document.

use clap::ValueEnum;
use serde_json::{Value, json};

use crate::engine::SECRET;

/// A server that delivers webhooks.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum Product {
    /// This one.
    Icp,
    /// Svix, by `/api/v1/app`. It has to be told that endpoints may be on loopback.
    Svix,
    /// Outpost, by `/api/v1/tenants` and `/api/v1/publish`, with the topic `order.paid`.
    Outpost,
}

/// A request to a product.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    method: &'static str,
    path: String,
    body: Vec<u8>,
}

impl Call {
    fn post(path: impl Into<String>, body: &Value) -> Self {
        Self { method: "POST", path: path.into(), body: body.to_string().into_bytes() }
    }

    /// The bytes of the request over HTTP/1.1.
    pub(crate) fn wire(&self, host: &str, token: &str) -> Vec<u8> {
        let head = format!(
            "{} {} HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {token}\r\ncontent-type: \
             application/json\r\ncontent-length: {}\r\n\r\n",
            self.method,
            self.path,
            self.body.len()
        );
        let mut wire = head.into_bytes();
        wire.extend_from_slice(&self.body);
        wire
    }
}

impl Product {
    /// Makes a tenant.
    pub(crate) fn tenant(self, tenant: &str) -> Call {
        match self {
            Self::Icp => Call::post("/api/v1/organizations", &json!({ "id": tenant, "spec": {} })),
            Self::Svix => Call::post("/api/v1/app", &json!({ "name": tenant, "uid": tenant })),
            Self::Outpost => Call {
                method: "PUT",
                path: format!("/api/v1/tenants/{tenant}"),
                body: b"{}".to_vec(),
            },
        }
    }

    /// Makes an endpoint of a tenant that gets every message.
    pub(crate) fn endpoint(self, tenant: &str, number: usize, url: &str) -> Call {
        match self {
            Self::Icp => Call::post(
                format!("/api/v1/organizations/{tenant}/integrations"),
                &json!({ "id": format!("hook-{number}"), "spec": {
                    "events": ["order.*"],
                    "target": {
                        "kind": "http",
                        "url": url,
                        "timeouts": { "headers_ms": 30_000, "total_ms": 30_000 },
                    },
                    "signing": { "keys": [{ "secret": SECRET }] },
                }}),
            ),
            Self::Svix => Call::post(
                format!("/api/v1/app/{tenant}/endpoint"),
                &json!({ "url": url, "secret": SECRET }),
            ),
            Self::Outpost => Call::post(
                format!("/api/v1/tenants/{tenant}/destinations"),
                &json!({ "type": "webhook", "topics": "*", "config": { "url": url } }),
            ),
        }
    }

    /// Publishes a message with this payload, which is JSON.
    pub(crate) fn publish(self, tenant: &str, payload: &[u8]) -> Call {
        let (path, before) = match self {
            Self::Icp => (
                format!("/api/v1/organizations/{tenant}/events"),
                r#"{"type":"order.paid","data":"#.to_owned(),
            ),
            Self::Svix => (
                format!("/api/v1/app/{tenant}/msg"),
                r#"{"eventType":"order.paid","payload":"#.to_owned(),
            ),
            Self::Outpost => (
                "/api/v1/publish".to_owned(),
                format!(r#"{{"tenant_id":"{tenant}","topic":"order.paid","data":"#),
            ),
        };
        Call { method: "POST", path, body: [before.as_bytes(), payload, b"}"].concat() }
    }
}
