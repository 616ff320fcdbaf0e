//! Tokens that say nothing by themselves, and what their issuer says of them (RFC 7662).

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use url::Url;

use super::claims::Claims;
use super::client::Client;
use super::fetch::unusable;
use super::verify::{Refusal, Rules};
use crate::error::Result;
use crate::secret::Secret;
use crate::time::Timestamp;
use crate::transform::Outlet;

/// How long the answer that a token is good is believed at most.
const BELIEVED: Duration = Duration::from_secs(300);

/// The bytes of a token that an issuer is asked about.
const LENGTH: std::ops::RangeInclusive<usize> = 16..=4_096;

/// How an issuer is asked about tokens that say nothing by themselves.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct IntrospectionSpec {
    /// Where it is asked. Default where its discovery document says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    pub endpoint: Option<String>,
    /// The name that the issuer knows us by.
    #[schemars(length(min = 1, max = 255))]
    pub client_id: String,
    /// The secret that it knows us by.
    pub client_secret: Secret,
}

/// The same, ready for use.
#[derive(Debug)]
pub(crate) struct Introspection {
    pub(crate) endpoint: Option<Url>,
    pub(super) client: Client,
}

/// Whether an issuer may be asked about this: never about keys and tokens of our own, which would
/// tell them, nor about what is a JSON Web Token, which says itself what it is.
pub(crate) fn is_opaque(token: &str) -> bool {
    let ours = ["icp_", "ics_", "icr_"].iter().any(|prefix| token.starts_with(prefix));
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~+/=".contains(&b);
    !ours
        && LENGTH.contains(&token.len())
        && token.bytes().all(plain)
        && token.bytes().filter(|b| *b == b'.').count() < 2
}

impl Introspection {
    /// What the issuer says of a token, asked at `url`; none where it says that it is not good.
    pub(crate) async fn ask(
        &self,
        token: &str,
        url: Url,
        outlet: &Outlet,
    ) -> Result<Option<Claims>> {
        let fields = [("token", token), ("token_type_hint", "access_token")];
        let (status, answer) = self.client.post(url, &fields, outlet).await?;
        let answer = answer.filter(|_| status == http::StatusCode::OK).ok_or_else(|| {
            unusable(format!("it answered about a token with the status {}", status.as_u16()))
        })?;
        let claims = Claims::new(answer);
        Ok(claims.is_true("active").then(|| claims.or_named_by_client()))
    }
}

impl Rules {
    /// Until when an answer about a token is believed, where it is good at `now`.
    ///
    /// RFC 7662 leaves out what the issuer deems known. An answer that names no audience is taken
    /// where the token was issued to one of them, so that those for others are not.
    pub(crate) fn judge_answer(
        &self,
        claims: &Claims,
        now: Timestamp,
    ) -> Result<Timestamp, Refusal> {
        if claims.has("iss") && claims.text("iss")? != Some(self.issuer.as_str()) {
            return Err(Refusal::Issuer);
        }
        if claims.has("aud") {
            self.check_audience(claims)?;
        } else {
            let client = claims.text("client_id")?.ok_or(Refusal::Audience)?;
            if !self.audiences.iter().any(|own| own == client) {
                return Err(Refusal::Audience);
            }
        }
        let end = claims.date("exp")?.map_or(now + BELIEVED, |end| end + self.leeway);
        self.check_times(claims, end, now)?;
        Ok(end.min(now + BELIEVED))
    }
}

#[cfg(test)]
mod tests {
    use super::is_opaque;

    #[test]
    fn nothing_of_ours_and_no_json_web_token_is_asked_about() {
        for (token, asked) in [
            ("2YotnFZFEjr1zCsicMWpAA", true),
            ("ya29.a0AfH6SMBx-_~+/==", true),
            ("icp_0123456789abcdef", false),
            ("ics_0123456789abcdef", false),
            ("icr_0123456789abcdef", false),
            ("eyJhbGciOiJub25lIn0.e30.", false),
            ("eyJlbmMiOiJ4In0.a.b.c.d", false),
            ("0123456789abcde", false),
            ("with a space in it", false),
            ("with\na line end in it", false),
            ("with-\u{e9}-in-it-somewhere", false),
            (&"x".repeat(4_096), true),
            (&"x".repeat(4_097), false),
        ] {
            assert_eq!(is_opaque(token), asked, "{token:.30}");
        }
    }
}
