//! Where the store is, as a URL that is shown without its secrets.

use std::fmt;
use std::path::PathBuf;

use icp::secret::SecretString;
use serde::Deserialize;

/// A kind of store.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Scheme {
    Sqlite,
    Postgres,
    MySql,
    MongoDb,
}

/// The names a URL may begin with; the first of a kind is what it is called.
const NAMES: [(&str, Scheme); 7] = [
    ("sqlite", Scheme::Sqlite),
    ("postgres", Scheme::Postgres),
    ("mysql", Scheme::MySql),
    ("mongodb", Scheme::MongoDb),
    ("postgresql", Scheme::Postgres),
    ("mariadb", Scheme::MySql),
    ("mongodb+srv", Scheme::MongoDb),
];

impl Scheme {
    /// What a URL of this kind begins with, which is the name of the feature as well.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Sqlite => "sqlite",
            Self::Postgres => "postgres",
            Self::MySql => "mysql",
            Self::MongoDb => "mongodb",
        }
    }
}

/// Where the store is: `sqlite:<path>`, or `postgres://`, `mysql://` or `mongodb://` with the
/// login, the host and the database.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(try_from = "String")]
pub(crate) enum Location {
    /// A file.
    Sqlite(PathBuf),
    /// A server, by a URL of this scheme.
    Server(Scheme, Address),
}

impl Location {
    /// The kind of store that is there.
    pub(crate) fn scheme(&self) -> Scheme {
        match self {
            Self::Sqlite(_) => Scheme::Sqlite,
            Self::Server(scheme, _) => *scheme,
        }
    }

    /// The text with `***` for the password of this location.
    pub(crate) fn masked(&self, text: &str) -> String {
        match self {
            Self::Sqlite(_) => text.to_owned(),
            Self::Server(_, address) => address.masked(text),
        }
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "sqlite:{}", path.display()),
            Self::Server(_, address) => address.fmt(f),
        }
    }
}

impl TryFrom<String> for Location {
    type Error = String;

    /// A refusal repeats nothing but the scheme: a secret may stand anywhere in a bad URL.
    fn try_from(text: String) -> Result<Self, String> {
        let form = |name: &str| format!("give it as `{name}://user:password@host/database`");
        let (name, rest) = text.split_once(':').ok_or_else(no_scheme)?;
        let (_, scheme) = NAMES
            .iter()
            .find(|(known, _)| *known == name)
            .ok_or_else(|| if is_scheme(name) { unknown(name) } else { no_scheme() })?;
        if *scheme == Scheme::Sqlite {
            return file(rest);
        }
        let server = rest.strip_prefix("//").ok_or_else(|| form(name))?;
        let address = Address(SecretString::from(text.clone()));
        if server.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err("it holds a space or a line break; write it as `%20` or `%0A`".to_owned());
        }
        if address.host().is_empty() {
            return Err(format!("it names no host; {}", form(name)));
        }
        Ok(Self::Server(*scheme, address))
    }
}

fn file(rest: &str) -> Result<Location, String> {
    let path = rest.strip_prefix("//").unwrap_or(rest);
    if path.is_empty() || path.starts_with(':') {
        return Err("it names no file; give it as `sqlite:icp.db`".to_owned());
    }
    if path.contains('?') {
        let message = "a `sqlite` url has no parameters; `synchronous` is a setting of its own";
        return Err(message.to_owned());
    }
    Ok(Location::Sqlite(path.into()))
}

fn is_scheme(name: &str) -> bool {
    let mut chars = name.chars();
    chars.next().is_some_and(|c| c.is_ascii_alphabetic())
        && chars.all(|c| c.is_ascii_alphanumeric() || "+.-".contains(c))
}

fn no_scheme() -> String {
    format!("it has no scheme; begin with one of {}", known())
}

fn unknown(name: &str) -> String {
    let nearest = NAMES
        .iter()
        .map(|(candidate, _)| (strsim::jaro_winkler(name, candidate), candidate))
        .max_by(|(a, _), (b, _)| a.total_cmp(b));
    let near = nearest.map(|(_, near)| *near).unwrap_or_default();
    format!("`{name}` is none of the schemes {}; did you mean `{near}`?", known())
}

fn known() -> String {
    let names = [Scheme::Sqlite, Scheme::Postgres, Scheme::MySql, Scheme::MongoDb];
    names.map(|scheme| format!("`{}`", scheme.name())).join(", ")
}

/// The URL of a server. Shown are its scheme, its user, its hosts and its database.
#[derive(Clone, Eq, PartialEq)]
pub(crate) struct Address(SecretString);

impl Address {
    /// The URL with everything in it, for the driver and nobody else.
    #[cfg_attr(
        not(any(test, feature = "mongodb", feature = "postgres", feature = "mysql")),
        expect(dead_code, reason = "read where the store of a server is built in")
    )]
    pub(crate) fn expose(&self) -> &str {
        self.0.expose()
    }

    /// What stands after `://`, cut into login and rest. A password may hold any character where
    /// it was not encoded, so the last `@` decides, wherever it stands.
    fn parts(&self) -> (Option<&str>, &str) {
        let (_, rest) = self.0.expose().split_once("://").unwrap_or_default();
        match rest.rsplit_once('@') {
            Some((login, rest)) => (Some(login), rest),
            None => (None, rest),
        }
    }

    fn host(&self) -> &str {
        let (_, rest) = self.parts();
        rest.split(['/', '?', '#']).next().unwrap_or_default()
    }

    fn masked(&self, text: &str) -> String {
        let login = self.parts().0.and_then(|login| login.split_once(':'));
        match login {
            // A password that is the name of the user hides nothing.
            Some((user, password)) if !password.is_empty() && password != user => {
                text.replace(password, "***").replace(&decoded(password), "***")
            }
            _ => text.to_owned(),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, _) = self.0.expose().split_once("://").unwrap_or_default();
        let (login, rest) = self.parts();
        write!(f, "{scheme}://")?;
        if let Some(login) = login {
            let user = login.split([':', '/', '?', '#']).next().unwrap_or_default();
            let hidden = if user.len() < login.len() { ":***" } else { "" };
            write!(f, "{user}{hidden}@")?;
        }
        f.write_str(rest.split(['?', '#']).next().unwrap_or_default())
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Address({self})")
    }
}

/// The text with its `%41` read; what is no such escape stays.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let escaped = (first == b'%')
            .then(|| after.get(..2))
            .flatten()
            .and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        bytes.push(escaped.unwrap_or(first));
        rest = if escaped.is_some() { &after[2..] } else { after };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Location, String> {
        Location::try_from(text.to_owned())
    }

    #[test]
    fn files_are_named_in_three_ways() {
        for (text, path) in [
            ("sqlite:icp.db", "icp.db"),
            ("sqlite:./data/icp.db", "./data/icp.db"),
            ("sqlite:/data/icp.db", "/data/icp.db"),
            ("sqlite://icp.db", "icp.db"),
            ("sqlite:///data/icp.db", "/data/icp.db"),
        ] {
            assert_eq!(read(text), Ok(Location::Sqlite(path.into())), "{text}");
        }
        assert_eq!(read("sqlite:a/b.db").unwrap().to_string(), "sqlite:a/b.db");
    }

    #[test]
    fn servers_are_shown_without_their_secrets() {
        for (text, scheme, shown) in [
            ("postgres://db/icp", Scheme::Postgres, "postgres://db/icp"),
            ("postgresql://icp@db/icp", Scheme::Postgres, "postgresql://icp@db/icp"),
            ("postgres://icp:hush@db:5432/icp", Scheme::Postgres, "postgres://icp:***@db:5432/icp"),
            ("mysql://icp:hush@[::1]:3306/icp", Scheme::MySql, "mysql://icp:***@[::1]:3306/icp"),
            ("mariadb://icp:hush@db/icp", Scheme::MySql, "mariadb://icp:***@db/icp"),
            ("mysql://db/icp?password=hush", Scheme::MySql, "mysql://db/icp"),
            ("mysql://db?a=hush@b", Scheme::MySql, "mysql://db:***@b"),
            ("postgres://icp:hu/h:u@sh@db/icp", Scheme::Postgres, "postgres://icp:***@db/icp"),
            ("postgres://icp/hush@db/icp", Scheme::Postgres, "postgres://icp:***@db/icp"),
            (
                "mongodb://icp:hush@a:27017,b:27018/icp?replicaSet=rs0&authSource=admin",
                Scheme::MongoDb,
                "mongodb://icp:***@a:27017,b:27018/icp",
            ),
            ("mongodb+srv://:hush@db", Scheme::MongoDb, "mongodb+srv://:***@db"),
        ] {
            let location = read(text).unwrap();
            assert_eq!(location.scheme(), scheme, "{text}");
            assert_eq!(location.to_string(), shown);
            let debug = format!("{location:?}");
            assert!(debug.contains(shown) && !debug.contains("hush"), "{debug}");
            let Location::Server(_, address) = location else { panic!("{text}") };
            assert_eq!(address.expose(), text);
        }
    }

    #[test]
    fn what_is_no_location_is_refused_without_repeating_it() {
        let all = "`sqlite`, `postgres`, `mysql`, `mongodb`";
        for (text, says) in [
            ("", all),
            ("hush.db", "no scheme"),
            ("hush@db:5432/icp", "no scheme"),
            ("://icp:hush@db/icp", "no scheme"),
            ("postgers://icp:hush@db/icp", "did you mean `postgres`?"),
            ("mongo://icp:hush@db/icp", "did you mean `mongodb`?"),
            ("SQLITE:hush.db", all),
            ("redis://icp:hush@db", all),
            ("postgres:icp:hush@db", "`postgres://user:password@host/database`"),
            ("postgres://", "names no host"),
            ("postgres://icp:hush@", "names no host"),
            ("mysql:///hush", "names no host"),
            ("mysql://icp:hu sh@db", "`%20`"),
            ("sqlite:", "`sqlite:icp.db`"),
            ("sqlite://", "`sqlite:icp.db`"),
            ("sqlite::memory:", "`sqlite:icp.db`"),
            ("sqlite:icp.db?mode=rwc", "no parameters"),
        ] {
            let reason = read(text).unwrap_err();
            assert!(reason.contains(says), "{text}: {reason}");
            assert!(!reason.contains("hush"), "{text}: {reason}");
        }
    }

    #[test]
    fn a_password_is_masked_in_either_form() {
        let location = read("postgres://icp:hu%2Fsh%@db/icp").unwrap();
        assert_eq!(location.masked("for icp:hu%2Fsh%@db"), "for icp:***@db");
        assert_eq!(location.masked("password \"hu/sh%\""), "password \"***\"");
        for url in
            ["postgres://db", "postgres://icp@db", "postgres://icp:@db", "mysql://icp:icp@db"]
        {
            assert_eq!(read(url).unwrap().masked("no such user: icp"), "no such user: icp");
        }
    }
}
