//! The corpus of forged targets, at every address that is asked for an issuer: where the resource
//! names it, where a discovery document does, and where an answer leads elsewhere.

use std::sync::{Arc, Mutex};

use http::{HeaderMap, HeaderValue, StatusCode};
use serde_json::json;
use tower::ServiceExt;
use url::Url;

use super::forge::ISSUER;
use super::issuer;
use crate::egress::tests::support::{Recorder, Sequence};
use crate::egress::tests::vectors::{LOOKUPS, URLS};
use crate::egress::{
    AddressPolicy, Client as Guarded, EgressError, EgressRequest, EgressResponse, Timings,
    Transport,
};
use crate::error::{Code, Result};
use crate::issuer::client::Client;
use crate::issuer::fetch;
use crate::issuer::introspection::Introspection;
use crate::issuer::spec::{Issuer, address};
use crate::secret::SecretString;
use crate::transform::Outlet;

/// What an issuer answers at its own host.
type Answer = (StatusCode, HeaderMap, String);

/// The guarded client, and before it an issuer in memory, which is asked for nothing but what is
/// its own.
struct World {
    outlet: Outlet,
    log: Recorder,
    own: Arc<Mutex<Vec<String>>>,
}

impl World {
    fn new(answer: Option<Answer>, lookups: &[&[&str]]) -> Self {
        let log = Recorder::default();
        let builder = Guarded::builder().native_roots(false).resolver(Sequence::new(lookups));
        let guarded = builder.dialer(log.clone()).build().unwrap().into_transport();
        let own = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&own);
        let transport = Transport::new(tower::service_fn(move |request: EgressRequest| {
            let (guarded, seen, answer) = (guarded.clone(), Arc::clone(&seen), answer.clone());
            async move {
                let is_own = request.url.as_str().starts_with(ISSUER);
                let Some((status, headers, body)) = answer.filter(|_| is_own) else {
                    return guarded.oneshot(request).await;
                };
                seen.lock().unwrap().push(request.url.path().to_owned());
                Ok::<_, EgressError>(EgressResponse {
                    status,
                    headers,
                    body: body.into(),
                    truncated: false,
                    timings: Timings::default(),
                    remote: None,
                })
            }
        }));
        let outlet = Outlet { transport, policy: Arc::new(AddressPolicy::strict()) };
        Self { outlet, log, own }
    }

    #[track_caller]
    fn assert_refused<T>(&self, what: &str, asked: Result<T>) {
        let Err(error) = asked else { panic!("{what} was asked") };
        assert_eq!(error.code(), Code::IssuerUnavailable, "{what}: {error}");
        assert_eq!(self.log.dialed(), [], "{what}");
    }
}

fn says(body: &serde_json::Value) -> Answer {
    (StatusCode::OK, HeaderMap::new(), body.to_string())
}

fn introspection() -> Introspection {
    let secret = Some(SecretString::from("hush".to_owned()));
    Introspection { endpoint: None, client: Client { id: "icp".into(), secret } }
}

const LOOK_UP: &[&[&str]] = &[&["8.8.8.8"]];
const TOKEN: &str = "an-opaque-token-of-somebody";

/// Every target of the corpus, as it is written and by https, which issuers are asked by.
fn targets() -> Vec<String> {
    let written = URLS.iter().flat_map(|(_, urls)| urls.iter().copied());
    let both = written.flat_map(|url| {
        let secure = url.strip_prefix("http:").map(|rest| format!("https:{rest}"));
        [Some(url.to_owned()), secure].into_iter().flatten()
    });
    both.collect()
}

#[tokio::test]
async fn no_socket_opens_to_a_denied_address_that_the_resource_names() {
    let (mut asked, mut unwritten) = (0, 0);
    for target in targets() {
        // What is no address to save is refused there; here it gets past that.
        unwritten += usize::from(address(&target).is_none());
        let mut named = issuer();
        named.rules.issuer.clone_from(&target);
        let world = World::new(None, LOOK_UP);
        world.assert_refused(&target, fetch::keys(&named, &world.outlet).await);
        let Ok(url) = target.parse::<Url>() else { continue };
        let of_keys = Issuer { jwks_uri: Some(url.clone()), ..issuer() };
        world.assert_refused(&target, fetch::keys(&of_keys, &world.outlet).await);
        world.assert_refused(&target, introspection().ask(TOKEN, url, &world.outlet).await);
        asked += 1;
    }
    assert!(asked >= 200, "{asked}");
    assert!(unwritten > 50, "{unwritten} are refused as they are saved");
}

#[tokio::test]
async fn no_socket_opens_to_a_denied_address_that_a_discovery_document_names() {
    for target in targets() {
        let world = World::new(
            Some(says(&json!({
                "issuer": ISSUER, "jwks_uri": target, "introspection_endpoint": target,
            }))),
            LOOK_UP,
        );
        world.assert_refused(&target, fetch::keys(&issuer(), &world.outlet).await);
        let metadata = fetch::metadata(&issuer(), &world.outlet).await.unwrap();
        let asked = match metadata.address("introspection_endpoint") {
            Ok(url) => introspection().ask(TOKEN, url, &world.outlet).await,
            Err(error) => Err(error),
        };
        world.assert_refused(&target, asked);
        assert_eq!(world.own.lock().unwrap().len(), 2, "{target}");
    }
}

#[tokio::test]
async fn an_answer_that_leads_elsewhere_is_not_followed() {
    for target in targets() {
        let Ok(location) = HeaderValue::from_bytes(target.as_bytes()) else { continue };
        for status in [300, 301, 302, 303, 307, 308] {
            let status = StatusCode::from_u16(status).unwrap();
            let headers = HeaderMap::from_iter([(http::header::LOCATION, location.clone())]);
            let keys = json!({ "keys": [], "issuer": ISSUER }).to_string();
            let world = World::new(Some((status, headers, keys)), LOOK_UP);
            world.assert_refused(&target, fetch::keys(&issuer(), &world.outlet).await);
            let at = |path: &str| format!("{ISSUER}{path}").parse::<Url>().unwrap();
            let of_keys = Issuer { jwks_uri: Some(at("/keys")), ..issuer() };
            world.assert_refused(&target, fetch::keys(&of_keys, &world.outlet).await);
            let asked = introspection().ask(TOKEN, at("/introspect"), &world.outlet).await;
            world.assert_refused(&target, asked);
            assert_eq!(world.own.lock().unwrap().len(), 3, "{target}");
        }
    }
}

#[tokio::test]
async fn a_name_is_judged_by_what_it_leads_to_when_an_issuer_is_asked() {
    let url: Url = "https://keys.example.com/".parse().unwrap();
    for lookups in LOOKUPS {
        let last = lookups.len() - 1;
        let of_keys = Issuer { jwks_uri: Some(url.clone()), ..issuer() };
        let world = World::new(None, &lookups[last..]);
        world.assert_refused(&format!("{lookups:?}"), fetch::keys(&of_keys, &world.outlet).await);
        let world = World::new(None, &lookups[last..]);
        let asked = introspection().ask(TOKEN, url.clone(), &world.outlet).await;
        world.assert_refused(&format!("{lookups:?}"), asked);
    }
}

#[tokio::test]
async fn a_public_issuer_reaches_the_dialer() {
    let of_keys = Issuer { jwks_uri: address("https://keys.example.com/"), ..issuer() };
    let world = World::new(None, LOOK_UP);
    fetch::keys(&of_keys, &world.outlet).await.unwrap_err();
    assert_eq!(world.log.dialed(), ["8.8.8.8:443".parse().unwrap()]);
}
