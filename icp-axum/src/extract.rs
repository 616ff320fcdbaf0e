//! What handlers take out of requests: path parameters, query parameters, JSON bodies.

mod accept;
mod body;
mod query;

use std::str::FromStr;

use axum::extract::{FromRequestParts, OriginalUri, RawPathParams};
use axum::http::HeaderMap;
use axum::http::request::Parts;
use icp_core::Code;
use icp_core::id::OrgId;

pub(crate) use accept::preferred;
pub(crate) use body::{
    Body, CSV, Input, MERGE_PATCH, PatchBody, Upload, read, refused_body, upload,
};
pub(crate) use query::Query;

use crate::problem::{Problem, Result};

/// The parameters of the path.
#[derive(Debug)]
pub(crate) struct Params(Vec<(String, String)>);

impl Params {
    /// The organization in the path.
    pub(crate) fn org(&self) -> Result<OrgId> {
        self.parse("org")
    }

    /// The organization, where the path names one.
    pub(crate) fn org_if_named(&self) -> Result<Option<OrgId>> {
        let named = self.0.iter().any(|(known, _)| known == "org");
        named.then(|| self.org()).transpose()
    }

    /// The parameter `name`, a number from 1.
    pub(crate) fn number(&self, name: &str) -> Result<u64> {
        let found = self.0.iter().find(|(known, _)| known == name);
        let number = found.and_then(|(_, text)| text.parse().ok()).filter(|number| *number > 0);
        let refuse = || Problem::new(Code::IdInvalid, format!("the {name} is a number from 1"));
        number.ok_or_else(refuse)
    }

    /// The parameter `name`.
    pub(crate) fn parse<T: FromStr<Err = icp_core::Error>>(&self, name: &str) -> Result<T> {
        let found = self.0.iter().find(|(known, _)| known == name);
        let Some((_, text)) = found else {
            return Err(Problem::new(Code::Internal, format!("the route has no `{name}`")));
        };
        Ok(text.parse()?)
    }
}

/// The organization of a request whose path names none.
#[derive(Clone, Debug)]
pub(crate) struct ImpliedOrg(pub(crate) OrgId);

impl<S: Send + Sync> FromRequestParts<S> for Params {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self> {
        let raw = RawPathParams::from_request_parts(parts, state).await.map_err(|_| {
            Problem::new(Code::IdInvalid, "the path is not utf-8 once its escapes are decoded")
        })?;
        let named = raw.iter().map(|(name, text)| (name.to_owned(), text.to_owned()));
        let implied = parts.extensions.get::<ImpliedOrg>();
        let implied = implied.map(|ImpliedOrg(org)| ("org".to_owned(), org.to_string()));
        Ok(Self(named.chain(implied).collect()))
    }
}

/// The path of the request as its sender wrote it, wherever the router is nested.
#[derive(Debug)]
pub(crate) struct Location(String);

impl Location {
    /// The address of `below`.
    pub(crate) fn of(&self, below: impl std::fmt::Display) -> String {
        format!("{}/{below}", self.0.trim_end_matches('/'))
    }

    /// The address of `beside`, where the last `depth` segments are left out.
    pub(crate) fn beside(&self, depth: usize, beside: impl std::fmt::Display) -> String {
        let kept = self.0.rsplitn(depth + 1, '/').last().unwrap_or_default();
        format!("{kept}/{beside}")
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Location {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Self::Rejection> {
        let OriginalUri(uri) = OriginalUri::from_request_parts(parts, state).await?;
        Ok(Self(uri.path().to_owned()))
    }
}

/// The text of a header field; `None` where it is missing.
pub(crate) fn header<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>> {
    let mut values = headers.get_all(name).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return if headers.contains_key(name) {
            Err(Problem::new(Code::HeaderInvalid, format!("send `{name}` once")))
        } else {
            Ok(None)
        };
    };
    let text = value.to_str();
    let refuse = || Problem::new(Code::HeaderInvalid, format!("send `{name}` in printable ascii"));
    text.map(Some).map_err(|_| refuse())
}

/// The name among `known` that `name` was probably meant to be.
pub(crate) fn nearest<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    known
        .iter()
        .map(|candidate| (strsim::jaro_winkler(name, candidate), *candidate))
        .filter(|(likeness, _)| *likeness >= 0.8)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, candidate)| candidate)
}

/// What to say of a name that is not among `known`.
pub(crate) fn unknown(what: &str, name: &str, known: &[&str]) -> String {
    match nearest(name, known) {
        Some(near) => format!("is not a known {what}; did you mean `{near}`?"),
        None if known.is_empty() => format!("is not a known {what}; remove it"),
        None => format!("is not a known {what}; use one of: {}", known.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations_follow_the_path_of_the_request() {
        let location = Location("/nest/things/".into());
        assert_eq!(location.of("x"), "/nest/things/x");
        let location = Location("/nest/deliveries/dlv_1/replay".into());
        assert_eq!(location.beside(2, "dlv_2"), "/nest/deliveries/dlv_2");
    }

    #[test]
    fn the_nearest_name_is_suggested() {
        assert_eq!(nearest("lable", &["limit", "label"]), Some("label"));
        assert_eq!(nearest("zzz", &["limit", "label"]), None);
    }
}
