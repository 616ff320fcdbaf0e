//! What the server says when it starts.

use std::net::SocketAddr;

use icp::secret::SecretString;

use crate::config::Config;

/// What is made when a database is new.
#[derive(Debug)]
pub(crate) struct First {
    /// The API key.
    pub(crate) key: SecretString,
    /// A signing secret for the integration of the example.
    pub(crate) signing: SecretString,
}

/// The address and the store, and the key with calls to paste, where it was made just now.
pub(crate) fn text(address: SocketAddr, config: &Config, first: Option<&First>) -> String {
    let url = format!("http://{address}");
    let store = &config.store_url;
    let Some(First { key, signing }) = first else {
        return format!(
            "icp listens on {url}\nEvents are kept in {store}\nThe API key was shown when the database was made; use that one.\n"
        );
    };
    let (key, signing) = (key.expose(), signing.expose());
    let target = if config.allow_loopback {
        "http://127.0.0.1:9000/webhooks"
    } else {
        "https://example.com/webhooks"
    };
    format!(
        r#"icp listens on {url}
Events are kept in {store}
API key, shown this once: {key}

Paste this to make an organization and an integration, and to publish an event:

  export URL={url} KEY={key}
  curl -H "Authorization: Bearer $KEY" -H 'Content-Type: application/json' \
    $URL/api/v1/organizations -d '{{"id":"acme","spec":{{}}}}'
  curl -H "Authorization: Bearer $KEY" -H 'Content-Type: application/json' \
    $URL/api/v1/organizations/acme/integrations \
    -d '{{"id":"orders","spec":{{"events":["order.*"],"target":{{"kind":"http","url":"{target}"}},"signing":{{"keys":[{{"secret":"{signing}"}}]}}}}}}'
  curl -H "Authorization: Bearer $KEY" -H 'Content-Type: application/json' \
    $URL/api/v1/organizations/acme/events -d '{{"type":"order.paid","data":{{"order":17}}}}'
"#
    )
}
