use std::collections::HashSet;

use axum::extract::{FromRequestParts, OriginalUri};
use axum::http::request::Parts;
use icp_core::{Code, Violation};

use super::unknown;
use crate::problem::{Problem, Result};

/// The query of a request; parameters it was not made for are refused.
#[derive(Clone, Debug)]
pub(crate) struct Query {
    path: String,
    pairs: Vec<(String, String)>,
}

impl Query {
    pub(crate) fn parse(path: &str, query: Option<&str>) -> Self {
        let pairs = url::form_urlencoded::parse(query.unwrap_or_default().as_bytes());
        Self { path: path.to_owned(), pairs: pairs.into_owned().collect() }
    }

    /// The same query, where it has no parameter but those `known`.
    pub(crate) fn only(self, known: &[&str]) -> Result<Self> {
        let mut seen = HashSet::new();
        let violations: Vec<_> = self
            .pairs
            .iter()
            .filter(|(name, _)| !known.contains(&name.as_str()) && seen.insert(name))
            .map(|(name, _)| {
                let message = unknown("query parameter", name, known);
                Violation::new(pointer(name), "unknown_parameter", message)
            })
            .collect();
        if violations.is_empty() {
            return Ok(self);
        }
        Err(Problem::violations(Code::QueryInvalid, violations))
    }

    /// The parameter `name`, which may be there once.
    pub(crate) fn one(&self, name: &str) -> Result<Option<&str>> {
        let mut values = self.all(name);
        let first = values.next();
        if values.next().is_some() {
            return Err(self.refuse(name, "may be given once only"));
        }
        Ok(first)
    }

    /// The parameter `name` as a typed value.
    pub(crate) fn typed<T>(&self, name: &str) -> Result<Option<T>>
    where
        T: std::str::FromStr<Err = icp_core::Error>,
    {
        let parse = |text: &str| text.parse().map_err(|e: T::Err| self.refuse(name, e.message()));
        self.one(name)?.map(parse).transpose()
    }

    /// The parameter `name`, which must be there, as a number from 1.
    pub(crate) fn number(&self, name: &str) -> Result<u64> {
        let number =
            self.one(name)?.and_then(|text| text.parse().ok()).filter(|number| *number > 0);
        number.ok_or_else(|| self.refuse(name, "name a number from 1"))
    }

    /// One of `words`, each with its meaning; the first stands where none is given.
    pub(crate) fn choice<T: Copy, const N: usize>(
        &self,
        name: &str,
        words: [(&str, T); N],
    ) -> Result<T> {
        let given = self.one(name)?;
        let found = words.iter().find(|(word, _)| given.is_none_or(|given| given == *word));
        found.map(|(_, meaning)| *meaning).ok_or_else(|| {
            self.refuse(name, format!("use {}", words.map(|(word, _)| word).join(" or ")))
        })
    }

    /// Every value of the parameter `name`.
    pub(crate) fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.pairs.iter().filter(move |(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.pairs.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// The problem that the parameter `name` is not acceptable.
    pub(crate) fn refuse(&self, name: &str, message: impl Into<String>) -> Problem {
        let violation = Violation::new(pointer(name), "malformed", message);
        Problem::violations(Code::QueryInvalid, vec![violation])
    }
}

fn pointer(name: &str) -> String {
    format!("/{}", icp_core::resource::escape(name))
}

impl<S: Send + Sync> FromRequestParts<S> for Query {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Self::Rejection> {
        let OriginalUri(uri) = OriginalUri::from_request_parts(parts, state).await?;
        Ok(Self::parse(uri.path(), uri.query()))
    }
}
