//! API keys: made and rotated; the rest is as for every kind of resource.

use std::time::Duration;

use axum::Json;
use axum::http::header::{CACHE_CONTROL, LOCATION};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use icp_core::Code;
use icp_core::access::{Area, Operation};
use icp_core::engine::{IssuedKey, KEY_OVERLAP};
use icp_core::resource::{Document, Draft};
use icp_core::time::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::command::Command;
use crate::endpoint::{Endpoint, may};
use crate::extract::{Body, Input, Location};
use crate::problem::Result;
use crate::resources::{GUARD, expected};

pub(crate) fn endpoints() -> Vec<Endpoint> {
    let many = "/api/v1/organizations/{org}/api-keys";
    let one = format!("{many}/{{id}}");
    vec![
        Endpoint::post(may(Area::Keys, Operation::Write), many, create)
            .named("createApiKey", "Makes an API key; its text is shown this once")
            .of_kind("api_key")
            .takes::<Draft>()
            .answers::<KeyView>(201),
        Endpoint::post(may(Area::Keys, Operation::Write), format!("{one}/rotate"), rotate)
            .named("rotateApiKey", "Puts a new key in place of the present one")
            .headers(GUARD)
            .takes::<Rotate>()
            .answers::<KeyView>(200),
        Endpoint::get(may(Area::Keys, Operation::Read), format!("{one}/last-use"), last_use)
            .named("getApiKeyLastUse", "Says when the key was last used, to the minute")
            .answers::<LastUse>(200),
    ]
}

/// A key that was made.
#[derive(Debug, JsonSchema, Serialize)]
struct KeyView {
    /// The key as a resource.
    document: Document,
    /// The text to be sent as `Authorization: Bearer`. It is shown here and nowhere afterwards.
    key: String,
}

impl KeyView {
    fn answer(issued: &IssuedKey) -> impl IntoResponse + use<> {
        let key = issued.key.expose().to_owned();
        let body = Json(Self { document: issued.document.clone(), key });
        ([(CACHE_CONTROL, HeaderValue::from_static("no-store"))], body)
    }
}

async fn create(
    command: Command,
    requested: Location,
    Body(draft): Body<Draft>,
) -> Result<Response> {
    let Command { engine, actor, params, .. } = command;
    let issued = engine.create_key(&params.org()?, draft, &actor).await?;
    let location = [(LOCATION, requested.of(&issued.document.id))];
    Ok((StatusCode::CREATED, location, KeyView::answer(&issued)).into_response())
}

/// How a key is rotated.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Rotate {
    /// How long the key before stays good, up to 2,592,000 seconds; 0 ends it at once. Default
    /// 86,400.
    #[schemars(range(max = 2_592_000))]
    overlap_seconds: Option<u64>,
}

impl Input for Rotate {
    const INVALID: Code = Code::ResourceInvalid;
}

async fn rotate(
    command: Command,
    headers: HeaderMap,
    Body(asked): Body<Rotate>,
) -> Result<Response> {
    let Command { engine, actor, params, .. } = command;
    let overlap = asked.overlap_seconds.map_or(KEY_OVERLAP, Duration::from_secs);
    let (org, id) = (params.org()?, params.parse("id")?);
    let issued = engine.rotate_key(&org, id, overlap, expected(&headers)?, &actor).await?;
    Ok(KeyView::answer(&issued).into_response())
}

/// When a key was used.
#[derive(Debug, JsonSchema, Serialize)]
struct LastUse {
    /// When it was last used, to the minute; `null` where it was not in the last 400 days.
    last_used_at: Option<Timestamp>,
}

async fn last_use(command: Command) -> Result<Json<LastUse>> {
    let Command { engine, params, .. } = command;
    let name: icp_core::id::ResourceId = params.parse("id")?;
    // A key of another organization is not told from one that is not there.
    engine.resources().get(&params.org()?, "api_key", &name).await?;
    Ok(Json(LastUse { last_used_at: engine.key_last_used(params.parse("id")?).await? }))
}
