//! Us, as a client of an issuer.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderValue, StatusCode};
use serde_json::{Map, Value};
use url::{Url, form_urlencoded};

use super::fetch::{send, unusable};
use super::strict;
use crate::egress::EgressRequest;
use crate::error::Result;
use crate::secret::SecretString;
use crate::transform::Outlet;

/// What an issuer knows us by.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    pub(crate) id: String,
    /// None for a client that keeps none, which then only names itself.
    pub(crate) secret: Option<SecretString>,
}

impl Client {
    /// Sends a form as this client; answers the status and, where it is an object, the document.
    pub(super) async fn post(
        &self,
        url: Url,
        fields: &[(&str, &str)],
        outlet: &Outlet,
    ) -> Result<(StatusCode, Option<Map<String, Value>>)> {
        let policy = std::sync::Arc::clone(&outlet.policy);
        let mut request = EgressRequest::post(url, self.form(fields), policy);
        let media = HeaderValue::from_static("application/x-www-form-urlencoded");
        request.headers.insert(CONTENT_TYPE, media);
        if let Some(secret) = &self.secret {
            request.headers.insert(AUTHORIZATION, self.basic(secret)?);
        }
        let response = send(request, outlet).await?;
        Ok((response.status, strict::object(&response.body)))
    }

    fn form(&self, fields: &[(&str, &str)]) -> String {
        let mut form = form_urlencoded::Serializer::new(String::new());
        form.extend_pairs(fields);
        if self.secret.is_none() {
            form.append_pair("client_id", &self.id);
        }
        form.finish()
    }

    /// Id and secret as `client_secret_basic`, which encodes both as a form first (RFC 6749, 2.3.1).
    fn basic(&self, secret: &SecretString) -> Result<HeaderValue> {
        let part =
            |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
        let pair = format!("{}:{}", part(&self.id), part(secret.expose()));
        let mut value = HeaderValue::try_from(format!("Basic {}", STANDARD.encode(pair)))
            .map_err(|_| unusable("the client's secret cannot be sent"))?;
        value.set_sensitive(true);
        Ok(value)
    }
}
