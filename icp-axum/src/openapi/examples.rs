//! Bodies as examples, by the operation that takes them.

use serde_json::{Value, json};

/// What could be sent to the operation.
pub(super) fn of(operation: &str) -> Option<Value> {
    Some(match operation {
        "createOrganization" | "replaceOrganization" => {
            json!({ "id": "acme", "name": "Acme", "spec": {} })
        }
        "createIntegration" | "replaceIntegration" => json!({
            "id": "orders",
            "name": "Orders",
            "labels": { "team": "fulfilment" },
            "spec": {
                "events": ["order.*"],
                "target": { "kind": "http", "url": "https://example.com/hooks" },
            },
        }),
        "createLookup" | "replaceLookup" => json!({
            "id": "countries",
            "spec": { "entries": [{ "key": "DE", "value": "Germany" }] },
        }),
        "createEventType" | "replaceEventType" => json!({
            "id": "order.paid",
            "spec": {
                "description": "An order was paid in full.",
                "schema": { "type": "object", "required": ["order"] },
                "sample": { "order": 17 },
            },
        }),
        "bulkIntegrations" => json!({ "action": "disable", "ids": ["orders"] }),
        "bulkLookups" | "bulkEventTypes" => {
            json!({ "action": "delete", "ids": ["order.paid"], "continue_on_error": true })
        }
        "duplicateLookup" => json!({ "id": "countries-2", "name": "Countries" }),
        "duplicateEventType" => json!({ "id": "order.refunded" }),
        "importResources" => json!({ "resources": [
            { "kind": "lookup", "id": "colours", "spec": { "entries": [] } },
        ] }),
        "publishEvent" => json!({ "type": "order.paid", "data": { "order": 17 } }),
        "publishEvents" => json!({ "events": [{ "type": "order.paid", "data": { "order": 17 } }] }),
        "pauseIntegration" | "pauseOrganization" => json!({ "reason": "repairs until noon" }),
        "cancelDeliveries" => {
            json!({ "filter": { "integration": "orders" }, "reason": "sent by mistake" })
        }
        patch if patch.starts_with("patch") => json!({ "name": "Another name" }),
        back if back.starts_with("rollback") => json!({ "version": 1 }),
        _ => return None,
    })
}
