//! An issuer in the same process, for logins and opaque tokens.

#![expect(clippy::unwrap_used, reason = "what a test needs fails by panicking")]

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::net::TcpListener;
use url::Url;
use url::form_urlencoded;

use crate::signer::{Signer, encode};

/// Where it sends people back to.
pub(crate) const PAGE: &str = "https://console.example/back";
/// `client` and `s%2Fcret`, as RFC 6749 has them encoded.
const BASIC: &str = "Basic Y2xpZW50OnMlMkZjcmV0";

/// An issuer in the same process.
#[derive(Clone)]
pub(crate) struct Idp {
    pub(crate) address: String,
    signer: Arc<Signer>,
    /// What the next ID token says, and the challenge its code is bound to.
    next: Arc<Mutex<(Value, String)>>,
    /// What is answered about each opaque token.
    pub(crate) opaque: Arc<Mutex<HashMap<String, Value>>>,
    /// The tokens that it was asked about.
    asked: Arc<Mutex<Vec<String>>>,
}

impl Idp {
    pub(crate) async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let idp = Self {
            address: format!("http://{}", listener.local_addr().unwrap()),
            signer: Arc::new(Signer::new()),
            next: Arc::default(),
            opaque: Arc::default(),
            asked: Arc::default(),
        };
        let app = Router::new()
            .route("/.well-known/openid-configuration", get(metadata))
            .route("/keys", get(async |State(idp): State<Idp>| axum::Json(idp.signer.jwks())))
            .route("/token", post(token))
            .route("/introspect", post(introspect))
            .with_state(idp.clone());
        #[expect(clippy::disallowed_methods, reason = "the server ends with the test's runtime")]
        tokio::spawn(axum::serve(listener, app).into_future());
        idp
    }

    /// Does what a user does at the issuer: answers the state of the address they are sent back to.
    pub(crate) fn visited(&self, url: &str, claims: &Value) -> String {
        let url = Url::parse(url).unwrap();
        assert!(url.as_str().starts_with(&format!("{}/authorize?", self.address)));
        let query: HashMap<_, _> = url.query_pairs().into_owned().collect();
        assert_eq!((&*query["response_type"], &*query["redirect_uri"]), ("code", PAGE));
        assert_eq!((&*query["scope"], &*query["code_challenge_method"]), ("openid email", "S256"));
        let mut said = json!({
            "iss": self.address, "aud": "client", "sub": "u-1", "nonce": query["nonce"],
            "exp": 4_000_000_000_u64, "iat": 1_700_000_000,
        });
        said.as_object_mut().unwrap().extend(claims.as_object().unwrap().clone());
        *self.next.lock().unwrap() = (said, query["code_challenge"].clone());
        query["state"].clone()
    }

    pub(crate) fn spec(&self) -> Value {
        json!({
            "issuer": self.address,
            "audiences": ["icp"],
            "login": {
                "client_id": "client", "client_secret": "s/cret", "redirect_uris": [PAGE],
            },
        })
    }

    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

async fn metadata(State(idp): State<Idp>) -> axum::Json<Value> {
    let at = |path: &str| format!("{}/{path}", idp.address);
    axum::Json(json!({
        "issuer": idp.address,
        "jwks_uri": at("keys"),
        "authorization_endpoint": at("authorize"),
        "token_endpoint": at("token"),
        "introspection_endpoint": at("introspect"),
    }))
}

async fn token(State(idp): State<Idp>, headers: HeaderMap, body: String) -> Response {
    let form: HashMap<_, _> = form_urlencoded::parse(body.as_bytes()).into_owned().collect();
    let (claims, challenge) = idp.next.lock().unwrap().clone();
    let fits = headers["authorization"] == BASIC
        && form["grant_type"] == "authorization_code"
        && form["redirect_uri"] == PAGE
        && form["code"] == "the-code"
        && encode(&Sha256::digest(&form["code_verifier"])) == challenge;
    if !fits {
        return (StatusCode::BAD_REQUEST, axum::Json(json!({ "error": "invalid_grant" })))
            .into_response();
    }
    let id_token = idp.signer.token(&claims);
    axum::Json(json!({ "access_token": "opaque", "token_type": "Bearer", "id_token": id_token }))
        .into_response()
}

async fn introspect(State(idp): State<Idp>, headers: HeaderMap, body: String) -> Response {
    let form: HashMap<_, _> = form_urlencoded::parse(body.as_bytes()).into_owned().collect();
    idp.asked.lock().unwrap().push(form["token"].clone());
    if headers["authorization"] != BASIC {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let known = idp.opaque.lock().unwrap().get(&form["token"]).cloned();
    axum::Json(known.unwrap_or_else(|| json!({ "active": false }))).into_response()
}
