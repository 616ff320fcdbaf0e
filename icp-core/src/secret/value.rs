//! A secret as a field of a spec.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::de::{Error as _, MapAccess, Visitor};
use serde::ser::{Error as _, SerializeMap};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{SealedBytes, SecretString};

/// What people see in place of a secret; sent back unchanged, it means "as it was".
pub const MASK: &str = "••••••••";

const SEALED: &str = "$sealed";

/// A secret inside a spec: plain on its way in, sealed in the store, masked on its way out.
///
/// In JSON a text is a plain secret, the [`MASK`] a masked one, and `{"$sealed": "…"}` in base64
/// a sealed one. A plain secret refuses to be serialized.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Secret {
    /// As the user entered it.
    Plain(SecretString),
    /// As the store keeps it.
    Sealed(SealedBytes),
    /// Not shown; as input it stands for the secret that is stored already.
    Masked,
}

impl Secret {
    /// A plain secret.
    pub fn plain(text: impl Into<SecretString>) -> Self {
        Self::Plain(text.into())
    }

    /// The text, where it is plain; rules about a secret's form are checked on it.
    #[must_use]
    pub fn as_plain(&self) -> Option<&SecretString> {
        match self {
            Self::Plain(text) => Some(text),
            Self::Sealed(_) | Self::Masked => None,
        }
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Plain(_) => {
                Err(S::Error::custom("a plain secret must be sealed or masked first"))
            }
            Self::Sealed(sealed) => {
                let mut map = serializer.serialize_map(Some(1))?;
                map.serialize_entry(SEALED, &STANDARD.encode(sealed.as_bytes()))?;
                map.end()
            }
            Self::Masked => serializer.serialize_str(MASK),
        }
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // Serde's own message for a wrong type would repeat the value, so other types are
        // visited as well and refused without it.
        deserializer.deserialize_any(SecretValue)
    }
}

struct SecretValue;

impl SecretValue {
    fn refuse<T, E: serde::de::Error>(self) -> Result<T, E> {
        Err(E::custom("a secret must be a text"))
    }
}

impl<'de> Visitor<'de> for SecretValue {
    type Value = Secret;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a secret text")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Secret, E> {
        self.visit_string(text.to_owned())
    }

    fn visit_string<E: serde::de::Error>(self, text: String) -> Result<Secret, E> {
        Ok(if text == MASK { Secret::Masked } else { Secret::plain(text) })
    }

    fn visit_bool<E: serde::de::Error>(self, _: bool) -> Result<Secret, E> {
        self.refuse()
    }

    fn visit_i64<E: serde::de::Error>(self, _: i64) -> Result<Secret, E> {
        self.refuse()
    }

    fn visit_u64<E: serde::de::Error>(self, _: u64) -> Result<Secret, E> {
        self.refuse()
    }

    fn visit_f64<E: serde::de::Error>(self, _: f64) -> Result<Secret, E> {
        self.refuse()
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Secret, A::Error> {
        let refuse = || A::Error::custom("a secret must be a text");
        // Keys and values are never part of the message: they may be the secret.
        let sealed = match map.next_key::<String>()? {
            Some(key) if key == SEALED => map.next_value::<String>().map_err(|_| refuse())?,
            _ => return Err(refuse()),
        };
        if map.next_key::<String>()?.is_some() {
            return Err(refuse());
        }
        let bytes = STANDARD.decode(sealed).map_err(|_| refuse())?;
        Ok(Secret::Sealed(SealedBytes::from_bytes(bytes)))
    }
}

impl schemars::JsonSchema for Secret {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Secret".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "writeOnly": true,
            "description": format!("A secret. It is stored sealed and shown as `{MASK}`; sent back as shown, it stays as it is."),
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_json_form_is_its_state() {
        for (json, secret) in [
            (json!("hush"), Secret::plain("hush")),
            (json!(""), Secret::plain("")),
            (json!(MASK), Secret::Masked),
            (json!({ "$sealed": "AQID" }), Secret::Sealed(SealedBytes::from_bytes(vec![1, 2, 3]))),
        ] {
            assert_eq!(serde_json::from_value::<Secret>(json.clone()).unwrap(), secret);
            assert_eq!(serde_json::from_str::<Secret>(&json.to_string()).unwrap(), secret);
            match secret {
                Secret::Plain(_) => assert!(serde_json::to_string(&secret).is_err()),
                _ => assert_eq!(serde_json::to_value(&secret).unwrap(), json),
            }
        }
    }

    #[test]
    fn other_json_is_refused_without_showing_it() {
        for json in [
            json!(918_273),
            json!(-918_273),
            json!(918_273.5),
            json!(true),
            json!(null),
            json!(["918273"]),
            json!({}),
            json!({ "918273": 1 }),
            json!({ "$sealed": "918273!" }),
            json!({ "$sealed": 918_273 }),
            json!({ "$sealed": "AQID", "918273": 1 }),
        ] {
            let error = serde_json::from_value::<Secret>(json.clone()).unwrap_err().to_string();
            assert!(!error.contains("918273"), "{error}");
            let error = serde_json::from_str::<Secret>(&json.to_string()).unwrap_err().to_string();
            assert!(!error.contains("918273"), "{error}");
        }
    }

    #[test]
    fn debug_shows_no_content() {
        assert_eq!(format!("{:?}", Secret::plain("hush")), "Plain([secret])");
    }
}
