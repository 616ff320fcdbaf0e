//! Passwords: argon2id, with as much memory as OWASP asks for.

use std::sync::Arc;

use argon2::password_hash::phc;
use argon2::{Algorithm, Argon2, Params, PasswordHasher, PasswordVerifier, Version};
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

use crate::error::{Code, Error, Result, Violation};
use crate::secret::{Entropy, SecretString, SystemEntropy};

/// The fewest characters of a password.
pub const MIN_PASSWORD: usize = 12;

/// The most bytes of a password.
pub const MAX_PASSWORD: usize = 1_024;

/// How many are hashed at once; each takes 19 MiB and some tens of milliseconds.
const AT_ONCE: usize = 2;
/// How many wait for their turn.
const WAITING: usize = 32;

/// A password as it is kept.
#[derive(Clone, Debug)]
pub(crate) struct PasswordHash(SecretString);

impl PasswordHash {
    /// Reads the PHC form, of argon2id only.
    pub(crate) fn parse(text: SecretString) -> Result<Self> {
        let refused = || {
            let message = "the text is not a hash by argon2id; set the password anew";
            Error::new(Code::ResourceInvalid, message)
        };
        let hash = phc::PasswordHash::new(text.expose()).map_err(|_| refused())?;
        let fine = hash.algorithm == Algorithm::Argon2id.ident() && hash.hash.is_some();
        let params = Params::try_from(&hash).map_err(|_| refused())?;
        // What somebody brings along must not cost more than a login may.
        let bounded = params.m_cost() <= 131_072 && params.t_cost() <= 10 && params.p_cost() <= 8;
        if fine && bounded { Ok(Self(text)) } else { Err(refused()) }
    }

    /// The PHC form.
    pub(crate) fn into_text(self) -> SecretString {
        self.0
    }
}

/// Hashes and compares passwords, a few at a time.
#[derive(Clone, Debug)]
pub(crate) struct Passwords {
    running: Arc<Semaphore>,
    admitted: Arc<Semaphore>,
}

impl Default for Passwords {
    fn default() -> Self {
        Self {
            running: Arc::new(Semaphore::new(AT_ONCE)),
            admitted: Arc::new(Semaphore::new(AT_ONCE + WAITING)),
        }
    }
}

impl Passwords {
    /// The hash of `password`.
    ///
    /// # Errors
    ///
    /// [`Code::PasswordWeak`] where it is too short or too long, and [`Code::Overloaded`].
    pub(crate) async fn hash(&self, password: SecretString) -> Result<PasswordHash> {
        check(&password)?;
        self.aside(move || {
            let mut salt = Zeroizing::new([0; 16]);
            SystemEntropy.fill(&mut *salt)?;
            let made: phc::PasswordHash = hasher()
                .hash_password_with_salt(password.expose().as_bytes(), &*salt)
                .map_err(failed)?;
            Ok(PasswordHash(SecretString::from(made.to_string())))
        })
        .await
    }

    /// Whether `password` is the one that `known` is of. It takes as long where there is none.
    ///
    /// # Errors
    ///
    /// [`Code::Overloaded`].
    pub(crate) async fn verify(
        &self,
        known: Option<PasswordHash>,
        password: SecretString,
    ) -> Result<bool> {
        if password.expose().len() > MAX_PASSWORD {
            return Ok(false);
        }
        self.aside(move || {
            let Some(PasswordHash(known)) = known else {
                let salt = [0; 16];
                let hashed: Result<phc::PasswordHash, _> =
                    hasher().hash_password_with_salt(password.expose().as_bytes(), &salt);
                return hashed.map(|_| false).map_err(failed);
            };
            let hash = phc::PasswordHash::new(known.expose()).map_err(failed)?;
            Ok(hasher().verify_password(password.expose().as_bytes(), &hash).is_ok())
        })
        .await
    }

    /// Runs what takes long on a thread that may.
    async fn aside<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let Ok(_admitted) = self.admitted.try_acquire() else {
            let message = "too many passwords are being checked; try again in a moment";
            return Err(Error::new(Code::Overloaded, message));
        };
        let gone = || Error::new(Code::Internal, "passwords cannot be checked");
        let _running = self.running.acquire().await.map_err(|_| gone())?;
        tokio::task::spawn_blocking(work).await.map_err(|_| gone())?
    }
}

fn check(password: &SecretString) -> Result<()> {
    let text = password.expose();
    let fine = text.chars().count() >= MIN_PASSWORD && text.len() <= MAX_PASSWORD;
    if fine {
        return Ok(());
    }
    let message =
        format!("use {MIN_PASSWORD} characters or more, and at most {MAX_PASSWORD} bytes");
    let violation = Violation::new("/password", "password_length", message);
    Err(Error::violations(Code::PasswordWeak, vec![violation]))
}

fn hasher() -> Argon2<'static> {
    Argon2::new(Algorithm::Argon2id, Version::V0x13, Params::DEFAULT)
}

fn failed(fault: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::new(Code::Internal, "the password cannot be hashed").caused_by(fault)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_those_that_owasp_asks_for() {
        let params = Params::DEFAULT;
        assert_eq!((params.m_cost(), params.t_cost(), params.p_cost()), (19_456, 2, 1));
    }

    #[tokio::test]
    async fn a_password_fits_its_own_hash_only() {
        let passwords = Passwords::default();
        let text = |text: &str| SecretString::from(text.to_owned());
        let hash = passwords.hash(text("correct horse battery")).await.unwrap();
        assert!(hash.clone().into_text().expose().starts_with("$argon2id$v=19$m=19456,t=2,p=1$"));
        let fits = passwords.verify(Some(hash.clone()), text("correct horse battery")).await;
        assert!(fits.unwrap());
        assert!(!passwords.verify(Some(hash), text("correct horse batterz")).await.unwrap());
        assert!(!passwords.verify(None, text("correct horse battery")).await.unwrap());
    }

    #[tokio::test]
    async fn short_and_endless_passwords_are_refused() {
        for bad in ["", "eleven char", &"x".repeat(MAX_PASSWORD + 1)] {
            let refused = Passwords::default().hash(SecretString::from(bad.to_owned())).await;
            assert_eq!(refused.unwrap_err().code(), Code::PasswordWeak);
        }
    }

    #[test]
    fn hashes_from_elsewhere_are_bounded() {
        let hash = |params: &str| {
            let text = format!(
                "$argon2id$v=19${params}$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
            );
            PasswordHash::parse(SecretString::from(text)).is_ok()
        };
        assert!(hash("m=19456,t=2,p=1"));
        assert!(!hash("m=4000000,t=2,p=1") && !hash("m=19456,t=4000,p=1"));
        for other in
            ["", "secret", "$2b$10$abcdefghijklmnopqrstuv", "$argon2i$v=19$m=8,t=1,p=1$c29t$aGFo"]
        {
            assert!(PasswordHash::parse(SecretString::from(other.to_owned())).is_err(), "{other}");
        }
    }
}
