//! What tokens are taken, and what is made of their claims.

#[cfg(feature = "http")]
mod egress;
mod forge;
mod hostile;
mod keyring;

use std::time::Duration;

use serde_json::{Value, json};

use self::forge::{Forge, ISSUER, NOW};
use super::algorithm::{Algorithm, TokenType};
use super::jwks::KeySet;
use super::jws::Jws;
use super::spec::{Issuer, OrganizationRule, RoleRule, address, discovery};
use super::verify::{Refusal, Rules};
use crate::access::{Grant, PermissionSet};
use crate::id::{OrgId, ResourceId};
use crate::time::Timestamp;

fn rules() -> Rules {
    Rules {
        issuer: ISSUER.into(),
        audiences: vec!["icp".into(), "icp-staging".into()],
        algorithms: Algorithm::ALL.into(),
        types: vec![TokenType::AccessToken, TokenType::Jwt],
        leeway: Duration::from_secs(60),
        max_age: None,
    }
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_millis(seconds * 1_000)
}

fn verified(token: &str, rules: &Rules, keys: &KeySet, now: i64) -> Result<Timestamp, Refusal> {
    rules.verify(Jws::read(token)?, keys, at(now)).map(|(_, until)| until)
}

#[test]
fn every_algorithm_is_taken_and_binds_its_key() {
    let forge = Forge::new();
    for algorithm in Algorithm::ALL {
        let token = forge.good(algorithm).token(&forge);
        assert_eq!(
            verified(&token, &rules(), &forge.keys(), NOW),
            Ok(at(NOW + 660)),
            "{algorithm:?}"
        );
        let narrow = Rules { algorithms: vec![Algorithm::Rs512], ..rules() };
        let refused = verified(&token, &narrow, &forge.keys(), NOW);
        assert_eq!(refused.is_ok(), algorithm == Algorithm::Rs512, "{algorithm:?}");
    }
}

#[test]
fn times_are_kept_to_the_leeway() {
    let forge = Forge::new();
    let times = |claims: Value| forge.good(Algorithm::Es256).with(&claims).token(&forge);
    let check = |token: &str, rules: &Rules, now| verified(token, rules, &forge.keys(), now);
    let exact = Rules { leeway: Duration::ZERO, ..rules() };
    let token = times(json!({ "exp": NOW + 10, "nbf": NOW - 10, "iat": NOW - 10 }));
    for (now, strict, lenient) in [
        (NOW - 71, Err(Refusal::Early), Err(Refusal::Early)),
        (NOW - 70, Err(Refusal::Early), Ok(at(NOW + 70))),
        (NOW - 10, Ok(at(NOW + 10)), Ok(at(NOW + 70))),
        (NOW + 9, Ok(at(NOW + 10)), Ok(at(NOW + 70))),
        (NOW + 10, Err(Refusal::Expired), Ok(at(NOW + 70))),
        (NOW + 70, Err(Refusal::Expired), Err(Refusal::Expired)),
    ] {
        assert_eq!(check(&token, &exact, now), strict, "{now}");
        assert_eq!(check(&token, &rules(), now), lenient, "{now}");
    }
    let aged = Rules { max_age: Some(Duration::from_secs(5)), ..exact };
    assert_eq!(check(&times(json!({ "iat": NOW })), &aged, NOW + 4), Ok(at(NOW + 5)));
    assert_eq!(check(&times(json!({ "iat": NOW })), &aged, NOW + 5), Err(Refusal::Old));
    assert_eq!(check(&times(json!({ "iat": null })), &aged, NOW), Err(Refusal::Malformed));
    assert_eq!(
        check(&forge.good(Algorithm::Es256).without("iat").token(&forge), &aged, NOW),
        Err(Refusal::Old)
    );
}

#[test]
fn a_token_without_kid_is_for_the_only_key_that_fits() {
    let forge = Forge::new();
    let token = forge.good(Algorithm::Es256).header(&json!({ "kid": null })).token(&forge);
    assert_eq!(verified(&token, &rules(), &forge.keys(), NOW), Err(Refusal::Malformed));
    let header = json!({ "alg": "ES256", "typ": "JWT" });
    let token = forge.good(Algorithm::Es256).headed(&header.to_string()).token(&forge);
    assert!(verified(&token, &rules(), &forge.keys(), NOW).is_ok());
    let twice = forge.keys_and(&[forge.jwk("p256", "another")]);
    assert_eq!(verified(&token, &rules(), &twice, NOW), Err(Refusal::Key));
}

#[test]
fn keys_that_cannot_be_used_are_left_out() {
    let forge = Forge::new();
    let read = |key: &Value| KeySet::read(json!({ "keys": [key] }).to_string().as_bytes());
    let good = forge.jwk("p256", "k");
    assert!(!read(&good).unwrap().is_empty());
    for (member, bad) in [
        ("use", json!("enc")),
        ("use", json!(1)),
        ("key_ops", json!(["sign"])),
        ("key_ops", json!("verify")),
        ("alg", json!(7)),
        ("kid", json!(7)),
        ("kty", json!("oct")),
        ("kty", json!("RSA")),
        ("crv", json!("P-521")),
        ("crv", json!("p-256")),
        ("crv", json!("P-384")),
        ("x", json!("AA")),
        ("x", json!("")),
        ("y", json!(null)),
    ] {
        let mut key = good.clone();
        key[member] = bad.clone();
        assert!(read(&key).unwrap().is_empty(), "{member}: {bad}");
    }
    let rsa = forge.jwk("rsa", "k");
    assert!(!read(&rsa).unwrap().is_empty());
    for n in ["", "AAAA", &"_".repeat(170), &"_".repeat(1_400)] {
        let mut key = rsa.clone();
        key["n"] = n.into();
        assert!(read(&key).unwrap().is_empty(), "{}", n.len());
    }
    let many: Vec<_> = (0..101).map(|_| good.clone()).collect();
    assert_eq!(KeySet::read(json!({ "keys": many }).to_string().as_bytes()), None);
    for none in ["", "[]", "{}", "{\"keys\":{}}", "{\"keys\":[],\"keys\":[]}"] {
        assert_eq!(KeySet::read(none.as_bytes()), None, "{none}");
    }
}

#[test]
fn addresses_are_https_but_on_loopback() {
    for (text, fine) in [
        ("https://issuer.example", true),
        ("https://issuer.example:8443/realms/a?b=c", true),
        ("http://127.0.0.1:9000", true),
        ("http://localhost/x", true),
        ("http://[::1]:1", true),
        ("http://issuer.example", false),
        ("http://localhost.example", false),
        ("https://user@issuer.example", false),
        ("https://issuer.example/#f", false),
        ("file:///etc/passwd", false),
        ("data:application/json,{}", false),
        ("issuer.example", false),
        ("", false),
    ] {
        assert_eq!(address(text).is_some(), fine, "{text}");
    }
    let document = |issuer: &str| discovery(issuer).map(|url| url.to_string());
    let below = "https://a.example/r/.well-known/openid-configuration";
    assert_eq!(document("https://a.example/r").as_deref(), Some(below));
    assert_eq!(document("https://a.example/r/").as_deref(), Some(below));
    assert_eq!(document("https://a.example/r?x"), None);
}

fn issuer() -> Issuer {
    Issuer {
        rules: rules(),
        jwks_uri: None,
        jwks: None,
        organization: None,
        grants: vec![grant("viewer")],
        roles: None,
        scope_claim: None,
        introspection: None,
        login: None,
        enabled: true,
    }
}

fn grant(role: &str) -> Grant {
    Grant::of(ResourceId::new(role).unwrap())
}

fn claims(value: &Value) -> super::claims::Claims {
    super::claims::Claims::new(value.as_object().unwrap().clone())
}

#[test]
fn claims_say_who_and_what() {
    let (owner, id) = (OrgId::new("acme").unwrap(), ResourceId::new("idp").unwrap());
    let map = [("ops".to_owned(), vec![grant("admin"), grant("viewer")])].into();
    let issuer = Issuer {
        roles: Some(RoleRule { claim: "/realm/roles".into(), map }),
        scope_claim: Some("/scope".into()),
        ..issuer()
    };
    let told =
        json!({ "sub": "ann", "realm": { "roles": ["x", "ops"] }, "scope": "openid logs:read" });
    let who = issuer.identify(&claims(&told), &owner, &id).unwrap();
    assert_eq!((who.name.as_str(), who.home.as_str()), ("token:acme/idp/ann", "acme"));
    assert_eq!(who.grants, [grant("viewer"), grant("admin")]);
    let scopes: Vec<_> = who.scopes.unwrap().iter().map(|p| p.to_string()).collect();
    assert_eq!(scopes, ["logs:read"]);
    let plain = issuer.identify(&claims(&json!({ "sub": "ann" })), &owner, &id).unwrap();
    assert_eq!((plain.grants, plain.scopes), (vec![grant("viewer")], Some(PermissionSet::NONE)));
    for bad in [json!({}), json!({ "sub": "" }), json!({ "sub": 7 }), json!({ "sub": "a\nb" })] {
        assert!(issuer.identify(&claims(&bad), &owner, &id).is_err(), "{bad}");
    }
}

#[test]
fn an_operators_issuer_maps_a_claim_to_an_organization() {
    let (owner, id) = (OrgId::new("_operators").unwrap(), ResourceId::new("idp").unwrap());
    let map = [("t1".to_owned(), OrgId::new("acme").unwrap())].into();
    let rule = OrganizationRule { claim: "/tenant".into(), map, by_id: false };
    let home = |rule: OrganizationRule, tenant: Value| {
        let issuer = Issuer { organization: Some(rule), ..issuer() };
        let told = json!({ "sub": "ann", "tenant": tenant });
        issuer.identify(&claims(&told), &owner, &id).map(|who| who.home.to_string())
    };
    let by_id = OrganizationRule { by_id: true, ..rule.clone() };
    assert_eq!(home(rule.clone(), json!("t1")).as_deref(), Ok("acme"));
    assert_eq!(home(by_id.clone(), json!("beta")).as_deref(), Ok("beta"));
    for (rule, tenant) in [
        (rule.clone(), json!("acme")),
        (rule.clone(), json!(null)),
        (rule, json!(["t1"])),
        (by_id.clone(), json!("_operators")),
        (by_id.clone(), json!("")),
        (by_id, json!("a b")),
    ] {
        assert_eq!(home(rule, tenant.clone()), Err(Refusal::Organization), "{tenant}");
    }
}
