//! Takes events over from the outbox that hosts write in their own transactions. When the store
//! hints at a row, and every `relay`.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::engine::core::{Core, OrgView};
use crate::error::{Code, Result};
use crate::event::publish::{item, take_in};
use crate::event::{Event, Ingested};

const BATCH: usize = 100;

pub(crate) async fn run(core: Arc<Core>, stop: CancellationToken) {
    loop {
        match once(&core).await {
            Ok(BATCH) => continue,
            Ok(_) => {}
            Err(error) => {
                core.metrics.store_errors.inc();
                tracing::warn!(icp.error = error.code().as_str(), "the relay failed: {error}");
            }
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(core.config.relay) => {}
            () = core.store.wakeup() => {}
            () = core.outbox.notified() => {}
        }
    }
}

/// Takes over one batch; answers how many rows there were.
pub(crate) async fn once(core: &Arc<Core>) -> Result<usize> {
    let rows = core.store.outbox(BATCH).await?;
    let count = rows.len();
    if count == 0 {
        return Ok(0);
    }
    let mut items = Vec::with_capacity(count);
    for row in rows {
        let outbox = Some(row.event.id);
        items.push(match view(core, &row.event).await? {
            Some(view) => item(core, &view, row.event, outbox),
            None => unmatched(row.event),
        });
    }
    let items: Arc<[_]> = items.into();
    let answers = take_in(core, Arc::clone(&items)).await?;
    core.metrics.relayed.inc_by(answers.len() as u64);
    let conflicts: Arc<[_]> = items
        .iter()
        .zip(answers)
        .filter(|(_, answer)| matches!(answer, Ingested::Conflict { .. }))
        .map(|(item, _)| {
            let mut item = item.clone();
            tracing::warn!(
                icp.event.id = %item.event.id,
                "a committed event uses the idempotency key of another body; it is delivered"
            );
            let event = Arc::make_mut(&mut item.event);
            event.idempotency_key = None;
            item
        })
        .collect();
    if !conflicts.is_empty() {
        take_in(core, conflicts).await?;
    }
    Ok(count)
}

/// The event's organization; `None` where it was deleted after the host's commit.
async fn view(core: &Core, event: &Event) -> Result<Option<Arc<OrgView>>> {
    match core.org(&event.org).await {
        Ok(view) => Ok(Some(view)),
        Err(error) if error.code() == Code::OrganizationUnknown => Ok(None),
        Err(error) => Err(error),
    }
}

/// An event of an organization that is gone: it is kept, and goes nowhere.
fn unmatched(event: Event) -> crate::event::IngestItem {
    crate::event::IngestItem {
        body_hash: [0; 32],
        idempotency_window: std::time::Duration::ZERO,
        outbox: Some(event.id),
        event: Arc::new(Event { idempotency_key: None, ..event }),
        deliveries: Vec::new(),
    }
}
