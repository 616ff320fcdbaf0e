//! Copies of integrations, and changes of many at once.

use axum::Json;
use axum::http::header::{CACHE_CONTROL, LOCATION};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use icp_core::Code;
use icp_core::access::{Area, Operation};
use icp_core::id::ResourceId;
use icp_core::resource::{BulkAction, BulkItem, CopiedKey, Document, Duplicate, MAX_BULK};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::command::Command;
use crate::endpoint::{Endpoint, may};
use crate::extract::{Body, Input, Location};
use crate::problem::{Problem, Result};

pub(crate) fn endpoints() -> Vec<Endpoint> {
    let org = "/api/v1/organizations/{org}";
    vec![
        Endpoint::post(
            may(Area::Integrations, Operation::Write),
            format!("{org}/integrations/{{id}}/duplicate"),
            duplicate,
        )
        .named("duplicateIntegration", "Makes a copy with a signing secret of its own")
        .answers::<DuplicateView>(201),
        Endpoint::post(
            may(Area::Integrations, Operation::Delete),
            format!("{org}/bulk/integrations"),
            bulk,
        )
        .named("bulkIntegrations", "Switches on, switches off or deletes many integrations")
        .takes::<Bulk>()
        .answers::<BulkAnswer>(200),
    ]
}

/// What to do with many integrations.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Bulk {
    /// What is done to each.
    action: BulkAction,
    /// The integrations, 1 to 100.
    #[schemars(length(min = 1, max = MAX_BULK))]
    ids: Vec<ResourceId>,
}

impl Input for Bulk {
    const INVALID: Code = Code::ResourceInvalid;
}

/// What became of each integration, in the order they were named.
#[derive(Debug, JsonSchema, Serialize)]
struct BulkAnswer {
    /// How many are as asked for.
    done: usize,
    /// How many were refused.
    refused: usize,
    /// One item for each id.
    results: Vec<BulkResult>,
}

/// What became of one integration.
#[derive(Debug, JsonSchema, Serialize)]
struct BulkResult {
    /// The integration.
    id: ResourceId,
    /// The HTTP status the operation would have had alone.
    status: u16,
    /// The integration as it is now, where it was switched.
    #[serde(skip_serializing_if = "Option::is_none")]
    document: Option<Document>,
    /// Why nothing was done to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<Problem>,
}

impl From<BulkItem> for BulkResult {
    fn from(item: BulkItem) -> Self {
        let (status, document, problem) = match item.outcome {
            Ok(Some(document)) => (StatusCode::OK, Some(document), None),
            Ok(None) => (StatusCode::NO_CONTENT, None, None),
            Err(error) => {
                let problem = Problem::from(error);
                (problem.status(), None, Some(problem))
            }
        };
        Self { id: item.id, status: status.as_u16(), document, problem }
    }
}

/// A copy of an integration.
#[derive(Debug, JsonSchema, Serialize)]
struct DuplicateView {
    /// The copy, its secrets masked.
    integration: Document,
    /// The copy's own signing secret, where the original signs with a shared one. It is shown
    /// here and never again.
    #[serde(skip_serializing_if = "Option::is_none")]
    signing_secret: Option<String>,
    /// The public half of the copy's own signing key, where the original signs with a key pair.
    #[serde(skip_serializing_if = "Option::is_none")]
    signing_public_key: Option<String>,
    /// The same for its further signatures.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    also: Vec<CopiedSignature>,
}

/// The key of one more signature of a copy.
#[derive(Debug, JsonSchema, Serialize)]
struct CopiedSignature {
    /// The id of the signature.
    id: String,
    /// Its secret, where it has a shared one.
    #[serde(skip_serializing_if = "Option::is_none")]
    signing_secret: Option<String>,
    /// The public half of its key pair, where it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    signing_public_key: Option<String>,
}

impl From<Duplicate> for DuplicateView {
    fn from(copy: Duplicate) -> Self {
        let shown =
            |key: CopiedKey| (key.secret.map(|secret| secret.expose().to_owned()), key.public_key);
        let (signing_secret, signing_public_key) = copy.signing.map(shown).unwrap_or_default();
        let also = copy.also.into_iter().map(|(id, key)| {
            let (signing_secret, signing_public_key) = shown(key);
            CopiedSignature { id, signing_secret, signing_public_key }
        });
        let also = also.collect();
        Self { integration: copy.document, signing_secret, signing_public_key, also }
    }
}

async fn duplicate(command: Command, requested: Location) -> Result<Response> {
    let Command { engine, actor, params } = command;
    let (org, id) = (params.org()?, params.parse("id")?);
    let copy = engine.resources().duplicate(&org, &id, &actor).await?;
    let location = (LOCATION, requested.beside(2, &copy.document.id));
    let answer = (StatusCode::CREATED, [location], Json(DuplicateView::from(copy)));
    let mut response = answer.into_response();
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

async fn bulk(command: Command, Body(bulk): Body<Bulk>) -> Result<Json<BulkAnswer>> {
    let Command { engine, actor, params } = command;
    let items = engine.resources().bulk(&params.org()?, bulk.action, &bulk.ids, &actor).await?;
    let done = items.iter().filter(|item| item.outcome.is_ok()).count();
    let refused = items.len() - done;
    let results = items.into_iter().map(BulkResult::from).collect();
    Ok(Json(BulkAnswer { done, refused, results }))
}
