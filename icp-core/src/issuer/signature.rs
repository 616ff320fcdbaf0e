//! Whether a signature is right. The arithmetic is that of `ring` and `ed25519-dalek`.

use super::algorithm::Algorithm;

/// A public key, of the sizes that are taken.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum PublicKey {
    /// Modulus and exponent, without leading zeros.
    Rsa { n: Vec<u8>, e: Vec<u8> },
    /// An uncompressed point on P-256.
    P256([u8; 65]),
    /// An uncompressed point on P-384.
    P384([u8; 97]),
    /// Ed25519.
    Ed25519([u8; 32]),
}

impl PublicKey {
    /// Whether keys of this type sign by `algorithm`.
    pub(super) fn fits(&self, algorithm: Algorithm) -> bool {
        use Algorithm::{EdDsa, Es256, Es384, Ps256, Ps384, Ps512, Rs256, Rs384, Rs512};
        match self {
            Self::Rsa { .. } => {
                matches!(algorithm, Rs256 | Rs384 | Rs512 | Ps256 | Ps384 | Ps512)
            }
            Self::P256(_) => algorithm == Es256,
            Self::P384(_) => algorithm == Es384,
            Self::Ed25519(_) => algorithm == EdDsa,
        }
    }

    /// Whether `signature` is one of `message` by this key and algorithm.
    #[cfg(feature = "http")]
    pub(super) fn verifies(&self, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> bool {
        use ring::signature as by;
        if !self.fits(algorithm) {
            return false;
        }
        let ecdsa = |algorithm, point: &[u8]| {
            by::UnparsedPublicKey::new(algorithm, point).verify(message, signature).is_ok()
        };
        match self {
            Self::Rsa { n, e } => {
                let Some(parameters) = rsa(algorithm) else { return false };
                let key = by::RsaPublicKeyComponents { n, e };
                key.verify(parameters, message, signature).is_ok()
            }
            Self::P256(point) => ecdsa(&by::ECDSA_P256_SHA256_FIXED, point),
            Self::P384(point) => ecdsa(&by::ECDSA_P384_SHA384_FIXED, point),
            // Refuses keys of small order, which would fit any message.
            Self::Ed25519(key) => {
                let key = ed25519_dalek::VerifyingKey::from_bytes(key);
                let signature = ed25519_dalek::Signature::from_slice(signature);
                matches!((key, signature), (Ok(key), Ok(signature))
                    if key.verify_strict(message, &signature).is_ok())
            }
        }
    }

    /// A build without the feature `http` reaches no issuer, and brings no code to check with.
    #[cfg(not(feature = "http"))]
    pub(super) fn verifies(&self, _: Algorithm, _: &[u8], _: &[u8]) -> bool {
        false
    }
}

#[cfg(feature = "http")]
fn rsa(algorithm: Algorithm) -> Option<&'static ring::signature::RsaParameters> {
    use ring::signature as by;
    Some(match algorithm {
        Algorithm::Rs256 => &by::RSA_PKCS1_2048_8192_SHA256,
        Algorithm::Rs384 => &by::RSA_PKCS1_2048_8192_SHA384,
        Algorithm::Rs512 => &by::RSA_PKCS1_2048_8192_SHA512,
        Algorithm::Ps256 => &by::RSA_PSS_2048_8192_SHA256,
        Algorithm::Ps384 => &by::RSA_PSS_2048_8192_SHA384,
        Algorithm::Ps512 => &by::RSA_PSS_2048_8192_SHA512,
        Algorithm::Es256 | Algorithm::Es384 | Algorithm::EdDsa => return None,
    })
}
