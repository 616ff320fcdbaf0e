//! What the host does in the place of built-in code.

mod connector;
mod signer;
mod source;
mod transformer;

pub(crate) use connector::HostConnector;
use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;
pub(crate) use signer::HostSigner;
pub(crate) use source::HostSource;
pub(crate) use transformer::HostTransformer;

use crate::request::HandlerKind;

/// What a handler is asked, as the body of a REQUEST item.
#[derive(Serialize)]
struct Asked<'a> {
    /// The name it is registered by.
    handler: &'a str,
    /// What it does, as it is registered.
    kind: HandlerKind,
    org: &'a str,
    /// The id of the event.
    event: String,
    /// The type of the event.
    r#type: &'a str,
    integration: Option<&'a str>,
    delivery: Option<String>,
    /// The number of the try, from 1.
    attempt: u32,
    /// How long the engine waits for the answer, in milliseconds.
    timeout_ms: u64,
    /// The `config` of the step, target or signer.
    config: Option<&'a Value>,
    /// The payload where it is JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<&'a RawValue>,
    /// The payload in base64 where it is not, and its media type.
    #[serde(skip_serializing_if = "Option::is_none")]
    payload_base64: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content_type: Option<&'a str>,
    /// The request that is to be signed.
    #[serde(skip_serializing_if = "Option::is_none")]
    request: Option<signer::Unsigned>,
    /// Whether it is a test delivery.
    test: bool,
}

/// Refuses what is no name of a handler.
pub(crate) fn check_name(name: &str) -> Result<(), &'static str> {
    icp::transform::handler_name_fault(name).map_or(Ok(()), Err)
}
