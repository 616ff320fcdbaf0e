use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::*;
use crate::secret::Secret;

const CANARY: &str = "hunter2-canary";

/// Denies nothing by itself: the mechanism must.
#[derive(Debug, Deserialize, JsonSchema, Serialize)]
struct Shop {
    #[schemars(length(min = 2, max = 8))]
    title: String,
    #[serde(default)]
    #[schemars(range(max = 10))]
    stars: u8,
    #[serde(default)]
    mood: Mood,
    #[serde(default)]
    shelves: Vec<Shelf>,
    #[serde(default)]
    by_name: BTreeMap<String, Shelf>,
    #[serde(default)]
    payment: Option<Payment>,
    #[serde(default)]
    more: Option<More>,
    #[serde(default)]
    anything: serde_json::Map<String, Value>,
}

#[derive(Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(rename_all = "snake_case")]
enum Mood {
    /// Open.
    #[default]
    Open,
    /// Shut.
    Shut,
}

#[derive(Debug, Default, Deserialize, JsonSchema, Serialize)]
struct Shelf {
    #[serde(default)]
    height: u32,
    #[serde(default)]
    token: Option<Secret>,
}

#[derive(Debug, Deserialize, JsonSchema, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Payment {
    Card { number: String, secret: Secret },
    Cash { currency: String },
    Shelf(Shelf),
    Free,
}

#[derive(Debug, Deserialize, JsonSchema, Serialize)]
struct More {
    #[serde(default)]
    own: u8,
    #[serde(flatten)]
    payment: Payment,
}

fn structure() -> Structure {
    Structure::of::<Shop>().unwrap()
}

fn found(document: &Value) -> Vec<Violation> {
    let mut violations = Violations::default();
    structure().read::<Shop>(document, &mut violations);
    violations.into_list()
}

fn codes(document: &Value) -> Vec<(String, String)> {
    let mut codes: Vec<_> = found(document).into_iter().map(|v| (v.pointer, v.code)).collect();
    codes.sort();
    codes
}

#[expect(clippy::needless_pass_by_value, reason = "documents are written in place")]
fn expect(document: Value, expected: &[(&str, &str)]) {
    let expected: Vec<_> =
        expected.iter().map(|(at, code)| ((*at).to_owned(), (*code).to_owned())).collect();
    assert_eq!(codes(&document), expected, "{document}");
}

#[test]
fn good_documents_are_read() {
    let document = json!({
        "title": "shop", "stars": 3, "mood": "shut", "shelves": [{ "height": 2, "token": "t" }],
        "by_name": { "a/b": {} }, "anything": { "at": { "all": 1 } },
        "payment": { "type": "card", "number": "1", "secret": "s" },
        "more": { "own": 1, "type": "cash", "currency": "eur" },
    });
    let mut violations = Violations::default();
    let shop = structure().read::<Shop>(&document, &mut violations).unwrap();
    assert_eq!(violations.as_slice(), []);
    assert_eq!(shop.shelves[0].height, 2);
    assert!(matches!(shop.more.unwrap().payment, Payment::Cash { .. }));
    expect(json!({ "title": "shop", "payment": null }), &[]);
    expect(json!({ "title": "shop", "payment": { "type": "free" } }), &[]);
    expect(json!({ "title": "shop", "payment": { "type": "shelf", "height": 1 } }), &[]);
}

#[test]
fn unknown_fields_are_named_at_any_depth_with_the_nearest_known_one() {
    for (document, pointer, says) in [
        (json!({ "title": "shop", "titel": 1 }), "/titel", "did you mean `title`?"),
        (json!({ "title": "shop", "zzz": 1 }), "/zzz", "use one of: "),
        (
            json!({ "title": "shop", "shelves": [{}, { "heigth": 1 }] }),
            "/shelves/1/heigth",
            "did you mean `height`?",
        ),
        (
            json!({ "title": "shop", "by_name": { "a/b~c": { "h/~": 1 } } }),
            "/by_name/a~1b~0c/h~1~0",
            "use one of: height, token",
        ),
        (
            json!({ "title": "shop", "payment": { "type": "cash", "currency": "x", "curency": 1 } }),
            "/payment/curency",
            "did you mean `currency`?",
        ),
        (
            json!({ "title": "shop", "payment": { "type": "shelf", "hight": 1 } }),
            "/payment/hight",
            "did you mean `height`?",
        ),
        (
            json!({ "title": "shop", "payment": { "type": "free", "nothing": 1 } }),
            "/payment/nothing",
            "is not a known field",
        ),
        (
            json!({ "title": "shop", "more": { "type": "cash", "currency": "x", "owm": 1 } }),
            "/more/owm",
            "did you mean `own`?",
        ),
    ] {
        let found = found(&document);
        assert_eq!(found.len(), 1, "{document}: {found:?}");
        assert_eq!((found[0].pointer.as_str(), found[0].code.as_str()), (pointer, UNKNOWN));
        assert!(found[0].message.contains(says), "{document}: {found:?}");
    }
}

#[test]
fn unknown_fields_do_not_keep_the_rest_from_being_read() {
    let document = json!({ "title": "shop", "x": 1, "shelves": [{ "height": 7, "y": 1 }] });
    let mut violations = Violations::default();
    let shop = structure().read::<Shop>(&document, &mut violations).unwrap();
    assert_eq!(shop.shelves[0].height, 7);
    assert_eq!(violations.as_slice().len(), 2);
}

#[test]
fn each_rule_has_its_code() {
    expect(json!(5), &[("", "type")]);
    expect(json!({}), &[("/title", "required")]);
    expect(json!({ "title": 5 }), &[("/title", "type")]);
    expect(json!({ "title": "a" }), &[("/title", "min_length")]);
    expect(json!({ "title": "much too long" }), &[("/title", "max_length")]);
    expect(json!({ "title": "shop", "stars": 11 }), &[("/stars", "maximum")]);
    expect(json!({ "title": "shop", "stars": -1 }), &[("/stars", "minimum")]);
    expect(json!({ "title": "shop", "stars": 1.5 }), &[("/stars", "type")]);
    expect(json!({ "title": "shop", "mood": "sad" }), &[("/mood", "enum")]);
    expect(json!({ "title": "shop", "mood": 1 }), &[("/mood", "enum")]);
    expect(json!({ "title": "shop", "shelves": {} }), &[("/shelves", "type")]);
    expect(json!({ "title": "shop", "payment": 1 }), &[("/payment", "type")]);
    // The schema has no upper bound for it, the type has.
    let big = json!({ "title": "shop", "shelves": [{ "height": 5_000_000_000_u64 }] });
    let found = found(&big);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].pointer, "/shelves/0/height");
    assert!(!found[0].message.contains("5000000000"), "{found:?}");
}

#[test]
fn a_tagged_choice_is_explained_by_the_branch_its_tag_selects() {
    let payment = |payment: Value| json!({ "title": "shop", "payment": payment });
    expect(payment(json!({})), &[("/payment/type", "required")]);
    expect(payment(json!({ "type": "chash" })), &[("/payment/type", "enum")]);
    expect(payment(json!({ "type": 7, "currency": "x" })), &[("/payment/type", "enum")]);
    expect(payment(json!({ "type": "cash" })), &[("/payment/currency", "required")]);
    expect(
        payment(json!({ "type": "card", "number": 1, "x": 1 })),
        &[("/payment/number", "type"), ("/payment/secret", "required"), ("/payment/x", UNKNOWN)],
    );
    expect(payment(json!({ "type": "shelf", "height": "x" })), &[("/payment/height", "type")]);
    let found = found(&payment(json!({ "type": "chash" })));
    assert_eq!(found[0].message, "use one of: card, cash, shelf, free");
    let missing = self::found(&payment(json!({ "currency": "x" })));
    assert_eq!(missing[0].message, "is missing; use one of: card, cash, shelf, free");
}

#[test]
fn a_choice_within_an_object_is_explained_with_it() {
    let more = |more: Value| json!({ "title": "shop", "more": more });
    expect(
        more(json!({ "type": "cash", "own": "x" })),
        &[("/more/currency", "required"), ("/more/own", "type")],
    );
}

#[test]
fn everything_wrong_is_listed_at_once() {
    expect(
        json!({
            "stars": 99,
            "mood": "sad",
            "shelves": [{ "height": "tall" }, 5, { "~/": 1 }],
            "by_name": { "a/b": { "height": -1 } },
            "payment": { "type": "card" },
        }),
        &[
            ("/by_name/a~1b/height", "minimum"),
            ("/mood", "enum"),
            ("/payment/number", "required"),
            ("/payment/secret", "required"),
            ("/shelves/0/height", "type"),
            ("/shelves/1", "type"),
            ("/shelves/2/~0~1", UNKNOWN),
            ("/stars", "maximum"),
            ("/title", "required"),
        ],
    );
}

#[test]
fn values_are_never_shown() {
    for document in [
        json!(CANARY),
        json!([CANARY]),
        json!({ "title": CANARY }),
        json!({ "title": "shop", "stars": CANARY }),
        json!({ "title": "shop", "mood": CANARY }),
        json!({ "title": "shop", "shelves": CANARY }),
        json!({ "title": "shop", "payment": CANARY }),
        json!({ "title": "shop", "payment": { "type": CANARY } }),
        json!({ "title": "shop", "payment": { "type": "card", "number": "1", "secret": [CANARY] } }),
        json!({ "title": "shop", "payment": { "type": "card", "number": "1", "secret": { "$sealed": CANARY } } }),
        json!({ "title": "shop", "unknown": CANARY }),
        json!({ "title": "shop", "shelves": [{ "token": { "value": CANARY } }] }),
        json!({ "title": "shop", "more": { "type": CANARY, "own": CANARY } }),
    ] {
        let mut violations = Violations::default();
        structure().read::<Shop>(&document, &mut violations);
        let error = violations.into_error();
        assert!(!error.list().is_empty(), "{document}");
        assert!(!format!("{error} {error:?}").contains(CANARY), "{error:?}");
    }
}

#[test]
fn messages_of_the_type_itself_lose_the_value() {
    for (message, kept) in [
        ("invalid type: string \"x\", expected u32", "is malformed; use u32"),
        ("invalid value: integer `5`, expected , expected u8", "is malformed; use u8"),
        ("missing field `a`", "missing field `a`"),
    ] {
        assert_eq!(without_value(message), kept);
    }
}

#[test]
fn a_field_is_listed_once_for_a_rule_and_once_for_the_type() {
    let mut violations = Violations::at("/spec");
    violations.add("/a", "type", "first");
    violations.add("/a", "type", "again");
    violations.add("/a", "other", "another rule");
    violations.extend("/b", [Violation::new("/c", "x", "of a part")]);
    let own = [Violation::new("/spec/a", "own", "said"), Violation::new("/spec/d", "own", "new")];
    violations.complete(own);
    let list: Vec<_> =
        violations.as_slice().iter().map(|v| (v.pointer.as_str(), v.message.as_str())).collect();
    assert_eq!(
        list,
        [
            ("/spec/a", "first"),
            ("/spec/a", "another rule"),
            ("/spec/b/c", "of a part"),
            ("/spec/d", "new"),
        ]
    );
}
