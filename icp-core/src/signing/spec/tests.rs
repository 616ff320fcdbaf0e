use http::HeaderMap;
use serde_json::json;

use super::*;
use crate::secret::{LocalKeys, MASK, MaskAll, Owner, Previous, SealAll, Sealer, SystemEntropy};
use crate::signing::Message;
use crate::signing::standard::{SIGNATURE, generate_secret};

const GOOD: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
const OWNER: Owner<'_> = Owner { org: "acme", kind: "integration", id: "orders" };

fn spec(json: serde_json::Value) -> SigningSpec {
    serde_json::from_value(json).unwrap()
}

#[test]
fn defaults_make_a_short_spec_enough() {
    let spec = spec(json!({ "keys": [{ "secret": GOOD }] }));
    assert_eq!(spec.profile, "standard-webhooks");
    assert_eq!(spec.validate("/signing", &Profiles::default()), []);
}

#[test]
fn rules() {
    let many: Vec<_> = (0..11).map(|id| json!({ "id": id.to_string(), "secret": MASK })).collect();
    for (json, pointer, code) in [
        (
            json!({ "profile": "x", "keys": [{ "secret": GOOD }] }),
            "/s/profile",
            "signing_profile_unknown",
        ),
        (json!({ "keys": [] }), "/s/keys", "signing_keys_count"),
        (json!({ "keys": many }), "/s/keys", "signing_keys_count"),
        (
            json!({ "keys": [{ "secret": GOOD }, { "secret": GOOD }] }),
            "/s/keys/1/id",
            "signing_key_id",
        ),
        (json!({ "keys": [{ "id": "", "secret": GOOD }] }), "/s/keys/0/id", "signing_key_id"),
        (json!({ "keys": [{ "secret": "whsec_AAAA" }] }), "/s/keys/0/secret", "secret_invalid"),
    ] {
        let found = spec(json.clone()).validate("/s", &Profiles::default());
        assert_eq!(found.len(), 1, "{json}: {found:?}");
        assert_eq!((found[0].pointer.as_str(), found[0].code.as_str()), (pointer, code));
    }
    let unknown = json!({ "keys": [{ "secret": GOOD, "expires": 1 }] });
    assert!(serde_json::from_value::<SigningSpec>(unknown).is_err());
    assert!(serde_json::from_value::<SigningSpec>(json!({})).is_err());
}

#[test]
fn a_rotated_spec_signs_with_both_keys_until_the_old_one_expires() {
    let sealer = Sealer::new(Arc::new(LocalKeys::generate("k", &SystemEntropy).unwrap()));
    let old = generate_secret(&SystemEntropy).unwrap();
    let mut stored = spec(json!({ "keys": [{ "secret": old.expose() }] }));
    stored.visit_secrets("", &mut SealAll::new(&sealer, OWNER, Previous::default())).unwrap();

    let mut shown = stored.clone();
    shown.visit_secrets("", &mut MaskAll).unwrap();
    let mut json = serde_json::to_value(&shown).unwrap();
    json["keys"][0]["expires_at"] = json!("2026-01-01T00:00:00Z");
    json["keys"].as_array_mut().unwrap().insert(0, json!({ "id": "2026", "secret": GOOD }));
    let mut rotated = spec(json);
    let mut previous = Previous::default();
    stored.visit_secrets("", &mut previous).unwrap();
    rotated.visit_secrets("", &mut SealAll::new(&sealer, OWNER, previous)).unwrap();

    let expiry: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
    let opener = Opener::new(&sealer, OWNER);
    let ring = rotated.first().open(&opener).unwrap();
    assert_eq!(
        ring.live(Timestamp::EPOCH).map(SecretString::expose).collect::<Vec<_>>(),
        [GOOD, old.expose()]
    );
    let signer = rotated.signer(&opener, &Profiles::default()).unwrap();
    for (timestamp, signatures) in [(Timestamp::EPOCH, 2), (expiry, 1)] {
        let mut headers = HeaderMap::new();
        signer.sign(&Message { id: "m", timestamp, body: b"x" }, &mut headers).unwrap();
        assert_eq!(headers[SIGNATURE].to_str().unwrap().split(' ').count(), signatures);
    }
}

#[test]
fn what_cannot_sign_does_not_compile() {
    let sealer = Sealer::new(Arc::new(LocalKeys::generate("k", &SystemEntropy).unwrap()));
    let opener = Opener::new(&sealer, OWNER);
    for (profile, secret) in [("standard-webhooks", "whsec_AAAA"), ("gone", GOOD)] {
        let spec = spec(json!({ "profile": profile, "keys": [{ "secret": secret }] }));
        let error = spec.signer(&opener, &Profiles::default()).unwrap_err();
        assert_eq!(error.code(), Code::SigningFailed);
    }
}

fn three() -> serde_json::Value {
    json!({
        "keys": [{ "secret": GOOD }],
        "also": [
            { "id": "old", "profile": "icplane", "keys": [{ "secret": GOOD }] },
            {
                "id": "plain",
                "profile": "hmac-body",
                "settings": { "header": "x-signature" },
                "keys": [{ "secret": "a text as it is" }],
            },
        ],
    })
}

#[test]
fn several_profiles_sign_one_request() {
    let sealer = Sealer::new(Arc::new(LocalKeys::generate("k", &SystemEntropy).unwrap()));
    let mut several = spec(three());
    assert_eq!(several.validate("", &Profiles::default()), []);
    several.visit_secrets("", &mut SealAll::new(&sealer, OWNER, Previous::default())).unwrap();
    let signer = several.signer(&Opener::new(&sealer, OWNER), &Profiles::default()).unwrap();
    let mut headers = HeaderMap::new();
    let message = Message { id: "m", timestamp: Timestamp::EPOCH, body: b"x" };
    signer.sign(&message, &mut headers).unwrap();
    assert_eq!(headers.len(), 7);
    assert_eq!(headers["webhook-signature"], headers["x-integration-signature"]);
    assert!(headers.contains_key("x-signature"));
}

#[test]
fn masked_secrets_stay_with_their_signature_when_the_list_changes() {
    let sealer = Sealer::new(Arc::new(LocalKeys::generate("k", &SystemEntropy).unwrap()));
    let mut stored = spec(three());
    stored.visit_secrets("", &mut SealAll::new(&sealer, OWNER, Previous::default())).unwrap();
    let mut previous = Previous::default();
    stored.clone().visit_secrets("", &mut previous).unwrap();
    let mut shown = stored.clone();
    shown.visit_secrets("", &mut MaskAll).unwrap();
    shown.also.swap(0, 1);
    shown.visit_secrets("", &mut SealAll::new(&sealer, OWNER, previous)).unwrap();
    assert_eq!(shown.also[0], stored.also[1]);
    assert_eq!(shown.also[1], stored.also[0]);
}

#[test]
fn rules_of_further_signatures() {
    for (pointer, value, at, code) in [
        ("/also/0/id", json!("plain"), "/s/also/1/id", "signature_id"),
        ("/also/0/id", json!(""), "/s/also/0/id", "signature_id"),
        ("/also/0/profile", json!("x"), "/s/also/0/profile", "signing_profile_unknown"),
        ("/also/0/keys", json!([]), "/s/also/0/keys", "signing_keys_count"),
        ("/also/0/profile", json!("standard-webhooks"), "/s/also/0", "signature_header_twice"),
        (
            "/also/1/settings",
            json!({ "header": "te" }),
            "/s/also/1/settings/header",
            "header_invalid",
        ),
        ("/also/1/keys/0/secret", json!("short"), "/s/also/1/keys/0/secret", "secret_invalid"),
    ] {
        let mut json = three();
        *json.pointer_mut(pointer).unwrap() = value;
        let found = spec(json).validate("/s", &Profiles::default());
        assert!(!found.is_empty(), "{pointer}");
        assert!(
            found.iter().all(|violation| (&*violation.pointer, &*violation.code) == (at, code)),
            "{found:?}"
        );
    }
    let settings = json!({ "settings": { "a": 1 }, "keys": [{ "secret": GOOD }] });
    let found = spec(settings).validate("/s", &Profiles::default());
    assert_eq!((&*found[0].pointer, &*found[0].code), ("/s/settings/a", "unknown_field"));
}
