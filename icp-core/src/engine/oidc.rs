//! Logging people in by an outside issuer.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;
use sha2::{Digest, Sha256};
use url::Url;

use super::Engine;
use super::access::{draft, unknown};
use super::issuers::Known;
use super::sessions::{TRIES_FROM, Tokens};
use crate::access::{
    Grant, Identity, OPERATORS, PermissionSet, Principal, UserSpec, handle_of_email,
    handle_of_identity, resolve,
};
use crate::error::{Code, Error, Result, Violation};
use crate::id::{OrgId, ResourceId};
use crate::issuer::{Begun, Claims, IssuerSpec, LoginBy, most_by_login};
use crate::resource::{Actor, Expect, Note, Spec};
use crate::secret::{Entropy, SealContext, SealedBytes, SecretString, SystemEntropy};
use crate::slot::{NewSlot, SlotExpect};

/// How long somebody may take to prove who they are to the issuer.
pub const LOGIN_LIFE: Duration = Duration::from_secs(600);

/// What the state of a login is sealed for.
const STATE: SealContext<'static> =
    SealContext { org: OPERATORS, kind: "session", id: "-", slot: "oidc" };

/// A login that begins.
#[derive(Clone, Debug)]
pub struct LoginStart<'a> {
    /// The organization of the user, and of the issuer.
    pub org: &'a OrgId,
    /// The issuer.
    pub issuer: &'a ResourceId,
    /// Where the issuer sends the user back to: exactly one of those it is configured with.
    pub redirect_uri: &'a str,
    /// Where the request came from, as an address, to slow down who tries often.
    pub from: Option<&'a str>,
}

/// A login that was begun.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LoginStarted {
    /// Where the user is to be sent.
    pub url: Url,
    /// What the client keeps, and proves with that the user who comes back is the one who left.
    pub binding: SecretString,
}

/// Somebody who comes back from an issuer.
#[derive(Clone, Debug)]
pub struct LoginReturn<'a> {
    /// The state, as the issuer handed it back.
    pub state: &'a str,
    /// The code of the issuer.
    pub code: &'a str,
    /// The issuer, where it named itself (RFC 9207).
    pub issuer: Option<&'a str>,
    /// What the client kept.
    pub binding: &'a str,
    /// Where the request came from.
    pub from: Option<&'a str>,
}

impl Engine {
    /// Begins to log somebody in by an issuer (OpenID Connect Core 1.0, code flow with PKCE).
    ///
    /// # Errors
    ///
    /// [`Code::ResourceInvalid`] where the organization has no such issuer for logins, or the
    /// address to come back to is none of its own; [`Code::RateLimited`],
    /// [`Code::IssuerUnavailable`], and those of the store.
    pub async fn start_login(&self, start: LoginStart<'_>) -> Result<LoginStarted> {
        self.let_come(start.from)?;
        let refuse = |pointer: &str, message: &str| {
            let found = Violation::new(pointer, "unknown", message);
            Error::violations(Code::ResourceInvalid, vec![found])
        };
        let known = self.issuer(start.org, start.issuer).await?;
        let Some((known, by)) = known.as_ref().and_then(by_login) else {
            return Err(refuse("/issuer", "nobody logs in by an issuer of this name"));
        };
        if !by.redirect_uris.iter().any(|own| own == start.redirect_uri) {
            return Err(refuse("/redirect_uri", "is none of those the issuer is configured with"));
        }
        let (state, binding) = (random()?, random()?);
        let begun = Begun {
            org: start.org.clone(),
            issuer: start.issuer.clone(),
            redirect_uri: start.redirect_uri.to_owned(),
            nonce: random()?,
            verifier: random()?,
            binding: Sha256::digest(&binding).into(),
        };
        let url = by.url(&begun, &state, &self.keys_of(known, None).await?)?;
        self.keep_begun(&state, &begun).await?;
        Ok(LoginStarted { url, binding: SecretString::from(binding) })
    }

    /// Logs in who comes back from an issuer: the user with this identity; where that is allowed,
    /// the one with the same verified address, or a new one.
    ///
    /// # Errors
    ///
    /// [`Code::Unauthenticated`], whatever the reason; the audit log tells it where the login was
    /// begun here. [`Code::RateLimited`], [`Code::IssuerUnavailable`], and those of the store.
    pub async fn finish_login(&self, back: LoginReturn<'_>) -> Result<(Tokens, Principal)> {
        self.let_come(back.from)?;
        let begun = self.take_begun(back.state).await?.ok_or_else(unknown)?;
        if !begun.is_bound_to(back.binding) {
            return Err(self.refuse_login(&begun, "it came back to another client").await?);
        }
        let known = self.issuer(&begun.org, &begun.issuer).await?;
        let Some((known, by)) = known.as_ref().and_then(by_login) else {
            return Err(self.refuse_login(&begun, "the issuer is used for logins no more").await?);
        };
        if back.issuer.is_some_and(|named| named != known.issuer.rules.issuer) {
            return Err(self.refuse_login(&begun, "the answer is of another issuer").await?);
        }
        let claims = match self.claims_of(known, by, &begun, back.code).await? {
            Ok(claims) => claims,
            Err(why) => return Err(self.refuse_login(&begun, &why).await?),
        };
        let Some(user) = self.user_of(known, by, &claims).await? else {
            return Err(self.refuse_login(&begun, "nobody here has this identity").await?);
        };
        if !self.is_within_logins(&begun.org, &user).await? {
            let why = "the user may do more than whoever sets up logins must be able to";
            return Err(self.refuse_login(&begun, why).await?);
        }
        let (tokens, principal) = match self.begin(&begun.org, user.clone()).await {
            Err(error) if error.code() == Code::Unauthenticated => {
                return Err(self.refuse_login(&begun, "the user is switched off").await?);
            }
            done => done?,
        };
        let actor = Actor { name: principal.name().to_owned(), ..Actor::host() };
        let told = format!("by the issuer `{}`", begun.issuer);
        self.tell(&begun.org, actor, "log_in", (UserSpec::KIND, user), told).await?;
        Ok((tokens, principal))
    }

    fn let_come(&self, from: Option<&str>) -> Result<()> {
        from.map_or(Ok(()), |place| self.let_try(&format!("login-from:{place}"), TRIES_FROM))
    }

    async fn claims_of(
        &self,
        known: &Known,
        by: &LoginBy,
        begun: &Begun,
        code: &str,
    ) -> Result<Result<Claims, String>> {
        let outlet = self.outlet_of(known)?;
        let mut keys = self.keys_of(known, None).await?;
        let exchanged = by.exchange(begun, code, &keys, &outlet).await?;
        let Some((id_token, access)) = exchanged else {
            return Ok(Err("the issuer does not take the code".to_owned()));
        };
        if crate::issuer::Jws::read(&id_token).is_ok_and(|token| !keys.set.knows(&token)) {
            keys = self.keys_of(known, Some(keys.generation)).await?;
        }
        let rules = &known.issuer.rules;
        let token = (id_token.as_str(), access.as_deref());
        let proved = by.verify(rules, begun, token, &keys, self.now());
        Ok(proved.map_err(|refusal| format!("the id token was refused: {refusal}")))
    }

    /// The user whom proved claims are about, who may be made of them.
    async fn user_of(
        &self,
        known: &Known,
        by: &LoginBy,
        claims: &Claims,
    ) -> Result<Option<ResourceId>> {
        let org = known.home.org();
        let text = |name: &str| claims.text(name).ok().flatten().map(str::to_owned);
        let (Some(issuer), Some(subject)) = (text("iss"), text("sub")) else { return Ok(None) };
        if let Some(user) = self.user_by(&handle_of_identity(org, &issuer, &subject)).await? {
            return Ok(Some(user));
        }
        // Addresses that the issuer has not verified may be somebody else's.
        let Some(email) = text("email").filter(|_| claims.is_true("email_verified")) else {
            return Ok(None);
        };
        let handle = handle_of_email(org, &email);
        if handle.len() > crate::resource::MAX_HANDLE {
            return Ok(None);
        }
        let identity = Identity { issuer, subject };
        match (self.user_by(&handle).await?, &by.provision) {
            (Some(user), _) if by.link_by_email => self.link(known, user, identity).await,
            (None, Some(grants)) => self.make_user(known, &email, grants, identity).await,
            _ => Ok(None),
        }
    }

    /// Has a user found by an identity from now on; none where they have too many.
    async fn link(
        &self,
        known: &Known,
        user: ResourceId,
        identity: Identity,
    ) -> Result<Option<ResourceId>> {
        let how = ("link_identity", Expect::Present);
        let link = |spec: &mut UserSpec, _: &crate::resource::Editing<'_>| {
            spec.identities.push(identity);
            Ok(())
        };
        let actor = author(known);
        let org = known.home.org();
        match self.resources().amend_principal(org, &user, how, &actor, link).await {
            Ok(_) => Ok(Some(user)),
            Err(error) if error.code() == Code::ResourceInvalid => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Makes a user; none where the address is no address, or somebody else's by now.
    async fn make_user(
        &self,
        known: &Known,
        email: &str,
        grants: &[Grant],
        identity: Identity,
    ) -> Result<Option<ResourceId>> {
        let spec = json!({ "email": email, "grants": grants, "identities": [identity] });
        let draft = draft(None, email, spec);
        let (org, actor) = (known.home.org(), author(known));
        match self.resources().create(org, UserSpec::KIND, draft, &actor).await {
            Ok(document) => Ok(Some(document.id)),
            Err(error) if matches!(error.code(), Code::HandleTaken | Code::ResourceInvalid) => {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Whether the user may do no more than whoever configured the login: who decides what an
    /// issuer is decides as whom people come in.
    async fn is_within_logins(&self, org: &OrgId, user: &ResourceId) -> Result<bool> {
        let Some((home, user)) = self.user(org, user).await? else { return Ok(false) };
        let principal = resolve(Principal::new("user"), &user.grants, &home)?;
        let standing = principal.standing(org).unwrap_or_default();
        let in_units = standing.in_units.into_iter().map(|(_, may)| may);
        let may = in_units.fold(standing.permissions, PermissionSet::union);
        Ok(may.difference(most_by_login(org)).is_empty())
    }

    async fn user_by(&self, handle: &str) -> Result<Option<ResourceId>> {
        let found = self.core.store.holder(handle).await?;
        Ok(found.filter(|found| &*found.kind == UserSpec::KIND).map(|found| found.id))
    }

    async fn keep_begun(&self, state: &str, begun: &Begun) -> Result<()> {
        let plain = serde_json::to_vec(begun).map_err(|fault| {
            Error::new(Code::Internal, "a login cannot be written").caused_by(fault)
        })?;
        let sealed = self.resources().services().sealer.seal(&STATE, &plain)?;
        let now = self.now();
        let value = URL_SAFE_NO_PAD.encode(sealed.as_bytes());
        let slot = NewSlot { key: slot_of(state), value, expires_at: now + LOGIN_LIFE };
        self.core.store.put_slot(slot, SlotExpect::Absent, now).await.map(drop)
    }

    /// The login of this state, which is good for this once.
    async fn take_begun(&self, state: &str) -> Result<Option<Begun>> {
        let key = slot_of(state);
        let Some(slot) = self.core.store.slot(&key, self.now()).await? else { return Ok(None) };
        if !self.core.store.remove_slot(&key, Some(slot.version)).await? {
            return Ok(None);
        }
        let Ok(sealed) = URL_SAFE_NO_PAD.decode(&slot.value) else { return Ok(None) };
        let sealer = &self.resources().services().sealer;
        let plain = sealer.open(&STATE, &SealedBytes::from_bytes(sealed))?;
        Ok(serde_json::from_slice(plain.expose()).ok())
    }

    /// Tells why somebody was not logged in; answers the failure, which does not.
    async fn refuse_login(&self, begun: &Begun, why: &str) -> Result<Error> {
        let about = (IssuerSpec::KIND, begun.issuer.clone());
        self.tell(&begun.org, Actor::engine(), "log_in_refused", about, why.to_owned()).await?;
        Ok(unknown())
    }

    async fn tell(
        &self,
        org: &OrgId,
        actor: Actor,
        action: &str,
        (kind, id): (&str, ResourceId),
        note: String,
    ) -> Result<()> {
        let note = Note {
            org: org.clone(),
            actor,
            action: action.into(),
            kind: kind.into(),
            id,
            note: Some(note),
            now: self.now(),
        };
        self.core.store.note(note).await.map(drop)
    }
}

/// The issuer as the author of a change.
fn author(known: &Known) -> Actor {
    Actor { name: format!("issuer:{}/{}", known.home.org(), known.id), ..Actor::engine() }
}

/// An issuer that people log in by.
fn by_login(known: &Known) -> Option<(&Known, &LoginBy)> {
    Some((known, known.issuer.login.as_ref()?))
}

/// The key of a state's slot, from which the state cannot be made.
fn slot_of(state: &str) -> String {
    let hash = Sha256::digest(state);
    format!("oidc:{}", URL_SAFE_NO_PAD.encode(hash))
}

/// 32 random bytes as 43 letters, which is what PKCE asks of a verifier.
fn random() -> Result<String> {
    let mut bytes = [0; 32];
    SystemEntropy.fill(&mut bytes)?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}
