//! Text and bytes that are wiped when dropped and never printed.

use std::fmt;

use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// A secret text: wiped when dropped, compared in constant time, printed as `[secret]`.
///
/// It has neither `Serialize` nor `Display`, so that it cannot reach an answer or a log by
/// accident:
///
/// ```compile_fail,E0277
/// let secret = icp_core::secret::SecretString::from("hush");
/// serde_json::to_string(&secret);
/// ```
///
/// ```compile_fail,E0277
/// let secret = icp_core::secret::SecretString::from("hush");
/// format!("{secret}");
/// ```
///
/// What works is to print it as what it is, and to ask for its text by name:
///
/// ```
/// let secret = icp_core::secret::SecretString::from("hush");
/// assert_eq!(format!("{secret:?}"), "[secret]");
/// assert_eq!(secret.expose(), "hush");
/// ```
#[derive(Clone)]
pub struct SecretString(Zeroizing<String>);

impl SecretString {
    /// The text itself; keep it no longer than it is used.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<String> for SecretString {
    fn from(text: String) -> Self {
        Self(Zeroizing::new(text))
    }
}

impl From<&str> for SecretString {
    fn from(text: &str) -> Self {
        Self::from(text.to_owned())
    }
}

/// Secret bytes: wiped when dropped, compared in constant time, printed as `[secret]`.
///
/// ```compile_fail,E0277
/// let secret = icp_core::secret::SecretBytes::from(vec![1, 2, 3]);
/// serde_json::to_string(&secret);
/// ```
#[derive(Clone)]
pub struct SecretBytes(Zeroizing<Vec<u8>>);

impl SecretBytes {
    /// The bytes themselves; keep them no longer than they are used.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl From<Vec<u8>> for SecretBytes {
    fn from(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }
}

macro_rules! guarded {
    ($($name:ident: $as_bytes:ident;)+) => {$(
        impl PartialEq for $name {
            /// Takes the same time wherever the two differ; only the length is not hidden.
            fn eq(&self, other: &Self) -> bool {
                self.0.$as_bytes().ct_eq(other.0.$as_bytes()).into()
            }
        }

        impl Eq for $name {}

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("[secret]")
            }
        }
    )+};
}

guarded! {
    SecretString: as_bytes;
    SecretBytes: as_slice;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equality_is_of_the_content() {
        assert_eq!(SecretString::from("a"), SecretString::from("a"));
        assert_ne!(SecretString::from("a"), SecretString::from("b"));
        assert_ne!(SecretBytes::from(vec![1]), SecretBytes::from(vec![1, 2]));
    }

    #[test]
    fn debug_shows_nothing() {
        assert_eq!(format!("{:?}", SecretString::from("hush")), "[secret]");
        assert_eq!(format!("{:?}", Some(SecretBytes::from(vec![1]))), "Some([secret])");
    }
}
