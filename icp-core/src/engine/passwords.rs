//! Passwords of users, and the first user.

use serde_json::json;

use super::Engine;
use super::access::{draft, present, unknown};
use super::sessions::TRIES;
use crate::access::{BuiltInRole, OPERATORS, Principal, UserSpec};
use crate::error::{Code, Error, Result};
use crate::id::{OrgId, ResourceId};
use crate::resource::{Actor, Document, Expect, Spec};
use crate::secret::{Secret, SecretString};

impl Engine {
    /// Sets the password of a user, and ends the sessions they have.
    ///
    /// # Errors
    ///
    /// [`Code::PasswordWeak`]; [`Code::ResourceInvalid`] where the user may do more than the
    /// author; [`Code::ResourceNotFound`], [`Code::Overloaded`], and those of the store.
    pub async fn set_password(
        &self,
        org: &OrgId,
        user: &ResourceId,
        password: SecretString,
        actor: &Actor,
    ) -> Result<Document> {
        let hash = self.core.access.passwords.hash(password).await?.into_text();
        let how = ("set_password", Expect::Present);
        let resources = self.resources();
        let edit = |spec: &mut UserSpec, editing: &crate::resource::Editing<'_>| {
            spec.password = Some(Secret::plain(hash));
            spec.sessions_since = Some(editing.now);
            Ok(())
        };
        Ok(resources.amend_principal(org, user, how, actor, edit).await?.0)
    }

    /// As [`set_password`](Self::set_password), by the user, who proves to know the present one.
    ///
    /// # Errors
    ///
    /// [`Code::Unauthenticated`] where `present` is another, or the principal is no user.
    pub async fn change_password(
        &self,
        principal: &Principal,
        present: SecretString,
        password: SecretString,
    ) -> Result<()> {
        let Some(org) = principal.home().filter(|_| principal.acts_as().is_none()) else {
            return Err(unknown());
        };
        let own = format!("user:{org}/");
        let name = principal.name().strip_prefix(&own).ok_or_else(unknown)?;
        self.let_try(&format!("password:{org}:{name}"), TRIES)?;
        let id = ResourceId::new(name)?;
        let (_, user) = self.user(org, &id).await?.ok_or_else(unknown)?;
        if !self.core.access.passwords.verify(user.password.clone(), present).await? {
            return Err(unknown());
        }
        let actor = Actor { name: principal.name().to_owned(), ..Actor::host() };
        self.set_password(org, &id, password, &actor).await.map(drop)
    }

    /// Makes the operators' organization and its first user, who may do everything.
    ///
    /// # Errors
    ///
    /// [`Code::BootstrapDone`] where that was done before, [`Code::PasswordWeak`],
    /// [`Code::ResourceInvalid`], and those of the store.
    pub async fn bootstrap_user(&self, email: &str, password: SecretString) -> Result<()> {
        let done = || {
            let message = "there is a first principal already; log in, or use its key";
            Error::new(Code::BootstrapDone, message)
        };
        // Hashing costs, so that who comes too late is told before.
        if present(&self.core, &OrgId::new(OPERATORS)?).await?.is_some() {
            return Err(done());
        }
        let hash = self.core.access.passwords.hash(password).await?.into_text();
        let spec = json!({
            "email": email,
            "grants": [{ "role": BuiltInRole::SuperAdmin.as_str(), "organization": "*" }],
            "password": hash.expose(),
        });
        let made = self.bootstrap(UserSpec::KIND, draft(None, "First user", spec)).await?;
        if made { Ok(()) } else { Err(done()) }
    }
}
