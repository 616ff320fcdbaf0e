//! The paths of earlier products, served beside the API's own where the host says so.
//!
//! An alias is another way to an operation: the same handler behind the same permission, with the
//! same answers, and the same bodies but where they were put otherwise. Where its path names no organization, `X-Tenant-Id` does, or the query
//! parameter `orgId`, or else it is the caller's own.

mod form;

use std::future::ready;

use axum::body::{Body, Bytes};
use axum::extract::{FromRequest, OriginalUri, Request, State};
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::{HeaderValue, Method, Uri};
use axum::middleware::{Next, from_fn_with_state, map_request};
use axum::response::Response;
use axum::routing::{MethodFilter, MethodRouter, on_service};
use icp_core::access::Principal;
use icp_core::id::OrgId;
use icp_core::{Code, Engine, Violation};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;
use url::form_urlencoded::{Serializer, parse};

use crate::auth::X_TENANT_ID;
use crate::endpoint::Endpoint;
use crate::extract::{ImpliedOrg, Params, header, refused_body};
use crate::problem::{Problem, Result};
use form::Form;

const ORG_ID: &str = "orgId";
const TENANT_ID: &str = "tenantId";

/// Another path to an operation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Alias {
    pub(crate) method: &'static Method,
    /// The path; its parameters are called as those of the operation.
    pub(crate) path: &'static str,
    /// The name of the operation.
    pub(crate) operation: &'static str,
    /// Query parameters that the path stands for.
    says: &'static [(&'static str, &'static str)],
    /// How its requests were put, where that is not as those of the operation.
    form: Option<Form>,
}

const fn alias(method: &'static Method, path: &'static str, operation: &'static str) -> Alias {
    Alias { method, path, operation, says: &[], form: None }
}

impl Alias {
    const fn saying(self, says: &'static [(&'static str, &'static str)]) -> Self {
        Self { says, ..self }
    }

    const fn put(self, form: Form) -> Self {
        Self { form: Some(form), ..self }
    }

    /// Whether its method, path parameters and bodies are those of the operation.
    #[cfg(test)]
    pub(crate) fn is_plain(&self) -> bool {
        self.form.is_none()
    }
}

const GET: &Method = &Method::GET;
const POST: &Method = &Method::POST;
const PUT: &Method = &Method::PUT;
const PATCH: &Method = &Method::PATCH;
const DELETE: &Method = &Method::DELETE;

/// Every alias. A noun of an earlier product that stands for something else here has none.
pub(crate) const ALIASES: &[Alias] = &[
    alias(GET, "/actuator/health", "health"),
    alias(GET, "/openapi.json", "openapi"),
    alias(GET, "/api/v1/tenant", "getOrganization"),
    alias(GET, "/api/v1/outbound-integrations", "listIntegrations"),
    alias(POST, "/api/v1/outbound-integrations", "createIntegration"),
    alias(GET, "/api/v1/outbound-integrations/event-types", "listEventTypes"),
    alias(POST, "/api/v1/outbound-integrations/validate-transformation", "dryRunTransform"),
    alias(GET, "/api/v1/outbound-integrations/{id}", "getIntegration"),
    alias(PUT, "/api/v1/outbound-integrations/{id}", "replaceIntegration"),
    alias(DELETE, "/api/v1/outbound-integrations/{id}", "deleteIntegration"),
    alias(POST, "/api/v1/outbound-integrations/{id}/duplicate", "duplicateIntegration"),
    alias(POST, "/api/v1/outbound-integrations/{id}/test", "testIntegration"),
    alias(POST, "/api/v1/outbound-integrations/{id}/signing/rotate", "rotateSigningSecret"),
    alias(POST, "/api/v1/outbound-integrations/{id}/signing/remove", "removeSigningSecret"),
    alias(POST, "/api/v1/bulk/outbound-integrations", "bulkIntegrations").put(Form::Created),
    alias(PUT, "/api/v1/bulk/outbound-integrations", "bulkIntegrations").put(Form::Replaced),
    alias(DELETE, "/api/v1/bulk/outbound-integrations", "bulkIntegrations").put(Form::Removed),
    alias(PATCH, "/api/v1/bulk/outbound-integrations/status", "bulkIntegrations")
        .put(Form::Switched),
    alias(PATCH, "/api/v1/outbound-integrations/bulk", "bulkIntegrations").put(Form::Switched),
    alias(DELETE, "/api/v1/outbound-integrations/bulk", "bulkIntegrations").put(Form::Removed),
    alias(GET, "/api/v1/versions/integration/{id}/versions", "getIntegrationHistory"),
    alias(GET, "/api/v1/versions/integration/{id}/version/{version}", "getIntegrationVersion"),
    alias(GET, "/api/v1/versions/integration/{id}/compare", "compareIntegrationVersions"),
    alias(
        GET,
        "/api/v1/versions/integration/{id}/compare/{from}/{to}",
        "compareIntegrationVersions",
    )
    .put(Form::VersionsInPath),
    alias(POST, "/api/v1/versions/integration/{id}/rollback", "rollbackIntegration"),
    alias(POST, "/api/v1/versions/integration/{id}/rollback/{version}", "rollbackIntegration")
        .put(Form::VersionInPath),
    alias(GET, "/api/v1/import-export/outbound-integrations.json", "exportResources")
        .saying(&[("kind", "integration"), ("format", "json")]),
    alias(GET, "/api/v1/import-export/outbound-integrations.csv", "exportResources")
        .saying(&[("kind", "integration"), ("format", "csv")]),
    alias(POST, "/api/v1/import-export/outbound-integrations.json", "importResources"),
    alias(POST, "/api/v1/import-export/validate", "importResources")
        .saying(&[("validate_only", "true")]),
    alias(GET, "/api/v1/events", "listEvents"),
    alias(GET, "/api/v1/events/{id}", "getEvent"),
    alias(POST, "/api/v1/events/push", "publishEvent"),
    alias(GET, "/api/v1/field-schemas", "listEventTypes"),
    alias(POST, "/api/v1/field-schemas", "createEventType"),
    alias(GET, "/api/v1/field-schemas/event-types", "listEventTypes"),
    alias(GET, "/api/v1/field-schemas/event-types/{id}", "getEventType"),
    alias(PUT, "/api/v1/field-schemas/event-types/{id}", "replaceEventType"),
    alias(DELETE, "/api/v1/field-schemas/event-types/{id}", "deleteEventType"),
    alias(GET, "/api/v1/lookups", "listLookups"),
    alias(POST, "/api/v1/lookups", "createLookup"),
    alias(GET, "/api/v1/lookups/{id}", "getLookup"),
    alias(PUT, "/api/v1/lookups/{id}", "replaceLookup"),
    alias(DELETE, "/api/v1/lookups/{id}", "deleteLookup"),
    alias(GET, "/api/v1/logs", "listDeliveries"),
    alias(GET, "/api/v1/logs/stats/summary", "summarizeDeliveries"),
    alias(GET, "/api/v1/logs/export", "exportDeliveries").saying(&[("format", "csv")]),
    alias(GET, "/api/v1/logs/export/json", "exportDeliveries").saying(&[("format", "ndjson")]),
    alias(GET, "/api/v1/logs/{id}", "getDelivery"),
    alias(POST, "/api/v1/logs/{id}/replay", "replayDelivery"),
    alias(GET, "/api/v1/dlq", "listDeadLetters"),
    alias(GET, "/api/v1/dlq/stats", "summarizeDeadLetters"),
    alias(POST, "/api/v1/dlq/bulk/retry", "retryDeadLetters"),
    alias(POST, "/api/v1/dlq/bulk/abandon", "abandonDeadLetters"),
    alias(GET, "/api/v1/dlq/{id}", "getDeadLetter"),
    alias(POST, "/api/v1/dlq/{id}/retry", "replayDelivery"),
    alias(POST, "/api/v1/dlq/{id}/abandon", "abandonDeadLetter"),
    alias(GET, "/api/v1/analytics/overview", "analyticsOverview"),
    alias(GET, "/api/v1/analytics/timeseries", "analyticsTimeseries"),
    alias(GET, "/api/v1/analytics/errors", "analyticsErrors"),
    alias(GET, "/api/v1/analytics/performance", "analyticsLatency"),
    alias(GET, "/api/v1/dashboard", "dashboard"),
    alias(GET, "/api/v1/system-status", "systemStatus"),
    alias(GET, "/api/v1/system-logs", "systemLog"),
    alias(GET, "/api/v1/users", "listUsers"),
    alias(POST, "/api/v1/users", "createUser"),
    alias(GET, "/api/v1/users/roles/available", "listPermissions"),
    alias(GET, "/api/v1/users/permissions/available", "listPermissions"),
    alias(GET, "/api/v1/users/{id}", "getUser"),
    alias(PUT, "/api/v1/users/{id}", "replaceUser"),
    alias(DELETE, "/api/v1/users/{id}", "deleteUser"),
    alias(PUT, "/api/v1/users/{id}/password", "setUserPassword"),
    alias(GET, "/api/v1/admin/orgs", "listOrganizations"),
    alias(POST, "/api/v1/admin/orgs", "createOrganization"),
    alias(GET, "/api/v1/admin/orgs/{org}", "getOrganization"),
    alias(PUT, "/api/v1/admin/orgs/{org}", "replaceOrganization"),
    alias(DELETE, "/api/v1/admin/orgs/{org}", "deleteOrganization"),
    alias(GET, "/api/v1/admin/orgs/{org}/units", "listUnits"),
    alias(GET, "/api/v1/admin/orgs/{org}/units/{id}", "getUnit"),
    alias(PUT, "/api/v1/admin/orgs/{org}/units/{id}", "putUnit"),
    alias(DELETE, "/api/v1/admin/orgs/{org}/units/{id}", "deleteUnit"),
    alias(GET, "/api/v1/admin/roles", "listRoles"),
    alias(POST, "/api/v1/admin/roles", "createRole"),
    alias(GET, "/api/v1/admin/roles/{id}", "getRole"),
    alias(PUT, "/api/v1/admin/roles/{id}", "replaceRole"),
    alias(DELETE, "/api/v1/admin/roles/{id}", "deleteRole"),
    alias(GET, "/api/v1/admin/audit-logs", "listAuditEntries"),
    alias(GET, "/api/v1/admin/audit-logs/export", "exportAudit"),
];

impl Alias {
    /// The handler of the operation, for requests of the alias.
    pub(crate) fn handler(
        self,
        engine: &Engine,
        endpoint: &Endpoint,
        handler: MethodRouter<Engine>,
    ) -> MethodRouter<Engine> {
        let implies = endpoint.path.contains("{org}") && !self.path.contains("{org}");
        let way = Way { says: self.says, form: self.form, implies };
        let handler = handler.layer(from_fn_with_state(way, translate));
        let Some(filter) = MethodFilter::try_from(self.method.clone()).ok() else { return handler };
        if endpoint.method == *self.method {
            return handler;
        }
        let method = endpoint.method.clone();
        let asked = map_request(move |mut request: Request| {
            *request.method_mut() = method.clone();
            ready(request)
        });
        on_service(filter, handler.with_state(engine.clone())).layer(asked)
    }
}

/// How requests of an alias become those of its operation.
#[derive(Clone, Copy, Debug)]
struct Way {
    says: &'static [(&'static str, &'static str)],
    form: Option<Form>,
    /// Whether the organization is not in the path.
    implies: bool,
}

impl Way {
    /// The query of the operation, and the organization that this one names.
    fn query(self, text: &str, path: &[(&str, String)]) -> Result<(String, Option<String>)> {
        let mut named = None;
        let mut query = Serializer::new(String::new());
        for (name, value) in parse(text.as_bytes()) {
            match &*name {
                TENANT_ID => return Err(not_allowed()),
                ORG_ID if self.implies => named = Some(value.into_owned()),
                _ => drop(query.append_pair(&name, &value)),
            }
        }
        query.extend_pairs(self.says);
        query.extend_pairs(path);
        Ok((query.finish(), named))
    }
}

/// Puts what the path does not say to where handlers look for it.
async fn translate(
    State(way): State<Way>,
    params: Params,
    request: Request,
    next: Next,
) -> Result<Response> {
    let mut request = without_tenant_id(request).await?;
    let uri = match request.extensions().get::<OriginalUri>() {
        Some(OriginalUri(uri)) => uri.clone(),
        None => request.uri().clone(),
    };
    let path = way.form.map_or(Ok(Vec::new()), |form| form.query(&params))?;
    let (query, named) = way.query(uri.query().unwrap_or_default(), &path)?;
    if way.implies {
        let org = organization(&request, named.as_deref())?;
        request.extensions_mut().insert(ImpliedOrg(org));
    }
    let uri = with_query(&uri, &query)?;
    request.extensions_mut().insert(OriginalUri(uri));
    if let Some(form) = way.form {
        request = reworded(form, &params, request).await?;
    }
    Ok(next.run(request).await)
}

/// The request with its body as the operation takes it.
async fn reworded(form: Form, params: &Params, request: Request) -> Result<Request> {
    let (mut parts, body) = request.into_parts();
    let given = if form.reads_body() {
        let whole = Request::from_parts(parts.clone(), body);
        let bytes = Bytes::from_request(whole, &()).await.map_err(refused_body)?;
        match serde_json::from_slice(&bytes) {
            Ok(Value::Object(given)) => given,
            // Where it is read, it is told what is wrong with it.
            _ => return Ok(Request::from_parts(parts, Body::from(bytes))),
        }
    } else {
        serde_json::Map::new()
    };
    let Some(document) = form.body(params, given)? else {
        return Ok(Request::from_parts(parts, Body::empty()));
    };
    parts.headers.remove(CONTENT_LENGTH);
    let media = parts.headers.entry(CONTENT_TYPE);
    media.or_insert(HeaderValue::from_static("application/json"));
    Ok(Request::from_parts(parts, Body::from(Value::Object(document).to_string())))
}

/// The organization that is meant: what the request names, or the caller's own.
fn organization(request: &Request, named: Option<&str>) -> Result<OrgId> {
    let in_header = header(request.headers(), X_TENANT_ID)?;
    match (in_header, named) {
        (Some(one), Some(other)) if one != other => {
            let hint = format!("`{X_TENANT_ID}` and `{ORG_ID}` name two organizations; use one");
            Err(Problem::new(Code::HeaderInvalid, hint))
        }
        (Some(org), _) | (None, Some(org)) => Ok(OrgId::new(org)?),
        (None, None) => {
            let own = request.extensions().get::<Principal>().and_then(Principal::home);
            own.cloned().ok_or_else(|| {
                let message = format!("name the organization, or send `{X_TENANT_ID}`");
                let found = Violation::new("/orgId", "required", message);
                Problem::violations(Code::QueryInvalid, vec![found])
            })
        }
    }
}

/// The request, where its JSON names no `tenantId`.
async fn without_tenant_id(request: Request) -> Result<Request> {
    #[derive(Deserialize)]
    struct Named {
        #[serde(rename = "tenantId")]
        tenant_id: Option<IgnoredAny>,
    }
    let media = request.headers().get(CONTENT_TYPE).and_then(|media| media.to_str().ok());
    if !media.is_some_and(|media| media.starts_with("application/json")) {
        return Ok(request);
    }
    let (parts, body) = request.into_parts();
    let whole = Request::from_parts(parts.clone(), body);
    let body = Bytes::from_request(whole, &()).await.map_err(refused_body)?;
    // What is no JSON is refused where it is read.
    let named = serde_json::from_slice::<Named>(&body).is_ok_and(|it| it.tenant_id.is_some());
    if named { Err(not_allowed()) } else { Ok(Request::from_parts(parts, Body::from(body))) }
}

fn not_allowed() -> Problem {
    let message = format!("name the organization by `{X_TENANT_ID}` or `{ORG_ID}` instead");
    let found = Violation::new("/tenantId", Code::TenantIdNotAllowed.as_str(), message);
    Problem::violations(Code::TenantIdNotAllowed, vec![found])
}

fn with_query(uri: &Uri, query: &str) -> Result<Uri> {
    let path = uri.path();
    let text = if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") };
    text.parse().map_err(|_| Problem::new(Code::Internal, "the address cannot be read"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// The page that lists them, for people.
    const PAGE: &str = include_str!("../../docs/guides/paths-of-earlier-products.md");

    #[test]
    fn the_page_lists_every_alias_and_no_other() {
        let row =
            |one: &Alias| format!("| {} | `{}` | `{}` |", one.method, one.path, one.operation);
        let known: BTreeSet<_> = ALIASES.iter().map(row).collect();
        let listed = PAGE.lines().filter(|line| line.ends_with("` |"));
        assert_eq!(listed.map(str::to_owned).collect::<BTreeSet<_>>(), known);
        assert_eq!(known.len(), ALIASES.len());
    }

    #[test]
    fn a_query_is_kept_but_for_the_organization() {
        let way = Way { says: &[("format", "csv")], form: None, implies: true };
        let (query, org) = way.query("state=dead&orgId=acme&q=a%20b", &[]).unwrap();
        assert_eq!((&*query, org.as_deref()), ("state=dead&q=a+b&format=csv", Some("acme")));
        assert!(way.query("tenantId=acme", &[]).is_err());
        let own = Way { says: &[], form: None, implies: false };
        assert_eq!(own.query("orgId=acme", &[]).unwrap(), ("orgId=acme".to_owned(), None));
        let uri: Uri = "/api/v1/logs?state=dead".parse().unwrap();
        assert_eq!(with_query(&uri, "a=b").unwrap(), "/api/v1/logs?a=b");
        assert_eq!(with_query(&uri, "").unwrap(), "/api/v1/logs");
    }
}
