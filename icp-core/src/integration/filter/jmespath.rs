//! The JMESPath form, admitted only when its cost is linear in the document and small.

mod cost;

use std::fmt;
use std::sync::Arc;

use jpx_core::ast::Ast;
use jpx_core::{Context, JmespathError, Runtime, ValueExt, interpreter};
use serde_json::Value;

use crate::error::{Code, Violation};

const MAX_BYTES: usize = 1024;
const MAX_NESTING: usize = 32;

#[derive(Clone)]
pub(super) struct Expression {
    text: Arc<str>,
    ast: Arc<Ast>,
    runtime: Arc<Runtime>,
}

impl Expression {
    pub(super) fn compile(text: &str, at: &str) -> Result<Self, Violation> {
        guard(text).map_err(|why| Violation::new(at, Code::FilterTooCostly.as_str(), why))?;
        let ast = jpx_core::parse(text).map_err(|error| {
            Violation::new(at, Code::FilterInvalid.as_str(), describe(text, &error))
        })?;
        cost::admit(&ast).map_err(|refusal| match refusal {
            cost::Refusal::Invalid(why) => Violation::new(at, Code::FilterInvalid.as_str(), why),
            cost::Refusal::Costly(why) => Violation::new(at, Code::FilterTooCostly.as_str(), why),
        })?;
        Ok(Self { text: text.into(), ast: Arc::new(ast), runtime: Arc::new(Runtime::strict()) })
    }

    pub(super) fn check(&self, document: &Value) -> Result<(), String> {
        let mut context = Context::new(&self.text, &self.runtime);
        match interpreter::interpret(document, &self.ast, &mut context) {
            Ok(value) if value.is_truthy() => Ok(()),
            Ok(_) => Err("the expression is not true".into()),
            Err(error) => Err(format!("the expression failed: {}", describe(&self.text, &error))),
        }
    }

    pub(super) fn reads_data(&self) -> bool {
        cost::reads_data(&self.ast)
    }
}

impl fmt::Debug for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Expression").field(&self.text).finish()
    }
}

// The parser recurses, so what it is given is bounded before it sees it.
fn guard(text: &str) -> Result<(), &'static str> {
    if text.len() > MAX_BYTES {
        return Err("shorten the expression to at most 1024 bytes");
    }
    let mut open = 0_usize;
    for byte in text.bytes() {
        match byte {
            b'(' | b'[' | b'{' => open += 1,
            b')' | b']' | b'}' => open = open.saturating_sub(1),
            _ => {}
        }
        if open > MAX_NESTING {
            return Err("nest at most 32 brackets");
        }
    }
    Ok(())
}

fn describe(text: &str, error: &JmespathError) -> String {
    let before = text.get(..error.offset).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    let reason: String = error.reason.to_string().chars().take(160).collect();
    format!("{reason} at line {line}, column {column}")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

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
            let refused = std::thread::Builder::new()
                .stack_size(2 << 20)
                .spawn(move || Expression::compile(&text, "/f").is_err())
                .unwrap();
            assert!(refused.join().unwrap());
        }
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in "[a-c@.*?|&!<=>'`\\[\\](){},:0-9 -]{0,40}") {
            if let Ok(expression) = Expression::compile(&text, "") {
                let _ = expression.check(&json!({"a": [[1, {"b": 2}], "x"], "b": {"c": [3]}}));
            }
        }
    }
}
