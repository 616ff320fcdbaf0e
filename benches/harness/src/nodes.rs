//! Several nodes on one database: each is a process of its own, as behind a load balancer.

use std::io::Read;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::time::Duration;

use icp::Engine;
use icp::secret::LocalKeys;
use icp::store::Store;

use crate::engine::Subject;
use crate::receiver::Receiver;
use crate::report::Report;
use crate::{Result, stores, usage};

/// All nodes open the same secrets.
const SEALING_KEY: &str = "k1:AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";
/// Deliveries that are not measured, while nodes connect.
const WARM: u64 = 500;

/// Delivers the same backlog of `count` with one, two and three nodes on the database at `url`,
/// which keeps what is written there.
pub(crate) async fn nodes(report: &mut Report, url: &str, count: u64) -> Result<()> {
    for nodes in 1..=3 {
        let (name, store, _) = stores::open(url).await?;
        let receiver = Receiver::start()?;
        let prefix = format!("nodes-{}-{nodes}", std::process::id());
        let subject = Subject::on(engine(store)?, &prefix, &receiver.base).await?;
        subject.fill(WARM + count, subject.orgs()).await?;
        let started = (0..nodes).map(|_| Node::start(url)).collect::<Result<Vec<_>>>()?;
        wait(&receiver, WARM).await?;
        let (begun, before) = (usage::now(), receiver.stats().await?.requests);
        wait(&receiver, WARM + count).await?;
        let wall = (usage::now() - begun).as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "counts are small")]
        let rate = (WARM + count - before) as f64 / wall;
        drop(started);
        let stats = receiver.stats().await?;
        let twice = stats.requests - stats.distinct;
        report.note(format!("{name}, {nodes} nodes: {rate:.0} deliveries/s, {twice} sent twice"));
    }
    Ok(())
}

async fn wait(receiver: &Receiver, distinct: u64) -> Result<()> {
    while receiver.stats().await?.distinct < distinct {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}

fn engine(store: Arc<dyn Store>) -> Result<Engine> {
    let keys = LocalKeys::parse(SEALING_KEY)?;
    Ok(Engine::builder_on(store).keys(keys).allow_loopback().build()?)
}

/// A node in a process of its own; ends with this value.
#[derive(Debug)]
struct Node(Child);

impl Node {
    fn start(url: &str) -> Result<Self> {
        let child = std::process::Command::new(std::env::current_exe()?)
            .args(["--store", url, "node"])
            .stdin(Stdio::piped())
            .spawn()?;
        Ok(Self(child))
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // It stops when nobody holds its input any more.
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

/// Runs a node until the parent goes away.
pub(crate) async fn run(url: &str) -> Result<()> {
    let (_, store, _) = stores::open(url).await?;
    let running = engine(store)?.start().await?;
    tokio::task::spawn_blocking(|| std::io::stdin().read(&mut [0])).await??;
    running.shutdown(Duration::from_secs(10)).await;
    Ok(())
}
