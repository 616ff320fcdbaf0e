//! The document as a page for people. It loads nothing but the document.

use axum::http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

use crate::extract::Query;
use crate::problem::Result;

const PAGE: &str = include_str!("../docs.html");
pub(super) const HTML: &str = "text/html; charset=utf-8";

pub(super) async fn get(query: Query) -> Result<Response> {
    query.only(&[])?;
    Ok(([(CONTENT_TYPE, HTML.to_owned()), (CONTENT_SECURITY_POLICY, policy(PAGE))], PAGE)
        .into_response())
}

/// Lets the page run its own script and style, by their digests, and ask this API: nothing else.
fn policy(page: &str) -> String {
    format!(
        "default-src 'none'; script-src {}; style-src {}; connect-src 'self'; base-uri 'none'; \
         form-action 'none'; frame-ancestors 'none'",
        digest_of(page, "script"),
        digest_of(page, "style"),
    )
}

/// The digest of the text in the one element of this name.
fn digest_of(page: &str, element: &str) -> String {
    let text = page.split_once(&format!("<{element}>")).map_or("", |(_, rest)| rest);
    let text = text.split_once(&format!("</{element}>")).map_or("", |(text, _)| text);
    format!("'sha256-{}'", STANDARD.encode(Sha256::digest(text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_loads_nothing_and_runs_nothing_but_its_own() {
        for foreign in
            ["http://", "https://", "src=", "<link", "@import", "url(", " style=", " onclick"]
        {
            assert!(!PAGE.contains(foreign), "{foreign}");
        }
        for element in ["script", "style"] {
            assert_eq!(PAGE.matches(&format!("<{element}")).count(), 1);
            assert_eq!(PAGE.matches(&format!("<{element}>")).count(), 1);
        }
        assert_eq!(
            digest_of("<style>a</style>", "style"),
            "'sha256-ypeBEsobvcr6wjGzmiPcTaeG7/gUfE5yuYB3ha/uSLs='"
        );
    }
}
