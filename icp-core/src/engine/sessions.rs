//! Sessions: logging in, going on, ending.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::Engine;
use super::access::{present, unknown};
use crate::access::{
    ACCESS, AccessToken, BuiltInRole, OPERATORS, Presented, Principal, RateLimit, RefreshToken,
    Session, Subject, User, UserSpec, handle_of_email, resolve, slot_of,
};
use crate::error::{Code, Error, Result};
use crate::id::{OrgId, ResourceId};
use crate::resource::{Actor, Note, Spec};
use crate::secret::{Entropy, SealContext, SealedBytes, SecretBytes, SecretString, SystemEntropy};
use crate::slot::{NewSlot, SlotExpect};
use crate::time::Timestamp;

/// How long an access token is good.
pub const ACCESS_TOKEN: Duration = Duration::from_secs(15 * 60);

/// How long a session rests before it ends.
pub const SESSION_IDLE: Duration = Duration::from_secs(7 * 86_400);

/// How long a session goes on at most.
pub const SESSION_LIFE: Duration = Duration::from_secs(30 * 86_400);

/// How long a session that has ended is still taken for one that goes on, on other nodes.
const SEEN_ALIVE: Duration = Duration::from_secs(30);

/// How often a user may fail to log in, before they are locked out until some of it is back.
pub(super) const TRIES: RateLimit = RateLimit { requests: 10, seconds: 900 };
/// The same for everybody who comes from one place.
pub(super) const TRIES_FROM: RateLimit = RateLimit { requests: 100, seconds: 900 };

/// What a session gives its user.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Tokens {
    /// To be sent as `Authorization: Bearer`.
    pub access: SecretString,
    /// How long that is good.
    pub access_for: Duration,
    /// What the session goes on with, once; none where it ends with the access token.
    pub refresh: Option<SecretString>,
    /// How long that is good.
    pub refresh_for: Duration,
}

/// Who logs in, from where.
#[derive(Clone, Debug)]
pub struct Login<'a> {
    /// The organization that the user belongs to.
    pub org: &'a OrgId,
    /// The user's address.
    pub email: &'a str,
    /// The user's password.
    pub password: SecretString,
    /// Where the request came from, as an address, to slow down who tries many users.
    pub from: Option<&'a str>,
}

impl Engine {
    /// Logs a user in.
    ///
    /// An unknown user, a wrong password and a user who may not log in are answered alike, after
    /// the same time.
    ///
    /// # Errors
    ///
    /// [`Code::Unauthenticated`]; [`Code::RateLimited`] after 10 tries within 15 minutes for one
    /// user or 100 from one place, counted on each node by itself; [`Code::Overloaded`], and those
    /// of the store.
    pub async fn log_in(&self, login: Login<'_>) -> Result<(Tokens, Principal)> {
        let handle = handle_of_email(login.org, login.email);
        let tries = format!("login:{handle}");
        self.let_try(&tries, TRIES)?;
        if let Some(place) = login.from {
            self.let_try(&format!("login-from:{place}"), TRIES_FROM)?;
        }
        let found = match handle.len() <= crate::resource::MAX_HANDLE {
            true => self.core.store.holder(&handle).await?,
            false => None,
        };
        let user = match found.filter(|found| &*found.kind == UserSpec::KIND) {
            Some(found) => self.user(&found.org, &found.id).await?.map(|user| (found.id, user)),
            None => None,
        };
        let known = user.as_ref().filter(|(_, (_, user))| user.enabled);
        let hash = known.and_then(|(_, (_, user))| user.password.clone());
        if !self.core.access.passwords.verify(hash, login.password).await? {
            return Err(unknown());
        }
        let Some((id, _)) = user else { return Err(unknown()) };
        self.core.access.buckets.reset(&tries);
        self.begin(login.org, id).await
    }

    pub(super) fn let_try(&self, name: &str, limit: RateLimit) -> Result<()> {
        let quota = self.core.access.buckets.take(name, limit, self.core.clock.monotonic());
        if quota.allowed {
            return Ok(());
        }
        let message = format!("too many tries; wait {} seconds", quota.retry_after);
        Err(Error::new(Code::RateLimited, message))
    }

    /// Begins a session of a user who has proved who they are.
    pub(super) async fn begin(&self, org: &OrgId, user: ResourceId) -> Result<(Tokens, Principal)> {
        let now = self.now();
        let id = self.ids().next();
        let refresh = refresh_token(id)?;
        let session = Session::new(org.clone(), user, now, &refresh);
        if !self.keep_session(id, &session, SlotExpect::Absent, now).await? {
            return Err(Error::new(Code::Internal, "a session of this id exists already"));
        }
        self.tokens(id, &session, &refresh, now).await
    }

    /// Goes on with a session: the token was good for this once.
    ///
    /// # Errors
    ///
    /// [`Code::Unauthenticated`] for a token that is not good. One that was used before means
    /// that somebody has a copy of it: then the session ends for whoever holds it.
    pub async fn refresh(&self, token: &str) -> Result<(Tokens, Principal)> {
        let token = RefreshToken::parse(token).ok_or_else(unknown)?;
        let now = self.now();
        let slot = self.core.store.slot(&token.slot(), now).await?.ok_or_else(unknown)?;
        let session: Session = serde_json::from_str(&slot.value).map_err(|fault| {
            Error::new(Code::StoreCorrupt, "a session cannot be read").caused_by(fault)
        })?;
        match session.presented(&token) {
            Presented::Unknown => return Err(unknown()),
            Presented::Spent => return Err(self.end_reused(&token, &session).await?),
            Presented::Good => {}
        }
        let next = refresh_token(token.session())?;
        let session = session.continued(&next);
        let expect = SlotExpect::Version(slot.version);
        if !self.keep_session(token.session(), &session, expect, now).await? {
            // Somebody else went on with the same token at the same moment.
            return Err(self.end_reused(&token, &session).await?);
        }
        self.tokens(token.session(), &session, &next, now).await
    }

    /// Ends a session of which a token was used twice; answers the failure.
    async fn end_reused(&self, token: &RefreshToken, session: &Session) -> Result<Error> {
        self.core.store.remove_slot(&token.slot(), None).await?;
        self.core.access.sessions().pop(&token.session());
        tracing::warn!(
            icp.org = %session.org,
            icp.user = %session.user,
            "a refresh token was used twice; its session is over"
        );
        let note = Note {
            org: session.org.clone(),
            actor: Actor::engine(),
            action: "session_reused".into(),
            kind: UserSpec::KIND.into(),
            id: session.user.clone(),
            note: Some("a refresh token was used twice, so its session was ended".into()),
            now: self.now(),
        };
        self.core.store.note(note).await?;
        Ok(unknown())
    }

    /// Ends a session. Nothing is told of a token that is not good. Other nodes take its access
    /// token for up to 30 seconds.
    ///
    /// # Errors
    ///
    /// Those of the store.
    pub async fn log_out(&self, token: &str) -> Result<()> {
        let Some(token) = RefreshToken::parse(token) else { return Ok(()) };
        let Some(slot) = self.core.store.slot(&token.slot(), self.now()).await? else {
            return Ok(());
        };
        let session = serde_json::from_str::<Session>(&slot.value);
        if session.is_ok_and(|session| session.presented(&token) != Presented::Unknown) {
            self.core.store.remove_slot(&token.slot(), None).await?;
            self.core.access.sessions().pop(&token.session());
        }
        Ok(())
    }

    async fn keep_session(
        &self,
        id: u128,
        session: &Session,
        expect: SlotExpect,
        now: Timestamp,
    ) -> Result<bool> {
        let value = serde_json::to_string(session).map_err(|fault| {
            Error::new(Code::Internal, "a session cannot be written").caused_by(fault)
        })?;
        let expires_at = (now + SESSION_IDLE).min(session.began_at + SESSION_LIFE);
        self.core.store.put_slot(NewSlot { key: slot_of(id), value, expires_at }, expect, now).await
    }

    async fn tokens(
        &self,
        id: u128,
        session: &Session,
        refresh: &RefreshToken,
        now: Timestamp,
    ) -> Result<(Tokens, Principal)> {
        let principal = Subject::User(session.org.clone(), session.user.clone());
        let token = AccessToken {
            session: Some(id),
            principal,
            began_at: session.began_at,
            expires_at: now + ACCESS_TOKEN,
            acting: None,
        };
        let principal = self.principal_of(&token).await?.ok_or_else(unknown)?;
        let tokens = Tokens {
            access: self.seal_token(&token)?,
            access_for: ACCESS_TOKEN,
            refresh: Some(refresh.to_text()),
            refresh_for: SESSION_IDLE,
        };
        Ok((tokens, principal))
    }

    /// The holder of an access token, its prefix left out.
    pub(super) async fn session_principal(&self, token: &str) -> Result<Option<Principal>> {
        let Some(token) = self.opened(token) else { return Ok(None) };
        if self.now() >= token.expires_at || !self.goes_on(&token).await? {
            return Ok(None);
        }
        self.principal_of(&token).await
    }

    /// What an access token says, its prefix left out; it need not be good any more.
    pub(super) fn opened(&self, token: &str) -> Option<AccessToken> {
        let bytes = URL_SAFE_NO_PAD.decode(token).ok()?;
        let sealer = &self.resources().services().sealer;
        let plain = sealer.open(&TOKEN, &SealedBytes::from_bytes(bytes)).ok()?;
        serde_json::from_slice(plain.expose()).ok()
    }

    async fn goes_on(&self, token: &AccessToken) -> Result<bool> {
        let Some(session) = token.session else { return Ok(true) };
        let now = self.core.clock.monotonic();
        let seen = self.core.access.sessions().get(&session).copied();
        if seen.is_some_and(|seen| now.saturating_sub(seen) < SEEN_ALIVE) {
            return Ok(true);
        }
        let found = self.core.store.slot(&slot_of(session), self.now()).await?.is_some();
        if found {
            self.core.access.sessions().put(session, now);
        }
        Ok(found)
    }

    async fn principal_of(&self, token: &AccessToken) -> Result<Option<Principal>> {
        if let (Subject::Named(name), Some(acting)) = (&token.principal, &token.acting) {
            let Some(role) = BuiltInRole::of(&acting.role) else { return Ok(None) };
            let principal = Principal::new(name.as_str()).at_home_in(acting.org.clone());
            let principal = principal.granted_in(acting.org.clone(), role.permissions());
            return Ok(Some(principal.acting_as(format!("{}@{}", acting.role, acting.org))));
        }
        let Subject::User(org, id) = &token.principal else { return Ok(None) };
        let Some((home, user)) = self.user(org, id).await? else { return Ok(None) };
        let over = user.sessions_since.is_some_and(|since| token.began_at < since);
        if !user.enabled || over {
            return Ok(None);
        }
        resolve(Principal::new(format!("user:{org}/{id}")), &user.grants, &home).map(Some)
    }

    pub(super) async fn user(
        &self,
        org: &OrgId,
        id: &ResourceId,
    ) -> Result<Option<(std::sync::Arc<crate::resource::OrgEntry>, std::sync::Arc<User>)>> {
        let Some(entry) = present(&self.core, org).await? else { return Ok(None) };
        let Some(resource) = entry.resource(UserSpec::KIND, id) else { return Ok(None) };
        let user = resource.compiled::<User>()?;
        Ok(Some((entry, user)))
    }

    pub(super) fn seal_token(&self, token: &AccessToken) -> Result<SecretString> {
        let plain = serde_json::to_vec(token).map_err(|fault| {
            Error::new(Code::Internal, "a token cannot be written").caused_by(fault)
        })?;
        let sealed = self.resources().services().sealer.seal(&TOKEN, &plain)?;
        let text = URL_SAFE_NO_PAD.encode(sealed.as_bytes());
        Ok(SecretString::from(format!("{ACCESS}{text}")))
    }
}

/// What access tokens are sealed for, so that no other sealed value passes for one.
const TOKEN: SealContext<'static> =
    SealContext { org: OPERATORS, kind: "session", id: "-", slot: "access" };

fn refresh_token(session: u128) -> Result<RefreshToken> {
    let mut secret = vec![0; 32];
    SystemEntropy.fill(&mut secret)?;
    Ok(RefreshToken::new(session, SecretBytes::from(secret)))
}
