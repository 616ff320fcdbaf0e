use super::{ORGANIZATION, Resources};
use crate::error::{Code, Error, Result, Violation};
use crate::id::{OrgId, ResourceId};
use crate::resource::search::{Found, Position, Search};
use crate::resource::{Document, Kind, ListQuery};
use crate::store::{Page, PageQuery};

/// How many resources a page with filters looks at.
const MAX_EXAMINED: usize = 2_000;

/// How many resources are put in an order that the store does not keep.
const MAX_SORTED: usize = 10_000;

/// How many are read from the store at once.
const AT_ONCE: usize = 200;

impl Resources {
    /// The present resources of a kind that fit, a page of them in the order asked for.
    ///
    /// In the order of ids, a page with filters, or of less than the whole organization, looks at up
    /// to 2,000 resources and goes on after the last of them. In every other order all are looked at
    /// for each page.
    ///
    /// # Errors
    ///
    /// [`Code::KindUnknown`]; [`Code::QueryInvalid`] where more than 10,000 resources would have
    /// to be put in order; and those of the store.
    pub async fn search(&self, org: &OrgId, kind: &str, search: &Search) -> Result<Found> {
        let kind = &**self.kinds.get(kind)?;
        self.find(Some(org), kind, search).await
    }

    /// The organizations that fit, as [`search`](Self::search) finds resources. For operators.
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn search_organizations(&self, search: &Search) -> Result<Found> {
        self.whole()?;
        self.find(None, &**self.kinds.get(ORGANIZATION)?, search).await
    }

    /// The resources of one organization that fit, or of all.
    async fn find(&self, org: Option<&OrgId>, kind: &dyn Kind, search: &Search) -> Result<Found> {
        if search.sort.is_stored() {
            self.walk(org, kind, search).await
        } else {
            self.arrange(org, kind, search).await
        }
    }

    async fn walk(&self, org: Option<&OrgId>, kind: &dyn Kind, search: &Search) -> Result<Found> {
        let mut items = Vec::new();
        let mut after = search.after.as_ref().map(|position| position.id().clone());
        let mut examined = 0;
        loop {
            let judged = org.is_none() && !search.labels.is_empty();
            let plain = search.filters.is_empty() && self.reach.is_whole() && !judged;
            let at_once = if plain { search.limit } else { AT_ONCE };
            let page = self.read(org, kind, search, after.clone(), at_once).await?;
            let mut rest = page.items.into_iter();
            for row in rest.by_ref() {
                examined += 1;
                after = Some(row.document.id.clone());
                if row.fits(search) {
                    items.push(row.document);
                }
                if items.len() == search.limit {
                    break;
                }
            }
            let more = page.more || rest.next().is_some();
            if !more || items.len() == search.limit || examined >= MAX_EXAMINED {
                let next = after.filter(|_| more).map(Position::at);
                return Ok(Found { items, next });
            }
        }
    }

    async fn arrange(
        &self,
        org: Option<&OrgId>,
        kind: &dyn Kind,
        search: &Search,
    ) -> Result<Found> {
        let mut kept: Vec<(Position, Document)> = Vec::new();
        let (mut after, mut examined) = (None, 0);
        loop {
            let page = self.read(org, kind, search, after, AT_ONCE).await?;
            examined += page.items.len();
            if examined > MAX_SORTED {
                return Err(too_many());
            }
            after = page.items.last().map(|row| row.document.id.clone());
            for row in page.items {
                let position = search.sort.position(&row.document);
                let later = search
                    .after
                    .as_ref()
                    .is_none_or(|after| search.sort.compare(&position, after).is_gt());
                if later && row.fits(search) {
                    kept.push((position, row.document));
                }
            }
            kept.sort_by(|(a, _), (b, _)| search.sort.compare(a, b));
            kept.truncate(search.limit + 1);
            if !page.more {
                break;
            }
        }
        let more = kept.len() > search.limit;
        kept.truncate(search.limit);
        let next = kept.last().filter(|_| more).map(|(position, _)| position.clone());
        Ok(Found { items: kept.into_iter().map(|(_, document)| document).collect(), next })
    }

    async fn read(
        &self,
        org: Option<&OrgId>,
        kind: &dyn Kind,
        search: &Search,
        after: Option<ResourceId>,
        limit: usize,
    ) -> Result<Page<Row>> {
        let page = match org {
            Some(org) => {
                let page = PageQuery { after, limit };
                let query = ListQuery { labels: search.labels.clone(), page };
                self.store.resources(org, kind.name(), &query).await?
            }
            None => {
                let after = match after {
                    Some(id) => Some((OrgId::new(id.as_str())?, id)),
                    None => None,
                };
                let found = self.store.resources_of_all(kind.name(), after, limit + 1).await?;
                Page::cut(found, limit)
            }
        };
        let items = page.items.into_iter().map(|record| {
            let has = |(key, value): &(String, String)| record.labels.get(key) == Some(value);
            let seen = self.sees(kind, &record) && search.labels.iter().all(has);
            Ok(Row { seen, document: self.shown(kind, record)?.into_document() })
        });
        Ok(Page { items: items.collect::<Result<_>>()?, more: page.more })
    }
}

/// A resource that was read.
struct Row {
    /// Whether it is within reach, and has the labels.
    seen: bool,
    document: Document,
}

impl Row {
    fn fits(&self, search: &Search) -> bool {
        self.seen && search.filters.iter().all(|filter| filter.fits(&self.document))
    }
}

fn too_many() -> Error {
    let message = format!(
        "there are more than {MAX_SORTED} resources to put in order; narrow them by `label`, or \
         list them by id"
    );
    Error::violations(Code::QueryInvalid, vec![Violation::new("/sort", "too_many", message)])
}
