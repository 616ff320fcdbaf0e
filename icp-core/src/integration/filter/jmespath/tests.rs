use std::time::Duration;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::time::{Clock, SystemClock};

#[test]
fn realistic_expressions_are_admitted_and_right() {
    let document = json!({"type": "order.paid", "data": {"amount": 120, "tags": ["vip"],
        "customer": {"email": "a@b.example"}, "lines": [{"qty": 2, "sku": "x"}]}});
    for (text, expected) in [
        ("data.amount > `100`", true),
        ("data.amount > `120`", false),
        ("type == 'order.paid' && data.amount >= `100`", true),
        ("contains(data.tags, 'vip')", true),
        ("data.lines[?qty > `1`]", true),
        ("data.lines[?qty > `2`]", false),
        ("length(data.lines) == `1`", true),
        ("ends_with(data.customer.email, '@b.example')", true),
        ("!(data.cancelled)", true),
        ("data.lines[*].sku | contains(@, 'x')", true),
        ("sum(data.lines[].qty) > `1`", true),
        ("length(data.gone)", false),
        ("starts_with(type, 'order.')", true),
        ("data.customer.email == 'a@b.example'", true),
        ("data.amount > `100` && !(contains(data.tags, 'test'))", true),
        ("data.tags[0] == 'vip'", true),
        ("data.tags[-1] == 'vip'", true),
        ("not_null(data.priority, 'low') == 'low'", true),
        ("max(data.lines[].qty) >= `2`", true),
        ("keys(data.customer) | contains(@, 'email')", true),
        ("type == 'order.paid' || type == 'order.refunded'", true),
        ("to_number(data.lines[0].qty) == `2`", true),
    ] {
        let expression = Expression::compile(text, "").unwrap();
        assert_eq!(expression.check(&document).is_ok(), expected, "{text}");
    }
    assert!(!Expression::compile("type == 'x'", "").unwrap().reads_data());
    assert!(Expression::compile("@", "").unwrap().reads_data());
}

#[test]
fn hostile_expressions_are_refused_on_a_small_stack() {
    let nested = |open: &str, middle: &str, close: &str, times: usize| {
        format!("{}{middle}{}", open.repeat(times), close.repeat(times))
    };
    for text in [
        nested("(", "a", ")", 20_000),
        nested("[", "a", "]", 20_000),
        nested("not_null(", "a", ")", 1_800),
        format!("a{}", ".a".repeat(20_000)),
        format!("a{}", ".a".repeat(120)),
        "!".repeat(600),
        format!("@{}", " | [@,@]".repeat(26)),
        nested("join('',[", "@,@", "])", 28),
        "map(&a, data)".into(),
        "let $a = @ in $a".into(),
        "sort_by(data, &a)".into(),
        "data[::2147483647]".into(),
        "data[::0]".into(),
        "a ==".into(),
    ] {
        let shown: String = text.chars().take(40).collect();
        let judged = std::thread::Builder::new()
            .stack_size(2 << 20)
            .spawn(move || {
                let begun = SystemClock.monotonic();
                let code = Expression::compile(&text, "/f").unwrap_err().code;
                (code, SystemClock.monotonic() - begun)
            })
            .unwrap();
        let (code, took) = judged.join().unwrap();
        assert!(
            ["filter_too_costly", "filter_invalid"].contains(&code.as_str()),
            "{shown}: {code}"
        );
        assert!(took < Duration::from_millis(500), "{shown} took {took:?}");
    }
}

/// An order with 400 lines, about 30 KiB.
fn large() -> Value {
    let lines: Vec<_> = (0..400)
        .map(|n| json!({"qty": n % 7, "sku": format!("sku-{n}"), "tags": ["a", "b", "c"], "b": {"c": [n]}}))
        .collect();
    json!({"type": "order.paid", "data": {"amount": 120, "a": lines, "b": {"c": lines.len()}}})
}

/// Expressions of the shapes that grow: projections, pipes, multi-selects and functions.
fn expressions() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("@".to_owned()),
        Just("data".to_owned()),
        Just("data.a".to_owned()),
        Just("b.c".to_owned()),
        Just("qty".to_owned()),
        Just("`1`".to_owned()),
        Just("'x'".to_owned()),
    ];
    leaf.prop_recursive(6, 24, 3, |inner| {
        let two = (inner.clone(), inner.clone());
        prop_oneof![
            two.clone().prop_map(|(l, r)| format!("{l} | {r}")),
            two.clone().prop_map(|(l, r)| format!("({l})[*].{{x: {r}}}")),
            two.clone().prop_map(|(l, r)| format!("[{l}, {r}]")),
            two.clone().prop_map(|(l, r)| format!("({l} == {r})")),
            two.clone().prop_map(|(l, r)| format!("({l})[?{r}]")),
            two.prop_map(|(l, r)| format!("contains({l}, {r})")),
            inner.clone().prop_map(|e| format!("({e})[]")),
            inner.clone().prop_map(|e| format!("to_string({e})")),
            inner.prop_map(|e| format!("length({e})")),
        ]
    })
}

proptest! {
    #[test]
    fn what_is_admitted_is_cheap(text in expressions()) {
        if let Ok(expression) = Expression::compile(&text, "") {
            let document = large();
            let begun = SystemClock.monotonic();
            let _ = expression.check(&document);
            let took = SystemClock.monotonic() - begun;
            prop_assert!(took < Duration::from_secs(2), "{text} took {took:?}");
        }
    }

    #[test]
    fn arbitrary_text_never_panics(text in "[a-c@.*?|&!<=>'`\\[\\](){},:0-9 -]{0,40}") {
        if let Ok(expression) = Expression::compile(&text, "") {
            let _ = expression.check(&json!({"a": [[1, {"b": 2}], "x"], "b": {"c": [3]}}));
        }
    }
}
