//! API keys: a text that is shown once, of which only a hash is kept.

use std::fmt;

use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::error::{Code, Error, Result};
use crate::id::{ApiKeyId, IdSource};
use crate::secret::{Entropy, SecretBytes, SecretString};

const PREFIX: &str = "icp";
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
/// What each digit stands for.
const VALUES: [Option<u8>; 256] = {
    let mut values = [None; 256];
    let mut value = 0;
    while value < 32 {
        values[ALPHABET[value as usize] as usize] = Some(value);
        value += 1;
    }
    values
};
const SECRET_BYTES: usize = 32;
const SECRET_DIGITS: usize = 52;
const CHECK_DIGITS: usize = 6;
/// What the digits of the checksum are made of.
const CHECK_BYTES: usize = 4;

/// An API key with its secret.
///
/// The text form is `icp_`, the 26 digits of the key's id, `_`, 52 digits for 32 random bytes,
/// `_`, and 6 digits that tell a mistyped key from a wrong one before any store is asked; all
/// digits are lower-case Crockford base 32.
#[derive(Clone)]
pub struct ApiKey {
    id: ApiKeyId,
    secret: SecretBytes,
}

impl ApiKey {
    /// A new key.
    ///
    /// # Errors
    ///
    /// Those of `entropy`.
    pub fn generate(ids: &dyn IdSource, entropy: &dyn Entropy) -> Result<Self> {
        Self::generate_for(ApiKeyId::generate(ids), entropy)
    }

    /// A new key of a known id.
    ///
    /// # Errors
    ///
    /// Those of `entropy`.
    pub fn generate_for(id: ApiKeyId, entropy: &dyn Entropy) -> Result<Self> {
        let mut secret = Zeroizing::new(vec![0; SECRET_BYTES]);
        entropy.fill(&mut secret)?;
        Ok(Self { id, secret: SecretBytes::from(std::mem::take(&mut *secret)) })
    }

    /// Reads the text form.
    ///
    /// # Errors
    ///
    /// [`Code::Unauthenticated`], which never shows the text.
    pub fn parse(text: &str) -> Result<Self> {
        Self::read(text)
            .ok_or_else(|| Error::new(Code::Unauthenticated, "the text is not an api key of icp"))
    }

    /// Whether a text begins as those of keys do. No token of anybody else does.
    #[must_use]
    pub fn is_prefixed(text: &str) -> bool {
        text.strip_prefix(PREFIX).is_some_and(|rest| rest.starts_with('_'))
    }

    fn read(text: &str) -> Option<Self> {
        let (keyed, check) = text.rsplit_once('_')?;
        if check != checksum(keyed) {
            return None;
        }
        let (id, secret) = keyed.strip_prefix(PREFIX)?.strip_prefix('_')?.split_once('_')?;
        let id = format!("{}_{id}", ApiKeyId::PREFIX).parse().ok()?;
        Some(Self { id, secret: decode(secret)? })
    }

    /// The id, which is no secret.
    #[must_use]
    pub fn id(&self) -> ApiKeyId {
        self.id
    }

    /// The text form, to be shown once.
    #[must_use]
    pub fn to_text(&self) -> SecretString {
        let id = self.id.to_string();
        let digits = id.split_once('_').map_or("", |(_, digits)| digits);
        let secret = encode(self.secret.expose());
        let mut text = Zeroizing::new(format!("{PREFIX}_{digits}_{}", secret.as_str()));
        let check = checksum(&text);
        text.push('_');
        text.push_str(&check);
        SecretString::from(std::mem::take(&mut *text))
    }

    pub(super) fn hash(&self) -> [u8; 32] {
        Sha256::digest(self.secret.expose()).into()
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiKey").field("id", &self.id).field("secret", &self.secret).finish()
    }
}

fn checksum(text: &str) -> String {
    let digest = Sha256::digest(text.as_bytes());
    let mut digits = encode(&digest[..CHECK_BYTES]);
    digits.truncate(CHECK_DIGITS);
    std::mem::take(&mut *digits)
}

fn encode(bytes: &[u8]) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::with_capacity((bytes.len() * 8).div_ceil(5)));
    let (mut held, mut bits) = (0_usize, 0);
    for byte in bytes {
        held = held << 8 | usize::from(*byte);
        bits += 8;
        while bits >= 5 {
            bits -= 5;
            text.push(char::from(ALPHABET[held >> bits & 31]));
        }
        held &= (1 << bits) - 1;
    }
    if bits > 0 {
        text.push(char::from(ALPHABET[held << (5 - bits) & 31]));
    }
    text
}

fn decode(text: &str) -> Option<SecretBytes> {
    if text.len() != SECRET_DIGITS {
        return None;
    }
    let mut bytes = Zeroizing::new(Vec::with_capacity(SECRET_BYTES));
    let (mut held, mut bits) = (0_u32, 0);
    for digit in text.bytes() {
        held = held << 5 | u32::from(VALUES[usize::from(digit)]?);
        bits += 5;
        if bits >= 8 {
            bits -= 8;
            bytes.extend(u8::try_from(held >> bits));
            held &= (1 << bits) - 1;
        }
    }
    (held == 0).then(|| SecretBytes::from(std::mem::take(&mut *bytes)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::id::ClockIds;
    use crate::secret::SystemEntropy;
    use crate::time::SystemClock;

    fn key() -> ApiKey {
        ApiKey::generate(&ClockIds::seeded(SystemClock, 1), &SystemEntropy).unwrap()
    }

    #[test]
    fn text_round_trips() {
        let (one, other) = (key(), key());
        let text = one.to_text();
        assert_eq!(text.expose().len(), 4 + 26 + 1 + SECRET_DIGITS + 1 + CHECK_DIGITS);
        let again = ApiKey::parse(text.expose()).unwrap();
        assert_eq!((again.id(), again.hash()), (one.id(), one.hash()));
        assert_ne!(again.hash(), other.hash());
    }

    #[test]
    fn every_mistyped_character_is_noticed() {
        let text = key().to_text();
        for at in 0..text.expose().len() {
            let mut typed = text.expose().to_owned().into_bytes();
            typed[at] = if typed[at] == b'7' { b'8' } else { b'7' };
            let error = ApiKey::parse(std::str::from_utf8(&typed).unwrap()).unwrap_err();
            assert_eq!(error.code(), Code::Unauthenticated);
        }
    }

    #[test]
    fn debug_and_refusals_show_no_secret() {
        let key = key();
        let text = key.to_text();
        let secret = text.expose().split('_').nth(2).unwrap();
        assert!(!format!("{key:?}").contains(secret));
        let cut = &text.expose()[..text.expose().len() - 1];
        assert!(!format!("{:?}", ApiKey::parse(cut).unwrap_err()).contains(secret));
    }

    proptest! {
        #[test]
        fn secrets_round_trip(bytes: [u8; SECRET_BYTES]) {
            let text = encode(&bytes);
            prop_assert_eq!(text.len(), SECRET_DIGITS);
            let decoded = decode(&text).unwrap();
            prop_assert_eq!(decoded.expose(), bytes);
        }

        #[test]
        fn bits_beyond_the_last_byte_are_refused(bytes: [u8; SECRET_BYTES], beyond in 1..16_usize) {
            let text = encode(&bytes);
            let last = ALPHABET.iter().position(|digit| text.ends_with(char::from(*digit))).unwrap();
            let more = char::from(ALPHABET[last | beyond]);
            let longer = format!("{}{more}", &text[..SECRET_DIGITS - 1]);
            prop_assert!(decode(&longer).is_none());
        }

        #[test]
        fn parsing_never_panics(text in "(icp_)?[0-9a-z_]{0,100}") {
            let _ = ApiKey::parse(&text);
        }
    }
}
