//! Who calls, and whether it may.

use std::net::SocketAddr;

use axum::RequestExt;
use axum::extract::{ConnectInfo, FromRequestParts, MatchedPath, Request, State};
use axum::http::header::{AUTHORIZATION, RETRY_AFTER};
use axum::http::request::Parts;
use axum::http::{Extensions, HeaderMap, HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use icp_core::access::{ApiKey, Operation, Permission, Principal, Quota, Reach, Standing, Verdict};
use icp_core::engine::Within;
use icp_core::id::OrgId;
use icp_core::resource::Actor;
use icp_core::{Code, Engine};
use tower_http::request_id::RequestId;
use zeroize::Zeroizing;

use crate::endpoint::{KindRoute, Permit};
use crate::extract::{Params, header};
use crate::idempotency::once;
use crate::introspection::INTROSPECT;
use crate::problem::{Problem, Result};

/// The other header field that may carry a key.
pub(crate) const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// May name the organization beside the path, which is what counts.
pub(crate) const X_TENANT_ID: &str = "x-tenant-id";

const MAX_REQUEST_ID: usize = 128;

/// Lets requests pass whose sender is known, which are done once where they say so.
pub(crate) async fn admit(
    State(engine): State<Engine>,
    request: Request,
    next: Next,
) -> Result<Response> {
    admitted(&engine, request, async move |request| Ok(next.run(request).await)).await
}

/// Lets requests pass whose sender may do what the route is for, as [`admit`] and [`authorize`] do
/// one after the other.
pub(crate) async fn guard(
    State(gate): State<Gate>,
    request: Request,
    next: Next,
) -> Result<Response> {
    let engine = gate.engine.clone();
    admitted(&engine, request, move |request| authorized(gate, request, next)).await
}

/// Lets requests pass whose sender may do what the route is for.
pub(crate) async fn authorize(
    State(gate): State<Gate>,
    request: Request,
    next: Next,
) -> Result<Response> {
    authorized(gate, request, next).await
}

/// Has `then` answer where the sender is known: by what it presents, or because the host said so
/// with a [`Principal`] among the extensions of the request. The answer does not tell a missing
/// key from a malformed, an unknown or a wrong one.
async fn admitted<F>(
    engine: &Engine,
    mut request: Request,
    then: impl FnOnce(Request) -> F + Send + 'static,
) -> Result<Response>
where
    F: Future<Output = Result<Response>> + Send + 'static,
{
    if request.extensions().get::<Principal>().is_none() {
        let (mut parts, body) = request.into_parts();
        let known = known(engine, &mut parts).await?;
        request = Request::from_parts(parts, body);
        let Some(principal) = known else { return Err(refused(engine, &request)) };
        request.extensions_mut().insert(principal);
    }
    let principal = request.extensions().get::<Principal>();
    let Some(quota) = principal.and_then(|principal| engine.take_quota(principal)) else {
        return once(engine, request, then).await;
    };
    let mut response = if quota.allowed {
        once(engine, request, then).await.into_response()
    } else {
        let message = format!(
            "send at most {} requests in {} seconds",
            quota.limit.requests, quota.limit.seconds
        );
        let mut response = Problem::new(Code::RateLimited, message).into_response();
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(quota.retry_after));
        response
    };
    tell(&quota, response.headers_mut());
    Ok(response)
}

/// Who sends the request, by what it presents.
async fn known(engine: &Engine, parts: &mut Parts) -> Result<Option<Principal>> {
    let basic = by_basic(parts);
    let Some(text) = basic.as_deref().or_else(|| presented(&parts.headers)) else {
        return Ok(None);
    };
    if ApiKey::is_prefixed(text) {
        return Ok(engine.authenticate(text).await?);
    }
    // Where it was sent to is taken out of the parts that it lies in.
    let text = Zeroizing::new(text.to_owned());
    let at = asked_of(parts).await;
    Ok(engine.authenticate_at(&text, at.as_ref()).await?)
}

/// The answer to who does not prove who they are; slower to those who try often from one place.
fn refused(engine: &Engine, request: &Request) -> Problem {
    let tries = place(request.extensions()).map(|place| engine.note_failure(&place));
    if tries.is_some_and(|tries| !tries.allowed) {
        return Problem::new(Code::RateLimited, "too many tries; wait a minute");
    }
    let hint = "send a known api key as `Authorization: Bearer <key>` or `X-API-Key: <key>`";
    Problem::new(Code::Unauthenticated, hint)
}

/// Where the request came from, where the server tells; behind a proxy that is the proxy, unless
/// the host puts the address it trusts in its place.
pub(crate) fn place(extensions: &Extensions) -> Option<String> {
    let ConnectInfo(address) = extensions.get::<ConnectInfo<SocketAddr>>()?;
    Some(address.ip().to_string())
}

/// Tells what is left, as draft-ietf-httpapi-ratelimit-headers has it.
fn tell(quota: &Quota, headers: &mut HeaderMap) {
    let Quota { limit, remaining, reset, .. } = quota;
    let policy = format!("\"principal\";q={};w={}", limit.requests, limit.seconds);
    let left = format!("\"principal\";r={remaining};t={reset}");
    for (name, text) in [("ratelimit-policy", policy), ("ratelimit", left)] {
        if let Ok(text) = HeaderValue::try_from(text) {
            headers.insert(HeaderName::from_static(name), text);
        }
    }
}

fn presented(headers: &HeaderMap) -> Option<&str> {
    let Some(authorization) = headers.get(AUTHORIZATION) else {
        return headers.get(X_API_KEY)?.to_str().ok();
    };
    let (scheme, key) = authorization.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
}

/// The organization that a request is for: that of its path, or else of its header field.
async fn asked_of(parts: &mut Parts) -> Option<OrgId> {
    let params = Params::from_request_parts(parts, &()).await.ok();
    let named = params.and_then(|params| params.org_if_named().ok()?);
    named.or_else(|| OrgId::new(header(&parts.headers, X_TENANT_ID).ok()??).ok())
}

/// A key as the password of RFC 7617, which is how clients of RFC 7662 prove who they are; on that
/// route alone, as browsers add such by themselves.
fn by_basic(parts: &Parts) -> Option<String> {
    let route = parts.extensions.get::<MatchedPath>()?;
    // A host may nest the API below a path of its own.
    if !route.as_str().ends_with(INTROSPECT) {
        return None;
    }
    let (scheme, pair) = parts.headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    let plain =
        STANDARD.decode(pair.trim()).ok().filter(|_| scheme.eq_ignore_ascii_case("basic"))?;
    let (_, password) = std::str::from_utf8(&plain).ok()?.split_once(':')?;
    Some(password.to_owned())
}

/// What a route asks of its callers.
#[derive(Clone, Debug)]
pub(crate) struct Gate {
    pub(crate) engine: Engine,
    pub(crate) permit: Permit,
    /// Whether it is for those as well who may do so in some units only.
    pub(crate) by_unit: bool,
    pub(crate) kind: Option<KindRoute>,
}

async fn authorized(gate: Gate, mut request: Request, next: Next) -> Result<Response> {
    let params = request.extract_parts::<Params>().await?;
    let Some(principal) = request.extensions().get::<Principal>() else {
        return Err(Problem::new(Code::Internal, "the route is not behind the api key"));
    };
    let named = header(request.headers(), X_TENANT_ID)?;
    if let (Some(named), Some(org)) = (named, params.org_if_named()?)
        && named != org.as_str()
    {
        let hint =
            format!("`{X_TENANT_ID}` names another organization than the path; leave it out");
        return Err(Problem::new(Code::HeaderInvalid, hint));
    }
    let mut crossed = None;
    let mut reach = Reach::WHOLE;
    let standing = match gate.permit {
        Permit::Open | Permit::Known => Standing::default(),
        Permit::May(permission) => match params.org_if_named()? {
            Some(org) => {
                let (standing, so_far) = within(&gate, principal, &org, permission).await?;
                crossed = standing.crossing.then_some(org);
                reach = so_far;
                standing
            }
            None => {
                let permissions = principal.everywhere();
                if !permissions.has(permission) {
                    return Err(denied(permission, "in every organization"));
                }
                Standing { permissions, ..Standing::default() }
            }
        },
    };
    let actor = principal.actor(&standing, request_id(&request));
    if let Some(org) = crossed {
        gate.engine.note_crossing(&org, &actor).await?;
    }
    request.extensions_mut().insert(Caller(actor));
    request.extensions_mut().insert(reach);
    if let Some(kind) = gate.kind {
        request.extensions_mut().insert(kind);
    }
    Ok(next.run(request).await)
}

/// What the principal may do in the organization, where that includes `permission`, and how far it
/// reaches with it. An organization that it has no business in is not told from one that is not
/// there.
async fn within(
    Gate { engine, by_unit, .. }: &Gate,
    principal: &Principal,
    org: &OrgId,
    permission: Permission,
) -> Result<(Standing, Reach)> {
    let Some(standing) = principal.standing(org) else {
        let message = format!("there is no organization `{org}`; create it first");
        return Err(Problem::new(Code::OrganizationUnknown, message));
    };
    let reach = match standing.verdict(permission) {
        Verdict::Allowed => Reach::WHOLE,
        Verdict::AllowedIn(units) if *by_unit => engine.reach(org, units).await?,
        _ => return Err(denied(permission, "in this organization")),
    };
    let looks = matches!(permission.operation, Operation::Read | Operation::Export);
    if !looks && principal.home() == Some(org) && engine.is_suspended(org).await? {
        let message = "the organization is suspended: its members can look, and change nothing";
        return Err(Problem::new(Code::OrganizationSuspended, message));
    }
    Ok((standing, reach))
}

fn denied(permission: Permission, place: &str) -> Problem {
    let message = format!("ask for a role that has `{permission}` {place}");
    Problem::new(Code::PermissionDenied, message)
}

fn request_id(request: &Request) -> Option<String> {
    let id = request.extensions().get::<RequestId>()?.header_value().to_str().ok()?;
    // Header values that are text are ASCII.
    Some(id.get(..MAX_REQUEST_ID).unwrap_or(id).to_owned())
}

/// The caller, as audit rows name it.
#[derive(Clone, Debug)]
pub(crate) struct Caller(pub(crate) Actor);

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self> {
        let unknown = || Problem::new(Code::Internal, "the route is not behind the api key");
        parts.extensions.get::<Self>().cloned().ok_or_else(unknown)
    }
}

/// The organization in the path, as far as the caller reaches in it.
#[derive(Debug)]
pub(crate) struct Reached(pub(crate) Within);

impl FromRequestParts<Engine> for Reached {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, engine: &Engine) -> Result<Self> {
        let params = Params::from_request_parts(parts, engine).await?;
        let unknown = || Problem::new(Code::Internal, "the route is not behind the api key");
        let reach = parts.extensions.get::<Reach>().cloned().ok_or_else(unknown)?;
        Ok(Self(engine.within(params.org()?, reach)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_header_fields_carry_keys_and_the_first_wins() {
        let headers = |fields: &[(HeaderName, &'static str)]| {
            fields.iter().map(|(n, v)| (n.clone(), HeaderValue::from_static(v))).collect()
        };
        for (fields, key) in [
            (vec![(AUTHORIZATION, "Bearer k")], Some("k")),
            (vec![(AUTHORIZATION, "bearer  k")], Some("k")),
            (vec![(AUTHORIZATION, "Basic k")], None),
            (vec![(AUTHORIZATION, "k")], None),
            (vec![(X_API_KEY, "k")], Some("k")),
            (vec![(AUTHORIZATION, "Basic x"), (X_API_KEY, "k")], None),
            (vec![], None),
        ] {
            let headers: HeaderMap = headers(&fields);
            assert_eq!(presented(&headers), key, "{fields:?}");
        }
    }
}
