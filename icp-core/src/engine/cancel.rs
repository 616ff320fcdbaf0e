use super::Engine;
use crate::delivery::{
    Cancel, CancelBatch, Cancellable, CancelledMany, Delivery, DeliveryFilter, DeliveryState,
    EndReason,
};
use crate::error::Result;
use crate::id::{DeliveryId, OrgId, ResourceId};
use crate::resource::{Actor, Note};
use crate::telemetry::Ended;
use crate::time::Timestamp;

/// How many deliveries a transaction looks at.
const BATCH: usize = 500;
const MAX_REASON: usize = 500;

impl Engine {
    /// Calls off a delivery that is not under way, with an audit row. Of `why`, the first 500
    /// characters are kept.
    ///
    /// # Errors
    ///
    /// [`DeliveryNotFound`](crate::Code::DeliveryNotFound),
    /// [`DeliveryStateConflict`](crate::Code::DeliveryStateConflict), and those of the store.
    pub async fn cancel(
        &self,
        org: &OrgId,
        id: DeliveryId,
        why: &str,
        actor: &Actor,
    ) -> Result<Delivery> {
        let cancel = Cancel {
            org: org.clone(),
            delivery: id,
            reason: reason(why),
            actor: actor.clone(),
            now: self.now(),
        };
        let delivery = self.core().store.cancel(cancel).await?;
        self.core().look_for_due();
        Ok(delivery)
    }

    /// Counts what [`cancel_many`](Self::cancel_many) would call off now.
    ///
    /// # Errors
    ///
    /// [`SelectionInvalid`](crate::Code::SelectionInvalid),
    /// [`OrganizationUnknown`](crate::Code::OrganizationUnknown), and those of the store.
    pub async fn preview_cancel(
        &self,
        org: &OrgId,
        filter: &DeliveryFilter,
    ) -> Result<Cancellable> {
        self.admit(org, filter).await?;
        let ready = self.walk(org, filter, None).await?;
        let in_flight = self.core().store.leased(org, filter).await?;
        Ok(Cancellable { ready, in_flight })
    }

    /// Calls off every ready delivery that the filter takes and that was made before this call,
    /// in small transactions. Those under way are not touched, and counted.
    ///
    /// Two audit rows tell of it: `cancel_deliveries` with the filter before the first delivery
    /// is touched, and `cancel_deliveries_end` with the figures. They belong to the integration
    /// of the filter, or else to the organization.
    ///
    /// # Errors
    ///
    /// Those of [`preview_cancel`](Self::preview_cancel). What was called off before an error of
    /// the store stays so; the call can be made again.
    ///
    /// # Cancellation
    ///
    /// What was called off before stays so, and the row with the figures is missing.
    pub async fn cancel_many(
        &self,
        org: &OrgId,
        filter: &DeliveryFilter,
        why: &str,
        actor: &Actor,
    ) -> Result<CancelledMany> {
        self.admit(org, filter).await?;
        let before = Timestamp::from_millis(self.now().as_millis() + 1);
        let until = Some(filter.until.map_or(before, |until| until.min(before)));
        let filter = DeliveryFilter { until, ..filter.clone() };
        let reason = reason(why);
        let begin = format!("{}; {}", filter.describe(), reason.message);
        self.note(org, &filter, "cancel_deliveries", begin, actor).await?;
        let cancelled = self.walk(org, &filter, Some(reason)).await?;
        let in_flight = self.core().store.leased(org, &filter).await?;
        let state = DeliveryState::Cancelled.as_str();
        self.core().metrics.ended.get_or_create(&Ended { state }).inc_by(cancelled);
        let end = format!("{cancelled} called off, {in_flight} under way not touched");
        self.note(org, &filter, "cancel_deliveries_end", end, actor).await?;
        Ok(CancelledMany { cancelled, in_flight })
    }

    async fn admit(&self, org: &OrgId, filter: &DeliveryFilter) -> Result<()> {
        filter.check()?;
        self.core().org(org).await.map(drop)
    }

    async fn walk(
        &self,
        org: &OrgId,
        filter: &DeliveryFilter,
        reason: Option<EndReason>,
    ) -> Result<u64> {
        let mut batch = CancelBatch {
            org: org.clone(),
            filter: filter.clone(),
            reason,
            after: None,
            limit: BATCH,
            now: self.now(),
        };
        let mut matched = 0;
        loop {
            batch.now = self.now();
            let some = self.core().store.cancel_some(batch.clone()).await?;
            matched += some.matched;
            if some.matched > 0 && batch.reason.is_some() {
                // A lane that kept order behind them may go on.
                self.core().look_for_due();
            }
            match some.next {
                Some(next) => batch.after = Some(next),
                None => return Ok(matched),
            }
        }
    }

    async fn note(
        &self,
        org: &OrgId,
        filter: &DeliveryFilter,
        action: &str,
        note: String,
        actor: &Actor,
    ) -> Result<()> {
        let (kind, id) = match &filter.integration {
            Some(integration) => ("integration", integration.clone()),
            None => ("organization", ResourceId::new(org.as_str())?),
        };
        let note = Note {
            org: org.clone(),
            actor: actor.clone(),
            action: action.to_owned(),
            kind: kind.to_owned(),
            id,
            note: Some(note),
            now: self.now(),
        };
        self.core().store.note(note).await.map(drop)
    }
}

fn reason(why: &str) -> EndReason {
    EndReason::new("cancelled", why.chars().take(MAX_REASON).collect::<String>())
}
