//! The table of all routes, and the router made of it.

use axum::handler::Handler;
use axum::http::{HeaderValue, Method, Request, Uri};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Router};
use icp_core::resource::KindRegistry;
use icp_core::telemetry::panic_words;
use icp_core::{Code, Engine};
use tower_http::request_id::{MakeRequestId, RequestId};

use crate::aliases::Alias;
use crate::api::FirstUser;
use crate::endpoint::{Endpoint, KindRoute, Permit};
use crate::problem::Problem;
use crate::{
    analytics, audit, auth, cancellations, deliveries, dry_runs, erasures, event_types, events,
    integrations, introspection, keys, lanes, letters, live, lookups, oidc, openapi, ops, pause,
    protocol, replays, resources, sessions, signing, sources, system, transfer, trial, units,
};

/// The operations of `engine`, each behind the question who calls and whether it may.
pub(crate) fn router(engine: Engine, first: FirstUser, aliases: &[Alias]) -> Router {
    let (mut open, mut guarded) = (Router::new(), Router::new());
    let all = endpoints(engine.resources().kinds());
    let of = |endpoint: &Endpoint| {
        let id = endpoint.id.clone();
        aliases.iter().filter(move |alias| alias.operation == id)
    };
    let named = |is_open: bool| {
        let routes = all.iter().filter(move |one| (one.permit == Permit::Open) == is_open);
        routes.flat_map(|one| {
            let others = of(one).map(|alias| (alias.path, alias.method));
            std::iter::once((one.path.as_str(), &one.method)).chain(others)
        })
    };
    let admitted = from_fn_with_state(engine.clone(), auth::admit);
    open = protocol::with_options(open, named(true), |answer| answer);
    guarded =
        protocol::with_options(guarded, named(false), |answer| answer.layer(admitted.clone()));
    for endpoint in all {
        let permit = endpoint.permit;
        if permit == Permit::Open {
            let handler = endpoint.handler.clone().layer(Extension(first));
            for alias in of(&endpoint) {
                let handler = alias.handler(&engine, &endpoint, handler.clone());
                open = open.route(alias.path, handler);
            }
            open = open.route(&endpoint.path, handler);
            continue;
        }
        let gate = auth::Gate {
            engine: engine.clone(),
            permit,
            by_unit: endpoint.by_unit,
            kind: endpoint.kind.map(|name| KindRoute { name }),
        };
        let authorized = from_fn_with_state(gate.clone(), auth::authorize);
        for alias in of(&endpoint) {
            let handler = endpoint.handler.clone().layer(authorized.clone());
            let handler = alias.handler(&engine, &endpoint, handler);
            guarded = guarded.route(alias.path, handler.layer(admitted.clone()));
        }
        let handler = endpoint.handler.layer(from_fn_with_state(gate, auth::guard));
        guarded = guarded.route(&endpoint.path, handler);
    }
    let guarded = guarded
        .fallback(route_unknown.layer(admitted.clone()))
        .method_not_allowed_fallback(method_not_allowed.layer(admitted));
    open.method_not_allowed_fallback(method_not_allowed).merge(guarded).with_state(engine)
}

/// Every operation, by which the router and its document are made.
pub(crate) fn endpoints(kinds: &KindRegistry) -> Vec<Endpoint> {
    let mut all = ops::endpoints();
    all.extend(openapi::endpoints());
    all.extend(kinds.iter().flat_map(|kind| resources::endpoints(kind.as_ref())));
    all.extend(units::endpoints());
    all.extend(keys::endpoints());
    all.extend(sessions::endpoints());
    all.extend(oidc::endpoints());
    all.extend(introspection::endpoints());
    all.extend(signing::endpoints());
    all.extend(events::endpoints());
    all.extend(deliveries::endpoints());
    all.extend(replays::endpoints());
    all.extend(cancellations::endpoints());
    all.extend(integrations::endpoints());
    all.extend(pause::endpoints());
    all.extend(trial::endpoints());
    all.extend(dry_runs::endpoints());
    all.extend(lookups::endpoints());
    all.extend(event_types::endpoints());
    all.extend(sources::endpoints());
    all.extend(letters::endpoints());
    all.extend(erasures::endpoints());
    all.extend(lanes::endpoints());
    all.extend(audit::endpoints());
    all.extend(transfer::endpoints());
    all.extend(analytics::endpoints());
    all.extend(live::endpoints());
    all.extend(system::endpoints());
    all
}

async fn route_unknown(uri: Uri) -> Problem {
    let hint = format!("there is no `{}`; see /api/v1/openapi.json", uri.path());
    Problem::new(Code::RouteUnknown, hint)
}

async fn method_not_allowed(method: Method) -> Problem {
    let hint = format!("the route does not take {method}; see the header field `allow`");
    Problem::new(Code::MethodNotAllowed, hint)
}

/// The answer to a request that panicked.
#[expect(clippy::needless_pass_by_value, reason = "the signature that the layer asks for")]
pub(crate) fn panicked(panic: Box<dyn std::any::Any + Send>) -> Response {
    broken_off(&*panic).into_response()
}

/// The problem that a request panicked, told to the log as well.
pub(crate) fn broken_off(panic: &(dyn std::any::Any + Send)) -> Problem {
    tracing::error!(panic = panic_words(panic), "a request panicked");
    Problem::new(Code::Internal, "the request failed by a defect of the server")
}

/// Names requests whose sender did not.
#[derive(Clone, Debug)]
pub(crate) struct RequestIds(pub(crate) Engine);

impl MakeRequestId for RequestIds {
    fn make_request_id<B>(&mut self, _: &Request<B>) -> Option<RequestId> {
        let id = format!("req_{:032x}", self.0.ids().next());
        HeaderValue::from_str(&id).ok().map(RequestId::new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_answered_as_a_problem_that_does_not_repeat_it() {
        for panic in [Box::new("secret") as Box<dyn std::any::Any + Send>, Box::new(7)] {
            let response = panicked(panic);
            assert_eq!(response.status(), 500);
            assert_eq!(response.headers()["content-type"], crate::problem::PROBLEM_JSON);
        }
    }

    #[test]
    fn every_route_of_the_table_is_in_the_document() {
        let mut kinds = KindRegistry::new();
        kinds.register::<icp_core::access::OrganizationSpec>().unwrap();
        kinds.register::<icp_core::integration::IntegrationSpec>().unwrap();
        let document = openapi::document(&kinds);
        for endpoint in endpoints(&kinds) {
            let method = endpoint.method.as_str().to_ascii_lowercase();
            let operation = &document["paths"][&endpoint.path][&method];
            assert_eq!(operation["operationId"], endpoint.id, "{method} {}", endpoint.path);
            assert!(!endpoint.id.is_empty() && !endpoint.summary.is_empty());
            assert_eq!(operation["requestBody"].is_object(), endpoint.takes.is_some());
            assert_eq!(operation["security"].is_array(), endpoint.permit == Permit::Open);
        }
    }

    #[test]
    fn every_alias_leads_to_an_operation_of_its_method_and_parameters() {
        let parameters = |path: &str| {
            let named = path.split('/').filter(|part| part.starts_with('{') && *part != "{org}");
            named.map(str::to_owned).collect::<Vec<_>>()
        };
        let engine = Engine::builder(icp_core::store::MemoryStore::new()).build().unwrap();
        let all = endpoints(engine.resources().kinds());
        for alias in crate::aliases::ALIASES {
            let found = all.iter().find(|one| one.id == alias.operation);
            let found = found.unwrap_or_else(|| panic!("there is no `{}`", alias.operation));
            if !alias.is_plain() {
                continue;
            }
            assert_eq!(found.method, *alias.method, "{}", alias.path);
            assert_eq!(parameters(&found.path), parameters(alias.path), "{}", alias.path);
        }
    }
}
