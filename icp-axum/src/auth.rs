//! Who calls, and whether it may.

use axum::extract::{FromRequestParts, Request, State};
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName};
use axum::middleware::Next;
use axum::response::Response;
use icp_core::access::{Operation, Permission, PermissionSet, Principal, Verdict};
use icp_core::id::OrgId;
use icp_core::resource::Actor;
use icp_core::{Code, Engine};
use tower_http::request_id::RequestId;

use crate::endpoint::Permit;
use crate::extract::Params;
use crate::problem::{Problem, Result};

/// The other header field that may carry a key.
pub(crate) const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");

const MAX_REQUEST_ID: usize = 128;

/// Lets requests pass whose sender is known: by what it presents, or because the host said so
/// with a [`Principal`] among the extensions of the request. The answer does not tell a missing
/// key from a malformed, an unknown or a wrong one.
pub(crate) async fn require(
    State(engine): State<Engine>,
    mut request: Request,
    next: Next,
) -> Result<Response> {
    if request.extensions().get::<Principal>().is_none() {
        let refused = || {
            let hint =
                "send a known api key as `Authorization: Bearer <key>` or `X-API-Key: <key>`";
            Problem::new(Code::Unauthenticated, hint)
        };
        let text = presented(request.headers()).ok_or_else(refused)?;
        let principal = engine.authenticate(text).await?.ok_or_else(refused)?;
        request.extensions_mut().insert(principal);
    }
    Ok(next.run(request).await)
}

fn presented(headers: &HeaderMap) -> Option<&str> {
    let Some(authorization) = headers.get(AUTHORIZATION) else {
        return headers.get(X_API_KEY)?.to_str().ok();
    };
    let (scheme, key) = authorization.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
}

/// What a route asks of its callers.
#[derive(Clone, Debug)]
pub(crate) struct Gate {
    pub(crate) engine: Engine,
    pub(crate) permit: Permit,
}

/// Lets requests pass whose sender may do what the route is for.
pub(crate) async fn authorize(
    State(gate): State<Gate>,
    params: Params,
    mut request: Request,
    next: Next,
) -> Result<Response> {
    let Some(principal) = request.extensions().get::<Principal>() else {
        return Err(Problem::new(Code::Internal, "the route is not behind the api key"));
    };
    let may = match gate.permit {
        Permit::Open | Permit::Known => PermissionSet::NONE,
        Permit::May(permission) => match params.org_if_named()? {
            Some(org) => within(&gate.engine, principal, &org, permission).await?,
            None => {
                let may = principal.everywhere();
                if !may.has(permission) {
                    return Err(denied(permission, "in every organization"));
                }
                may
            }
        },
    };
    let actor = principal.actor(may, request_id(&request));
    request.extensions_mut().insert(Caller(actor));
    Ok(next.run(request).await)
}

/// What the principal may do in the organization, where that includes `permission`. An
/// organization that it has no business in is not told from one that is not there.
async fn within(
    engine: &Engine,
    principal: &Principal,
    org: &OrgId,
    permission: Permission,
) -> Result<PermissionSet> {
    let Some(standing) = principal.standing(org) else {
        let message = format!("there is no organization `{org}`; create it first");
        return Err(Problem::new(Code::OrganizationUnknown, message));
    };
    if standing.verdict(permission) != Verdict::Allowed {
        return Err(denied(permission, "in this organization"));
    }
    let looks = matches!(permission.operation, Operation::Read | Operation::Export);
    if !looks && principal.home() == Some(org) && engine.is_suspended(org).await? {
        let message = "the organization is suspended: its members can look, and change nothing";
        return Err(Problem::new(Code::OrganizationSuspended, message));
    }
    Ok(standing.permissions)
}

fn denied(permission: Permission, place: &str) -> Problem {
    let message = format!("ask for a role that has `{permission}` {place}");
    Problem::new(Code::PermissionDenied, message)
}

fn request_id(request: &Request) -> Option<String> {
    let id = request.extensions().get::<RequestId>()?.header_value().to_str().ok()?;
    Some(id.chars().take(MAX_REQUEST_ID).collect())
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

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

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
