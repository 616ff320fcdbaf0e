//! Who calls: the API key of a request.

use axum::extract::{FromRequestParts, Request, State};
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName};
use axum::middleware::Next;
use axum::response::Response;
use icp_core::access::ApiKey;
use icp_core::id::ApiKeyId;
use icp_core::resource::Actor;
use icp_core::{Code, Engine};
use tower_http::request_id::RequestId;

use crate::problem::{Problem, Result};

/// The other header field that may carry a key.
pub(crate) const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");

const MAX_REQUEST_ID: usize = 128;

/// The key that a request proved to hold.
#[derive(Clone, Copy, Debug)]
struct Principal(ApiKeyId);

/// Lets requests with a known key pass. The answer does not tell a missing key from a malformed,
/// an unknown or a wrong one.
pub(crate) async fn require(
    State(engine): State<Engine>,
    mut request: Request,
    next: Next,
) -> Result<Response> {
    let refused = || {
        let hint = "send a known api key as `Authorization: Bearer <key>` or `X-API-Key: <key>`";
        Problem::new(Code::Unauthenticated, hint)
    };
    let text = presented(request.headers()).ok_or_else(refused)?;
    let key = ApiKey::parse(text).map_err(|_| refused())?;
    let record = engine.api_key(key.id()).await?.ok_or_else(refused)?;
    if !key.verify(&record) {
        return Err(refused());
    }
    request.extensions_mut().insert(Principal(record.id));
    Ok(next.run(request).await)
}

fn presented(headers: &HeaderMap) -> Option<&str> {
    let Some(authorization) = headers.get(AUTHORIZATION) else {
        return headers.get(X_API_KEY)?.to_str().ok();
    };
    let (scheme, key) = authorization.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
}

/// The caller, as audit rows name it.
#[derive(Debug)]
pub(crate) struct Caller(pub(crate) Actor);

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self> {
        let Some(Principal(key)) = parts.extensions.get() else {
            return Err(Problem::new(Code::Internal, "the route is not behind the api key"));
        };
        let request_id = parts.extensions.get::<RequestId>().and_then(|id| {
            let id = id.header_value().to_str().ok()?;
            Some(id.chars().take(MAX_REQUEST_ID).collect())
        });
        Ok(Self(Actor { name: format!("key:{key}"), request_id }))
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
