//! Text with places for values: `Order {{data.id}} for {{customer.name}}`.

use std::borrow::Cow;

use serde_json::Value;

use super::Path;

const MAX_TEXT: usize = 4096;
const MAX_PLACES: usize = 64;

/// A compiled template.
#[derive(Debug)]
pub(crate) struct Template(Box<[Part]>);

/// A part of a template.
#[derive(Debug)]
pub(crate) enum Part {
    /// Text that stands as it is.
    Text(Box<str>),
    /// The place of a value.
    Place(Path),
}

/// The text would be longer than there is room for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct TooLong;

impl Template {
    /// Reads a template, or says what is wrong and where.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if text.len() > MAX_TEXT {
            return Err(format!("template has {} bytes; use at most {MAX_TEXT}", text.len()));
        }
        let mut parts = Vec::new();
        let mut places = 0;
        let mut at = 0;
        while let Some(open) = text[at..].find("{{").map(|offset| at + offset) {
            if at < open {
                parts.push(Part::Text(text[at..open].into()));
            }
            let inner = &text[open + 2..];
            let Some(length) = closing(inner) else {
                return Err(format!("`{{{{` at byte {open} of the template has no `}}}}`"));
            };
            let path = Path::parse(inner[..length].trim())
                .map_err(|error| format!("in the braces at byte {open}: {error}"))?;
            parts.push(Part::Place(path));
            places += 1;
            at = open + 2 + length + 2;
        }
        if places > MAX_PLACES {
            return Err(format!("template has {places} paths; use at most {MAX_PLACES}"));
        }
        if at < text.len() {
            parts.push(Part::Text(text[at..].into()));
        }
        Ok(Self(parts.into()))
    }

    /// The parts, in order.
    pub(crate) fn parts(&self) -> &[Part] {
        &self.0
    }

    /// Whether there is any place for a value.
    pub(crate) fn has_places(&self) -> bool {
        self.0.iter().any(|part| matches!(part, Part::Place(_)))
    }

    /// The text with the values of `source`, of at most `room` bytes.
    ///
    /// `None` where a value is missing and `whole` is set; else it stands for nothing.
    pub(crate) fn render(
        &self,
        source: &Value,
        whole: bool,
        room: usize,
    ) -> Result<Option<String>, TooLong> {
        self.render_with(source, whole, room, |value, text| text.push_str(value))
    }

    /// As [`render`](Self::render), with the text of each value written by `escape`.
    pub(crate) fn render_with(
        &self,
        source: &Value,
        whole: bool,
        room: usize,
        escape: impl Fn(&str, &mut String),
    ) -> Result<Option<String>, TooLong> {
        let missing = |part: &Part| matches!(part, Part::Place(path) if path.get(source).is_none());
        if whole && self.0.iter().any(missing) {
            return Ok(None);
        }
        let mut text = String::new();
        for part in &self.0 {
            match part {
                Part::Text(part) => text.push_str(part),
                Part::Place(path) => match path.get(source).and_then(text_of) {
                    None => {}
                    Some(value) if value.len() > room => return Err(TooLong),
                    Some(value) => escape(&value, &mut text),
                },
            }
            if text.len() > room {
                return Err(TooLong);
            }
        }
        Ok(Some(text))
    }
}

/// The text that stands for a value: strings for themselves, `null` for nothing, other values for
/// their JSON text.
pub(crate) fn text_of(value: &Value) -> Option<Cow<'_, str>> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text.into()),
        other => Some(other.to_string().into()),
    }
}

// The offset of the `}}` that is not within a quoted key.
fn closing(text: &str) -> Option<usize> {
    let (mut quoted, mut escaped) = (false, false);
    let bytes = text.as_bytes();
    (0..bytes.len()).find(|&index| {
        match bytes[index] {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'}' if !quoted => return bytes.get(index + 1) == Some(&b'}'),
            _ => {}
        }
        false
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn render(template: &str, whole: bool) -> Option<String> {
        let source = json!({
            "id": 17, "name": "Ada", "none": null, "list": [1, {"a": true}], "}}": "odd", "é": "ü",
        });
        Template::parse(template).unwrap().render(&source, whole, 1000).unwrap()
    }

    #[test]
    fn values_stand_as_text() {
        for (template, expected) in [
            ("", ""),
            ("plain } { text", "plain } { text"),
            ("Order {{id}} for {{ name }}.", "Order 17 for Ada."),
            ("{{list}}/{{list[1].a}}", r#"[1,{"a":true}]/true"#),
            (r#"{{["}}"]}}{{é}}"#, "oddü"),
            ("<{{none}}{{missing}}>", "<>"),
            ("{{{{id}}}}", "malformed"),
        ] {
            if expected == "malformed" {
                assert!(Template::parse(template).is_err(), "{template}");
            } else {
                assert_eq!(render(template, false).as_deref(), Some(expected), "{template}");
            }
        }
    }

    #[test]
    fn a_missing_value_can_make_the_whole_missing() {
        assert_eq!(render("{{id}} {{missing}}", true), None);
        assert_eq!(render("{{id}} {{none}}", true).as_deref(), Some("17 "));
    }

    #[test]
    fn malformed_templates_say_where() {
        for (template, part) in [
            ("a {{b", "byte 2 of the template has no `}}`"),
            ("{{}}", "in the braces at byte 0: path is malformed at character 1"),
            ("é{{a..b}}", "in the braces at byte 2: path is malformed at character 3"),
            (r#"{{["a}}"#, "has no `}}`"),
        ] {
            let message = Template::parse(template).unwrap_err();
            assert!(message.contains(part), "{template}: {message}");
        }
    }

    #[test]
    fn limits_are_exact() {
        assert!(Template::parse(&"a".repeat(MAX_TEXT)).is_ok());
        assert!(Template::parse(&"a".repeat(MAX_TEXT + 1)).is_err());
        assert!(Template::parse(&"{{a}}".repeat(MAX_PLACES)).is_ok());
        assert!(Template::parse(&"{{a}}".repeat(MAX_PLACES + 1)).is_err());
        let template = Template::parse("{{a}}-{{a}}").unwrap();
        let source = json!({"a": "1234"});
        assert_eq!(template.render(&source, false, 9), Ok(Some("1234-1234".into())));
        assert_eq!(template.render(&source, false, 8), Err(TooLong));
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in r#"([{}\[\]"\\.a-cé ]|\{\{|\}\}){0,24}"#) {
            if let Ok(template) = Template::parse(&text) {
                let rendered = template.render(&json!({"a": "b"}), false, 1000);
                prop_assert!(rendered.unwrap().is_some());
                prop_assert!(text.contains("{{") || text == template.render(&json!(0), false, 1000).unwrap().unwrap());
            }
        }
    }
}
