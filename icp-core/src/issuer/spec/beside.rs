//! What an issuer does beside signing tokens: telling about some, and logging people in.

use super::super::client::Client;
use super::super::introspection::Introspection;
use super::super::login::{LoginBy, most_by_login};
use super::{ADDRESS, Issuer, IssuerSpec, address};
use crate::access::{GrantPlace, OPERATORS, validate_grants};
use crate::error::Result;
use crate::resource::{Spec, SpecContext, Violations};
use crate::secret::Secret;

pub(super) const INTROSPECTION: &str = "introspection.client_secret";
pub(super) const LOGIN: &str = "login.client_secret";

const MAX_REDIRECTS: usize = 16;

impl IssuerSpec {
    pub(super) fn validate_introspection(
        &self,
        context: &SpecContext<'_>,
        violations: &mut Violations,
    ) {
        let Some(introspection) = &self.introspection else { return };
        let endpoint = introspection.endpoint.as_deref();
        self.validate_endpoint("/introspection/endpoint", endpoint, violations);
        validate_client("/introspection/client_id", &introspection.client_id, violations);
        let others =
            context.within.into_iter().flat_map(|within| within.compiled::<Issuer>(Self::KIND));
        let asked = others.filter(|(id, _)| id != context.id);
        let mut asked = asked.filter(|(_, issuer)| {
            issuer.as_ref().is_ok_and(|issuer| issuer.introspection.is_some())
        });
        if let Some((id, _)) = asked.next() {
            let message = format!("`{id}` is asked already; who is asked must be one");
            violations.add("/introspection", "conflict", message);
        }
    }

    pub(super) fn validate_login(&self, context: &SpecContext<'_>, violations: &mut Violations) {
        let Some(login) = &self.login else { return };
        let own = context.grantor.map(|authority| match context.org.as_str() {
            OPERATORS => authority.everywhere,
            _ => authority.here,
        });
        let lacking = own.and_then(|own| most_by_login(context.org).difference(own).iter().next());
        if let Some(lacking) = lacking {
            let message =
                format!("who sets up logins could come in as anybody; ask for `{lacking}`");
            violations.add("/login", "not_granted", message);
        }
        validate_client("/login/client_id", &login.client_id, violations);
        for (at, endpoint) in [
            ("/login/authorization_endpoint", &login.authorization_endpoint),
            ("/login/token_endpoint", &login.token_endpoint),
        ] {
            self.validate_endpoint(at, endpoint.as_deref(), violations);
        }
        if !(1..=MAX_REDIRECTS).contains(&login.redirect_uris.len()) {
            let message = format!("name 1 to {MAX_REDIRECTS} addresses");
            violations.add("/login/redirect_uris", "length", message);
        }
        for (index, uri) in login.redirect_uris.iter().enumerate() {
            if address(uri).is_none() {
                violations.add(format!("/login/redirect_uris/{index}"), "address", ADDRESS);
            }
        }
        let printable = |scope: &String| {
            (1..=255).contains(&scope.len()) && scope.bytes().all(|b| b.is_ascii_graphic())
        };
        if login.scopes.len() > MAX_REDIRECTS || !login.scopes.iter().all(printable) {
            violations.add("/login/scopes", "scope", "use up to 16 names without spaces");
        }
        let grants = login.provision.iter().flatten().cloned().collect::<Vec<_>>();
        validate_grants("/login/provision", GrantPlace::Home, &grants, context, violations);
    }

    /// An endpoint is named, or the discovery document says where it is.
    fn validate_endpoint(&self, at: &str, endpoint: Option<&str>, violations: &mut Violations) {
        let discovered = self.jwks.is_none() && self.jwks_uri.is_none();
        match endpoint {
            Some(endpoint) if address(endpoint).is_none() => violations.add(at, "address", ADDRESS),
            None if !discovered => {
                let message = "name it: the discovery document is not read where `jwks` or \
                               `jwks_uri` says where the keys are";
                violations.add(at, "required", message);
            }
            _ => {}
        }
    }

    pub(super) fn compile_introspection(
        &self,
        context: &SpecContext<'_>,
    ) -> Result<Option<Introspection>> {
        let Some(spec) = &self.introspection else { return Ok(None) };
        let secret = context.opener().open(INTROSPECTION, &spec.client_secret)?;
        Ok(Some(Introspection {
            endpoint: spec.endpoint.as_deref().and_then(address),
            client: Client { id: spec.client_id.clone(), secret: Some(secret) },
        }))
    }

    pub(super) fn compile_login(&self, context: &SpecContext<'_>) -> Result<Option<LoginBy>> {
        let Some(spec) = &self.login else { return Ok(None) };
        let open = |secret: &Secret| context.opener().open(LOGIN, secret);
        Ok(Some(LoginBy {
            client: Client {
                id: spec.client_id.clone(),
                secret: spec.client_secret.as_ref().map(open).transpose()?,
            },
            redirect_uris: spec.redirect_uris.clone(),
            scopes: spec.scopes.clone(),
            authorization_endpoint: spec.authorization_endpoint.as_deref().and_then(address),
            token_endpoint: spec.token_endpoint.as_deref().and_then(address),
            provision: spec.provision.clone(),
            link_by_email: spec.link_by_email,
        }))
    }
}

fn validate_client(at: &str, id: &str, violations: &mut Violations) {
    if !(1..=255).contains(&id.len()) {
        violations.add(at, "length", "use 1 to 255 bytes");
    }
}
