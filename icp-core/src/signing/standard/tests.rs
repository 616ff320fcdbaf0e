use http::header::HeaderName;
use proptest::prelude::*;

use super::*;
use crate::time::{Clock, SystemClock};

const HMAC_1: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
const HMAC_2: &str = "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const PRIVATE: &str =
    "whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6Kvg==";
const PUBLIC: &str = "whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4=";
const ID_2: &str = "msg_p5jXN8AQM9LWM0D4loKWxJek";
const BODY_2: &[u8] = br#"{"test": 2432232314}"#;
const SECONDS_2: i64 = 1_614_265_330;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_millis(seconds * 1000)
}

fn ring(secrets: &[&str]) -> KeyRing<SecretString> {
    KeyRing::new(secrets.iter().map(|secret| (SecretString::from(*secret), None))).unwrap()
}

fn sign(secrets: &[&str], id: &str, seconds: i64, body: &[u8]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let message = Message { id, timestamp: at(seconds), body };
    StandardSigner::new(&ring(secrets)).unwrap().sign(&message, &mut headers).unwrap();
    headers
}

fn verify(secrets: &[&str], headers: &HeaderMap, body: &[u8], now: i64) -> Result<Verified, Code> {
    let verifier = StandardVerifier::new(&ring(secrets)).unwrap();
    verifier.verify(headers, body, at(now)).map_err(|error| error.code())
}

fn headers(id: &str, timestamp: &str, signature: &str) -> HeaderMap {
    [(ID, id), (TIMESTAMP, timestamp), (SIGNATURE, signature)]
        .into_iter()
        .map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap()))
        .collect()
}

#[test]
fn published_vectors() {
    let first = br#"{"email":"test@example.com","username":"test_user"}"#.as_slice();
    for (secret, id, seconds, body, signature) in [
        (
            HMAC_1,
            "msg_27UH4WbU6Z5A5EzD8u03UvzRbpk",
            1_649_367_553,
            first,
            "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw=",
        ),
        (HMAC_2, ID_2, SECONDS_2, BODY_2, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="),
        (
            PRIVATE,
            ID_2,
            SECONDS_2,
            BODY_2,
            "v1a,hnO3f9T8Ytu9HwrXslvumlUpqtNVqkhqw/enGzPCXe5BdqzCInXqYXFymVJaA7AZdpXwVLPo3mNl8EM+m7TBAg==",
        ),
    ] {
        let headers = sign(&[secret], id, seconds, body);
        assert_eq!(headers[ID], id);
        assert_eq!(headers[TIMESTAMP], seconds.to_string());
        assert_eq!(headers[SIGNATURE], signature);
        let verified = verify(&[secret], &headers, body, seconds).unwrap();
        assert_eq!(verified, Verified { id: Some(id.to_owned()), timestamp: Some(at(seconds)) });
    }
    let headers = sign(&[PRIVATE], ID_2, SECONDS_2, BODY_2);
    assert!(verify(&[PUBLIC], &headers, BODY_2, SECONDS_2).is_ok());
    assert!(verify(&[PUBLIC], &headers, b"{}", SECONDS_2).is_err());
}

#[test]
fn lists_of_signatures() {
    let good = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
    let encoded = &good[3..];
    let wrong = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OA=";
    for (list, fine) in [
        (good.to_owned(), true),
        (wrong.to_owned(), false),
        (format!("{wrong} {good}"), true),
        (format!("{good} {wrong}"), true),
        (format!("v9,{encoded} v1a,AAAA nonsense {good}"), true),
        (format!("v2,{encoded}"), false),
        (format!("v1a,{encoded}"), false),
        (format!("V1,{encoded}"), false),
        (format!("v1,{}", &encoded[..43]), false),
        (format!("v1,{encoded}AAAA"), false),
        (encoded.to_owned(), false),
        ("v1,".to_owned(), false),
        ("v1".to_owned(), false),
        (String::new(), false),
        (format!("{}{good}", "v1, ".repeat(MAX_SIGNATURES - 1)), true),
        (format!("{}{good}", "v1, ".repeat(MAX_SIGNATURES)), false),
    ] {
        let headers = headers(ID_2, &SECONDS_2.to_string(), &list);
        assert_eq!(verify(&[HMAC_2], &headers, BODY_2, SECONDS_2).is_ok(), fine, "{list}");
    }
}

#[test]
fn the_timestamp_may_be_five_minutes_off_in_both_directions() {
    let headers = sign(&[HMAC_1], "m", 10_000, b"x");
    for (now, fine) in
        [(9_699, false), (9_700, true), (10_000, true), (10_300, true), (10_301, false)]
    {
        let verdict = verify(&[HMAC_1], &headers, b"x", now);
        assert_eq!(verdict.is_ok(), fine, "{now}");
        assert!(fine || verdict == Err(Code::SignatureExpired), "{now}");
    }
    let strict = StandardVerifier::new(&ring(&[HMAC_1])).unwrap().tolerance(Duration::ZERO);
    assert!(strict.verify(&headers, b"x", at(10_000)).is_ok());
    assert!(strict.verify(&headers, b"x", at(10_001)).is_err());
}

#[test]
fn malformed_and_changed_headers_are_refused() {
    let good = sign(&[HMAC_1], "m", 10_000, b"x");
    for (name, value) in [
        (ID, None),
        (TIMESTAMP, None),
        (SIGNATURE, None),
        (ID, Some("n")),
        (ID, Some("")),
        (TIMESTAMP, Some("10001")),
        (TIMESTAMP, Some("010000")),
        (TIMESTAMP, Some("+10000")),
        (TIMESTAMP, Some("10000.0")),
        (TIMESTAMP, Some("")),
        (TIMESTAMP, Some("99999999999999999999")),
    ] {
        let mut changed = good.clone();
        changed.remove(name);
        if let Some(value) = value {
            changed.insert(name, value.parse().unwrap());
        }
        let verdict = verify(&[HMAC_1], &changed, b"x", 10_000);
        assert_eq!(verdict, Err(Code::SignatureInvalid), "{name} {value:?}");
        let mut doubled = good.clone();
        doubled.append(name, doubled[name].clone());
        assert!(verify(&[HMAC_1], &doubled, b"x", 10_000).is_err(), "{name} twice");
    }
}

#[test]
fn a_dotted_id_would_be_ambiguous_and_is_refused() {
    let (one, other) = (
        Content { id: "a.1", timestamp: "2", body: b"x" },
        Content { id: "a", timestamp: "1", body: b"2.x" },
    );
    assert_eq!(one.parts().concat(), other.parts().concat());

    let signer = StandardSigner::new(&ring(&[HMAC_1])).unwrap();
    let mut headers = HeaderMap::new();
    for id in ["a.1", "", "a b", "a\n", "é"] {
        let message = Message { id, timestamp: at(2), body: b"x" };
        let error = signer.sign(&message, &mut headers).unwrap_err();
        assert_eq!(error.code(), Code::SigningFailed);
        assert!(headers.is_empty(), "{id}");
    }
    let mut moved = sign(&[HMAC_1], "a", 1, b"2.x");
    moved.insert(ID, "a.1".parse().unwrap());
    moved.insert(TIMESTAMP, "2".parse().unwrap());
    assert_eq!(verify(&[HMAC_1], &moved, b"x", 2), Err(Code::SignatureInvalid));
}

#[test]
fn every_live_key_signs_and_any_of_them_verifies() {
    let keys = KeyRing::new([
        (SecretString::from(HMAC_1), None),
        (SecretString::from(PRIVATE), Some(at(300))),
        (SecretString::from(HMAC_2), Some(at(200))),
    ]);
    let signer = StandardSigner::new(&keys.unwrap()).unwrap();
    let mut headers = HeaderMap::new();
    for (now, fits) in [
        (100, [(HMAC_1, true), (PUBLIC, true), (HMAC_2, true)]),
        (200, [(HMAC_1, true), (PUBLIC, true), (HMAC_2, false)]),
        (300, [(HMAC_1, true), (PUBLIC, false), (HMAC_2, false)]),
    ] {
        signer.sign(&Message { id: "m", timestamp: at(now), body: b"x" }, &mut headers).unwrap();
        for (secret, fits) in fits {
            assert_eq!(verify(&[secret], &headers, b"x", now).is_ok(), fits, "{now} {secret}");
        }
    }
    assert_eq!(headers.len(), 3);
}

#[test]
fn expired_keys_neither_sign_nor_verify() {
    let expired = KeyRing::new([(SecretString::from(HMAC_1), Some(at(100)))]).unwrap();
    let mut headers = HeaderMap::new();
    let message = Message { id: "m", timestamp: at(100), body: b"x" };
    let error = StandardSigner::new(&expired).unwrap().sign(&message, &mut headers).unwrap_err();
    assert_eq!(error.code(), Code::SigningFailed);
    assert!(headers.is_empty());
    let headers = sign(&[HMAC_1], "m", 99, b"x");
    let verifier = StandardVerifier::new(&expired).unwrap();
    assert!(verifier.verify(&headers, b"x", at(99)).is_ok());
    assert!(verifier.verify(&headers, b"x", at(100)).is_err());
}

proptest! {
    #[test]
    fn we_agree_with_the_reference_library(
        secret in proptest::collection::vec(any::<u8>(), 24..=64),
        id in "[A-Za-z0-9_-]{1,40}",
        body in "\\PC{0,200}",
    ) {
        let text = format!("whsec_{}", STANDARD.encode(&secret));
        let reference = standardwebhooks::Webhook::new(&text).unwrap();
        // The reference reads the wall clock, so the message must be of now.
        let now = SystemClock.now().as_secs();
        let ours = sign(&[&text], &id, now, body.as_bytes());
        prop_assert!(reference.verify(body.as_bytes(), &ours).is_ok());

        let theirs = reference.sign(&id, now, body.as_bytes()).unwrap();
        let theirs = headers(&id, &now.to_string(), &theirs);
        prop_assert!(verify(&[&text], &theirs, body.as_bytes(), now).is_ok());
    }

    #[test]
    fn any_body_verifies_and_any_change_of_it_does_not(
        mut body in proptest::collection::vec(any::<u8>(), 1..200),
        at in any::<prop::sample::Index>(),
        bit in 0..8u8,
        secret in prop::sample::select(vec![HMAC_1, PRIVATE]),
    ) {
        let headers = sign(&[secret], "m", 1000, &body);
        prop_assert!(verify(&[secret], &headers, &body, 1000).is_ok());
        let place = at.index(body.len());
        body[place] ^= 1 << bit;
        prop_assert_eq!(verify(&[secret], &headers, &body, 1000), Err(Code::SignatureInvalid));
    }

    #[test]
    fn hostile_headers_never_panic(list in "[ -~]{0,120}", id in "[ -~]{0,20}", time in "[ -~]{0,20}") {
        prop_assert!(verify(&[HMAC_1, PUBLIC], &headers(&id, &time, &list), b"x", 1000).is_err());
    }
}
