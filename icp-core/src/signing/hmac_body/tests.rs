use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::secret::SystemEntropy;

const SECRET: &str = "It's a Secret to Everybody";
const NOW: Timestamp = Timestamp::from_millis(1_000_000);

fn settings(json: Value) -> Settings {
    serde_json::from_value(json).unwrap()
}

fn ring(secrets: &[(&str, Option<Timestamp>)]) -> KeyRing<SecretString> {
    let secret = |(text, until): &(&str, _)| (SecretString::from(*text), *until);
    KeyRing::new(secrets.iter().map(secret)).unwrap()
}

fn sign(settings: &Settings, keys: &KeyRing<SecretString>, body: &[u8]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let message = Message { id: "m", timestamp: NOW, body };
    HmacBody.signer(settings, keys).unwrap().sign(&message, &mut headers).unwrap();
    headers
}

// The first is GitHub's documented example; the others are those of a sender that signs
// `timestamp,body`, which is a body like any other here.
#[test]
fn published_vectors() {
    let timed = br#"1257894000,{"b":{},"e":"123","a":1}"#.as_slice();
    for (secret, body, hex, base64) in [
        (
            SECRET,
            b"Hello, World!".as_slice(),
            "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17",
            "dXEH6g6yUJ/CESIczphLijdXC211hsIsRvQ3nIsEPhc=",
        ),
        (
            "new-secret",
            timed,
            "d5589c4f5e51d74e6116c8d5db2704d76cdf88521e2cdd749d2d5091e3d6183c",
            "1VicT15R105hFsjV2ycE12zfiFIeLN10nS1QkePWGDw=",
        ),
        (
            "expired-secret",
            timed,
            "9942b27103f8f5f5ce4cd3751524dbb7087a596487c784655a33f528cd4d7400",
            "mUKycQP49fXOTNN1FSTbtwh6WWSHx4RlWjP1KM1NdAA=",
        ),
    ] {
        let keys = ring(&[(secret, None)]);
        let plain = settings(json!({ "header": "X-AI-Chat-Signature" }));
        assert_eq!(sign(&plain, &keys, body)["x-ai-chat-signature"], hex);
        let github = settings(json!({ "header": "X-Hub-Signature-256", "prefix": "sha256=" }));
        assert_eq!(
            sign(&github, &keys, body)["x-hub-signature-256"],
            format!("sha256={hex}").as_str()
        );
        let coded = settings(json!({ "header": "x-signature", "encoding": "base64" }));
        assert_eq!(sign(&coded, &keys, body)["x-signature"], base64);
    }
}

#[test]
fn live_keys_sign_side_by_side_and_each_verifies_alone() {
    let form = settings(json!({ "header": "x-signature", "prefix": "v0=" }));
    let old = Some(NOW + std::time::Duration::from_secs(1));
    let keys = ring(&[("new secret", None), ("old secret", old), ("older secret", Some(NOW))]);
    let headers = sign(&form, &keys, b"x");
    assert_eq!(headers["x-signature"].to_str().unwrap().split(',').count(), 2);
    for (secret, fits) in [("new secret", true), ("old secret", true), ("older secret", false)] {
        let verifier =
            HmacBodyVerifier::new(&read(&form).unwrap(), &ring(&[(secret, None)])).unwrap();
        assert_eq!(verifier.verify(&headers, b"x", NOW).is_ok(), fits, "{secret}");
        assert!(verifier.verify(&headers, b"y", NOW).is_err());
    }
}

#[test]
fn what_is_received_is_read_with_care() {
    let form = HmacBodySettings { prefix: "sha256=".into(), ..HmacBodySettings::new("x-s") };
    let verifier = HmacBodyVerifier::new(&form, &ring(&[(SECRET, None)])).unwrap();
    let good = "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
    let upper = good.to_ascii_uppercase();
    let many = vec!["x"; MAX_SIGNATURES].join(",");
    for (value, fits) in [
        (format!("sha256={good}"), true),
        (format!("sha256={upper}"), true),
        (format!("sha256=00, sha256={good}"), true),
        (good.to_owned(), false),
        (format!("sha256={good}0"), false),
        (format!("sha256={}", &good[1..]), false),
        (String::new(), false),
        (format!("{many},sha256={good}"), false),
    ] {
        let headers = HeaderMap::from_iter([("x-s".parse().unwrap(), value.parse().unwrap())]);
        let verdict = verifier.verify(&headers, b"Hello, World!", NOW);
        assert_eq!(verdict.is_ok(), fits, "{value}");
        assert!(verdict.is_ok() || verdict.is_err_and(|e| e.code() == Code::SignatureInvalid));
    }
    assert!(verifier.verify(&HeaderMap::new(), b"Hello, World!", NOW).is_err());
}

#[test]
fn settings_and_secrets_have_rules() {
    for (json, pointer) in [
        (json!({}), "/s"),
        (json!({ "header": "x", "algorithm": "md5" }), "/s"),
        (json!({ "header": "x", "encoding": "base32" }), "/s"),
        (json!({ "header": "a b" }), "/s/header"),
        (json!({ "header": "Content-Type" }), "/s/header"),
        (json!({ "header": "Authorization" }), "/s/header"),
        (json!({ "header": "webhook-id" }), "/s/header"),
        (json!({ "header": "x", "prefix": "a,b" }), "/s/prefix"),
        (json!({ "header": "x", "prefix": "a\r\nb" }), "/s/prefix"),
    ] {
        let found = HmacBody.validate(&settings(json.clone()), "/s");
        assert_eq!(found.len(), 1, "{json}: {found:?}");
        assert_eq!(found[0].pointer, pointer, "{json}");
        assert!(HmacBody.signer(&settings(json), &ring(&[(SECRET, None)])).is_err());
    }
    for (length, fine) in [(7, false), (8, true), (512, true), (513, false)] {
        assert_eq!(HmacBody.check(&"k".repeat(length).into()).is_ok(), fine, "{length}");
    }
}

#[test]
fn generated_secrets_fit_and_differ() {
    let like = SecretString::from(SECRET);
    let [a, b] = [(), ()].map(|()| HmacBody.generate(&like, &SystemEntropy).unwrap().secret);
    assert!(HmacBody.check(&a).is_ok());
    assert_ne!(a, b);
    assert_eq!(a.expose().len(), 64);
}

proptest! {
    #[test]
    fn what_is_signed_verifies_and_nothing_else_does(
        body: Vec<u8>,
        other: Vec<u8>,
        base64: bool,
        secret in "[ -~]{8,40}",
    ) {
        let encoding = if base64 { Encoding::Base64 } else { Encoding::Hex };
        let form = HmacBodySettings { encoding, ..HmacBodySettings::new("x-signature") };
        let keys = ring(&[(&secret, None)]);
        let mut headers = HeaderMap::new();
        let message = Message { id: "m", timestamp: NOW, body: &body };
        HmacBodySigner::new(&form, &keys).unwrap().sign(&message, &mut headers).unwrap();
        let verifier = HmacBodyVerifier::new(&form, &keys).unwrap();
        prop_assert!(verifier.verify(&headers, &body, NOW).is_ok());
        prop_assert_eq!(verifier.verify(&headers, &other, NOW).is_ok(), body == other);
    }
}
