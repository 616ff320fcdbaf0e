//! Pages of lists and their cursors.

use std::fmt::Display;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use icp_core::Code;
use icp_core::store::{Page, PageQuery};
use schemars::JsonSchema;
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::extract::Query;
use crate::problem::{Problem, Result};

const DEFAULT_LIMIT: usize = 50;
const MAX_LIMIT: usize = 1_000;
const SCOPE_BYTES: usize = 8;

/// A page of a list.
#[derive(Debug, JsonSchema, Serialize)]
pub(crate) struct Listing<T> {
    /// The items, in the order of the list.
    pub(crate) items: Vec<T>,
    /// The `cursor` of the next page; `null` where this is the last one.
    pub(crate) next: Option<String>,
}

/// Where a page starts, read from `limit` and `cursor`.
#[derive(Debug)]
pub(crate) struct Pager {
    scope: [u8; SCOPE_BYTES],
    limit: usize,
    after: Option<String>,
}

impl Pager {
    /// The page that `query` asks for.
    pub(crate) fn of(query: &Query) -> Result<Self> {
        let scope = scope(query);
        let limit = match query.one("limit")? {
            None => DEFAULT_LIMIT,
            Some(text) => {
                text.parse().ok().filter(|limit| (1..=MAX_LIMIT).contains(limit)).ok_or_else(
                    || query.refuse("limit", format!("use a number from 1 to {MAX_LIMIT}")),
                )?
            }
        };
        let after = query.one("cursor")?.map(|cursor| open(cursor, scope)).transpose()?;
        Ok(Self { scope, limit, after })
    }

    /// The page as stores take it.
    pub(crate) fn query<K: FromStr>(&self) -> Result<PageQuery<K>> {
        let after = self.after.as_deref().map(|key| key.parse().map_err(|_| foreign()));
        Ok(PageQuery { after: after.transpose()?, limit: self.limit })
    }

    /// The number after which the page starts, for lists that are ordered by one.
    pub(crate) fn number(&self) -> Result<Option<u64>> {
        self.after.as_deref().map(|key| key.parse().map_err(|_| foreign())).transpose()
    }

    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    /// The answer for `page`, whose items have the keys that `key` takes.
    pub(crate) fn listing<T, K: Display, V>(
        &self,
        page: Page<T>,
        key: impl Fn(&T) -> K,
        view: impl Fn(T) -> V,
    ) -> Listing<V> {
        let next = page.items.last().filter(|_| page.more).map(key);
        self.listing_to(page.items.into_iter().map(view).collect(), next)
    }

    /// The answer of these items, where the next page starts after `next`.
    pub(crate) fn listing_to<V, K: Display>(&self, items: Vec<V>, next: Option<K>) -> Listing<V> {
        Listing { items, next: next.map(|next| seal(&next.to_string(), self.scope)) }
    }
}

impl Pager {
    /// The answer of `items`, after which the list goes on at `next`.
    pub(crate) fn leading_to<V, K: Display>(&self, items: Vec<V>, next: Option<&K>) -> Listing<V> {
        Listing { items, next: next.map(|next| seal(&next.to_string(), self.scope)) }
    }
}

/// What a cursor is good for: the path and the filters it was made under.
fn scope(query: &Query) -> [u8; SCOPE_BYTES] {
    let mut hash = Sha256::new();
    hash.update(query.path());
    for (name, value) in query.pairs().filter(|(name, _)| !["cursor", "limit"].contains(name)) {
        for part in [name, value] {
            hash.update([0]);
            hash.update(part);
        }
    }
    let mut scope = [0; SCOPE_BYTES];
    scope.copy_from_slice(&hash.finalize()[..SCOPE_BYTES]);
    scope
}

fn seal(key: &str, scope: [u8; SCOPE_BYTES]) -> String {
    URL_SAFE_NO_PAD.encode([scope.as_slice(), key.as_bytes()].concat())
}

fn open(cursor: &str, scope: [u8; SCOPE_BYTES]) -> Result<String> {
    let bytes = URL_SAFE_NO_PAD.decode(cursor).map_err(|_| foreign())?;
    let key = bytes.strip_prefix(scope.as_slice()).ok_or_else(foreign)?;
    String::from_utf8(key.to_vec()).map_err(|_| foreign())
}

fn foreign() -> Problem {
    let hint = "use the `next` of a page of this list with the same filters, or leave it out";
    Problem::new(Code::CursorInvalid, hint)
}

#[cfg(test)]
mod tests {
    use icp_core::id::ResourceId;

    use super::*;

    fn query(text: &str) -> Query {
        Query::parse("/list", Some(text)).only(&["limit", "cursor", "state"]).unwrap()
    }

    #[test]
    fn a_cursor_leads_on_under_the_same_filters_only() {
        let pager = Pager::of(&query("state=dead&limit=2")).unwrap();
        let page = Page { items: vec!["a", "b"], more: true };
        let next = pager.listing(page, |item| *item, |item| item).next.unwrap();
        let again = Pager::of(&query(&format!("cursor={next}&state=dead"))).unwrap();
        let start = again.query::<ResourceId>().unwrap();
        assert_eq!((start.after.unwrap().as_str(), start.limit), ("b", DEFAULT_LIMIT));
        let other = Pager::of(&query(&format!("cursor={next}"))).unwrap_err();
        assert_eq!(other.status(), 400);
    }

    #[test]
    fn the_last_page_has_no_cursor() {
        let pager = Pager::of(&query("")).unwrap();
        let page = Page { items: vec!["a"], more: false };
        assert!(pager.listing(page, |item| *item, |item| item).next.is_none());
    }

    #[test]
    fn limits_are_bounded() {
        for bad in ["0", "1001", "-1", "x", ""] {
            assert!(Pager::of(&query(&format!("limit={bad}"))).is_err(), "{bad}");
        }
        assert_eq!(Pager::of(&query("limit=1000")).unwrap().limit(), 1000);
    }
}
