//! Where new keys and secrets come from.

use std::fmt;

use crate::error::{Code, Error, Result};

/// A source of unpredictable bytes for new keys and secrets.
///
/// Implementors outside of tests must be fit for cryptography.
pub trait Entropy: fmt::Debug + Send + Sync + 'static {
    /// Fills all of `into`.
    ///
    /// # Errors
    ///
    /// Any error leaves `into` without a meaning; the caller must not use it.
    fn fill(&self, into: &mut [u8]) -> Result<()>;
}

/// The operating system's generator.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemEntropy;

impl Entropy for SystemEntropy {
    fn fill(&self, into: &mut [u8]) -> Result<()> {
        getrandom::fill(into).map_err(|source| {
            Error::new(Code::Internal, "the operating system gives no random bytes")
                .caused_by(source)
        })
    }
}
