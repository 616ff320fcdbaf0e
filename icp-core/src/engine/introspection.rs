//! Tokens that say nothing by themselves: those of others, asked about, and our own, told about.

use sha2::{Digest, Sha256};

use super::Engine;
use super::issuers::Known;
use crate::access::{ACCESS, ApiKey, OPERATORS, Principal, RateLimit};
use crate::error::Result;
use crate::id::OrgId;
use crate::issuer::{Identified, Issuer, IssuerSpec};
use crate::resource::{Revision, Spec};
use crate::time::Timestamp;

/// How long the answer that a token is not good is believed.
const DISBELIEVED: std::time::Duration = std::time::Duration::from_secs(10);

/// How often one issuer is asked about tokens, on each node.
const QUESTIONS: RateLimit = RateLimit { requests: 600, seconds: 60 };

/// What an issuer said of a token, and how long that is believed.
#[derive(Clone, Debug)]
pub(super) struct Told {
    revision: Revision,
    until: Timestamp,
    what: Word,
}

#[derive(Clone, Debug)]
enum Word {
    /// It is good, for this holder.
    Good(Identified),
    /// It is good, and not for us.
    Foreign,
    /// The issuer does not know it.
    Unknown,
}

/// A key or token of ours that is good.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Introspected {
    /// Who holds it.
    pub principal: Principal,
    /// From when on it is good no more; none where it does not end by itself.
    pub expires_at: Option<Timestamp>,
}

impl Engine {
    /// Who an API key or an access token of ours is for, as RFC 7662 has it; none for what is not
    /// good, and for tokens of others. It does not count as a use of a key.
    ///
    /// # Errors
    ///
    /// Those of the store.
    pub async fn introspect(&self, credential: &str) -> Result<Option<Introspected>> {
        if let Some(token) = credential.strip_prefix(ACCESS) {
            let expires_at = self.opened(token).map(|token| token.expires_at);
            let principal = self.session_principal(token).await?;
            return Ok(principal.map(|principal| Introspected { principal, expires_at }));
        }
        let Ok(key) = ApiKey::parse(credential) else { return Ok(None) };
        let known = self.key_principal(&key).await?;
        Ok(known.map(|(principal, expires_at)| Introspected { principal, expires_at }))
    }

    /// The holder of a token that only its issuer can tell about: that of the operators, or else
    /// that of the organization the request is for.
    ///
    /// The operators' issuer is asked first, as their tokens must not be shown to an issuer that
    /// somebody else chose; one that it knows is shown to nobody else.
    pub(super) async fn opaque_principal(
        &self,
        token: &str,
        at: Option<&OrgId>,
    ) -> Result<Option<Principal>> {
        let operators = OrgId::new(OPERATORS)?;
        let other = at.filter(|at| **at != operators);
        for org in [Some(&operators), other].into_iter().flatten() {
            let Some(known) = self.asked_in(org).await? else { continue };
            match self.told(&known, token).await? {
                Word::Good(who) => return self.identified(&who).await,
                Word::Foreign => return Ok(None),
                Word::Unknown => {}
            }
        }
        Ok(None)
    }

    /// The one issuer of an organization that is asked; none where there are none or several.
    async fn asked_in(&self, org: &OrgId) -> Result<Option<Known>> {
        let Some(home) = super::access::present(&self.core, org).await? else { return Ok(None) };
        let all = home.compiled::<Issuer>(IssuerSpec::KIND);
        let mut asked = all.filter(|(_, issuer)| {
            issuer.as_ref().is_ok_and(|issuer| issuer.enabled && issuer.introspection.is_some())
        });
        match (asked.next(), asked.next()) {
            (Some((id, _)), None) => self.issuer(org, &id).await,
            _ => Ok(None),
        }
    }

    async fn told(&self, known: &Known, token: &str) -> Result<Word> {
        let mut hash = Sha256::new();
        for part in [known.home.org().as_str(), known.id.as_str(), token] {
            hash.update(part);
            hash.update([0]);
        }
        let hash: [u8; 32] = hash.finalize().into();
        let remembered = self.core.access.outside.told().get(&hash).cloned();
        let fits = |told: &Told| told.revision == known.revision && self.now() < told.until;
        if let Some(told) = remembered.filter(fits) {
            return Ok(told.what);
        }
        let (what, until) = self.ask(known, token).await?;
        let told = Told { revision: known.revision, until, what: what.clone() };
        self.core.access.outside.told().put(hash, told);
        Ok(what)
    }

    async fn ask(&self, known: &Known, token: &str) -> Result<(Word, Timestamp)> {
        let unknown = (Word::Unknown, self.now() + DISBELIEVED);
        let Some(introspection) = &known.issuer.introspection else { return Ok(unknown) };
        self.let_try(&format!("introspection:{}/{}", known.home.org(), known.id), QUESTIONS)?;
        let url = match &introspection.endpoint {
            Some(url) => url.clone(),
            None => self.keys_of(known, None).await?.address("introspection_endpoint")?,
        };
        let outlet = self.outlet_of(known)?;
        let Some(claims) = introspection.ask(token, url, &outlet).await? else {
            return Ok(unknown);
        };
        let judged = known.issuer.rules.judge_answer(&claims, self.now()).and_then(|until| {
            Ok((known.issuer.identify(&claims, known.home.org(), &known.id)?, until))
        });
        Ok(match judged {
            Ok((who, until)) => (Word::Good(who), until),
            Err(refusal) => {
                tracing::debug!("an opaque token was refused: {refusal}");
                (Word::Foreign, self.now() + DISBELIEVED)
            }
        })
    }
}
