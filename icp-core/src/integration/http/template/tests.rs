use proptest::prelude::*;

use super::*;

fn fill(template: &str, data: &Value) -> Result<String, String> {
    UrlTemplate::parse(template)?.fill(&json!({"id": "evt_1", "data": data})).map(String::from)
}

#[test]
fn values_are_escaped_for_path_and_query() {
    for (template, data, expected) in [
        ("https://a.example/hook", json!(null), "https://a.example/hook"),
        ("https://a.example/o/{{data.n}}", json!({"n": 17}), "https://a.example/o/17"),
        ("https://a.example/o/{{data}}/x", json!("a/b"), "https://a.example/o/a%2Fb/x"),
        ("https://a.example/o/{{data}}.json", json!("?#&"), "https://a.example/o/%3F%23%26.json"),
        ("https://a.example/o/{{data}}", json!("é \\"), "https://a.example/o/%C3%A9%20%5C"),
        ("https://a.example/o/{{data}}", json!("%2e%2e"), "https://a.example/o/%252e%252e"),
        (
            "https://a.example/?q={{data}}&b=1",
            json!("a&b=2#c+d"),
            "https://a.example/?q=a%26b%3D2%23c%2Bd&b=1",
        ),
        ("https://a.example?q={{data}}", json!(""), "https://a.example/?q="),
        ("https://a.example/{{id}}?{{data}}=1", json!("k="), "https://a.example/evt_1?k%3D=1"),
        (
            "https://a.example/o?q={{data}}",
            json!([1, "x"]),
            "https://a.example/o?q=%5B1%2C%22x%22%5D",
        ),
    ] {
        assert_eq!(fill(template, &data).as_deref(), Ok(expected), "{template} {data}");
    }
}

#[test]
fn what_leads_elsewhere_is_refused_when_it_is_saved() {
    for template in [
        "{{data}}",
        "{{data}}://a.example/",
        "https://{{data}}/",
        "https://a.{{data}}/x",
        "https://a.example{{data}}/x",
        "https://a.example:{{data}}/x",
        "https://{{data}}@a.example/",
        "https:{{data}}",
        "https:///{{data}}/x",
        "https://\t/{{data}}/x",
        "https:\\\\{{data}}/x",
        "https://a.example/#{{data}}",
        "https://a.example/?q#{{data}}",
        "https://a.example/../{{data}}",
        "https://a.example/%2E/{{data}}",
        "https://a.example/{{data",
        "https://a.example/{{a..b}}",
        "not an address",
    ] {
        assert!(UrlTemplate::parse(template).is_err(), "{template}");
    }
    let literal = UrlTemplate::parse("https://a.example/{{data}}/b?c={{id}}").unwrap();
    assert_eq!(literal.literal().as_str(), "https://a.example/x/b?c=x");
}

#[test]
fn values_that_their_place_cannot_hold_are_refused_without_being_quoted() {
    let long = "secret".repeat(2_000);
    for (template, data) in [
        ("https://a.example/o/{{data}}", json!(null)),
        ("https://a.example/o/{{data}}", json!("")),
        ("https://a.example/o/{{data.n}}", json!({})),
        ("https://a.example/o/{{data}}", json!("..")),
        ("https://a.example/o/{{data}}/x", json!(".")),
        ("https://a.example/o/.{{data}}", json!(".")),
        ("https://a.example/o?q={{data.n}}", json!({})),
        ("https://a.example/o/{{data}}", json!(long)),
    ] {
        let message = fill(template, &data).unwrap_err();
        assert!(!message.contains("secret"), "{message}");
    }
}

#[test]
fn header_values_stay_on_their_line() {
    let fill = |template: &str, data: Value| {
        let filled = HeaderTemplate::parse(template).unwrap().fill(&json!({"data": data}));
        filled.map(|value| value.map(|value| value.to_str().unwrap().to_owned()))
    };
    for (template, data, expected) in [
        ("shop {{data}}", json!(7), Some("shop 7")),
        ("{{data}}", json!("a\r\nx-admin: 1"), Some("a%0D%0Ax-admin: 1")),
        ("{{data}}", json!("é\u{0}100%"), Some("%C3%A9%00100%")),
        ("{{data}}", json!("  "), None),
        ("{{data.x}}", json!({}), None),
        ("a{{data}}", json!(null), Some("a")),
    ] {
        assert_eq!(fill(template, data.clone()), Ok(expected.map(str::to_owned)), "{data}");
    }
    assert!(fill("{{data}}", json!("x".repeat(MAX_HEADER + 1))).is_err());
    assert!(HeaderTemplate::parse("a\n{{data}}").is_err());
}

#[test]
fn bodies_are_json_whatever_the_values() {
    let compile = |body: Value| BodyTemplate::compile(&body, "/target/body");
    let data = json!({"n": 17, "t": "a\"b\\\n", "l": [1, {"x": null}]});
    let fill = |body: Value| {
        let filled = compile(body).unwrap().fill(&json!({"id": "evt_1", "data": data})).unwrap();
        serde_json::from_slice::<Value>(&filled).unwrap()
    };
    for (body, expected) in [
        (json!({"text": "No. {{data.n}}: {{data.t}}"}), json!({"text": "No. 17: a\"b\\\n"})),
        (json!(["{{data.n}}", "{{data.l}}", "{{none}}"]), json!([17, [1, {"x": null}], null])),
        (json!({"{{id}}": {"a": [true, 1.5, "}"]}}), json!({"{{id}}": {"a": [true, 1.5, "}"]}})),
        (json!("{{id}}"), json!("evt_1")),
        (json!({}), json!({})),
    ] {
        assert_eq!(fill(body.clone()), expected, "{body}");
    }
    let found = compile(json!({"a": ["x", "{{"]})).unwrap_err();
    assert_eq!(found[0].pointer, "/target/body/a/1");
    assert_eq!(compile(json!(vec![1; MAX_BODY_NODES])).unwrap_err()[0].code, "too_large");
    let large = compile(json!(vec!["{{data}}"; 600])).unwrap();
    assert!(large.fill(&json!({"data": "x".repeat(2_000)})).is_err());
}

proptest! {
    #[test]
    fn no_value_leaves_its_place(path in any::<String>(), query in any::<String>()) {
        let template =
            UrlTemplate::parse("https://a.example:8443/o/{{data.p}}/end?first={{data.q}}&last=1").unwrap();
        let document = json!({"data": {"p": path, "q": query}});
        let Ok(url) = template.fill(&document) else {
            prop_assert!(["", ".", ".."].contains(&path.as_str()) || path.len() + query.len() > 2_000);
            return Ok(());
        };
        prop_assert_eq!(url.origin().ascii_serialization(), "https://a.example:8443");
        let segments: Vec<_> = url.path_segments().unwrap().collect();
        prop_assert_eq!((segments.len(), segments[0], segments[2]), (3, "o", "end"));
        let decoded: Vec<_> = url::form_urlencoded::parse(format!("v={}", segments[1]).as_bytes())
            .map(|(_, value)| value.into_owned())
            .collect();
        prop_assert_eq!(decoded, vec![path]);
        let pairs: Vec<_> = url.query_pairs().into_owned().collect();
        prop_assert_eq!(pairs, vec![("first".to_owned(), query), ("last".to_owned(), "1".to_owned())]);
    }

    #[test]
    fn no_value_breaks_a_header(value in any::<String>()) {
        let template = HeaderTemplate::parse("a {{data}}").unwrap();
        let filled = template.fill(&json!({"data": value}));
        if let Ok(Some(filled)) = filled {
            prop_assert!(filled.as_bytes().iter().all(|byte| (32..127).contains(byte)));
        }
    }

    #[test]
    fn no_value_breaks_a_body(value in any::<String>()) {
        let template = BodyTemplate::compile(&json!({"a": "<{{data}}>", "b": "{{data}}"}), "").unwrap();
        let filled = template.fill(&json!({"data": value})).unwrap();
        let read: Value = serde_json::from_slice(&filled).unwrap();
        prop_assert_eq!(read, json!({"a": format!("<{value}>"), "b": value}));
    }
}
