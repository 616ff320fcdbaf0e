//! Logging people in by an issuer: OpenID Connect Core 1.0, 3.1, with PKCE (RFC 7636).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256, Sha384, Sha512};
use subtle::ConstantTimeEq;
use url::Url;

use super::algorithm::{Algorithm, TokenType};
use super::claims::Claims;
use super::client::Client;
use super::fetch::unusable;
use super::jws::Jws;
use super::keyring::Keys;
use super::verify::{Refusal, Rules};
use crate::access::{BuiltInRole, Grant, OPERATORS, PermissionSet};
use crate::error::Result;
use crate::id::{OrgId, ResourceId};
use crate::secret::Secret;
use crate::time::Timestamp;
use crate::transform::Outlet;

/// The most that a user who logs in by an issuer of `org` may do, and so what whoever configures
/// such logins must be able to do: who decides what an issuer is decides as whom people come in.
pub(crate) fn most_by_login(org: &OrgId) -> PermissionSet {
    match org.as_str() {
        OPERATORS => PermissionSet::all(),
        _ => BuiltInRole::Admin.permissions(),
    }
}

/// How people log in by an issuer.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct LoginSpec {
    /// The name that the issuer knows us by, which is the audience of its ID tokens.
    #[schemars(length(min = 1, max = 255))]
    pub client_id: String,
    /// The secret that it knows us by. Default none, as for a public client.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_secret: Option<Secret>,
    /// Where the issuer may send people back to, 1 to 16 addresses that are compared byte by byte.
    #[schemars(length(min = 1, max = 16))]
    pub redirect_uris: Vec<String>,
    /// What is asked for beside `openid`. Default `email`.
    #[serde(default = "scopes")]
    #[schemars(length(max = 16))]
    pub scopes: Vec<String>,
    /// Where people prove who they are. Default where the discovery document says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    pub authorization_endpoint: Option<String>,
    /// Where a code is exchanged. Default where the discovery document says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    pub token_endpoint: Option<String>,
    /// The roles of a user who is made when somebody unknown comes with a verified address. Default
    /// nobody is made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provision: Option<Vec<Grant>>,
    /// Whether somebody unknown is taken for the user who has their verified address, and is known
    /// from then on. Default `false`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub link_by_email: bool,
}

fn scopes() -> Vec<String> {
    vec!["email".into()]
}

/// The same, ready for use.
#[derive(Debug)]
pub(crate) struct LoginBy {
    pub(super) client: Client,
    pub(crate) redirect_uris: Vec<String>,
    pub(super) scopes: Vec<String>,
    pub(super) authorization_endpoint: Option<Url>,
    pub(super) token_endpoint: Option<Url>,
    pub(crate) provision: Option<Vec<Grant>>,
    pub(crate) link_by_email: bool,
}

/// A login that was begun, as its slot keeps it, sealed.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Begun {
    pub(crate) org: OrgId,
    pub(crate) issuer: ResourceId,
    pub(crate) redirect_uri: String,
    pub(crate) nonce: String,
    /// What proves to the issuer that who exchanges the code is who began.
    pub(crate) verifier: String,
    /// The hash of what proves to us that who comes back is who began.
    pub(crate) binding: [u8; 32],
}

impl Begun {
    /// Whether `binding` is what whoever began was given.
    pub(crate) fn is_bound_to(&self, binding: &str) -> bool {
        let hash: [u8; 32] = Sha256::digest(binding).into();
        self.binding.ct_eq(&hash).into()
    }
}

impl LoginBy {
    /// Where somebody is sent to prove who they are.
    pub(crate) fn url(&self, begun: &Begun, state: &str, published: &Keys) -> Result<Url> {
        let mut url = match &self.authorization_endpoint {
            Some(url) => url.clone(),
            None => published.address("authorization_endpoint")?,
        };
        let scope = std::iter::once("openid").chain(self.scopes.iter().map(String::as_str));
        let scope = scope.collect::<Vec<_>>().join(" ");
        let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(&begun.verifier));
        url.query_pairs_mut()
            .append_pair("response_type", "code")
            .append_pair("client_id", &self.client.id)
            .append_pair("redirect_uri", &begun.redirect_uri)
            .append_pair("scope", &scope)
            .append_pair("state", state)
            .append_pair("nonce", &begun.nonce)
            .append_pair("code_challenge", &challenge)
            .append_pair("code_challenge_method", "S256");
        Ok(url)
    }

    /// Exchanges a code; answers the ID token and the access token. None where the issuer does
    /// not take the code.
    pub(crate) async fn exchange(
        &self,
        begun: &Begun,
        code: &str,
        published: &Keys,
        outlet: &Outlet,
    ) -> Result<Option<(String, Option<String>)>> {
        let url = match &self.token_endpoint {
            Some(url) => url.clone(),
            None => published.address("token_endpoint")?,
        };
        let fields = [
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", &begun.redirect_uri),
            ("code_verifier", &begun.verifier),
        ];
        let (status, answer) = self.client.post(url, &fields, outlet).await?;
        if status.is_server_error() {
            let why = format!("it answered a code with the status {}", status.as_u16());
            return Err(unusable(why));
        }
        let answer = Claims::new(answer.filter(|_| status.is_success()).unwrap_or_default());
        let text = |name: &str| answer.text(name).ok().flatten().map(str::to_owned);
        Ok(text("id_token").map(|id_token| (id_token, text("access_token"))))
    }

    /// What an ID token proves, where it is of this login (OpenID Connect Core 1.0, 3.1.3.7).
    pub(crate) fn verify(
        &self,
        rules: &Rules,
        begun: &Begun,
        (id_token, access_token): (&str, Option<&str>),
        keys: &Keys,
        now: Timestamp,
    ) -> Result<Claims, Refusal> {
        let rules = Rules {
            audiences: vec![self.client.id.clone()],
            types: vec![TokenType::Jwt, TokenType::Absent],
            max_age: None,
            ..rules.clone()
        };
        let token = Jws::read(id_token)?;
        let algorithm = token.algorithm;
        let (claims, _) = rules.verify(token, &keys.set, now)?;
        if claims.text("nonce")? != Some(begun.nonce.as_str()) {
            return Err(Refusal::Nonce);
        }
        let party = claims.text("azp")?;
        let several = claims.audiences()?.len() > 1;
        if party.is_some_and(|party| party != self.client.id) || (several && party.is_none()) {
            return Err(Refusal::Audience);
        }
        match (claims.text("at_hash")?, access_token) {
            (Some(hash), Some(token)) if hash != half_hash(algorithm, token) => {
                Err(Refusal::Signature)
            }
            _ => Ok(claims),
        }
    }
}

/// The left half of the hash that the algorithm goes with (OpenID Connect Core 1.0, 3.1.3.6).
fn half_hash(algorithm: Algorithm, token: &str) -> String {
    let hash = match algorithm {
        Algorithm::Rs256 | Algorithm::Ps256 | Algorithm::Es256 => Sha256::digest(token).to_vec(),
        Algorithm::Rs384 | Algorithm::Ps384 | Algorithm::Es384 => Sha384::digest(token).to_vec(),
        Algorithm::Rs512 | Algorithm::Ps512 | Algorithm::EdDsa => Sha512::digest(token).to_vec(),
    };
    URL_SAFE_NO_PAD.encode(&hash[..hash.len() / 2])
}
