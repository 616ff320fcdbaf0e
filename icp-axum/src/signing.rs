//! The signing secrets of an integration: replaced and removed.

use std::time::Duration;

use axum::Json;
use axum::http::header::{CACHE_CONTROL, ETAG};
use axum::http::{HeaderMap, HeaderValue};
use axum::response::{IntoResponse, Response};
use icp_core::Code;
use icp_core::access::{Area, Operation};
use icp_core::resource::Document;
use icp_core::signing::{self, Removal, Rotation};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::command::Command;
use crate::endpoint::{Endpoint, may};
use crate::extract::{Body, Input};
use crate::problem::Result;
use crate::resources::{GUARD, expected, guarded, versioned};

pub(crate) fn endpoints() -> Vec<Endpoint> {
    let one = "/api/v1/organizations/{org}/integrations/{id}/signing";
    vec![
        Endpoint::post(may(Area::Integrations, Operation::Write), format!("{one}/rotate"), rotate)
            .by_unit()
            .named(
                "rotateSigningSecret",
                "Makes a new signing secret, shown once; those before sign until they expire",
            )
            .headers(GUARD)
            .takes::<Rotate>()
            .answers::<Rotated>(200),
        Endpoint::post(may(Area::Integrations, Operation::Write), format!("{one}/remove"), remove)
            .by_unit()
            .named("removeSigningSecret", "Removes a signing secret before it expires")
            .headers(GUARD)
            .takes::<Remove>()
            .answers::<Document>(200),
    ]
}

/// How a signing secret is replaced. The body may be left out.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Rotate {
    /// The id of the signature, as in `also`. Default: the first signature.
    signature: Option<String>,
    /// For how many seconds the keys before sign beside the new one, up to 30 days. Default
    /// 24 hours; 0 ends them at once.
    overlap_seconds: Option<u64>,
}

impl Input for Rotate {
    const INVALID: Code = Code::BodyMalformed;
}

/// Which signing secret is removed.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Remove {
    /// The id of the signature, as in `also`. Default: the first signature.
    #[serde(default)]
    signature: Option<String>,
    /// The id of the key, as in `keys`.
    key: String,
}

impl Input for Remove {
    const INVALID: Code = Code::BodyMalformed;
}

/// A signing secret that was replaced. It is shown here and nowhere afterwards.
#[derive(JsonSchema, Serialize)]
struct Rotated {
    /// The id of the new key.
    key: String,
    /// The new secret, which receivers verify with.
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<String>,
    /// The public key that receivers verify with, in place of `secret`.
    #[serde(skip_serializing_if = "Option::is_none")]
    public_key: Option<String>,
    /// The ids of keys that are kept no more: expired, or more than are kept.
    dropped: Vec<String>,
    /// The integration, its secrets masked.
    integration: Document,
}

impl From<signing::Rotated> for Rotated {
    fn from(rotated: signing::Rotated) -> Self {
        Self {
            key: rotated.key,
            secret: rotated.secret.map(|secret| secret.expose().to_owned()),
            public_key: rotated.public_key,
            dropped: rotated.dropped,
            integration: rotated.document,
        }
    }
}

async fn rotate(
    command: Command,
    headers: HeaderMap,
    rotate: Option<Body<Rotate>>,
) -> Result<Response> {
    let (within, Command { actor, params, .. }) = (command.within()?, command);
    let Rotate { signature, overlap_seconds } = rotate.map(|Body(b)| b).unwrap_or_default();
    let mut rotation = Rotation::default();
    rotation.signature = signature;
    if let Some(seconds) = overlap_seconds {
        rotation = rotation.overlap(Duration::from_secs(seconds));
    }
    let (org, id) = (params.org()?, params.parse("id")?);
    let expect = expected(&headers)?;
    let rotated = within.resources().rotate_secret(&org, &id, &rotation, expect, &actor).await;
    let rotated = rotated.map_err(|error| guarded(error, expect))?;
    let tag = format!("\"{}\"", rotated.document.revision);
    let mut response = ([(ETAG, tag)], Json(Rotated::from(rotated))).into_response();
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

async fn remove(
    command: Command,
    headers: HeaderMap,
    Body(Remove { signature, key }): Body<Remove>,
) -> Result<Response> {
    let (within, Command { actor, params, .. }) = (command.within()?, command);
    let mut removal = Removal::key(key);
    removal.signature = signature;
    let (org, id) = (params.org()?, params.parse("id")?);
    let expect = expected(&headers)?;
    let removed = within.resources().remove_secret(&org, &id, &removal, expect, &actor).await;
    Ok(versioned(removed.map_err(|error| guarded(error, expect))?))
}
