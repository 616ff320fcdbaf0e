//! The server from its start to its stop.

use std::future::Future;
use std::sync::Arc;

use icp::access::ApiKey;
use icp::engine::{Drained, Running};
use icp::sandbox::Sandbox;
use icp::secret::SystemEntropy;
use icp::signing::standard;
use icp::telemetry::SystemLog;
use icp::{Code, Engine, Error, Result};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::config::Config;
use crate::welcome::First;
use crate::{key_file, listen, store, telemetry, welcome};

/// Serves until the process is told to stop; answers what the engine brought to an end.
pub(crate) async fn run(config: &Config, log: SystemLog) -> Result<Drained> {
    let stop = stop_signal()?;
    let kept = key_file::load(&config.key_file)?;
    let opened = store::open(config).await?;
    let keys = match kept {
        Some(keys) => keys,
        None => key_file::make_for(&*opened.store, &config.key_file).await?,
    };
    let mut builder =
        Engine::builder_on(Arc::clone(&opened.store)).config(config.engine()).keys(keys);
    builder = builder.system_log(log).span_parent(telemetry::join);
    if config.allow_loopback {
        builder = builder.allow_loopback();
    }
    if config.sandbox {
        builder = builder.transformer(sandbox().await?);
    }
    let engine = builder.build()?;
    let listener = listen::bind(config.listen).map_err(|fault| {
        let message = format!("cannot listen on {}; choose another `listen`", config.listen);
        Error::new(Code::ConfigInvalid, message).caused_by(fault)
    })?;
    let address = listener.local_addr().map_err(|fault| internal("no local address", fault))?;
    let (first, running) =
        begin(&engine).await.map_err(|error| store::about(&config.store_url, &error))?;
    print(&welcome::text(address, config, first.as_ref()));
    serve(listener, engine, stop, config).await;
    let drained = running.shutdown(config.shutdown()).await;
    let closed = opened.close().await;
    closed?;
    Ok(drained)
}

/// The workers for programs in transformations, found to start.
async fn sandbox() -> Result<Sandbox> {
    let sandbox = Sandbox::builder().own_executable().build()?;
    sandbox.probe().await.map_err(|fault| {
        let message = "programs cannot be run in workers here; see the log, or set `sandbox` to \
                       false to take none";
        Error::new(Code::ConfigInvalid, message).caused_by(fault)
    })?;
    Ok(sandbox)
}

/// Starts the engine and makes the first key, in this order: a key that is stored has to be shown,
/// as nobody can read it again. What fails here, the store refused.
async fn begin(engine: &Engine) -> Result<(Option<First>, Running)> {
    let running = engine.start().await?;
    Ok((bootstrap(engine).await?, running))
}

/// Makes the first key, where there is none yet.
async fn bootstrap(engine: &Engine) -> Result<Option<First>> {
    let key = ApiKey::generate(engine.ids(), &SystemEntropy)?;
    if !engine.bootstrap_key(&key).await? {
        return Ok(None);
    }
    let signing = standard::generate_secret(&SystemEntropy)?;
    Ok(Some(First { key: key.to_text(), signing }))
}

/// Answers requests until `stop`; those under way then have as long as attempts have.
async fn serve(
    listener: TcpListener,
    engine: Engine,
    stop: impl Future<Output = ()>,
    config: &Config,
) {
    let (sender, mut stopping) = watch::channel(false);
    let stopped = async move {
        // The sender outlives the server.
        let _ = stopping.wait_for(|stopping| *stopping).await;
    };
    let following = engine.clone();
    let router = icp::axum::router(engine);
    let deadline = async {
        stop.await;
        tracing::info!("the server stops");
        following.close_streams();
        sender.send_replace(true);
        tokio::time::sleep(config.shutdown()).await;
    };
    tokio::select! {
        () = listen::serve(listener, router, config.limits(), stopped) => {}
        () = deadline => {}
    }
}

fn stop_signal() -> Result<impl Future<Output = ()>> {
    let catch = |kind| signal(kind).map_err(|fault| internal("signals cannot be caught", fault));
    let (mut interrupt, mut terminate) =
        (catch(SignalKind::interrupt())?, catch(SignalKind::terminate())?);
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}

fn internal(message: &str, fault: std::io::Error) -> Error {
    Error::new(Code::Internal, message).caused_by(fault)
}

#[expect(clippy::print_stdout, reason = "the address and the key are what the command answers")]
fn print(text: &str) {
    use std::io::Write;
    print!("{text}");
    let _ = std::io::stdout().flush();
}
