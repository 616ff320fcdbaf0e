//! Signatures by Standard Webhooks on a body of 1 KiB.

use std::hint::black_box;

use http::HeaderMap;
use icp::secret::SecretString;
use icp::signing::standard::{StandardSigner, StandardVerifier};
use icp::signing::{KeyRing, Message, Signer, Verifier};

use crate::{NOW, Round, transform};

/// Signs.
#[must_use]
pub fn sign() -> Round {
    let (signer, body) = (signer(), transform::order());
    Box::new(move || {
        let mut headers = HeaderMap::new();
        signer.sign(&message(black_box(&body)), &mut headers).unwrap();
        black_box(headers);
    })
}

/// Verifies a signature that fits.
#[must_use]
pub fn verify() -> Round {
    let body = transform::order();
    let mut headers = HeaderMap::new();
    signer().sign(&message(&body), &mut headers).unwrap();
    let verifier = StandardVerifier::new(&keys()).unwrap();
    Box::new(move || {
        black_box(verifier.verify(&headers, black_box(&body), NOW).unwrap());
    })
}

fn signer() -> StandardSigner {
    StandardSigner::new(&keys()).unwrap()
}

fn keys() -> KeyRing<SecretString> {
    KeyRing::single("whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD".to_owned().into())
}

fn message(body: &[u8]) -> Message<'_> {
    Message { id: "evt_01jd8p1y3kf7s8v6q2m4x9c0za", timestamp: NOW, body }
}
