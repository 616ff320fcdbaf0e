//! Follows one source: becomes the node that reads it, and publishes what it is answered.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use serde_json::Value;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::progress::{Held, check_checkpoint};
use super::{
    CompiledSource, EventSource, PollRequest, Polled, SOURCE_TIMEOUT, SourceError, SourceEvent,
    SourceSpec,
};
use crate::engine::core::Core;
use crate::engine::duty::pause;
use crate::error::{Code, Error, ErrorKind, Result};
use crate::event::Published;
use crate::event::publish::publish;
use crate::id::{OrgId, ResourceId};
use crate::resource::{Actor, Note, Spec};
use crate::telemetry::panic_words;

/// How long it is waited after a first failure; each further one doubles it.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// How often a source that this process cannot poll now is looked at again.
const UNREADY: Duration = Duration::from_secs(1);

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
    pub(crate) stop: CancellationToken,
}

/// The right to read the source, as long as it is renewed.
struct Hold {
    held: Held,
    /// When it is to be written again, by this process's own clock.
    renew_at: Duration,
}

/// Why a hold is left.
enum Left {
    /// Another node has it, or the checkpoint was moved: look again.
    Lost,
    /// The source cannot be polled here now.
    Unready,
    /// The pump ends.
    Stopped,
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
            if !matches!(left, Left::Lost) {
                self.release(hold.held).await;
            }
            if matches!(left, Left::Stopped) {
                return;
            }
        }
    }

    /// Waits until this node may read the source: nobody does, or whoever did was not heard of for
    /// a lease, by this process's own clock.
    async fn acquire(&self) -> Option<Hold> {
        let mut watched = None;
        loop {
            let wait = match self.source.is_ready(&self.spec.name) {
                false => UNREADY,
                true => match self.try_acquire(&mut watched).await {
                    Ok(Some(hold)) => return Some(hold),
                    Ok(None) => self.core.config.lease / 6,
                    Err(error) => {
                        self.store_failed(&error);
                        FIRST_PAUSE
                    }
                },
            };
            if !pause(&self.stop, wait).await {
                return None;
            }
        }
    }

    /// `watched` is the version that was found last, and when it was found first.
    async fn try_acquire(&self, watched: &mut Option<(u64, Duration)>) -> Result<Option<Hold>> {
        let core = &self.core;
        let source = (&self.org, &self.id, self.version);
        let mut held = Held::read(&*core.store, source, core.clock.now()).await?;
        let (now, own) = (core.clock.monotonic(), core.session.id().to_string());
        let others = held.progress.holder.as_ref().is_some_and(|holder| *holder != own);
        if let Some(version) = held.slot().filter(|_| others) {
            let since = match *watched {
                Some((known, since)) if known == version => since,
                _ => watched.insert((version, now)).1,
            };
            if now.saturating_sub(since) < core.config.lease {
                return Ok(None);
            }
        }
        held.progress.holder = Some(own);
        let taken = held.write(&*core.store, core.clock.now()).await?;
        Ok(taken.then(|| Hold { held, renew_at: now + self.term() }))
    }

    /// How long a hold is kept before it is renewed.
    fn term(&self) -> Duration {
        self.core.config.lease / 3
    }

    /// Lets another node read the source at once, and leaves nothing of one that was deleted.
    async fn release(&self, held: Held) {
        if let Err(error) = self.try_release(held).await {
            self.store_failed(&error);
        }
    }

    async fn try_release(&self, mut held: Held) -> Result<()> {
        let store = &*self.core.store;
        if store.resource(&self.org, SourceSpec::KIND, &self.id).await?.is_none() {
            return held.remove(store).await;
        }
        held.progress.holder = None;
        held.write(store, self.core.clock.now()).await.map(|_| ())
    }

    async fn follow(&self, hold: &mut Hold) -> Left {
        loop {
            if !self.source.is_ready(&self.spec.name) {
                return Left::Unready;
            }
            let wait = match self.turn(hold).await {
                Err(left) => return left,
                Ok(Ok(true)) => Duration::ZERO,
                Ok(Ok(false)) => self.spec.pause,
                Ok(Err(error)) => {
                    self.note_failure(hold, &error);
                    backoff(hold.held.progress.failures())
                }
            };
            if let Err(left) = self.while_held(hold, sleep(wait)).await {
                return left;
            }
        }
    }

    /// Does `work` while the hold is renewed.
    async fn while_held<T>(
        &self,
        hold: &mut Hold,
        work: impl Future<Output = T>,
    ) -> Result<T, Left> {
        let mut work = std::pin::pin!(work);
        loop {
            let due = hold.renew_at.saturating_sub(self.core.clock.monotonic());
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return Err(Left::Stopped),
                done = &mut work, if !due.is_zero() => return Ok(done),
                () = sleep(due) => {}
            }
            let now = self.core.clock.monotonic();
            match hold.held.write(&*self.core.store, self.core.clock.now()).await {
                Ok(true) => hold.renew_at = now + self.term(),
                Ok(false) => return Err(Left::Lost),
                Err(error) => {
                    self.store_failed(&error);
                    hold.renew_at = now + FIRST_PAUSE;
                }
            }
        }
    }

    /// Polls once and takes in what is answered; says whether there is more.
    async fn turn(&self, hold: &mut Hold) -> Result<Result<bool, SourceError>, Left> {
        let after = hold.held.progress.checkpoint.clone();
        let polled = self.while_held(hold, self.poll(after.as_ref())).await?;
        let Polled { events, checkpoint, more } = match polled {
            Ok(polled) => polled,
            Err(error) => return Ok(Err(error)),
        };
        if events.is_empty() && checkpoint.is_none() {
            if hold.held.progress.failing.take().is_some() {
                hold.renew_at = Duration::ZERO;
            }
            return Ok(Ok(false));
        }
        let taken = match self.while_held(hold, self.take(events)).await? {
            Ok(taken) => taken,
            Err(error) => {
                return Ok(Err(SourceError::new(error.code().as_str(), error.to_string())));
            }
        };
        let further = checkpoint != after || taken.published > 0;
        self.advance(hold, taken, checkpoint).await?;
        let reached = hold.held.progress.checkpoint.clone();
        let request = self.request(reached.as_ref());
        let told = timeout(SOURCE_TIMEOUT, self.source.acknowledge(&request));
        let told = self.while_held(hold, AssertUnwindSafe(told).catch_unwind()).await?;
        if let Err(error) = self.in_time(told) {
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
        let polled = timeout(SOURCE_TIMEOUT, self.source.poll(&request));
        let polled = self.in_time(AssertUnwindSafe(polled).catch_unwind().await)?;
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

    /// The answer of a call of the source, which may come late or not at all.
    fn in_time<T>(&self, answered: Answered<T>) -> Result<T, SourceError> {
        match answered {
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

    /// Publishes events. What can never be published is told to the audit log; where anything else
    /// fails, all are to be published again.
    async fn take(&self, events: Vec<SourceEvent>) -> Result<Taken> {
        let mut taken = Taken::default();
        let (mut ids, mut ready) = (Vec::new(), Vec::new());
        for SourceEvent { id, mut event } in events {
            if let Err(error) = self.check(&id, event.org()) {
                taken.refused.push((id, error));
                continue;
            }
            if let Some(unit) = self.spec.unit.as_ref().filter(|_| event.unit_named().is_none()) {
                event = event.unit(unit.as_str());
            }
            ready.push(event.idempotency_key(format!("source:{}:{id}", self.id)));
            ids.push(id);
        }
        for (id, answer) in ids.into_iter().zip(publish(&self.core, ready).await) {
            match answer {
                Ok(Published { duplicate: false, .. }) => taken.published += 1,
                Ok(_) => taken.duplicates += 1,
                Err(error) if is_final(&error) => taken.refused.push((id, error)),
                Err(error) => return Err(error),
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
            let said = format!("{id:?} ({}: {})", error.code(), error.message());
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
        let progress = &mut hold.held.progress;
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
            match hold.held.write(&*self.core.store, now).await {
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
        if hold.held.progress.failing.is_none() {
            hold.renew_at = Duration::ZERO;
        }
        hold.held.progress.failed(error.code, &error.message, self.core.clock.now());
        self.warn(error, "an event source could not be polled");
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

    fn store_failed(&self, error: &Error) {
        self.core.metrics.store_errors.inc();
        tracing::warn!(
            icp.org = %self.org,
            icp.source.id = %self.id,
            icp.error = error.code().as_str(),
            "the checkpoint of an event source could not be read or kept: {error}"
        );
    }
}

/// How a call of a source ended: by an answer, by its time, or by a panic.
type Answered<T> = Result<
    Result<Result<T, SourceError>, tokio::time::error::Elapsed>,
    Box<dyn std::any::Any + Send>,
>;

/// Whether an event can never be published as it is.
fn is_final(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Invalid | ErrorKind::TooLarge)
        || error.code() == Code::IdempotencyConflict
}

fn backoff(failures: u32) -> Duration {
    FIRST_PAUSE.saturating_mul(1 << failures.saturating_sub(1).min(6)).min(LONGEST_PAUSE)
}
