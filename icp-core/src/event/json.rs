//! Whether a body is JSON that conditions and mappings can read as well.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// The name under which `serde_json` hands over text that it did not read. An object that begins
/// with it would be read as something else than it is.
const UNREAD: &str = "$serde_json::private::RawValue";

/// Reads a body as conditions do, and keeps nothing of it: strings are whole Unicode, numbers fit
/// into 64 bits or a double, nesting ends at 127 levels.
pub(super) fn check(body: &[u8]) -> serde_json::Result<()> {
    serde_json::from_slice::<Readable>(body).map(drop)
}

struct Readable;

impl<'de> Deserialize<'de> for Readable {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Readable;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a json value")
    }

    fn visit_unit<E>(self) -> Result<Readable, E> {
        Ok(Readable)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Readable, E> {
        Ok(Readable)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Readable, E> {
        Ok(Readable)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Readable, E> {
        Ok(Readable)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Readable, E> {
        Ok(Readable)
    }

    fn visit_str<E>(self, _: &str) -> Result<Readable, E> {
        Ok(Readable)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Readable, A::Error> {
        while items.next_element::<Readable>()?.is_some() {}
        Ok(Readable)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Readable, A::Error> {
        while let Some(Name) = fields.next_key::<Name>()? {
            fields.next_value::<Readable>()?;
        }
        Ok(Readable)
    }
}

/// The name of a field.
struct Name;

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(NameReader)
    }
}

struct NameReader;

impl Visitor<'_> for NameReader {
    type Value = Name;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a field")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Name, E> {
        if name == UNREAD {
            return Err(E::custom("the name of a field is reserved"));
        }
        Ok(Name)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn nested(levels: usize) -> String {
        format!("{}{}", "[".repeat(levels), "]".repeat(levels))
    }

    #[test]
    fn what_conditions_cannot_read_is_not_taken() {
        let reserved = format!(r#"{{"a":{{"{UNREAD}":"1"}}}}"#);
        for (body, readable) in [
            ("null", true),
            (r#"{"a":[1,-2,1.5e300,"x",true,null],"a":2}"#, true),
            ("18446744073709551616", true),
            (r#""\ud83d\ude00""#, true),
            (&nested(127), true),
            (&nested(128), false),
            (&nested(100_000), false),
            (r#""\ud83d""#, false),
            (r#""\ude00""#, false),
            (r#"{"\ud83d":1}"#, false),
            ("1e400", false),
            (r#"{"a":-1e400}"#, false),
            ("[1,]", false),
            ("{} {}", false),
            ("", false),
            (&reserved, false),
        ] {
            let shown: String = body.chars().take(40).collect();
            assert_eq!(check(body.as_bytes()).is_ok(), readable, "{shown}");
            let parsed = serde_json::from_str::<Value>(body).is_ok();
            assert_eq!(parsed, readable || body == reserved, "{shown}");
        }
        assert!(check(b"\"\xff\"").is_err());
    }

    proptest! {
        #[test]
        fn it_agrees_with_the_parse_that_conditions_use(
            body in r#"[\[\]{}:," 0-9eE.+\-a\\utrfdsn]{0,24}"#,
        ) {
            let parsed = serde_json::from_str::<Value>(&body).is_ok();
            prop_assert_eq!(check(body.as_bytes()).is_ok(), parsed, "{}", body);
        }

        #[test]
        fn what_is_written_can_be_read(text in "\\PC{0,20}", number: f64) {
            let value = serde_json::json!({ &text: [text, number] });
            prop_assert!(check(value.to_string().as_bytes()).is_ok());
        }
    }
}
