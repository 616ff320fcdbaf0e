//! Copies of integrations, with signing keys of their own.

use axum::Json;
use axum::http::header::{CACHE_CONTROL, LOCATION};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use icp_core::access::{Area, Operation};
use icp_core::resource::{CopiedKey, Document, Duplicate};
use schemars::JsonSchema;
use serde::Serialize;

use crate::command::Command;
use crate::endpoint::{Endpoint, may};
use crate::extract::Location;
use crate::problem::Result;

pub(crate) fn endpoints() -> Vec<Endpoint> {
    let org = "/api/v1/organizations/{org}";
    vec![
        Endpoint::post(
            may(Area::Integrations, Operation::Write),
            format!("{org}/integrations/{{id}}/duplicate"),
            duplicate,
        )
        .by_unit()
        .named("duplicateIntegration", "Makes a copy with a signing secret of its own")
        .answers::<DuplicateView>(201),
    ]
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
    #[schemars(default)]
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
    let (within, Command { actor, params, .. }) = (command.within()?, command);
    let (org, id) = (params.org()?, params.parse("id")?);
    let copy = within.resources().duplicate(&org, &id, &actor).await?;
    let location = (LOCATION, requested.beside(2, &copy.document.id));
    let answer = (StatusCode::CREATED, [location], Json(DuplicateView::from(copy)));
    let mut response = answer.into_response();
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}
