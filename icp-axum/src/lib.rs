//! The HTTP API of icp as a plain [`axum::Router`].
//!
//! ```
//! # fn nest(engine: icp_core::Engine) -> axum::Router {
//! axum::Router::new().nest("/integrations", icp_axum::router(engine))
//! # }
//! ```
//!
//! Every route but `/health` and `/ready` asks for an API key, as `Authorization: Bearer <key>`
//! or `X-API-Key: <key>`. Failures are answered as RFC 9457 problems with a stable `code`; the
//! OpenAPI 3.1 document of the routes is at `/api/v1/openapi.json`.
#![forbid(unsafe_code)]

mod aliases;
mod analytics;
mod api;
mod audit;
mod auth;
mod cancellations;
mod command;
mod deliveries;
mod dry_runs;
mod endpoint;
mod erasures;
mod event_types;
mod events;
mod extract;
mod idempotency;
mod integrations;
mod introspection;
mod keys;
mod lanes;
mod letters;
mod live;
mod lookups;
mod oidc;
mod openapi;
mod ops;
mod pace;
mod page;
mod pause;
mod problem;
mod protocol;
mod replays;
mod resources;
mod router;
mod sessions;
mod signing;
mod sources;
mod system;
mod transfer;
mod trial;
mod units;

pub use api::{Api, router};
pub use openapi::document as openapi;
pub use problem::Problem;
