//! Publishers: so many that each wait for their answer, or so many messages a second.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::task::JoinSet;

use super::product::Product;
use crate::wire::Connection;
use crate::{Result, engine, usage};

/// Where messages are published, and for whom.
#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) product: Product,
    /// Host and port.
    pub(crate) address: String,
    pub(crate) token: String,
    pub(crate) tenants: Vec<String>,
}

impl Site {
    /// The request that publishes the message of this number, which was scheduled then.
    fn publish(&self, number: u64, scheduled: Duration) -> Result<Vec<u8>> {
        let tenant = &self.tenants[usize::try_from(number)? % self.tenants.len()];
        let call = self.product.publish(tenant, &engine::body(scheduled.as_micros()));
        Ok(call.wire(&self.address, &self.token))
    }

    /// Publishes `count` messages from `publishers` connections, each as fast as it is answered;
    /// answers how many.
    pub(crate) async fn burst(self: &Arc<Self>, count: u64, publishers: u64) -> Result<u64> {
        let next = Arc::new(AtomicU64::new(0));
        let mut callers = JoinSet::new();
        for _ in 0..publishers {
            let (site, next) = (Arc::clone(self), Arc::clone(&next));
            callers.spawn(async move {
                let mut connection = Connection::open(&site.address).await?;
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= count {
                        return Result::Ok(());
                    }
                    connection.ask(&site.publish(number, usage::now())?).await?;
                }
            });
        }
        all(callers).await.map(|()| count)
    }

    /// Publishes `rate` messages a second, each at its moment whatever became of those before.
    pub(crate) async fn steady(self: &Arc<Self>, rate: u32, length: Duration) -> Result<u64> {
        let (begun, gap) = (usage::now(), Duration::from_secs(1) / rate);
        let idle = Arc::new(Mutex::new(Vec::new()));
        let mut callers = JoinSet::new();
        let mut count = 0_u32;
        while gap * count < length {
            let scheduled = begun + gap * count;
            tokio::time::sleep(scheduled.saturating_sub(usage::now())).await;
            let (site, idle) = (Arc::clone(self), Arc::clone(&idle));
            let number = u64::from(count);
            callers.spawn(async move {
                let free = idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
                let mut connection = match free {
                    Some(connection) => connection,
                    None => Connection::open(&site.address).await?,
                };
                connection.ask(&site.publish(number, scheduled)?).await?;
                idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
                Ok(())
            });
            count += 1;
        }
        all(callers).await.map(|()| u64::from(count))
    }
}

async fn all(mut callers: JoinSet<Result<()>>) -> Result<()> {
    while let Some(caller) = callers.join_next().await {
        caller??;
    }
    Ok(())
}
