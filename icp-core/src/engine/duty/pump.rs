//! Sees to it that every event source is followed that this process knows, and no other. When a
//! source was changed, and once a minute.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::engine::core::Core;
use crate::error::Result;
use crate::id::{OrgId, ResourceId};
use crate::resource::{Record, Revision, Spec};
use crate::source::pump::Pump;
use crate::source::{CompiledSource, SourceSpec};

/// How often all sources are read where nothing says that one was changed.
const LOOK: Duration = Duration::from_secs(60);

const PAGE: usize = 500;

/// How long it is waited for more changes after a first one, so that many are read at once.
const TOGETHER: Duration = Duration::from_millis(100);

/// A source that is followed.
struct Followed {
    revision: Revision,
    /// Stops it when this is dropped.
    _stop: DropGuard,
    task: JoinHandle<()>,
}

pub(crate) async fn run(core: Arc<Core>, stop: CancellationToken) {
    if core.resources.services().sources.is_empty() {
        return stop.cancelled().await;
    }
    let reader: Arc<str> = core.session.id().to_string().into();
    let mut followed = HashMap::new();
    while !stop.is_cancelled() {
        if let Err(error) = once(&core, &stop, &reader, &mut followed).await {
            core.metrics.store_errors.inc();
            tracing::warn!(
                icp.error = error.code().as_str(),
                "the event sources could not be read: {error}"
            );
        }
        tokio::select! {
            () = stop.cancelled() => {}
            () = core.index.sources_changed() => tokio::time::sleep(TOGETHER).await,
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}

async fn once(
    core: &Arc<Core>,
    stop: &CancellationToken,
    reader: &Arc<str>,
    followed: &mut HashMap<(OrgId, ResourceId), Followed>,
) -> Result<()> {
    // A change that is not read below is told of.
    core.index.begin().await?;
    let mut present = HashMap::new();
    let mut after = None;
    loop {
        let found = core.store.resources_of_all(SourceSpec::KIND, after, PAGE).await?;
        let last = found.len() < PAGE;
        after = found.last().map(|record| (record.org.clone(), record.id.clone()));
        present.extend(
            found.into_iter().map(|record| ((record.org.clone(), record.id.clone()), record)),
        );
        if last {
            break;
        }
    }
    let ended: Vec<_> = followed
        .extract_if(|key, one| {
            let now = present.get(key).map(|record| record.revision);
            now != Some(one.revision) || one.task.is_finished()
        })
        .collect();
    let tasks: Vec<_> = ended.into_iter().map(|(_, Followed { task, .. })| task).collect();
    for task in tasks {
        // It was told to stop; one that panicked has said so.
        let _ = task.await;
    }
    for (key, record) in present {
        if stop.is_cancelled() {
            break;
        }
        if followed.contains_key(&key) {
            continue;
        }
        if let Some(one) = follow(core, stop, reader, &record) {
            followed.insert(key, one);
        }
    }
    core.metrics.sources.set(i64::try_from(followed.len()).unwrap_or(i64::MAX));
    Ok(())
}

/// Follows a source; none that is switched off, cannot be used, or is not known here.
fn follow(
    core: &Arc<Core>,
    stop: &CancellationToken,
    reader: &Arc<str>,
    record: &Record,
) -> Option<Followed> {
    let spec = match core.index.compiled::<CompiledSource>(record) {
        Ok(spec) => spec,
        Err(error) => {
            tracing::error!(
                icp.org = %record.org,
                icp.source.id = %record.id,
                icp.error = error.code().as_str(),
                "an event source cannot be used: {error}"
            );
            return None;
        }
    };
    let source = spec.source.clone().filter(|_| spec.enabled)?;
    let stop = stop.child_token();
    let pump = Pump {
        core: Arc::clone(core),
        org: record.org.clone(),
        id: record.id.clone(),
        version: record.version,
        spec,
        source,
        reader: Arc::clone(reader),
        stop: stop.clone(),
    };
    let task = core.pumps.spawn(pump.run());
    Some(Followed { revision: record.revision, _stop: stop.drop_guard(), task })
}
