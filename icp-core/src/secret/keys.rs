//! Key-encryption keys and where they come from.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::{Entropy, SecretBytes, SecretString};
use crate::error::{Code, Error, Result};

/// The length of a key-encryption key.
const KEY_BYTES: usize = 32;

/// A key-encryption key: 32 bytes with a name that is not secret.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Key {
    id: String,
    bytes: SecretBytes,
}

impl Key {
    /// A key named `id`: 1 to 64 of `A-Z a-z 0-9 . _ -`.
    ///
    /// # Errors
    ///
    /// [`Code::ConfigInvalid`] where the name is malformed or `bytes` are not 32.
    pub fn new(id: impl Into<String>, bytes: SecretBytes) -> Result<Self> {
        let id = id.into();
        let fine = (1..=64).contains(&id.len())
            && id.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
        if !fine {
            return refuse("the key's id must be 1 to 64 of A-Z a-z 0-9 . _ -");
        }
        let length = bytes.expose().len();
        if length != KEY_BYTES {
            return refuse(format!("the key is {length} bytes long; use {KEY_BYTES} random bytes"));
        }
        Ok(Self { id, bytes })
    }

    /// The name, which every value sealed with the key carries.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The 32 bytes.
    #[must_use]
    pub fn bytes(&self) -> &SecretBytes {
        &self.bytes
    }
}

/// The source of key-encryption keys.
///
/// Calls are synchronous and on the path of every seal and open: a provider in front of a key
/// service fetches ahead and answers from memory. A key stays readable by id for as long as a
/// value sealed with it exists.
pub trait KeyProvider: fmt::Debug + Send + Sync + 'static {
    /// The key that new values are sealed with.
    ///
    /// # Errors
    ///
    /// [`Code::KeyUnreadable`] where there is none at the moment.
    fn current(&self) -> Result<Key>;

    /// The key of this name, current or old.
    ///
    /// # Errors
    ///
    /// [`Code::KeyUnreadable`] where there is none, with the id in the message.
    fn by_id(&self, id: &str) -> Result<Key>;
}

/// Keys held in memory, read from a file or a setting. The first one is current.
///
/// To rotate, put a new key in front and keep the old ones behind it.
#[derive(Clone, Debug)]
pub struct LocalKeys {
    current: Key,
    old: Vec<Key>,
}

impl LocalKeys {
    /// Reads one or several `id:base64` entries, separated by commas or white space; lines that
    /// begin with `#` are skipped. Each key is 32 bytes in standard base64.
    ///
    /// # Errors
    ///
    /// [`Code::ConfigInvalid`] that names the entry by its number, and never shows it.
    pub fn parse(text: &str) -> Result<Self> {
        let entries = text
            .lines()
            .filter(|line| !line.trim_start().starts_with('#'))
            .flat_map(|line| line.split(|c: char| c == ',' || c.is_whitespace()))
            .filter(|entry| !entry.is_empty());
        let mut keys: Vec<Key> = Vec::new();
        for (index, entry) in entries.enumerate() {
            let number = index + 1;
            let key = parse_entry(entry).map_err(|error| {
                Error::new(error.code(), format!("key entry {number}: {}", error.message()))
            })?;
            if keys.iter().any(|known| known.id == key.id) {
                return refuse(format!("key entry {number}: the id `{}` is there twice", key.id));
            }
            keys.push(key);
        }
        let mut keys = keys.into_iter();
        let Some(current) = keys.next() else {
            return refuse("there is no key; give at least one entry of the form `id:base64`");
        };
        Ok(Self { current, old: keys.collect() })
    }

    /// One fresh key named `id`.
    ///
    /// # Errors
    ///
    /// [`Code::ConfigInvalid`] where the id is malformed; the errors of `entropy`.
    pub fn generate(id: &str, entropy: &dyn Entropy) -> Result<Self> {
        let mut bytes = vec![0; KEY_BYTES];
        entropy.fill(&mut bytes)?;
        Ok(Self { current: Key::new(id, bytes.into())?, old: Vec::new() })
    }

    /// The text that [`parse`](Self::parse) reads, one entry a line, for a key file.
    #[must_use]
    pub fn to_text(&self) -> SecretString {
        let mut text = Zeroizing::new(String::with_capacity(128 * (1 + self.old.len())));
        for key in std::iter::once(&self.current).chain(&self.old) {
            text.push_str(&key.id);
            text.push(':');
            text.push_str(&Zeroizing::new(STANDARD.encode(key.bytes.expose())));
            text.push('\n');
        }
        SecretString::from(std::mem::take(&mut *text))
    }
}

impl KeyProvider for LocalKeys {
    fn current(&self) -> Result<Key> {
        Ok(self.current.clone())
    }

    fn by_id(&self, id: &str) -> Result<Key> {
        std::iter::once(&self.current)
            .chain(&self.old)
            .find(|key| key.id == id)
            .cloned()
            .ok_or_else(|| {
                Error::new(Code::KeyUnreadable, format!("the key `{id}` is missing; add it back"))
            })
    }
}

fn parse_entry(entry: &str) -> Result<Key> {
    let Some((id, encoded)) = entry.split_once(':') else {
        return refuse("there is no colon; the form is `id:base64`");
    };
    // The decoder's own error names a byte of the key, so it is not kept as the cause.
    let Ok(bytes) = STANDARD.decode(encoded) else {
        return refuse("the part after the colon is not standard base64");
    };
    Key::new(id, bytes.into())
}

fn refuse<T>(message: impl Into<String>) -> Result<T> {
    Err(Error::new(Code::ConfigInvalid, message))
}

#[cfg(test)]
mod tests {
    use super::super::SystemEntropy;
    use super::*;

    fn entry(id: &str, fill: u8) -> String {
        format!("{id}:{}", STANDARD.encode([fill; 32]))
    }

    #[test]
    fn the_first_of_several_is_current() {
        let text =
            format!("# made for a test\n{},{}\n\n {}", entry("c", 3), entry("b", 2), entry("a", 1));
        let keys = LocalKeys::parse(&text).unwrap();
        assert_eq!(keys.current().unwrap().id(), "c");
        assert_eq!(keys.by_id("a").unwrap().bytes().expose(), [1; 32]);
        let error = keys.by_id("z").unwrap_err();
        assert_eq!(error.code(), Code::KeyUnreadable);
        assert!(error.message().contains("`z`"));
    }

    #[test]
    fn text_round_trips() {
        let keys = LocalKeys::generate("k1", &SystemEntropy).unwrap();
        let again = LocalKeys::parse(keys.to_text().expose()).unwrap();
        assert_eq!(keys.current().unwrap(), again.current().unwrap());
        assert_ne!(LocalKeys::generate("k1", &SystemEntropy).unwrap().current, keys.current);
    }

    #[test]
    fn refusals_say_which_entry_and_never_show_it() {
        let material = STANDARD.encode([7; 32]);
        for (text, says) in [
            (String::new(), "there is no key"),
            ("# only a comment".to_owned(), "there is no key"),
            (material.clone(), "entry 1: there is no colon"),
            (format!(":{material}"), "entry 1: the key's id"),
            (format!("a/b:{material}"), "entry 1: the key's id"),
            (
                format!("{}\nk2:{}", entry("k1", 1), STANDARD.encode([7; 16])),
                "entry 2: the key is 16",
            ),
            (format!("k1:!{material}"), "entry 1: the part after the colon"),
            (
                format!("{} {}", entry("k1", 1), entry("k1", 2)),
                "entry 2: the id `k1` is there twice",
            ),
        ] {
            let error = LocalKeys::parse(&text).unwrap_err();
            assert_eq!(error.code(), Code::ConfigInvalid);
            assert!(error.message().contains(says), "{error}");
            assert!(!format!("{error:?}").contains(&material), "{error:?}");
        }
    }

    #[test]
    fn debug_shows_the_id_only() {
        let keys = LocalKeys::parse(&entry("k1", 1)).unwrap();
        let shown = format!("{keys:?}");
        assert!(shown.contains("k1") && shown.contains("[secret]"), "{shown}");
    }
}
