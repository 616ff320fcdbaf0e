//! The server under test: the API as a host serves it, and bare handlers.

use std::io::Read;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{Request, header};
use axum::routing::get;
use http_body_util::BodyExt;
use icp::Engine;
use icp::id::{OrgId, ResourceId};
use icp::resource::{Actor, Draft};
use icp::store_sql::sqlite::Synchronous;
use serde_json::json;
use tokio::net::TcpListener;
use tower::ServiceExt;

use super::Address;
use crate::engine::Subject;
use crate::{Result, usage};

/// How many integrations the organization has.
const MANY: usize = 20;

/// Serves until the parent goes away.
#[expect(clippy::print_stdout, reason = "tells the parent its address")]
pub(crate) async fn serve() -> Result<()> {
    let subject = Subject::new("http://127.0.0.1:9", 0, Synchronous::Normal).await?;
    let running = subject.start().await?;
    let key = prepare(&subject.engine).await?;
    let api = icp::axum::router(subject.engine.clone());
    let of = |path: &str| format!("/api/v1/organizations/org-0/integrations{path}");
    let one = answer(&api, &of("/hook"), &key).await?;
    let many = answer(&api, &of("?limit=20"), &key).await?;
    let bare = Router::new()
        .route("/one", get(json_of(one)))
        .route("/many", get(json_of(many)))
        .route("/cpu", get(async || usage::cpu().as_secs_f64().to_string()));
    let (api_listener, bare_listener) =
        (TcpListener::bind("127.0.0.1:0").await?, TcpListener::bind("127.0.0.1:0").await?);
    let address = Address {
        bare: bare_listener.local_addr()?.to_string(),
        api: api_listener.local_addr()?.to_string(),
        key,
    };
    println!("{}", serde_json::to_string(&address)?);
    let parent = tokio::task::spawn_blocking(|| std::io::stdin().read(&mut [0]));
    tokio::select! {
        served = axum::serve(api_listener, api) => served?,
        served = axum::serve(bare_listener, bare) => served?,
        ended = parent => drop(ended?),
    }
    running.shutdown(std::time::Duration::from_secs(1)).await;
    Ok(())
}

/// A key of the organization `org-0`, and integrations enough for a page of it.
async fn prepare(engine: &Engine) -> Result<String> {
    let (org, actor) = (OrgId::new("org-0")?, Actor::host());
    for number in 1..MANY {
        let integration = Draft {
            id: Some(ResourceId::new(format!("hook-{number}"))?),
            spec: json!({
                "events": ["other.*"],
                "target": { "kind": "http", "url": "http://127.0.0.1:9/other" },
            }),
            ..Draft::default()
        };
        engine.resources().create(&org, "integration", integration, &actor).await?;
    }
    let grants = json!([{ "role": "api_key" }]);
    let draft = Draft { spec: json!({ "grants": grants }), ..Draft::default() };
    Ok(engine.create_key(&org, draft, &actor).await?.key.expose().to_owned())
}

/// The bytes that the API answers.
async fn answer(api: &Router, path: &str, key: &str) -> Result<Bytes> {
    let request = Request::get(path).header(header::AUTHORIZATION, format!("Bearer {key}"));
    let response = api.clone().oneshot(request.body(Body::empty())?).await?;
    if !response.status().is_success() {
        return Err(format!("{path} answers {}", response.status()).into());
    }
    Ok(response.into_body().collect().await?.to_bytes())
}

/// A handler that answers these bytes.
fn json_of(
    bytes: Bytes,
) -> impl Fn() -> std::future::Ready<([(header::HeaderName, &'static str); 1], Bytes)>
+ Clone
+ Send
+ Sync
+ 'static {
    move || std::future::ready(([(header::CONTENT_TYPE, "application/json")], bytes.clone()))
}
