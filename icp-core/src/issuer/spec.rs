//! Issuers as resources of an organization.

mod beside;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};
use url::{Host, Url};

use self::beside::{INTROSPECTION, LOGIN};
use super::algorithm::{Algorithm, TokenType};
use super::introspection::{Introspection, IntrospectionSpec};
use super::jwks::KeySet;
use super::login::{LoginBy, LoginSpec};
use super::verify::Rules;
use crate::access::{Area, Grant, GrantPlace, OPERATORS, guard_grants, validate_grants};
use crate::error::Result;
use crate::id::{OrgId, ResourceId};
use crate::resource::{Compiled, Effect, Spec, SpecContext, Violations};
use crate::secret::{Place, SecretVisitor};
use crate::transform::PlanSpec;

/// The most audiences of an issuer.
pub const MAX_AUDIENCES: usize = 16;
const MAX_LEEWAY: u32 = 60;
const MAX_AGE: u32 = 86_400 * 30;
const MAX_MAPPED: usize = 1_000;
const MAX_URL: usize = 2_048;

/// What is configured for an outside issuer of tokens.
///
/// Its tokens are good in the organization that it belongs to. Those of an issuer of the operators'
/// organization are good there, or in the organization that `organization` makes of a claim.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct IssuerSpec {
    /// The issuer, exactly as the claim `iss` names it.
    #[schemars(length(min = 1, max = 2048))]
    pub issuer: String,
    /// Whom tokens are for, 1 to 16: one of these is in `aud`. No two issuers in the store have
    /// both `issuer` and an audience in common.
    #[schemars(length(min = 1, max = 16))]
    pub audiences: Vec<String>,
    /// How tokens may be signed. Default `RS256`, `PS256`, `ES256` and `EdDSA`.
    #[serde(default = "algorithms")]
    pub algorithms: Vec<Algorithm>,
    /// Where the issuer's keys are (RFC 7517). Default where its discovery document says, which is
    /// at `/.well-known/openid-configuration` below `issuer`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    pub jwks_uri: Option<String>,
    /// The issuer's keys themselves, in place of an address; nothing is fetched then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwks: Option<Value>,
    /// What the header member `typ` may say. Default `at+jwt` and `JWT`.
    #[serde(default = "types")]
    pub types: Vec<TokenType>,
    /// By how many seconds the issuer's clock may differ, 0 to 60. Default 60.
    #[serde(default = "leeway")]
    #[schemars(range(max = 60))]
    pub leeway_seconds: u32,
    /// For how many seconds after `iat` a token is good at most, 1 to 2,592,000; it must have that
    /// claim then. Default as long as it says itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 2_592_000))]
    pub max_age_seconds: Option<u32>,
    /// For issuers of the operators' organization: which organization a token is for. Default
    /// none: its holder is an operator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub organization: Option<OrganizationRule>,
    /// The roles that the holder of any token has.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub grants: Vec<Grant>,
    /// The roles that a claim gives beside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub roles: Option<RoleRule>,
    /// The claim, as an RFC 6901 pointer such as `/scope`, that narrows a token to the permissions
    /// it lists; what is no permission in it does not count. Default none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub scope_claim: Option<String>,
    /// How the issuer is asked about tokens that say nothing by themselves (RFC 7662). Default they
    /// are good for nothing. One issuer of an organization has this at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub introspection: Option<IntrospectionSpec>,
    /// How people log in by the issuer. Default they do not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub login: Option<LoginSpec>,
    /// Whether its tokens are good for anything. Default `true`.
    #[serde(default = "yes")]
    pub enabled: bool,
}

/// Which organization a token is for.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct OrganizationRule {
    /// The claim that tells, as an RFC 6901 pointer such as `/tenant`.
    #[schemars(length(min = 2, max = 256))]
    pub claim: String,
    /// The organization for each value of the claim.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub map: BTreeMap<String, OrgId>,
    /// Whether a value that is not in `map` is the id of the organization itself; never the
    /// operators'. Default `false`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub by_id: bool,
}

/// Which roles a claim gives.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RoleRule {
    /// The claim that lists roles, as an RFC 6901 pointer such as `/realm_access/roles`.
    #[schemars(length(min = 2, max = 256))]
    pub claim: String,
    /// What each value in it gives; a value that is not here gives nothing.
    pub map: BTreeMap<String, Vec<Grant>>,
}

fn algorithms() -> Vec<Algorithm> {
    vec![Algorithm::Rs256, Algorithm::Ps256, Algorithm::Es256, Algorithm::EdDsa]
}

fn types() -> Vec<TokenType> {
    vec![TokenType::AccessToken, TokenType::Jwt]
}

fn leeway() -> u32 {
    60
}

fn yes() -> bool {
    true
}

impl Spec for IssuerSpec {
    const KIND: &'static str = "issuer";
    const PLURAL: &'static str = "issuers";
    const AREA: Area = Area::Issuers;
    const ASKS_ORGANIZATION: bool = true;

    fn validate(&self, context: &SpecContext<'_>, violations: &mut Violations) {
        self.validate_tokens(violations);
        self.validate_keys(violations);
        self.validate_claims(context, violations);
        self.validate_introspection(context, violations);
        self.validate_login(context, violations);
    }

    fn guard(present: Option<&Self>, context: &SpecContext<'_>, violations: &mut Violations) {
        let Some(present) = present else { return };
        for (at, grants) in present.all_grants() {
            guard_grants(&at, present.reach(), grants, None, context, violations);
        }
    }

    fn visit_secrets(&mut self, visitor: &mut dyn SecretVisitor) -> Result<()> {
        if let Some(introspection) = &mut self.introspection {
            let place = Place::new(INTROSPECTION, "/introspection/client_secret");
            visitor.secret(place, &mut introspection.client_secret)?;
        }
        if let Some(secret) = self.login.as_mut().and_then(|login| login.client_secret.as_mut()) {
            visitor.secret(Place::new(LOGIN, "/login/client_secret"), secret)?;
        }
        Ok(())
    }

    fn effects(&self, _: &ResourceId) -> Vec<Effect> {
        Vec::new()
    }

    fn handles(&self, _: &OrgId, _: &ResourceId) -> Option<Vec<String>> {
        let handles = self.audiences.iter().map(|audience| handle_of(&self.issuer, audience));
        Some(handles.collect())
    }

    fn plans(&self) -> Vec<(&'static str, Cow<'_, PlanSpec>)> {
        Vec::new()
    }

    fn compile(&self, context: &SpecContext<'_>) -> Result<Compiled> {
        let seconds = |seconds: u32| Duration::from_secs(seconds.into());
        Ok(Arc::new(Issuer {
            rules: Rules {
                issuer: self.issuer.clone(),
                audiences: self.audiences.clone(),
                algorithms: self.algorithms.clone(),
                types: self.types.clone(),
                leeway: seconds(self.leeway_seconds),
                max_age: self.max_age_seconds.map(seconds),
            },
            jwks_uri: self.jwks_uri.as_deref().and_then(address),
            jwks: self.jwks.as_ref().and_then(Value::as_object).and_then(KeySet::of).map(Arc::new),
            organization: self.organization.clone(),
            grants: self.grants.clone(),
            roles: self.roles.clone(),
            scope_claim: self.scope_claim.clone(),
            introspection: self.compile_introspection(context)?,
            login: self.compile_login(context)?,
            enabled: self.enabled,
        }))
    }
}

impl IssuerSpec {
    fn validate_tokens(&self, violations: &mut Violations) {
        if self.issuer.is_empty() || self.issuer.len() > MAX_URL {
            violations.add("/issuer", "length", format!("use 1 to {MAX_URL} bytes"));
        }
        if !(1..=MAX_AUDIENCES).contains(&self.audiences.len()) {
            let message = format!("name 1 to {MAX_AUDIENCES} audiences");
            violations.add("/audiences", "length", message);
        }
        for (index, audience) in self.audiences.iter().enumerate() {
            let pointer = format!("/audiences/{index}");
            if audience.is_empty() || audience.len() > MAX_URL {
                violations.add(pointer, "length", format!("use 1 to {MAX_URL} bytes"));
            } else if self.audiences[..index].contains(audience) {
                violations.add(pointer, "duplicate", "is there twice");
            }
        }
        for (pointer, is_empty) in
            [("/algorithms", self.algorithms.is_empty()), ("/types", self.types.is_empty())]
        {
            if is_empty {
                violations.add(pointer, "length", "name at least one, or leave it out");
            }
        }
        if self.leeway_seconds > MAX_LEEWAY {
            violations.add("/leeway_seconds", "out_of_range", format!("use 0 to {MAX_LEEWAY}"));
        }
        if self.max_age_seconds.is_some_and(|age| !(1..=MAX_AGE).contains(&age)) {
            violations.add("/max_age_seconds", "out_of_range", format!("use 1 to {MAX_AGE}"));
        }
    }

    fn validate_keys(&self, violations: &mut Violations) {
        match (&self.jwks, &self.jwks_uri) {
            (Some(_), Some(_)) => {
                let message = "keys are here, or at `jwks_uri`; leave one of them out";
                violations.add("/jwks", "conflict", message);
            }
            (Some(jwks), None) => match jwks.as_object().and_then(KeySet::of) {
                None => {
                    let message = "use a set of keys, as in {\"keys\": […]}, of at most 100";
                    violations.add("/jwks", "jwks", message);
                }
                Some(set) if set.is_empty() => {
                    let message = "none of the keys can check a signature: use RSA of 2048 to \
                                   8192 bits, P-256, P-384 or Ed25519";
                    violations.add("/jwks", "jwks", message);
                }
                Some(_) => {}
            },
            (None, Some(uri)) if address(uri).is_none() => {
                violations.add("/jwks_uri", "address", ADDRESS);
            }
            (None, None) if discovery(&self.issuer).is_none() => {
                let message = "for its keys to be found, the issuer is an https address without \
                               query; else name `jwks_uri` or `jwks`";
                violations.add("/issuer", "address", message);
            }
            (None, _) => {}
        }
    }

    fn validate_claims(&self, context: &SpecContext<'_>, violations: &mut Violations) {
        let mut pointer = |at: &str, text: &str| {
            if !text.starts_with('/') || text.len() < 2 || text.len() > 256 {
                let message = "use an RFC 6901 pointer into the claims, as in /realm_access/roles";
                violations.add(at, "pointer", message);
            }
        };
        if let Some(claim) = &self.scope_claim {
            pointer("/scope_claim", claim);
        }
        if let Some(rule) = &self.roles {
            pointer("/roles/claim", &rule.claim);
        }
        if let Some(rule) = &self.organization {
            pointer("/organization/claim", &rule.claim);
            rule.validate(context, violations);
        }
        if self.roles.as_ref().is_some_and(|rule| rule.map.len() > MAX_MAPPED) {
            violations.add("/roles/map", "too_many", format!("map at most {MAX_MAPPED} values"));
            return;
        }
        for (at, grants) in self.all_grants() {
            validate_grants(&at, self.reach(), grants, context, violations);
        }
    }

    /// Where its grants are good.
    fn reach(&self) -> GrantPlace {
        if self.organization.is_some() { GrantPlace::Mapped } else { GrantPlace::Home }
    }

    /// What the holders of its tokens may be granted, each with its pointer.
    fn all_grants(&self) -> impl Iterator<Item = (String, &[Grant])> {
        let mapped = self.roles.iter().flat_map(|rule| &rule.map).map(|(value, grants)| {
            (format!("/roles/map/{}", crate::resource::escape(value)), grants.as_slice())
        });
        std::iter::once(("/grants".to_owned(), self.grants.as_slice())).chain(mapped)
    }
}

impl OrganizationRule {
    fn validate(&self, context: &SpecContext<'_>, violations: &mut Violations) {
        if context.org.as_str() != OPERATORS {
            let message = format!(
                "tokens of this issuer are good in `{}` alone; only issuers of `{OPERATORS}` map",
                context.org
            );
            violations.add("/organization", "foreign", message);
        }
        if self.map.len() > MAX_MAPPED {
            let message = format!("map at most {MAX_MAPPED} values");
            violations.add("/organization/map", "too_many", message);
        }
        for (value, org) in self.map.iter().filter(|(_, org)| org.as_str() == OPERATORS) {
            let at = format!("/organization/map/{}", crate::resource::escape(value));
            violations.add(at, "operators", format!("no claim makes an operator of `{org}`"));
        }
        if self.map.is_empty() && !self.by_id {
            let message = "map at least one value, or set `by_id`";
            violations.add("/organization/map", "length", message);
        }
    }
}

/// What an address of an issuer must be.
const ADDRESS: &str = "use an https address; http is for this machine's loopback alone";

/// The address, where it is one that may be asked: by https, or by http on loopback.
pub(super) fn address(text: &str) -> Option<Url> {
    let url = Url::parse(text).ok().filter(|_| text.len() <= MAX_URL)?;
    let is_local = match url.host()? {
        Host::Domain(name) => name == "localhost",
        Host::Ipv4(address) => address.is_loopback(),
        Host::Ipv6(address) => address.is_loopback(),
    };
    let fine = (url.scheme() == "https" || (url.scheme() == "http" && is_local))
        && url.username().is_empty()
        && url.password().is_none()
        && url.fragment().is_none();
    fine.then_some(url)
}

/// Where the discovery document of an issuer is (OpenID Connect Discovery 1.0, 4).
pub(super) fn discovery(issuer: &str) -> Option<Url> {
    address(issuer).filter(|url| url.query().is_none())?;
    address(&format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/')))
}

/// The handle of the issuer of tokens by `issuer` for `audience`. It is hashed, as both may be long.
pub(crate) fn handle_of(issuer: &str, audience: &str) -> String {
    let mut hash = Sha256::new();
    hash.update(issuer);
    hash.update([0]);
    hash.update(audience);
    let hash: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("issuer:{hash}")
}

/// An issuer, ready for use.
#[derive(Debug)]
pub(crate) struct Issuer {
    pub(crate) rules: Rules,
    pub(super) jwks_uri: Option<Url>,
    pub(super) jwks: Option<Arc<KeySet>>,
    pub(super) organization: Option<OrganizationRule>,
    pub(super) grants: Vec<Grant>,
    pub(super) roles: Option<RoleRule>,
    pub(super) scope_claim: Option<String>,
    pub(crate) introspection: Option<Introspection>,
    pub(crate) login: Option<LoginBy>,
    pub(crate) enabled: bool,
}
