//! Envelope encryption: each value has its own data key, wrapped by a key-encryption key.
//!
//! Layout: format byte, length of the key id, key id, nonce and wrapped data key, nonce and
//! ciphertext; both parts AES-256-GCM. The associated data of both binds the value to its place,
//! so that a value moved to another row, field or organization does not open.

use std::fmt;
use std::sync::Arc;

use aes_gcm::Aes256Gcm;
use aes_gcm::aead::{AeadInOut, KeyInit, Nonce};
use zeroize::Zeroizing;

use super::{Entropy, Key, KeyProvider, SecretBytes, SystemEntropy};
use crate::error::{Code, Error, Result};

const FORMAT: u8 = 1;
const NONCE: usize = 12;
const TAG: usize = 16;
const WRAPPED: usize = 32 + TAG;
const WRAP_LABEL: &[u8] = b"icp/seal/wrap";
const DATA_LABEL: &[u8] = b"icp/seal/data";

/// The place a sealed value belongs to; it opens nowhere else.
#[derive(Clone, Copy, Debug)]
pub struct SealContext<'a> {
    /// The organization.
    pub org: &'a str,
    /// The kind of the record, as in `integration`.
    pub kind: &'a str,
    /// The record's id.
    pub id: &'a str,
    /// The field's stable name, as in `auth.password`.
    pub slot: &'a str,
}

impl SealContext<'_> {
    fn associated_data(&self, label: &[u8], key_id: &str) -> Vec<u8> {
        let mut data = vec![FORMAT];
        let parts = [self.org, self.kind, self.id, self.slot, key_id];
        for part in std::iter::once(label).chain(parts.map(str::as_bytes)) {
            data.extend_from_slice(&(part.len() as u64).to_be_bytes());
            data.extend_from_slice(part);
        }
        data
    }
}

/// A sealed value; safe to store and to show, useless without its key.
#[derive(Clone, Eq, Hash, PartialEq)]
pub struct SealedBytes(Vec<u8>);

impl SealedBytes {
    /// Takes bytes that came from a store; what they are is only checked when they are opened.
    #[must_use]
    pub fn from_bytes(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// The bytes that stores keep.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The id of the key that opens the value; `None` where the bytes are no sealed value.
    #[must_use]
    pub fn key_id(&self) -> Option<&str> {
        Parts::of(&self.0).map(|parts| parts.key_id)
    }
}

impl fmt::Debug for SealedBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SealedBytes").field("key_id", &self.key_id()).finish_non_exhaustive()
    }
}

/// Seals and opens values with the keys of a [`KeyProvider`].
///
/// Data keys and nonces come from the operating system even where time and ids are simulated: a
/// repeated nonce would give the key away.
#[derive(Clone, Debug)]
pub struct Sealer {
    keys: Arc<dyn KeyProvider>,
}

impl Sealer {
    /// A sealer that takes its keys from `keys`.
    #[must_use]
    pub fn new(keys: Arc<dyn KeyProvider>) -> Self {
        Self { keys }
    }

    /// Seals `plain` for `context` with the current key.
    ///
    /// # Errors
    ///
    /// [`Code::KeyUnreadable`] where there is no current key.
    pub fn seal(&self, context: &SealContext<'_>, plain: &[u8]) -> Result<SealedBytes> {
        let key = self.keys.current()?;
        let mut data_key = Zeroizing::new([0; 32]);
        SystemEntropy.fill(&mut *data_key)?;
        let mut sealed = wrap(&key, context, &*data_key)?;
        let data = context.associated_data(DATA_LABEL, "");
        sealed.extend(encrypt(&*data_key, &data, plain).ok_or_else(too_long)?);
        Ok(SealedBytes(sealed))
    }

    /// Opens a value that was sealed for `context`.
    ///
    /// # Errors
    ///
    /// [`Code::KeyUnreadable`] where the key is missing, or does not fit because the value was
    /// damaged or belongs elsewhere; the message names the key.
    pub fn open(&self, context: &SealContext<'_>, sealed: &SealedBytes) -> Result<SecretBytes> {
        let (parts, data_key) = self.unwrap(context, sealed)?;
        let data = context.associated_data(DATA_LABEL, "");
        let plain = decrypt(&data_key, &data, parts.value).ok_or_else(|| misfit(parts.key_id))?;
        Ok(plain.into())
    }

    /// Wraps the data key of `sealed` with the current key, so that the old key can be retired;
    /// the value itself is not opened.
    ///
    /// # Errors
    ///
    /// Those of [`open`](Self::open).
    pub fn rewrap(&self, context: &SealContext<'_>, sealed: &SealedBytes) -> Result<SealedBytes> {
        let (parts, data_key) = self.unwrap(context, sealed)?;
        let mut again = wrap(&self.keys.current()?, context, &data_key)?;
        again.extend_from_slice(parts.value);
        Ok(SealedBytes(again))
    }

    fn unwrap<'s>(
        &self,
        context: &SealContext<'_>,
        sealed: &'s SealedBytes,
    ) -> Result<(Parts<'s>, Zeroizing<Vec<u8>>)> {
        let parts = Parts::of(&sealed.0).ok_or_else(|| {
            Error::new(Code::KeyUnreadable, "the sealed value is damaged or of a newer format")
        })?;
        let key = self.keys.by_id(parts.key_id)?;
        let data = context.associated_data(WRAP_LABEL, parts.key_id);
        let data_key = decrypt(key.bytes().expose(), &data, parts.wrapped)
            .ok_or_else(|| misfit(parts.key_id))?;
        Ok((parts, Zeroizing::new(data_key)))
    }
}

struct Parts<'s> {
    key_id: &'s str,
    wrapped: &'s [u8],
    value: &'s [u8],
}

impl<'s> Parts<'s> {
    fn of(bytes: &'s [u8]) -> Option<Self> {
        let (&format, rest) = bytes.split_first()?;
        let (&length, rest) = rest.split_first()?;
        let (key_id, rest) = rest.split_at_checked(usize::from(length))?;
        let (wrapped, value) = rest.split_at_checked(NONCE + WRAPPED)?;
        let key_id = std::str::from_utf8(key_id).ok()?;
        (format == FORMAT && value.len() >= NONCE + TAG).then_some(Self { key_id, wrapped, value })
    }
}

fn wrap(key: &Key, context: &SealContext<'_>, data_key: &[u8]) -> Result<Vec<u8>> {
    let length = u8::try_from(key.id().len()).map_err(|_| too_long())?;
    let data = context.associated_data(WRAP_LABEL, key.id());
    let mut header = vec![FORMAT, length];
    header.extend_from_slice(key.id().as_bytes());
    header.extend(encrypt(key.bytes().expose(), &data, data_key).ok_or_else(too_long)?);
    Ok(header)
}

/// A fresh nonce and the ciphertext behind it.
fn encrypt(key: &[u8], associated_data: &[u8], plain: &[u8]) -> Option<Vec<u8>> {
    let cipher = Aes256Gcm::new_from_slice(key).ok()?;
    let mut nonce = [0; NONCE];
    SystemEntropy.fill(&mut nonce).ok()?;
    // Room for the tag from the start: a reallocation would leave plain text behind.
    let mut buffer = Zeroizing::new(Vec::with_capacity(plain.len() + TAG));
    buffer.extend_from_slice(plain);
    cipher
        .encrypt_in_place(&Nonce::<Aes256Gcm>::from(nonce), associated_data, &mut *buffer)
        .ok()?;
    Some([nonce.as_slice(), &buffer].concat())
}

fn decrypt(key: &[u8], associated_data: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
    let cipher = Aes256Gcm::new_from_slice(key).ok()?;
    let (nonce, rest) = sealed.split_first_chunk::<NONCE>()?;
    let mut buffer = Zeroizing::new(rest.to_vec());
    cipher
        .decrypt_in_place(&Nonce::<Aes256Gcm>::from(*nonce), associated_data, &mut *buffer)
        .ok()?;
    Some(std::mem::take(&mut *buffer))
}

fn misfit(key_id: &str) -> Error {
    Error::new(
        Code::KeyUnreadable,
        format!(
            "the key `{key_id}` does not open this secret; restore the key it was sealed with, or enter the secret again"
        ),
    )
}

fn too_long() -> Error {
    Error::new(Code::Internal, "the value could not be sealed")
}

#[cfg(test)]
mod tests;
