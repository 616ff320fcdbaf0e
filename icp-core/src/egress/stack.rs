//! The layers around a [`Transport`], in the order in which a call meets them.

use std::task::{Context, Poll};

use futures_util::future::BoxFuture;
use tower::limit::ConcurrencyLimitLayer;
use tower::{Layer, Service, ServiceExt};
use tracing::Instrument;
use tracing::field::Empty;

use super::{EgressError, EgressRequest, EgressResponse, FailureClass, Phase, Timings, Transport};

/// Wraps `base` as the engine uses it: trace, deadline, `extra`, then at most `concurrency` calls
/// at once.
///
/// `extra` is a host's own layer, or [`Identity`](tower::layer::util::Identity). Waiting for a
/// place counts against the call's total timeout.
pub fn stack<L>(base: Transport, concurrency: usize, extra: L) -> Transport
where
    L: Layer<Transport>,
    L::Service: Service<EgressRequest, Response = EgressResponse, Error = EgressError>
        + Clone
        + Send
        + Sync
        + 'static,
    <L::Service as Service<EgressRequest>>::Future: Send + 'static,
{
    let limited = Transport::new(ConcurrencyLimitLayer::new(concurrency).layer(base));
    Transport::new(TraceLayer.layer(DeadlineLayer.layer(extra.layer(limited))))
}

/// Ends a call when its `timeouts.total` is over, whatever the layers below do.
#[derive(Clone, Copy, Debug, Default)]
pub struct DeadlineLayer;

impl<S> Layer<S> for DeadlineLayer {
    type Service = Deadline<S>;

    fn layer(&self, inner: S) -> Deadline<S> {
        Deadline { inner }
    }
}

/// The service of [`DeadlineLayer`].
#[derive(Clone, Debug)]
pub struct Deadline<S> {
    inner: S,
}

impl<S> Service<EgressRequest> for Deadline<S>
where
    S: Service<EgressRequest, Response = EgressResponse, Error = EgressError>
        + Clone
        + Send
        + 'static,
    S::Future: Send + 'static,
{
    type Response = EgressResponse;
    type Error = EgressError;
    type Future = BoxFuture<'static, Result<EgressResponse, EgressError>>;

    // Readiness is awaited within the call, so that the wait counts against the deadline.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), EgressError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: EgressRequest) -> Self::Future {
        let total = request.timeouts.total;
        let call = self.inner.clone().oneshot(request);
        Box::pin(async move {
            tokio::time::timeout(total, call).await.unwrap_or_else(|_| {
                Err(EgressError::new(
                    FailureClass::Timeout(Phase::Total),
                    format!("no complete answer within {} ms", total.as_millis()),
                )
                .with_timings(Timings { total: Some(total), ..Timings::default() }))
            })
        })
    }
}

/// Puts each call in a span `egress` with method, scheme, host and port.
///
/// Path and query stay out, as both carry secrets at many receivers. The outcome is recorded as
/// `http.response.status_code` or `error.type`.
#[derive(Clone, Copy, Debug, Default)]
pub struct TraceLayer;

impl<S> Layer<S> for TraceLayer {
    type Service = Trace<S>;

    fn layer(&self, inner: S) -> Trace<S> {
        Trace { inner }
    }
}

/// The service of [`TraceLayer`].
#[derive(Clone, Debug)]
pub struct Trace<S> {
    inner: S,
}

impl<S> Service<EgressRequest> for Trace<S>
where
    S: Service<EgressRequest, Response = EgressResponse, Error = EgressError>,
    S::Future: Send + 'static,
{
    type Response = EgressResponse;
    type Error = EgressError;
    type Future = BoxFuture<'static, Result<EgressResponse, EgressError>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), EgressError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: EgressRequest) -> Self::Future {
        let span = tracing::debug_span!(
            "egress",
            http.request.method = %request.method,
            url.scheme = request.url.scheme(),
            server.address = request.url.host_str(),
            server.port = request.url.port_or_known_default(),
            http.response.status_code = Empty,
            error.r#type = Empty,
        );
        let call = span.in_scope(|| self.inner.call(request));
        let recorded = span.clone();
        Box::pin(
            async move {
                let outcome = call.await;
                match &outcome {
                    Ok(response) => {
                        recorded.record("http.response.status_code", response.status.as_u16());
                    }
                    Err(error) => {
                        recorded.record("error.type", error.class.as_str());
                        tracing::debug!(error.message = %error.message, "call failed");
                    }
                }
                outcome
            }
            .instrument(span),
        )
    }
}

#[cfg(test)]
mod tests;
