//! Logging in by an outside issuer.

use axum::Json;
use axum::extract::State;
use axum::http::header::CACHE_CONTROL;
use axum::http::{Extensions, HeaderValue};
use axum::response::{IntoResponse, Response};
use icp_core::access::OPERATORS;
use icp_core::engine::{LOGIN_LIFE, LoginReturn, LoginStart};
use icp_core::id::{OrgId, ResourceId};
use icp_core::{Code, Engine};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::auth::place;
use crate::endpoint::{Endpoint, Permit};
use crate::extract::{Body, Input};
use crate::problem::Result;
use crate::sessions::TokensView;

pub(crate) fn endpoints() -> Vec<Endpoint> {
    let oidc = "/api/v1/auth/oidc";
    vec![
        Endpoint::post(Permit::Open, format!("{oidc}/start"), start)
            .named("startLogin", "Begins to log somebody in by an outside issuer")
            .takes::<Start>()
            .answers::<Started>(200),
        Endpoint::post(Permit::Open, format!("{oidc}/callback"), finish)
            .named("finishLogin", "Begins a session of who comes back from an outside issuer")
            .takes::<Finish>()
            .answers::<TokensView>(200),
    ]
}

/// Who logs in, and by whom.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Start {
    /// The organization of the user and of the issuer. Default that of the operators.
    #[serde(default)]
    organization: Option<OrgId>,
    /// The id of the issuer.
    issuer: ResourceId,
    /// Where the issuer sends the user back to: exactly one of its `login.redirect_uris`.
    #[schemars(length(min = 1, max = 2048))]
    redirect_uri: String,
}

/// A login that was begun.
#[derive(JsonSchema, Serialize)]
struct Started {
    /// Where the user is to be sent.
    url: String,
    /// What the client keeps, and sends with the code that the user comes back with.
    binding: String,
    /// How long the user may take, in seconds.
    expires_in: u64,
}

async fn start(
    State(engine): State<Engine>,
    extensions: Extensions,
    Body(asked): Body<Start>,
) -> Result<Response> {
    let from = place(&extensions);
    let org = match asked.organization {
        Some(org) => org,
        None => OrgId::new(OPERATORS)?,
    };
    let start = LoginStart {
        org: &org,
        issuer: &asked.issuer,
        redirect_uri: &asked.redirect_uri,
        from: from.as_deref(),
    };
    let started = engine.start_login(start).await?;
    let body = Json(Started {
        url: started.url.into(),
        binding: started.binding.expose().to_owned(),
        expires_in: LOGIN_LIFE.as_secs(),
    });
    Ok(([(CACHE_CONTROL, HeaderValue::from_static("no-store"))], body).into_response())
}

/// What somebody comes back with.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Finish {
    /// The parameter `state` of the address they came back to.
    #[schemars(length(min = 1, max = 256))]
    state: String,
    /// The parameter `code`.
    #[schemars(length(min = 1, max = 4096))]
    code: String,
    /// The parameter `iss`, where there is one (RFC 9207).
    #[serde(default)]
    #[schemars(length(max = 2048))]
    iss: Option<String>,
    /// What the client kept.
    #[schemars(length(min = 1, max = 256))]
    binding: String,
}

async fn finish(
    State(engine): State<Engine>,
    extensions: Extensions,
    Body(asked): Body<Finish>,
) -> Result<Response> {
    let from = place(&extensions);
    let back = LoginReturn {
        state: &asked.state,
        code: &asked.code,
        issuer: asked.iss.as_deref(),
        binding: &asked.binding,
        from: from.as_deref(),
    };
    let (tokens, _) = engine.finish_login(back).await?;
    Ok(TokensView::answer(&tokens))
}

macro_rules! inputs {
    ($($name:ident)+) => {$(
        impl Input for $name {
            const INVALID: Code = Code::ResourceInvalid;
        }
    )+};
}

inputs!(Start Finish);
