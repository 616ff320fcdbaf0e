//! What the server says when it starts.

use std::net::SocketAddr;

/// The lines after the address: the key with calls to paste, where it was made just now.
pub(crate) fn text(address: SocketAddr, key: Option<&str>, loopback: bool) -> String {
    let url = format!("http://{address}");
    let Some(key) = key else {
        return format!(
            "icp listens on {url}\nThe API key was shown when the database was made; use that one.\n"
        );
    };
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
    -d '{{"id":"orders","spec":{{"events":["order.*"],"target":{{"kind":"http","url":"{target}"}}}}}}'
  curl -H "Authorization: Bearer $KEY" -H 'Content-Type: application/json' \
    $URL/api/v1/organizations/acme/events -d '{{"type":"order.paid","data":{{"order":17}}}}'
"#
    )
}
