//! Bodies as examples, by the operation that takes them.

use serde_json::{Value, json};

const PASSWORD: &str = "correct horse battery";
const DELIVERY: &str = "dlv_01jd3f8qk5w0v8x2n6m4r7t9zc";

/// What could be sent to the operation.
pub(super) fn of(operation: &str) -> Option<Value> {
    of_resources(operation).or_else(|| of_access(operation)).or_else(|| of_verbs(operation))
}

fn of_resources(operation: &str) -> Option<Value> {
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
        "createRole" | "replaceRole" => {
            json!({ "id": "support", "spec": { "permissions": ["logs:read", "dlq:execute"] } })
        }
        "duplicateRole" => json!({ "id": "support-2" }),
        "createUser" | "replaceUser" => json!({
            "id": "ada",
            "name": "Ada",
            "spec": { "email": "ada@example.com", "grants": [{ "role": "viewer" }] },
        }),
        "createApiKey" | "replaceApiKey" => json!({
            "name": "The shop",
            "spec": {
                "grants": [{ "role": "api_key" }],
                "rate_limit": { "requests": 600, "seconds": 60 },
            },
        }),
        "createIssuer" | "replaceIssuer" => json!({
            "id": "staff",
            "spec": {
                "issuer": "https://login.example.com/",
                "audiences": ["icp"],
                "roles": {
                    "claim": "/realm_access/roles",
                    "map": { "support": [{ "role": "viewer" }] },
                },
            },
        }),
        "createEventSource" | "replaceEventSource" => json!({
            "id": "orders",
            "spec": { "type": "orders", "config": { "table": "paid_orders" }, "poll_seconds": 10 },
        }),
        "duplicateEventSource" => json!({ "id": "orders-2" }),
        "bulkEventSources" => json!({ "action": "disable", "ids": ["orders"] }),
        "moveEventSource" => json!({ "checkpoint": 17 }),
        "bulkIssuers" => json!({ "action": "disable", "ids": ["staff"] }),
        "bulkOrganizations" => {
            json!({ "action": "delete", "ids": ["acme"], "continue_on_error": true })
        }
        "bulkApiKeys" | "bulkUsers" => json!({ "action": "disable", "ids": ["shop"] }),
        "bulkRoles" => json!({ "action": "delete", "ids": ["support"] }),
        "importResources" => json!({ "resources": [
            { "kind": "lookup", "id": "colours", "spec": { "entries": [] } },
        ] }),
        "importOrganizations" => json!({ "resources": [
            { "kind": "organization", "id": "globex", "spec": { "weight": 2 } },
        ] }),
        "applyResources" => json!({ "steps": [
            { "kind": "lookup", "action": "create", "document": {
                "id": "sizes",
                "spec": { "entries": [{ "key": "S", "value": "small" }] },
            } },
        ] }),
        patch if patch.starts_with("patch") => json!({ "name": "Another name" }),
        back if back.starts_with("rollback") => json!({ "version": 1 }),
        _ => return None,
    })
}

fn of_access(operation: &str) -> Option<Value> {
    Some(match operation {
        "rotateApiKey" => json!({ "overlap_seconds": 3600 }),
        "bootstrap" => json!({ "email": "root@example.com", "password": PASSWORD }),
        "logIn" => json!({
            "organization": "acme", "email": "ada@example.com", "password": PASSWORD,
        }),
        "refreshSession" | "logOut" => json!({ "refresh_token": "the last one that was answered" }),
        "changePassword" => json!({ "present": PASSWORD, "password": "staple battery horse" }),
        "setUserPassword" => json!({ "password": PASSWORD }),
        "startLogin" => json!({
            "organization": "acme",
            "issuer": "staff",
            "redirect_uri": "https://console.example.com/back",
        }),
        "finishLogin" => json!({
            "state": "the one that came back",
            "code": "the one that came back",
            "binding": "the one that was answered at the start",
        }),
        "introspectToken" => json!({ "token": "one that was issued here" }),
        "putUnit" => json!({ "parent": "eu" }),
        "impersonate" => json!({
            "organization": "acme", "role": "org_user", "reason": "looks into ticket 812",
        }),
        "rotateSigningSecret" => json!({ "overlap_seconds": 86400 }),
        "removeSigningSecret" => json!({ "key": "a5f1c0de" }),
        _ => return None,
    })
}

fn of_verbs(operation: &str) -> Option<Value> {
    let sample = json!({ "type": "order.paid", "data": { "order": 17 } });
    Some(match operation {
        "publishEvent" => sample,
        "publishEvents" => json!({ "events": [sample] }),
        "pauseIntegration" | "pauseOrganization" => json!({ "reason": "repairs until noon" }),
        "cancelDeliveries" => {
            json!({ "filter": { "integration": "orders" }, "reason": "sent by mistake" })
        }
        "previewCancelDeliveries" => json!({ "integration": "orders" }),
        "cancelDelivery" => json!({ "reason": "sent by mistake" }),
        "startReplay" | "previewReplay" => json!({
            "since": "2026-11-01T00:00:00Z",
            "until": "2026-11-02T00:00:00Z",
            "states": ["dead"],
            "rate": 50,
        }),
        "testIntegration" | "getIntegrationCurl" => json!({ "sample": sample }),
        "testDraft" | "getDraftCurl" => json!({
            "spec": {
                "events": ["order.*"],
                "target": { "kind": "http", "url": "https://example.com/hooks" },
            },
            "sample": sample,
        }),
        "dryRunTransform" => json!({
            "transform": [{ "map": {
                "base": "empty", "rules": [{ "target": "number", "from": "order" }],
            } }],
            "sample": sample,
        }),
        "dryRunFilter" => json!({
            "filter": { "data.order": { "$gt": 10 } }, "sample": sample,
        }),
        "importLookup" => json!([{ "key": "FR", "value": "France" }]),
        "resolveLookup" => json!({ "values": ["DE", "FR"] }),
        "validateEventBody" => json!({ "data": { "order": 17 } }),
        "abandonDeadLetters" => json!({ "ids": [DELIVERY], "note": "the endpoint is gone" }),
        "retryDeadLetters" => json!({ "ids": [DELIVERY] }),
        "noteDeadLetter" => json!({ "text": "asked the owner of the endpoint" }),
        "abandonDeadLetter" => json!({ "note": "the endpoint is gone" }),
        "eraseEvents" => json!({ "subject": "customer-17" }),
        _ => return None,
    })
}
