//! Where the store is, as a URL that is shown without its password.

use std::path::PathBuf;

use icp::secret::SecretString;
use serde::Deserialize;

/// Where the store is.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "String")]
pub(crate) enum Location {
    /// In this process; gone with it.
    Memory,
    /// A file of SQLite.
    Sqlite(PathBuf),
    /// A server, by its URL.
    Server(Backend, SecretString),
}

/// A kind of server.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Backend {
    Postgres,
    MySql,
    MongoDb,
}

const FORM: &str = "use `memory:`, `sqlite:<path>`, or a URL that begins with `postgres://`, \
                    `mysql://` or `mongodb://`";

impl TryFrom<String> for Location {
    type Error = String;

    /// A refusal repeats nothing but the scheme: a secret may stand anywhere in a bad URL.
    fn try_from(text: String) -> Result<Self, String> {
        let (scheme, rest) = text.split_once(':').ok_or_else(|| FORM.to_owned())?;
        let backend = match scheme {
            "memory" if rest.is_empty() => return Ok(Self::Memory),
            "sqlite" => return file(rest),
            "postgres" | "postgresql" => Backend::Postgres,
            "mysql" | "mariadb" => Backend::MySql,
            "mongodb" | "mongodb+srv" => Backend::MongoDb,
            _ => {
                let plain = |c: char| c.is_ascii_alphanumeric() || "+.-".contains(c);
                let named = scheme.len() < 16 && scheme.chars().all(plain);
                let name = if named { scheme } else { "it" };
                return Err(format!("`{name}` is no store; {FORM}"));
            }
        };
        let server = rest.strip_prefix("//").unwrap_or_default();
        let (_, host) = server.rsplit_once('@').unwrap_or(("", server));
        if host.is_empty() || host.starts_with(['/', '?']) {
            return Err(format!("it names no host; give it as `{scheme}://user:pass@host/db`"));
        }
        Ok(Self::Server(backend, SecretString::from(text)))
    }
}

fn file(rest: &str) -> Result<Location, String> {
    let path = rest.strip_prefix("//").unwrap_or(rest);
    if path.is_empty() || path.contains('?') {
        return Err("it names no file; give it as `sqlite:icp.db`, without parameters".to_owned());
    }
    Ok(Location::Sqlite(path.into()))
}

impl Location {
    /// The text with `***` for the password of this location, which a driver may repeat.
    pub(crate) fn masked(&self, text: &str) -> String {
        let Self::Server(_, url) = self else { return text.to_owned() };
        let login = url.expose().split_once("://").and_then(|(_, rest)| rest.rsplit_once('@'));
        let password = login.and_then(|(login, _)| login.split_once(':'));
        match password {
            Some((_, password)) if !password.is_empty() => {
                let encoded = url::form_urlencoded::parse(password.as_bytes()).next();
                let decoded = encoded.map(|(name, _)| name.into_owned()).unwrap_or_default();
                let text = text.replace(password, "***");
                if decoded.is_empty() { text } else { text.replace(&decoded, "***") }
            }
            _ => text.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stores_are_named_by_url() {
        let of = |text: &str| Location::try_from(text.to_owned());
        assert!(matches!(of("memory:"), Ok(Location::Memory)));
        assert!(matches!(of("sqlite:a.db"), Ok(Location::Sqlite(path)) if path.ends_with("a.db")));
        for (text, backend) in [
            ("postgres://u:p@h/db", Backend::Postgres),
            ("postgresql://h", Backend::Postgres),
            ("mariadb://h/db", Backend::MySql),
            ("mongodb+srv://u:p@h", Backend::MongoDb),
            ("mongodb://a:1,b:2/db", Backend::MongoDb),
        ] {
            assert!(matches!(of(text), Ok(Location::Server(found, _)) if found == backend));
        }
        for bad in ["", "icp.db", "memory:x", "sqlite:", "postgres://", "postgres:hush", "x y:hush"]
        {
            let message = of(bad).unwrap_err();
            assert!(!message.contains("hush"), "{message}");
        }
    }

    #[test]
    fn a_password_is_not_repeated() {
        let at = Location::try_from("postgres://icp:hu%40sh@db/icp".to_owned()).unwrap();
        assert_eq!(at.masked("no login with hu@sh or hu%40sh"), "no login with *** or ***");
        assert!(!format!("{at:?}").contains("hu%40sh"));
    }
}
