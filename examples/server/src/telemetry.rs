//! Where the log goes, and where traces go.

use std::collections::HashMap;
use std::time::Duration;

use async_trait::async_trait;
use icp::event::TraceContext;
use icp::telemetry::SystemLog;
use icp::{Code, Error, Result};
use opentelemetry::KeyValue;
use opentelemetry::propagation::TextMapPropagator;
use opentelemetry::trace::TracerProvider;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};
use tokio::runtime::Handle;
use tracing::Span;
use tracing::level_filters::LevelFilter;
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};
use url::Url;

use crate::client;
use crate::config::{Config, LogFormat};

/// How long the last spans may take at the end.
const FLUSH: Duration = Duration::from_secs(5);
/// What is traced: our own crates, and requests to the API.
const TRACED: [&str; 7] = [
    "icp_axum",
    "icp_core",
    "icp_sandbox",
    "icp_server",
    "icp_store_mongo",
    "icp_store_sql",
    "tower_http::trace",
];

/// What sends traces in the background, where they are sent.
#[derive(Debug)]
#[must_use = "the last spans are sent by `stop`"]
pub(crate) struct Telemetry {
    /// The last lines, for the API.
    pub(crate) log: SystemLog,
    traces: Option<SdkTracerProvider>,
}

/// Starts the log, and the traces where `otlp_endpoint` is set; they are sent on `runtime`.
pub(crate) fn start(config: &Config, runtime: &Handle) -> Result<Telemetry> {
    let filter = EnvFilter::try_new(&config.log).map_err(|fault| {
        let message = "`log` is not a filter; use a level such as `info`, or `target=level`";
        Error::new(Code::ConfigInvalid, message).caused_by(fault)
    })?;
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let lines = match config.log_format {
        LogFormat::Text => lines.with_ansi(false).boxed(),
        LogFormat::Json => lines.json().boxed(),
    };
    let provider = config.otlp_endpoint.as_ref().map(|url| provider(url, config, runtime));
    let provider = provider.transpose()?;
    let traces = provider.as_ref().map(|provider| {
        let traced = Targets::new().with_targets(TRACED.map(|name| (name, LevelFilter::DEBUG)));
        tracing_opentelemetry::layer()
            .with_tracer(provider.tracer("icp"))
            .with_location(false)
            .with_threads(false)
            .with_filter(traced)
    });
    let log = SystemLog::default();
    tracing_subscriber::registry()
        .with(lines.with_filter(filter))
        .with(traces)
        .with(log.layer())
        .init();
    Ok(Telemetry { log, traces: provider })
}

impl Telemetry {
    /// Sends what is left. The runtime must still be there, and not wait for this.
    pub(crate) fn stop(self) {
        // What could not be sent was told where it was tried.
        let _ = self.traces.map(|provider| provider.shutdown_with_timeout(FLUSH));
    }
}

/// Makes an attempt a part of the trace that its event was published in.
pub(crate) fn join(span: &Span, context: &TraceContext) {
    let mut fields = HashMap::from([("traceparent".to_owned(), context.parent())]);
    let state = context.state().map(|state| ("tracestate".to_owned(), state.to_owned()));
    fields.extend(state);
    // Nothing is refused but where no traces are sent, or the span is not one of them.
    let _ = span.set_parent(TraceContextPropagator::new().extract(&fields));
}

fn provider(url: &Url, config: &Config, runtime: &Handle) -> Result<SdkTracerProvider> {
    let collector = Collector { http: client::http()?, runtime: runtime.clone() };
    let exporter = SpanExporter::builder()
        .with_http()
        .with_http_client(collector)
        .with_protocol(Protocol::HttpBinary)
        .with_endpoint(traces_of(url))
        .build()
        .map_err(|fault| {
            let message = "`otlp_endpoint` cannot be used";
            Error::new(Code::ConfigInvalid, message).caused_by(fault.to_string())
        })?;
    let resource = Resource::builder()
        .with_service_name("icp-server")
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .build();
    let share = f64::from(config.otlp_percent) / 100.0;
    Ok(SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .with_sampler(Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(share))))
        .with_resource(resource)
        .build())
}

/// Where traces go at a collector: its own path where it has one.
fn traces_of(url: &Url) -> String {
    let mut url = url.clone();
    if matches!(url.path(), "" | "/") {
        url.set_path("/v1/traces");
    }
    url.into()
}

/// Sends batches on the server's runtime: the exporter's own thread has none.
#[derive(Debug)]
struct Collector {
    http: reqwest::Client,
    runtime: Handle,
}

#[async_trait]
impl HttpClient for Collector {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let http = self.http.clone();
        let sent = self.runtime.spawn(async move {
            let answer = http.execute(request.try_into()?).await?;
            let status = answer.status();
            let headers = answer.headers().clone();
            let mut response = Response::new(answer.bytes().await?);
            *response.status_mut() = status;
            *response.headers_mut() = headers;
            Ok::<_, HttpError>(response)
        });
        let sent = sent.await.map_err(HttpError::from).and_then(|sent| sent);
        match &sent {
            Ok(answer) if !answer.status().is_success() => {
                tracing::warn!(status = answer.status().as_u16(), "the collector took no traces");
            }
            Err(fault) => tracing::warn!("traces could not be sent: {fault}"),
            Ok(_) => {}
        }
        sent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_collector_is_named_with_or_without_its_path() {
        for (given, used) in [
            ("http://collector:4318", "http://collector:4318/v1/traces"),
            ("http://collector:4318/", "http://collector:4318/v1/traces"),
            ("https://otlp.example.com/own/path", "https://otlp.example.com/own/path"),
        ] {
            assert_eq!(traces_of(&given.parse().unwrap()), used);
        }
    }
}
