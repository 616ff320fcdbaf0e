//! Replaces a signing secret while webhooks go out: for a while each is signed by both secrets,
//! so a receiver may change to the new one whenever it likes.
//!
//! `cargo run --example rotate_secret`

#![expect(clippy::print_stdout, reason = "an example shows what happens")]

use std::error::Error;
use std::time::Duration;

use icp::Engine;
use icp::event::NewEvent;
use icp::id::{OrgId, ResourceId};
use icp::resource::{Actor, Draft, Expect};
use icp::secret::{LocalKeys, SecretString, SystemEntropy};
use icp::signing::standard::{StandardVerifier, generate_secret};
use icp::signing::{KeyRing, Removal, Rotation, Verifier};
use icp::store::MemoryStore;
use icp_testkit::receiver::{Received, Receiver};
use serde_json::json;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let receiver = Receiver::start().await;
    let key = LocalKeys::generate("example", &SystemEntropy)?;
    let engine = Engine::builder(MemoryStore::new()).keys(key).allow_loopback().build()?;
    let running = engine.start().await?;
    let (org, host, orders) = (OrgId::new("acme")?, Actor::host(), ResourceId::new("orders")?);
    engine
        .resources()
        .create(&org, "organization", Draft { spec: json!({}), ..Draft::default() }, &host)
        .await?;
    let old = generate_secret(&SystemEntropy)?;
    let spec = json!({
        "events": ["order.*"],
        "target": { "kind": "http", "url": receiver.url("/hook") },
        "signing": { "keys": [{ "id": "first", "secret": old.expose() }] },
    });
    let draft = Draft { id: Some(orders.clone()), spec, ..Draft::default() };
    engine.resources().create(&org, "integration", draft, &host).await?;
    tell(&engine, &receiver, 1, [("old", &old)]).await?;

    let rotation = Rotation::default().overlap(Duration::from_secs(3_600));
    let rotated =
        engine.resources().rotate_secret(&org, &orders, &rotation, Expect::Present, &host).await?;
    let new = rotated.secret.ok_or("a symmetric secret was expected")?;
    tell(&engine, &receiver, 2, [("old", &old), ("new", &new)]).await?;

    // Every receiver has changed: the hour need not be waited for.
    let removal = Removal::key("first");
    engine.resources().remove_secret(&org, &orders, &removal, Expect::Present, &host).await?;
    tell(&engine, &receiver, 3, [("old", &old), ("new", &new)]).await?;
    running.shutdown(Duration::from_secs(10)).await;
    Ok(())
}

/// Publishes an event, and says which secrets its request verifies with at the receiver.
async fn tell<const N: usize>(
    engine: &Engine,
    receiver: &Receiver,
    number: usize,
    secrets: [(&str, &SecretString); N],
) -> Result<(), Box<dyn Error>> {
    engine.publish(NewEvent::json("acme", "order.paid", &json!({ "order": number }))?).await?;
    let requests = receiver.wait_for_to("/hook", number).await;
    let request = requests.last().ok_or("no request came")?;
    for (name, secret) in secrets {
        let verdict = if verifies(request, secret)? { "fits" } else { "does not fit" };
        println!("request {number}: the {name} secret {verdict}");
    }
    Ok(())
}

fn verifies(request: &Received, secret: &SecretString) -> Result<bool, Box<dyn Error>> {
    let verifier = StandardVerifier::new(&KeyRing::single(secret.clone()))?;
    Ok(verifier.verify(&request.headers, &request.body, request.at).is_ok())
}
