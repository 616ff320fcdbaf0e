use super::{By, Change, ORGANIZATION, Resources};
use crate::error::{Code, Error, Result};
use crate::id::OrgId;
use crate::resource::{Actor, Draft, Expect};

impl Resources {
    /// Makes an organization and its first resources in one write, or nothing of it.
    ///
    /// # Errors
    ///
    /// [`Code::ResourceExists`] where the organization is there, [`Code::ResourceInvalid`], and
    /// those of the store.
    pub(crate) async fn found(
        &self,
        org: &OrgId,
        drafts: Vec<(&str, Draft)>,
        actor: &Actor,
    ) -> Result<()> {
        let mut changes: Vec<Change> = Vec::with_capacity(drafts.len());
        for (kind, draft) in drafts {
            let kind = &**self.kinds.get(kind)?;
            let record = match kind.name() {
                ORGANIZATION => self.fresh(org, kind, &draft).await?,
                _ => self.blank(org, kind, draft.id.clone()),
            };
            let around = By::alone(actor).expecting(Expect::Absent);
            changes.push(self.prepare(kind, record, draft, None, around).await?);
        }
        if changes.first().is_none_or(|change| &*change.record.kind != ORGANIZATION) {
            return Err(Error::new(Code::Internal, "an organization is founded before its parts"));
        }
        self.write_all(changes, actor).await.map(drop)
    }
}
