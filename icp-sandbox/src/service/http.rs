//! Requests of programs: through the guarded client, counted and bounded.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use icp_core::egress::{EgressRequest, EgressResponse, Timeouts};
use icp_core::error::Fault;
use icp_core::transform::{Limits, Outlet};
use tokio::time::Instant;
use tower::ServiceExt;
use url::Url;

use super::Replied;
use crate::host::{HttpRequest, HttpResponse, Refusal, Reply};

/// The methods that a program may use.
const METHODS: [Method; 6] =
    [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE];

/// The most bytes that an address and the header fields have together.
const HEAD: usize = 24 << 10;

/// The requests of one call.
#[derive(Debug)]
pub(super) struct Requests<'a> {
    outlet: Option<&'a Outlet>,
    limits: &'a Limits,
    sent: u32,
    left: Duration,
}

impl<'a> Requests<'a> {
    pub(super) fn new(outlet: Option<&'a Outlet>, limits: &'a Limits) -> Self {
        let left = Duration::from_millis(u64::from(limits.http_ms));
        Self { outlet, limits, sent: 0, left }
    }

    pub(super) async fn send(
        &mut self,
        request: HttpRequest,
        body: Vec<u8>,
    ) -> Result<Replied, Refusal> {
        let Some(outlet) = self.outlet else {
            let message = "this program may not send requests: they are off for it, for its \
                           organization, or while something is only shown";
            return Err(Refusal::new("http_not_granted", message));
        };
        if self.sent >= self.limits.http_requests {
            let message = format!("the plan sent {} requests; send fewer", self.sent);
            return Err(refuse(message));
        }
        if self.left.is_zero() {
            let message = format!("the requests of the plan took {} ms", self.limits.http_ms);
            return Err(Refusal::new("http_failed", message));
        }
        self.sent += 1;
        let request = self.request(outlet, request, body)?;
        let began = Instant::now();
        let sent = outlet.transport.clone().oneshot(request).await;
        self.left = self.left.saturating_sub(began.elapsed());
        match sent {
            Ok(response) => Ok(replied(response)),
            Err(error) => {
                let code = match error.class.fault() {
                    Fault::Permanent => "http_refused",
                    _ => "http_failed",
                };
                Err(Refusal::new(code, format!("the request was not answered: {error}")))
            }
        }
    }

    fn request(
        &self,
        outlet: &Outlet,
        request: HttpRequest,
        body: Vec<u8>,
    ) -> Result<EgressRequest, Refusal> {
        let fields = request.headers.iter().map(|(name, value)| name.len() + value.len());
        if fields.sum::<usize>() + request.url.len() > HEAD {
            return Err(refuse(format!("the address and the header fields exceed {HEAD} bytes")));
        }
        let method = METHODS.into_iter().find(|method| method.as_str() == request.method);
        let method = method.ok_or_else(|| refuse("use GET, HEAD, POST, PUT, PATCH or DELETE"))?;
        let url = Url::parse(&request.url).map_err(|error| refuse(format!("no url: {error}")))?;
        let most = self.limits.http_bytes as usize;
        if body.len() > most {
            return Err(refuse(format!("the body exceeds {most} bytes; send less")));
        }
        let policy = outlet.policy.clone();
        let mut sent = EgressRequest::new(method, url, body, policy);
        sent.headers = headers(request.headers)?;
        sent.response_limit = most;
        let asked = request.timeout_ms.map_or(Duration::MAX, |ms| Duration::from_millis(ms.into()));
        let total = self.left.min(asked).max(Duration::from_millis(1));
        let Timeouts { connect, headers, body, .. } = Timeouts::default();
        sent.timeouts = Timeouts {
            connect: connect.min(total),
            headers: headers.min(total),
            body: body.min(total),
            total,
        };
        Ok(sent)
    }
}

fn headers(fields: Vec<(String, String)>) -> Result<HeaderMap, Refusal> {
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        let named = HeaderName::from_bytes(name.as_bytes());
        let named = named.map_err(|_| refuse("a name of a header field is malformed"))?;
        let value = HeaderValue::from_str(&value)
            .map_err(|_| refuse(format!("the header field `{named}` is malformed")))?;
        headers.append(named, value);
    }
    Ok(headers)
}

fn replied(response: EgressResponse) -> Replied {
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let headers = response.headers.iter();
    let head = HttpResponse {
        status: response.status.as_u16(),
        headers: headers.map(|(name, value)| (name.as_str().to_owned(), text(value))).collect(),
        truncated: response.truncated,
    };
    (Reply::Response(head), response.body.into())
}

fn refuse(message: impl Into<String>) -> Refusal {
    Refusal::new("http_refused", message)
}
