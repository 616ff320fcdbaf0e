//! Takes events over from the outbox that hosts write in their own transactions. When the store
//! hints at a row, and every `relay`.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::engine::core::{Core, OrgView};
use crate::error::{Code, Result};
use crate::event::publish::{item, take_in};
use crate::event::{Event, IngestItem, Ingested, OutboxEntry};
use crate::id::OrgId;

const BATCH: usize = 100;

/// How many organizations that cannot be read are passed over; with more, something else is wrong.
const MOST_UNREADABLE: usize = 100;

pub(crate) async fn run(core: Arc<Core>, stop: CancellationToken) {
    let mut hinted = true;
    loop {
        match once(&core).await {
            Ok(0) => {}
            Ok(_) if hinted => core.doze().stir(core.clock.monotonic()),
            Ok(_) => core.doze().unheard(core.clock.monotonic()),
            Err(error) => {
                core.metrics.store_errors.inc();
                tracing::warn!(icp.error = error.code().as_str(), "the relay failed: {error}");
            }
        }
        hinted = tokio::select! {
            () = stop.cancelled() => return,
            () = look(&core) => false,
            () = core.store.wakeup() => {
                core.doze().stir(core.clock.monotonic());
                true
            }
            () = core.outbox.notified() => true,
        };
    }
}

/// Waits until it is time to look at the outbox unasked.
async fn look(core: &Core) {
    if !core.doze().dozes() {
        return tokio::time::sleep(core.config.relay).await;
    }
    let over = tokio::time::timeout(core.look_interval(), core.doze().over()).await;
    if over.is_err() && !core.store.hears() {
        // What others have to say is not heard any more.
        core.doze().stir(core.clock.monotonic());
    }
}

/// Takes over what there is; answers how many rows were found. The rows of an organization that
/// cannot be read stay, and those behind them are read on.
async fn once(core: &Arc<Core>) -> Result<usize> {
    let mut unreadable = Vec::new();
    let mut found = 0;
    loop {
        let rows = core.store.outbox(&unreadable, BATCH).await?;
        let count = rows.len();
        found += count;
        let items = matched(core, rows, &mut unreadable).await?;
        if !items.is_empty() {
            take_over(core, items.into()).await?;
        }
        if count < BATCH || core.stop.is_cancelled() {
            return Ok(found);
        }
    }
}

/// The rows with their deliveries; none of an organization that is or proves to be unreadable, so
/// that its events keep their order.
async fn matched(
    core: &Core,
    rows: Vec<OutboxEntry>,
    unreadable: &mut Vec<OrgId>,
) -> Result<Vec<IngestItem>> {
    let mut items = Vec::with_capacity(rows.len());
    for OutboxEntry { event } in rows {
        if unreadable.contains(&event.org) {
            continue;
        }
        match view(core, &event).await {
            Ok(Some(view)) => {
                let outbox = Some(event.id);
                items.push(item(core, &view, event, outbox));
            }
            Ok(None) => items.push(unmatched(event)),
            Err(error) if unreadable.len() == MOST_UNREADABLE => return Err(error),
            Err(error) => {
                core.metrics.store_errors.inc();
                tracing::warn!(
                    icp.org = %event.org,
                    icp.error = error.code().as_str(),
                    "the events of an organization stay in the outbox: it cannot be read: {error}"
                );
                unreadable.push(event.org);
            }
        }
    }
    Ok(items)
}

async fn take_over(core: &Arc<Core>, items: Arc<[IngestItem]>) -> Result<()> {
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
    Ok(())
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
fn unmatched(event: Event) -> IngestItem {
    IngestItem {
        body_hash: [0; 32],
        idempotency_window: std::time::Duration::ZERO,
        outbox: Some(event.id),
        event: Arc::new(Event { idempotency_key: None, ..event }),
        deliveries: Vec::new(),
    }
}
