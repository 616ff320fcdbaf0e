//! Tokens that somebody made to be let in: none is, and its honest neighbour is.

use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;

use super::forge::{Forge, ISSUER, Made, NOW, encode};
use super::{rules, verified};
use crate::issuer::algorithm::Algorithm::{self, EdDsa, Es256, Es384, Ps256, Rs256};
use crate::issuer::jwks::KeySet;
use crate::issuer::verify::Refusal;

/// What is tried, what it began as, and why it is refused.
struct Case {
    name: &'static str,
    honest: String,
    hostile: String,
    why: Refusal,
}

struct Cases {
    forge: Forge,
    all: Vec<Case>,
}

impl Cases {
    /// A token that is signed as it should be, after `change`.
    fn changed(
        &mut self,
        name: &'static str,
        why: Refusal,
        algorithm: Algorithm,
        change: impl FnOnce(Made) -> Made,
    ) {
        let hostile = change(self.forge.good(algorithm)).token(&self.forge);
        self.add(name, why, algorithm, hostile);
    }

    fn claims(&mut self, name: &'static str, why: Refusal, claims: &Value) {
        self.changed(name, why, Es256, |made| made.with(claims));
    }

    fn header(&mut self, name: &'static str, why: Refusal, members: &Value) {
        self.changed(name, why, Es256, |made| made.header(members));
    }

    /// The text of a good token, after `change`.
    fn text(
        &mut self,
        name: &'static str,
        why: Refusal,
        algorithm: Algorithm,
        change: impl FnOnce(&Forge, &str) -> String,
    ) {
        let honest = self.forge.good(algorithm).token(&self.forge);
        let hostile = change(&self.forge, &honest);
        self.add(name, why, algorithm, hostile);
    }

    fn add(&mut self, name: &'static str, why: Refusal, algorithm: Algorithm, hostile: String) {
        let honest = self.forge.good(algorithm).token(&self.forge);
        self.all.push(Case { name, honest, hostile, why });
    }
}

#[test]
fn no_hostile_token_is_taken() {
    let mut cases = Cases { forge: Forge::new(), all: Vec::new() };
    algorithms(&mut cases);
    keys(&mut cases);
    signatures(&mut cases);
    claims(&mut cases);
    times(&mut cases);
    forms(&mut cases);
    let keys = cases.forge.keys();
    assert!(cases.all.len() > 120, "{}", cases.all.len());
    for Case { name, honest, hostile, why } in &cases.all {
        assert!(verified(honest, &rules(), &keys, NOW).is_ok(), "the neighbour of: {name}");
        assert_eq!(verified(hostile, &rules(), &keys, NOW), Err(*why), "{name}");
    }
}

fn mac(secret: &[u8], made: &Made) -> String {
    let signed = made.signed();
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).unwrap();
    mac.update(signed.as_bytes());
    format!("{signed}.{}", encode(mac.finalize().into_bytes()))
}

fn algorithms(cases: &mut Cases) {
    for (name, alg) in [
        ("alg none", "none"),
        ("alg None", "None"),
        ("alg NONE", "NONE"),
        ("alg empty", ""),
        ("alg es256", "es256"),
        ("alg Es256", "Es256"),
        ("alg with a space", "ES256 "),
        ("alg of P-521", "ES512"),
        ("alg of secp256k1", "ES256K"),
        ("alg dir", "dir"),
    ] {
        cases.header(name, Refusal::Algorithm, &json!({ "alg": alg }));
        if alg.eq_ignore_ascii_case("none") {
            let made = cases.forge.good(Es256).header(&json!({ "alg": alg }));
            cases.add("none, without a signature", Refusal::Algorithm, Es256, made.signed() + ".");
        }
    }
    cases.header("alg a number", Refusal::Malformed, &json!({ "alg": 256 }));
    cases.header("alg a list", Refusal::Malformed, &json!({ "alg": ["ES256"] }));
    let headed = |made: Made| made.headed(r#"{"typ":"JWT","kid":"p256"}"#);
    cases.changed("no alg", Refusal::Algorithm, Es256, headed);
    // The public key as the secret of a MAC, in each form that it is handed around in.
    let jwk = cases.forge.jwk("rsa", "rsa").to_string().into_bytes();
    for (name, secret) in [
        ("HS256 by the modulus", cases.forge.modulus()),
        ("HS256 by the JWK", jwk),
        ("HS256 by nothing", Vec::new()),
    ] {
        let made = cases.forge.good(Rs256).header(&json!({ "alg": "HS256" }));
        cases.add(name, Refusal::Algorithm, Rs256, mac(&secret, &made));
        let made = cases.forge.good(Rs256);
        cases.add("a MAC that says RS256", Refusal::Signature, Rs256, mac(&secret, &made));
    }
    let mixed = |cases: &mut Cases, name, says, by| {
        let hostile = cases.forge.good(says).token_by(&cases.forge, by);
        cases.add(name, Refusal::Signature, says, hostile);
    };
    mixed(cases, "PS256 that says RS256", Rs256, Ps256);
    mixed(cases, "RS256 that says PS256", Ps256, Rs256);
    mixed(cases, "RS512 that says RS256", Rs256, Algorithm::Rs512);
    mixed(cases, "RS256 that says ES256", Es256, Rs256);
    mixed(cases, "Ed25519 that says ES256", Es256, EdDsa);
    mixed(cases, "ES256 that says EdDSA", EdDsa, Es256);
}

fn keys(cases: &mut Cases) {
    for (name, kid) in [
        ("kid unknown", "gone"),
        ("kid a path", "../../../../dev/null"),
        ("kid an address", "http://127.0.0.1:1/jwks.json"),
        ("kid a query", "p256' or '1'='1"),
        ("kid of a key of another type", "rsa"),
        ("kid of another case", "P256"),
        ("kid with a NUL", "p256\u{0}"),
        ("kid empty", ""),
    ] {
        cases.header(name, Refusal::Key, &json!({ "kid": kid }));
    }
    cases.header("kid a number", Refusal::Malformed, &json!({ "kid": 1 }));
    cases.header("kid huge", Refusal::Malformed, &json!({ "kid": "k".repeat(257) }));
    // Another one's key, brought along: it is not looked at.
    let other = Forge::new();
    let jwk = other.jwk("p256", "p256");
    for (name, members) in [
        ("jwk", json!({ "jwk": jwk })),
        ("jku", json!({ "jku": "http://127.0.0.1:1/jwks.json" })),
        ("x5u", json!({ "x5u": "http://127.0.0.1:1/cert.pem" })),
        ("x5c", json!({ "x5c": ["MIIB"] })),
    ] {
        let hostile = cases.forge.good(Es256).header(&members).token(&other);
        cases.add(name, Refusal::Signature, Es256, hostile);
        let renamed = cases.forge.good(Es256).header(&members).header(&json!({ "kid": "mine" }));
        cases.add(name, Refusal::Key, Es256, renamed.token(&other));
    }
    let hostile = cases.forge.good(EdDsa).token(&other);
    cases.add("another one's key", Refusal::Signature, EdDsa, hostile);
}

fn signatures(cases: &mut Cases) {
    let with = |token: &str, signature: &[u8]| {
        format!("{}.{}", token.rsplit_once('.').unwrap().0, encode(signature))
    };
    let signature = Refusal::Signature;
    cases.text("no signature", signature, Es256, |_, token| with(token, b""));
    cases.text("r and s are zero", signature, Es256, |_, token| with(token, &[0; 64]));
    cases.text("r is the order", signature, Es256, |_, token| with(token, &[0xff; 64]));
    cases.text("r and s are zero on P-384", signature, Es384, |_, token| with(token, &[0; 96]));
    cases.text("in DER", signature, Es256, |forge, token| {
        let signed = token.rsplit_once('.').unwrap().0;
        let raw = forge.sign(Es256, signed.as_bytes());
        let mut der = vec![0x30, 70, 2, 33, 0];
        der.extend_from_slice(&raw[..32]);
        der.extend_from_slice(&[2, 33, 0]);
        der.extend_from_slice(&raw[32..]);
        with(token, &der)
    });
    cases.text("zeros before a signature by RSA", signature, Rs256, |forge, token| {
        let signed = token.rsplit_once('.').unwrap().0;
        with(token, &[vec![0], forge.sign(Rs256, signed.as_bytes())].concat())
    });
    cases.text("zeros for a signature by RSA", signature, Rs256, |_, token| with(token, &[0; 256]));
    cases.text("zeros for Ed25519", signature, EdDsa, |_, token| with(token, &[0; 64]));
    cases.text("a changed claim", signature, Es256, |forge, token| {
        let other = forge.good(Es256).with(&json!({ "sub": "root" })).signed();
        format!("{other}.{}", token.rsplit_once('.').unwrap().1)
    });
}

fn claims(cases: &mut Cases) {
    for (name, iss) in [
        ("iss with a slash at the end", format!("{ISSUER}/")),
        ("iss of another case", ISSUER.to_uppercase()),
        ("iss with its port", ISSUER.replace("example/", "example:443/")),
        ("iss that begins so", format!("{ISSUER}.attacker.example")),
        ("iss with a look-alike", ISSUER.replace('a', "\u{430}")),
        ("iss with a space", format!(" {ISSUER}")),
        ("iss empty", String::new()),
    ] {
        cases.claims(name, Refusal::Issuer, &json!({ "iss": iss }));
    }
    cases.claims("iss a list", Refusal::Malformed, &json!({ "iss": [ISSUER] }));
    cases.changed("no iss", Refusal::Issuer, Es256, |made| made.without("iss"));
    for (name, aud) in [
        ("aud of another", json!("other")),
        ("aud of another case", json!("ICP")),
        ("aud with a look-alike", json!("\u{456}cp")),
        ("aud that begins so", json!("icp2")),
        ("aud of look-alikes", json!(["icp ", "ICP", "icp\u{0}", "ic", "*"])),
        ("aud empty", json!("")),
        ("aud an empty list", json!([])),
        ("aud null", json!(null)),
        ("aud an object", json!({ "icp": true })),
        ("aud too many", json!(vec!["icp"; 17])),
    ] {
        cases.claims(name, Refusal::Audience, &json!({ "aud": aud }));
    }
    cases.claims(
        "aud a list of more than texts",
        Refusal::Malformed,
        &json!({ "aud": ["icp", 1] }),
    );
    cases.changed("no aud", Refusal::Audience, Es256, |made| made.without("aud"));
    for (name, typ) in [
        ("typ of a logout", "logout+jwt"),
        ("typ of an event", "secevent+jwt"),
        ("typ of a proof", "dpop+jwt"),
        ("typ JWE", "JWE"),
        ("typ empty", ""),
    ] {
        cases.header(name, Refusal::Type, &json!({ "typ": typ }));
    }
    let headed = |made: Made| made.headed(r#"{"alg":"ES256","kid":"p256"}"#);
    cases.changed("no typ", Refusal::Type, Es256, headed);
    cases.header("typ a list", Refusal::Malformed, &json!({ "typ": ["JWT"] }));
    cases.changed("no sub", Refusal::Subject, Es256, |made| made.without("sub"));
    cases.claims("sub with a line end", Refusal::Subject, &json!({ "sub": "ann\nroot" }));
    cases.claims("sub huge", Refusal::Subject, &json!({ "sub": "s".repeat(256) }));
}

fn times(cases: &mut Cases) {
    cases.changed("no exp", Refusal::Endless, Es256, |made| made.without("exp"));
    cases.claims("exp over", Refusal::Expired, &json!({ "exp": NOW - 60 }));
    cases.claims("exp zero", Refusal::Expired, &json!({ "exp": 0 }));
    let digits = NOW + 600;
    for (name, exp) in [
        ("exp a text", json!(digits.to_string())),
        ("exp null", json!(null)),
        ("exp negative", json!(-1)),
        ("exp in milliseconds", json!(digits * 1_000)),
        ("exp of the largest float", json!(f64::MAX)),
        ("exp of the largest integer", json!(u64::MAX)),
        ("exp true", json!(true)),
        ("exp a list", json!([digits])),
    ] {
        cases.claims(name, Refusal::Malformed, &json!({ "exp": exp }));
    }
    let exp = digits.to_string();
    cases.changed("exp that overflows", Refusal::Malformed, Es256, |made| {
        made.replaced(&exp, "1e999")
    });
    cases.claims("nbf ahead", Refusal::Early, &json!({ "nbf": NOW + 61 }));
    cases.claims("nbf a text", Refusal::Malformed, &json!({ "nbf": "0" }));
    cases.claims("iat ahead", Refusal::Early, &json!({ "iat": NOW + 61 }));
    cases.claims("iat a text", Refusal::Malformed, &json!({ "iat": "0" }));
}

fn forms(cases: &mut Cases) {
    let malformed = Refusal::Malformed;
    for (name, member) in [
        ("crit", json!({ "crit": ["exp"] })),
        ("crit empty", json!({ "crit": [] })),
        ("b64 false", json!({ "b64": false, "crit": ["b64"] })),
        ("b64 true", json!({ "b64": true })),
        ("zip", json!({ "zip": "DEF" })),
        ("enc", json!({ "enc": "A256GCM" })),
    ] {
        cases.header(name, Refusal::Unsupported, &member);
    }
    let claim = "\"sub\":\"ann\"";
    for (name, to) in [
        ("sub twice", "\"sub\":\"root\",\"sub\":\"ann\""),
        ("sub twice, once escaped", "\"s\\u0075b\":\"root\",\"sub\":\"ann\""),
        ("a member below twice", "\"x\":{\"a\":1,\"a\":2},\"sub\":\"ann\""),
    ] {
        cases.changed(name, malformed, Es256, |made| made.replaced(claim, to));
    }
    cases.changed("alg twice", malformed, Es256, |made| {
        made.headed(r#"{"alg":"none","alg":"ES256","kid":"p256","typ":"JWT"}"#)
    });
    for (name, payload) in [
        ("claims a list", "[]".to_owned()),
        ("claims a text", "\"icp\"".to_owned()),
        ("claims empty", String::new()),
        ("claims nested", format!("{{\"a\":{}1{}}}", "[".repeat(200), "]".repeat(200))),
        ("claims and more", "{}{}".to_owned()),
    ] {
        cases.changed(name, malformed, Es256, |made| made.saying(&payload));
    }
    cases.claims("huge", Refusal::TooLarge, &json!({ "x": "x".repeat(16 * 1_024) }));
    let text = |cases: &mut Cases, name, change: &dyn Fn(&str) -> String| {
        cases.text(name, malformed, Es256, |_, token| change(token));
    };
    text(cases, "a dot at the end", &|token| format!("{token}."));
    text(cases, "a dot before", &|token| format!(".{token}"));
    text(cases, "two dots", &|token| token.replacen('.', "..", 1));
    text(cases, "two parts", &|token| token.rsplit_once('.').unwrap().0.to_owned());
    text(cases, "five parts, as a JWE", &|token| format!("{token}.AA.AA"));
    text(cases, "padding", &|token| format!("{token}=="));
    text(cases, "a line end", &|token| format!("{token}\n"));
    text(cases, "a space within", &|token| token.replacen('.', ". ", 1));
    text(cases, "bits left over", &|token| {
        // 64 bytes leave four bits of the last letter unused.
        let (rest, last) = token.split_at(token.len() - 1);
        assert!("AQgw".contains(last), "{last}");
        rest.to_owned() + &char::from(last.as_bytes()[0] + 1).to_string()
    });
    text(cases, "the alphabet of base 64 that is not for URLs", &|token| {
        format!("{}+/{}", &token[..4], &token[6..])
    });
    text(cases, "nothing", &|_| String::new());
    text(cases, "dots", &|_| "..".to_owned());
}

#[test]
fn a_key_that_was_taken_back_is_good_no_more() {
    let forge = Forge::new();
    let token = forge.good(Es256).token(&forge);
    assert!(verified(&token, &rules(), &forge.keys(), NOW).is_ok());
    let rest = json!({ "keys": [forge.jwk("rsa", "rsa"), forge.jwk("ed", "p256")] });
    let rest = KeySet::read(rest.to_string().as_bytes()).unwrap();
    assert_eq!(verified(&token, &rules(), &rest, NOW), Err(Refusal::Key));
    let named = |alg: &str| {
        let mut jwk = forge.jwk("rsa", "rsa");
        jwk["alg"] = alg.into();
        KeySet::read(json!({ "keys": [jwk] }).to_string().as_bytes()).unwrap()
    };
    let token = forge.good(Rs256).token(&forge);
    assert!(verified(&token, &rules(), &named("RS256"), NOW).is_ok());
    for alg in ["PS256", "RS512", "rs256", "HS256"] {
        assert_eq!(verified(&token, &rules(), &named(alg), NOW), Err(Refusal::Key), "{alg}");
    }
}
