use super::Engine;
use crate::delivery::Delivery;
use crate::error::{Code, Error, Result};
use crate::id::{OrgId, ReplayId};
use crate::replay::{
    ReplayChange, ReplayDeliveries, ReplayJob, ReplayPreview, ReplayQuery, ReplayRequest, work,
};
use crate::resource::Actor;
use crate::store::Page;

/// Replay of many events as a job; see [`replay`](crate::replay).
impl Engine {
    /// Counts what a replay would do, without doing it.
    ///
    /// # Errors
    ///
    /// [`Code::OrganizationUnknown`], [`Code::ReplayInvalid`] with every field at fault, and those
    /// of the store.
    pub async fn preview_replay(
        &self,
        org: &OrgId,
        request: ReplayRequest,
    ) -> Result<ReplayPreview> {
        work::preview(&self.core, org, request).await.map_err(|e| e.during("preview replay"))
    }

    /// Starts a replay, with the audit row `start_replay` of the organization. Any started engine
    /// on the store works on it, one at a time.
    ///
    /// # Errors
    ///
    /// Those of [`preview_replay`](Self::preview_replay), and [`Code::OrganizationSuspended`].
    pub async fn start_replay(
        &self,
        org: &OrgId,
        request: ReplayRequest,
        actor: Actor,
    ) -> Result<ReplayJob> {
        work::start(&self.core, org, request, actor).await.map_err(|e| e.during("start replay"))
    }

    /// One replay.
    ///
    /// # Errors
    ///
    /// [`Code::ReplayNotFound`], and those of the store.
    pub async fn replay_job(&self, org: &OrgId, id: ReplayId) -> Result<ReplayJob> {
        self.core.store.replay_job(org, id).await?.ok_or_else(|| {
            Error::new(Code::ReplayNotFound, format!("there is no replay `{id}`; check the id"))
        })
    }

    /// The replays of an organization, newest first.
    ///
    /// # Errors
    ///
    /// Those of the store.
    pub async fn replay_jobs(&self, org: &OrgId, query: &ReplayQuery) -> Result<Page<ReplayJob>> {
        self.core.store.replay_jobs(org, query).await
    }

    /// The deliveries that a replay has made, newest first.
    ///
    /// # Errors
    ///
    /// [`Code::ReplayNotFound`], and those of the store.
    pub async fn replay_deliveries(
        &self,
        org: &OrgId,
        query: &ReplayDeliveries,
    ) -> Result<Page<Delivery>> {
        self.replay_job(org, query.job).await?;
        self.core.store.replay_deliveries(org, query).await
    }

    /// Pauses, resumes or cancels a replay. Deliveries that it has made stay. What is so already
    /// is answered as it is.
    ///
    /// An audit row of the organization tells of a change before it is made: `pause_replay`,
    /// `resume_replay` or `cancel_replay`. Where the replay ends at that very moment, the change
    /// is refused and the row stays.
    ///
    /// # Errors
    ///
    /// [`Code::ReplayNotFound`], [`Code::ReplayStateConflict`] where it has ended, and those of
    /// the store.
    pub async fn change_replay(
        &self,
        org: &OrgId,
        id: ReplayId,
        change: ReplayChange,
        actor: &Actor,
    ) -> Result<ReplayJob> {
        let mut job = self.replay_job(org, id).await?;
        let (before, now) = (job.state, self.now());
        job.change(change, now).map_err(|error| error.during(change.as_str()))?;
        if job.state == before {
            return Ok(job);
        }
        let action = format!("{}_replay", change.as_str());
        work::note(&self.core, &job, &action, actor).await?;
        let job = self.core.store.change_replay(org, id, change, now).await;
        self.core.replays.notify_one();
        self.core.stir();
        job.map_err(|error| error.during(change.as_str()))
    }
}
