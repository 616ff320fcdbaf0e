//! What a key or token of ours is good for, for who was shown one (RFC 7662).

use axum::Json;
use axum::extract::{Extension, Request, State};
use axum::http::HeaderValue;
use axum::http::header::CACHE_CONTROL;
use axum::response::{IntoResponse, Response};
use icp_core::access::{Area, Operation, Permission, Principal};
use icp_core::engine::Introspected;
use icp_core::id::OrgId;
use icp_core::time::Timestamp;
use icp_core::{Code, Engine, Violation};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use url::form_urlencoded;

use crate::endpoint::{Endpoint, Permit};
use crate::extract::{Input, read, upload};
use crate::problem::{Problem, Result};

/// Where it is.
pub(crate) const INTROSPECT: &str = "/api/v1/oauth/introspect";

const FORM: &str = "application/x-www-form-urlencoded";
const JSON: &str = "application/json";

/// What who asks about a token may do where the token is at home.
const ASKS: Permission = Permission::new(Area::Keys, Operation::Read);

pub(crate) fn endpoints() -> Vec<Endpoint> {
    let summary = "Says who holds a key or access token of this API, and what it is good for; \
                   takes the same as JSON";
    vec![
        Endpoint::post(Permit::Known, INTROSPECT, introspect)
            .named("introspectToken", summary)
            .takes_as::<Question>(FORM)
            .answers::<Answer>(200),
    ]
}

/// What is asked about.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Question {
    /// The key or token.
    token: String,
    /// What it is thought to be; it makes no difference.
    #[serde(default)]
    #[expect(dead_code, reason = "clients of RFC 7662 send it")]
    token_type_hint: Option<String>,
}

impl Input for Question {
    const INVALID: Code = Code::ResourceInvalid;
}

/// What is known of it. Nothing but `active` is there where it is good for nothing, is none of ours,
/// or belongs to an organization in which the caller may not read keys.
#[derive(Default, JsonSchema, Serialize)]
struct Answer {
    /// Whether it is good.
    active: bool,
    /// Who holds it, as audit rows name them.
    #[serde(skip_serializing_if = "Option::is_none")]
    sub: Option<String>,
    /// What it may do in the holder's organization, separated by spaces.
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<String>,
    /// Always `Bearer`.
    #[serde(skip_serializing_if = "Option::is_none")]
    token_type: Option<&'static str>,
    /// From when on it is good no more, in seconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    exp: Option<i64>,
    /// The holder's organization.
    #[serde(skip_serializing_if = "Option::is_none")]
    organization: Option<OrgId>,
}

impl Answer {
    /// The answer to a caller that may know.
    fn of(found: &Introspected, caller: &Principal) -> Option<Self> {
        let home = found.principal.home()?;
        if !caller.standing(home)?.permissions.has(ASKS) {
            return None;
        }
        let may = found.principal.standing(home)?.permissions;
        let scope: Vec<_> = may.iter().map(|permission| permission.to_string()).collect();
        Some(Self {
            active: true,
            sub: Some(found.principal.name().to_owned()),
            scope: Some(scope.join(" ")),
            token_type: Some("Bearer"),
            exp: found.expires_at.map(Timestamp::as_secs),
            organization: Some(home.clone()),
        })
    }
}

async fn introspect(
    State(engine): State<Engine>,
    Extension(caller): Extension<Principal>,
    request: Request,
) -> Result<Response> {
    let (media, bytes) = upload(request, &engine, &[FORM, JSON]).await?;
    let asked = if media == FORM { form(&bytes)? } else { read::<Question>(&bytes, "")? };
    let found = engine.introspect(&asked.token).await?;
    let answer = found.and_then(|found| Answer::of(&found, &caller)).unwrap_or_default();
    Ok(([(CACHE_CONTROL, HeaderValue::from_static("no-store"))], Json(answer)).into_response())
}

/// The question as a form, of which RFC 7662 lets clients send more than is known.
fn form(bytes: &[u8]) -> Result<Question> {
    let mut tokens = form_urlencoded::parse(bytes).filter(|(name, _)| name == "token");
    match (tokens.next(), tokens.next()) {
        (Some((_, token)), None) => {
            Ok(Question { token: token.into_owned(), token_type_hint: None })
        }
        _ => {
            let found = Violation::new("/token", "required", "send it once");
            Err(Problem::violations(Code::ResourceInvalid, vec![found]))
        }
    }
}
