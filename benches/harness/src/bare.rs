//! The anchor: the bare pooled client, closed loop, to the same receiver.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;

use crate::receiver::Receiver;
use crate::report::Row;
use crate::{Result, engine, usage};

const CALLERS: u64 = 64;

/// Posts `count` bodies of 1 KiB with 64 in flight.
pub(crate) async fn run(receiver: &Receiver, count: u64) -> Result<Row> {
    receiver.reset().await?;
    let client: Client<_, Full<Bytes>> = Client::builder(TokioExecutor::new()).build_http();
    let next = Arc::new(AtomicU64::new(0));
    let url = format!("{}/ok/bare", receiver.base);
    let (cpu, begun) = (usage::cpu(), usage::now());
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..CALLERS {
        let (client, next, url) = (client.clone(), Arc::clone(&next), url.clone());
        callers.spawn(async move {
            let body = Bytes::from(engine::body(0));
            while next.fetch_add(1, Ordering::Relaxed) < count {
                let request = Request::post(&url)
                    .header("content-type", "application/json")
                    .body(Full::new(body.clone()))?;
                client.request(request).await?.into_body().collect().await?;
            }
            Result::Ok(())
        });
    }
    while let Some(caller) = callers.join_next().await {
        caller??;
    }
    let (cpu, wall) = (usage::cpu() - cpu, usage::now() - begun);
    let stats = receiver.stats().await?;
    if stats.requests != count {
        return Err(format!("{count} requests sent, {} received", stats.requests).into());
    }
    Ok(Row::new("bare client", count, cpu, wall, &stats))
}

/// Gets a page of the receiver.
pub(crate) async fn get(url: &str) -> Result<Bytes> {
    let client: Client<_, Full<Bytes>> = Client::builder(TokioExecutor::new()).build_http();
    let request = Request::get(url).body(Full::default())?;
    Ok(client.request(request).await?.into_body().collect().await?.to_bytes())
}
