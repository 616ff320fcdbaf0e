//! What the server says when it starts.

use std::net::SocketAddr;

use icp::secret::SecretString;

/// What is made when a database is new.
#[derive(Debug)]
pub(crate) struct First {
    /// The API key.
    pub(crate) key: SecretString,
    /// A signing secret for the integration of the example.
    pub(crate) signing: SecretString,
}

/// The lines after the address: the key with calls to paste, where it was made just now.
pub(crate) fn text(address: SocketAddr, first: Option<&First>, loopback: bool) -> String {
    let url = format!("http://{address}");
    let Some(First { key, signing }) = first else {
        return format!(
            "icp listens on {url}\nThe API key was shown when the database was made; use that one.\n"
        );
    };
    let (key, signing) = (key.expose(), signing.expose());
    let target =
        if loopback { "http://127.0.0.1:9000/webhooks" } else { "https://example.com/webhooks" };
    format!(
        r#"icp listens on {url}
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
