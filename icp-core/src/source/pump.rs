//! Follows one source: becomes the node that reads it, and publishes what it is answered.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use serde_json::Value;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::hold::{FIRST_PAUSE, Hold, Left};
use super::progress::check_checkpoint;
use super::{
    CompiledSource, EventSource, PollRequest, Polled, SOURCE_TIMEOUT, SourceError, SourceEvent,
    SourceSpec,
};
use crate::engine::core::Core;
use crate::engine::duty::pause;
use crate::error::{Code, Error, Result};
use crate::event::{Published, publish};
use crate::id::{OrgId, ResourceId};
use crate::resource::{Actor, Note, Spec};
use crate::telemetry::panic_words;

const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// After how many failures in a row another node may try.
const GIVE_UP: u32 = 5;

/// How long the id of an event may be within its source.
const MAX_ID: usize = 128;

/// How many refused events an audit row names, and how much it says of each.
const NAMED: usize = 10;
const WORDS: usize = 200;

/// One source, and what it takes to follow it.
#[derive(Debug)]
pub(crate) struct Pump {
    pub(crate) core: Arc<Core>,
    pub(crate) org: OrgId,
    pub(crate) id: ResourceId,
    /// The version of the source.
    pub(crate) version: u64,
    pub(crate) spec: Arc<CompiledSource>,
    pub(crate) source: Arc<dyn EventSource>,
    /// How this run of the engine is called as the holder of sources.
    pub(crate) reader: Arc<str>,
    pub(crate) stop: CancellationToken,
}

/// What became of the events of one poll.
#[derive(Default)]
struct Taken {
    published: u64,
    duplicates: u64,
    /// The id of each event that can never be published, and why.
    refused: Vec<(String, Error)>,
}

impl Pump {
    pub(crate) async fn run(self) {
        while let Some(mut hold) = self.acquire().await {
            let left = self.follow(&mut hold).await;
            if left == Left::Lost {
                continue;
            }
            self.release(hold.slot).await;
            if left == Left::Stopped {
                return;
            }
            // Who waits for it looks once in this time.
            if left == Left::Failing && !pause(&self.stop, self.look() * 2).await {
                return;
            }
        }
    }

    async fn follow(&self, hold: &mut Hold) -> Left {
        loop {
            if !self.is_ready() {
                return Left::Unready;
            }
            let wait = match self.turn(hold).await {
                Err(left) => return left,
                Ok(Ok(true)) => Duration::ZERO,
                Ok(Ok(false)) => self.spec.pause,
                Ok(Err(error)) => {
                    self.note_failure(hold, &error);
                    let failures = hold.slot.progress.failures();
                    if failures.is_multiple_of(GIVE_UP) {
                        return Left::Failing;
                    }
                    backoff(failures)
                }
            };
            let waited = self.while_held(hold, self.unless_stopped(sleep(wait))).await;
            if let Err(left) = waited.and_then(|waited| waited) {
                return left;
            }
        }
    }

    /// Polls once and takes in what is answered; says whether there is more.
    async fn turn(&self, hold: &mut Hold) -> Result<Result<bool, SourceError>, Left> {
        let after = hold.slot.progress.checkpoint.clone();
        let poll = self.unless_stopped(self.poll(after.as_ref()));
        let Polled { events, checkpoint, more } = match self.while_held(hold, poll).await?? {
            Ok(polled) => polled,
            Err(error) => return Ok(Err(error)),
        };
        if events.is_empty() && (checkpoint.is_none() || checkpoint == after) {
            if hold.slot.progress.failing.take().is_some() {
                hold.renew_at = Duration::ZERO;
            }
            return Ok(Ok(false));
        }
        let began_with = hold.slot.began_with();
        // To its end, as the checkpoint is to be kept of what is published.
        let taken = match self.while_held(hold, self.take(events, began_with)).await? {
            Ok(taken) => taken,
            Err(error) => {
                return Ok(Err(SourceError::new(error.code().as_str(), error.to_string())));
            }
        };
        let further = checkpoint != after || taken.published > 0;
        self.advance(hold, taken, checkpoint).await?;
        let reached = hold.slot.progress.checkpoint.clone();
        let request = self.request(reached.as_ref());
        let told = self.asked(async { self.source.acknowledge(&request).await });
        if let Err(error) = self.while_held(hold, self.unless_stopped(told)).await?? {
            self.warn(&error, "an event source could not be told what was taken in");
        }
        // One that says so for ever without getting further is not polled without a pause.
        Ok(Ok(more && further))
    }

    fn request<'a>(&'a self, after: Option<&'a Value>) -> PollRequest<'a> {
        PollRequest {
            org: &self.org,
            source: &self.id,
            name: &self.spec.name,
            config: self.spec.config.as_ref(),
            secrets: &self.spec.secrets,
            after,
            limit: self.spec.batch,
        }
    }

    async fn poll(&self, after: Option<&Value>) -> Result<Polled, SourceError> {
        let request = self.request(after);
        let mut polled = self.asked(async { self.source.poll(&request).await }).await?;
        polled.checkpoint = polled.checkpoint.filter(|checkpoint| !checkpoint.is_null());
        let (found, most) = (polled.events.len(), self.spec.batch);
        if found > most {
            let message = format!("{found} events were answered, where at most {most} are taken");
            return Err(SourceError::new("too_many_events", message));
        }
        match &polled.checkpoint {
            None if found > 0 => {
                let message = "events were answered without a checkpoint that lies after them";
                Err(SourceError::new("checkpoint_missing", message))
            }
            Some(checkpoint) => match check_checkpoint(checkpoint) {
                Err(error) => Err(SourceError::new("checkpoint_too_large", error.message())),
                Ok(()) => Ok(polled),
            },
            None => Ok(polled),
        }
    }

    /// The answer of a call of the source, which may come late, or panic.
    async fn asked<T>(
        &self,
        call: impl Future<Output = Result<T, SourceError>>,
    ) -> Result<T, SourceError> {
        match AssertUnwindSafe(timeout(SOURCE_TIMEOUT, call)).catch_unwind().await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => {
                let most = SOURCE_TIMEOUT.as_secs();
                Err(SourceError::new("timeout", format!("no answer came within {most} s")))
            }
            Err(panic) => {
                self.core.metrics.panics.inc();
                tracing::error!(
                    icp.org = %self.org,
                    icp.source.id = %self.id,
                    panic = panic_words(&*panic),
                    "an event source panicked"
                );
                Err(SourceError::new("panic", "its code panicked; see the log"))
            }
        }
    }

    /// Publishes events in their order. What can never be published is told to the audit log; where
    /// anything else fails, all are to be published again.
    async fn take(&self, events: Vec<SourceEvent>, began_with: u64) -> Result<Taken> {
        let mut taken = Taken::default();
        let (mut ids, mut items) = (Vec::new(), Vec::new());
        for SourceEvent { id, mut event } in events {
            if let Some(unit) = self.spec.unit.as_ref().filter(|_| event.unit_named().is_none()) {
                event = event.unit(unit.as_str());
            }
            let prepared = match self.check(&id, event.org()) {
                Err(error) => Err(error),
                Ok(()) => {
                    let within = format!("{}:{began_with}:{id}", self.id);
                    publish::prepare_of_source(&self.core, event, &within).await
                }
            };
            match prepared {
                Ok(item) => {
                    ids.push(id);
                    items.push(item);
                }
                Err(error) if is_final(error.code()) => taken.refused.push((id, error)),
                Err(error) => return Err(error),
            }
        }
        let mut ids = ids.into_iter();
        while !items.is_empty() {
            // Each chunk is one transaction, and none is begun before the one before has ended.
            let rest = items.split_off(items.len().min(self.core.config.publish_batch));
            let chunk = std::mem::replace(&mut items, rest);
            let answers = publish::commit_alone(&self.core, chunk).await?;
            for (answer, id) in answers.into_iter().zip(&mut ids) {
                match answer {
                    Ok(Published { duplicate: false, .. }) => taken.published += 1,
                    Ok(_) => taken.duplicates += 1,
                    Err(error) if error.code() == Code::IdempotencyConflict => {
                        taken.refused.push((id, error));
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        if !taken.refused.is_empty() {
            self.tell_refused(&taken.refused).await?;
        }
        Ok(taken)
    }

    fn check(&self, id: &str, org: &str) -> Result<()> {
        if org != self.org.as_str() {
            let message = "the event is for another organization than its source";
            return Err(Error::new(Code::EventInvalid, message));
        }
        let printable = id.bytes().all(|byte| (0x20..0x7f).contains(&byte));
        if !(1..=MAX_ID).contains(&id.len()) || !printable {
            let message = format!("use an id of 1 to {MAX_ID} printable ascii characters");
            return Err(Error::new(Code::EventInvalid, message));
        }
        Ok(())
    }

    async fn tell_refused(&self, refused: &[(String, Error)]) -> Result<()> {
        let count = refused.len();
        let mut text = format!("{count} refused: ");
        for (place, (id, error)) in refused.iter().take(NAMED).enumerate() {
            let said = format!("{id:?} ({}: {})", error.code(), error.message().escape_debug());
            text.push_str(if place == 0 { "" } else { "; " });
            text.extend(said.chars().take(WORDS));
        }
        if count > NAMED {
            text.push_str("; ..");
        }
        tracing::warn!(
            icp.org = %self.org,
            icp.source.id = %self.id,
            "events of a source can never be published: {text}"
        );
        let note = Note {
            org: self.org.clone(),
            actor: Actor::engine(),
            action: "refuse_events".to_owned(),
            kind: SourceSpec::KIND.to_owned(),
            id: self.id.clone(),
            note: Some(text),
            now: self.core.clock.now(),
        };
        self.core.store.note(note).await.map(|_| ())
    }

    /// Keeps the new checkpoint; tries for as long as it is not known whether it is kept.
    async fn advance(
        &self,
        hold: &mut Hold,
        taken: Taken,
        checkpoint: Option<Value>,
    ) -> Result<(), Left> {
        let now = self.core.clock.now();
        let refused = taken.refused.len() as u64;
        let progress = &mut hold.slot.progress;
        progress.checkpoint = checkpoint;
        progress.events += taken.published;
        progress.duplicates += taken.duplicates;
        progress.refused += refused;
        progress.advanced_at = Some(now);
        progress.failing = None;
        let metrics = &self.core.metrics;
        metrics.source_events.inc_by(taken.published);
        metrics.source_refused.inc_by(refused);
        loop {
            let began = self.core.clock.monotonic();
            match hold.slot.write(&*self.core.store, now).await {
                Ok(true) => {
                    hold.renew_at = began + self.term();
                    return Ok(());
                }
                Ok(false) => return Err(Left::Lost),
                Err(error) => self.store_failed(&error),
            }
            if !pause(&self.stop, FIRST_PAUSE).await {
                return Err(Left::Stopped);
            }
        }
    }

    /// Notes a failure; a first one is shown at once, later ones when the hold is renewed.
    fn note_failure(&self, hold: &mut Hold, error: &SourceError) {
        if hold.slot.progress.failing.is_none() {
            hold.renew_at = Duration::ZERO;
        }
        hold.slot.progress.failed(error.code, &error.message, self.core.clock.now());
        self.warn(error, "an event source gets no further");
    }

    fn warn(&self, error: &SourceError, what: &'static str) {
        self.core.metrics.source_failures.inc();
        tracing::warn!(
            icp.org = %self.org,
            icp.source.id = %self.id,
            icp.error = error.code,
            "{what}: {error}"
        );
    }

    pub(super) fn store_failed(&self, error: &Error) {
        self.core.metrics.store_errors.inc();
        tracing::warn!(
            icp.org = %self.org,
            icp.source.id = %self.id,
            icp.error = error.code().as_str(),
            "the checkpoint of an event source could not be read or kept: {error}"
        );
    }
}

/// Whether an event that is refused for this can never be published as it is. One whose unit is not
/// known may be ahead of its unit, so it is tried again.
fn is_final(code: Code) -> bool {
    matches!(
        code,
        Code::BodyTooLarge
            | Code::EventInvalid
            | Code::EventSchemaMismatch
            | Code::EventTypeInvalid
            | Code::EventTypeReserved
    )
}

fn backoff(failures: u32) -> Duration {
    FIRST_PAUSE.saturating_mul(1 << failures.saturating_sub(1).min(6)).min(LONGEST_PAUSE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_minute() {
        let seconds = [1, 2, 3, 6, 7, 8, u32::MAX].map(|failures| backoff(failures).as_secs());
        assert_eq!(seconds, [1, 2, 4, 32, 60, 60, 60]);
    }

    #[test]
    fn what_may_go_well_later_is_not_final() {
        for later in [Code::UnitUnknown, Code::OrganizationSuspended, Code::StoreFull] {
            assert!(!is_final(later), "{later}");
        }
        assert!(is_final(Code::EventSchemaMismatch));
    }
}
