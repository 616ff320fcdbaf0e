use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A way to sign tokens that is taken (RFC 7518, RFC 8037). Those by a shared secret (`HS…`) and
/// `none` are not among them: whoever checks such a token could make it.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
#[non_exhaustive]
pub enum Algorithm {
    /// RSA by PKCS #1 v1.5 with SHA-256.
    Rs256,
    /// RSA by PKCS #1 v1.5 with SHA-384.
    Rs384,
    /// RSA by PKCS #1 v1.5 with SHA-512.
    Rs512,
    /// RSA by PSS with SHA-256.
    Ps256,
    /// RSA by PSS with SHA-384.
    Ps384,
    /// RSA by PSS with SHA-512.
    Ps512,
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// ECDSA on P-384 with SHA-384.
    Es384,
    /// Ed25519.
    #[serde(rename = "EdDSA")]
    EdDsa,
}

impl Algorithm {
    /// Every one.
    pub const ALL: [Self; 9] = [
        Self::Rs256,
        Self::Rs384,
        Self::Rs512,
        Self::Ps256,
        Self::Ps384,
        Self::Ps512,
        Self::Es256,
        Self::Es384,
        Self::EdDsa,
    ];

    /// The name, as the header member `alg` has it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Rs384 => "RS384",
            Self::Rs512 => "RS512",
            Self::Ps256 => "PS256",
            Self::Ps384 => "PS384",
            Self::Ps512 => "PS512",
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::EdDsa => "EdDSA",
        }
    }

    /// The algorithm of this name; case counts, as RFC 7515 has it.
    pub(super) fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.as_str() == name)
    }
}

/// What the header member `typ` says a token is.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, JsonSchema, PartialEq, Serialize)]
pub enum TokenType {
    /// `at+jwt`: an access token (RFC 9068).
    #[serde(rename = "at+jwt")]
    AccessToken,
    /// `JWT`, which says little.
    #[serde(rename = "JWT")]
    Jwt,
    /// Nothing: there is no such member.
    #[serde(rename = "absent")]
    Absent,
}

impl TokenType {
    /// What a header says, where it is one of these. Media types are compared without case, and
    /// `application/` may be left out (RFC 7515, 4.1.9).
    pub(super) fn of(typ: Option<&str>) -> Option<Self> {
        let Some(typ) = typ else { return Some(Self::Absent) };
        let lower = typ.to_ascii_lowercase();
        match lower.strip_prefix("application/").unwrap_or(&lower) {
            "at+jwt" => Some(Self::AccessToken),
            "jwt" => Some(Self::Jwt),
            _ => None,
        }
    }
}
