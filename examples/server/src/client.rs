//! Calls of a running server, for the commands that need one.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use futures_util::stream::{BoxStream, StreamExt};
use icp::secret::SecretString;
use icp::{Code, Error};
use reqwest::header::{CONTENT_TYPE, IF_MATCH};
use reqwest::{Method, RequestBuilder};
use serde_json::Value;
use sse_stream::SseByteStream;
use url::Url;

use crate::failure::{Failure, Refusal, Result};

const TIMEOUT: Duration = Duration::from_secs(60);
/// How long a stream goes on; the server ends it before.
const STREAM_TIMEOUT: Duration = Duration::from_secs(3_600);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The most that a page of the API holds.
const PAGE: &str = "1000";

/// Which server is called, and as whom.
#[derive(Args, Clone, Debug)]
pub(crate) struct Remote {
    /// Where the server is.
    #[arg(long, env = "ICP_URL", default_value = "http://127.0.0.1:3545", value_name = "URL")]
    url: Url,
    /// The API key; better in the environment, as others can read arguments.
    #[arg(long, env = "ICP_API_KEY", hide_env_values = true, value_parser = secret)]
    key: Option<SecretString>,
}

/// A server to call.
#[derive(Debug)]
pub(crate) struct Client {
    http: reqwest::Client,
    url: Url,
    key: SecretString,
}

/// Server-sent events, as they come.
pub(crate) type Events = SseByteStream<BoxStream<'static, reqwest::Result<Bytes>>>;

/// One call.
#[derive(Debug)]
pub(crate) struct Call<'a> {
    method: Method,
    path: Vec<&'a str>,
    query: Vec<(&'a str, String)>,
    body: Option<&'a Value>,
    revision: Option<u64>,
}

#[expect(clippy::unnecessary_wraps, reason = "the signature that clap asks for")]
fn secret(text: &str) -> Result<SecretString, String> {
    Ok(SecretString::from(text))
}

impl Remote {
    /// The server, with a client that trusts the roots of this machine.
    pub(crate) fn client(&self) -> Result<Client> {
        if !matches!(self.url.scheme(), "http" | "https") || self.url.cannot_be_a_base() {
            return Err(Failure::Input("`--url` must begin with http:// or https://".to_owned()));
        }
        let key = self.key.clone().ok_or_else(|| {
            Failure::Input("there is no api key; set ICP_API_KEY, or use `--key`".to_owned())
        })?;
        Ok(Client { http: http()?, url: self.url.clone(), key })
    }
}

/// An HTTP client with rustls on ring, which is what the server itself sends with.
pub(crate) fn http() -> Result<reqwest::Client, Error> {
    let unusable = |fault: &dyn std::fmt::Display| {
        Error::new(Code::Internal, "the http client cannot be made").caused_by(fault.to_string())
    };
    let mut roots = rustls::RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|fault| unusable(&fault))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(TIMEOUT)
        // What is streamed says at least every 15 s that it is alive.
        .read_timeout(TIMEOUT)
        .redirect(reqwest::redirect::Policy::none())
        .user_agent(concat!("icp-server/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(|fault| unusable(&fault))
}

impl<'a> Call<'a> {
    fn new(method: Method, path: &[&'a str]) -> Self {
        Self { method, path: path.to_vec(), query: Vec::new(), body: None, revision: None }
    }

    /// A read.
    pub(crate) fn get(path: &[&'a str]) -> Self {
        Self::new(Method::GET, path)
    }

    /// A new resource, or a verb.
    pub(crate) fn post(path: &[&'a str], body: &'a Value) -> Self {
        Self { body: Some(body), ..Self::new(Method::POST, path) }
    }

    /// A whole new version.
    pub(crate) fn put(path: &[&'a str], body: &'a Value) -> Self {
        Self { body: Some(body), ..Self::new(Method::PUT, path) }
    }

    /// A deletion.
    pub(crate) fn delete(path: &[&'a str]) -> Self {
        Self::new(Method::DELETE, path)
    }

    /// With a query parameter.
    pub(crate) fn query(mut self, name: &'a str, value: impl Into<String>) -> Self {
        self.query.push((name, value.into()));
        self
    }

    /// Refused where the resource has another revision by now.
    pub(crate) fn if_revision(mut self, revision: u64) -> Self {
        self.revision = Some(revision);
        self
    }
}

impl Client {
    /// Makes the call; the answer's document, `null` where it has none.
    pub(crate) async fn send(&self, call: Call<'_>) -> Result<Value> {
        let answer = self.request(&call)?.send().await.map_err(|fault| self.unreachable(&fault))?;
        let status = answer.status();
        let body = answer.bytes().await.map_err(|fault| self.unreachable(&fault))?;
        if !status.is_success() {
            return Err(Failure::Refused(Refusal::read(status.as_u16(), &body)));
        }
        if body.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&body)
            .map_err(|_| Failure::Refused(Refusal::read(status.as_u16(), &body)))
    }

    /// The items of a list, page after page, until `enough` of them are there.
    pub(crate) async fn list(
        &self,
        path: &[&str],
        filters: &[(&str, String)],
        enough: Option<usize>,
    ) -> Result<Vec<Value>> {
        let (mut items, mut cursor) = (Vec::new(), None::<String>);
        loop {
            let mut call = Call::get(path).query("limit", PAGE);
            for (name, value) in filters {
                call = call.query(name, value);
            }
            if let Some(cursor) = &cursor {
                call = call.query("cursor", cursor);
            }
            let mut page = self.send(call).await?;
            if let Some(Value::Array(found)) = page.get_mut("items").map(Value::take) {
                items.extend(found);
            }
            let full = enough.is_some_and(|enough| items.len() >= enough);
            match page["next"].as_str() {
                Some(next) if !full => cursor = Some(next.to_owned()),
                _ => break,
            }
        }
        items.truncate(enough.unwrap_or(usize::MAX));
        Ok(items)
    }

    /// Opens a stream of server-sent events; goes on after the event `last`, where there is one.
    pub(crate) async fn follow(&self, path: &[&str], last: Option<&str>) -> Result<Events> {
        let request = self.request(&Call::get(path))?.timeout(STREAM_TIMEOUT);
        let request = match last {
            Some(last) => request.header("last-event-id", last),
            None => request,
        };
        let answer = request.send().await.map_err(|fault| self.unreachable(&fault))?;
        let status = answer.status();
        if !status.is_success() {
            let body = answer.bytes().await.map_err(|fault| self.unreachable(&fault))?;
            return Err(Failure::Refused(Refusal::read(status.as_u16(), &body)));
        }
        Ok(SseByteStream::new(answer.bytes_stream().boxed()))
    }

    fn request(&self, call: &Call<'_>) -> Result<RequestBuilder> {
        let mut url = self.url.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(["api", "v1"]).extend(&call.path);
        }
        if !call.query.is_empty() {
            url.query_pairs_mut().extend_pairs(&call.query);
        }
        let mut request =
            self.http.request(call.method.clone(), url).bearer_auth(self.key.expose());
        if let Some(revision) = call.revision {
            request = request.header(IF_MATCH, format!("\"{revision}\""));
        }
        if let Some(body) = call.body {
            let body = serde_json::to_vec(body)
                .map_err(|fault| Failure::Input(format!("the document is not json: {fault}")))?;
            request = request.header(CONTENT_TYPE, "application/json").body(body);
        }
        Ok(request)
    }

    fn unreachable(&self, fault: &reqwest::Error) -> Failure {
        let mut shown = self.url.clone();
        let _ = shown.set_password(None);
        let causes =
            std::iter::successors(std::error::Error::source(fault), |&cause| cause.source());
        let cause = causes.last().map_or_else(|| fault.to_string(), ToString::to_string);
        Failure::Unreachable(format!(
            "no answer of {shown}: {cause}; is the server running, and `--url` its address?"
        ))
    }
}
