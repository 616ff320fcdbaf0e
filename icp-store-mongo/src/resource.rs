use std::collections::{BTreeMap, HashMap};

use async_trait::async_trait;
use futures_util::TryStreamExt;
use icp_core::error::{Code, Error, Result};
use icp_core::id::{OrgId, ResourceId};
use icp_core::resource::{
    AuditEntry, AuditHead, AuditQuery, Change, Effect, Expect, ListQuery, Record, ResourceStore,
    Revision, Write,
};
use icp_core::store::Page;
use icp_core::time::Timestamp;
use mongodb::bson::{Bson, Document, doc};

use super::commit::{self, Commit, place};
use super::error::{Failure, contended, told};
use super::handle::Handles;
use super::row::{Fields, count, more_than, ms, put};
use super::store::{AUDIT, MongoStore, RESOURCE, VERSION};
use super::{effect, note};

/// How often a write is planned again where other writers were quicker.
const ROUNDS: usize = 1_000;

#[async_trait]
impl ResourceStore for MongoStore {
    async fn write(&self, write: Write) -> Result<Vec<Record>> {
        told("write resources", commit_write(self, &write).await)
    }

    async fn resource(&self, org: &OrgId, kind: &str, id: &ResourceId) -> Result<Option<Record>> {
        told("read a resource", one(self, org, kind, id).await)
    }

    async fn resources(&self, org: &OrgId, kind: &str, query: &ListQuery) -> Result<Page<Record>> {
        told("list resources", list(self, org, kind, query).await)
    }

    async fn resources_of_all(
        &self,
        kind: &str,
        after: Option<(OrgId, ResourceId)>,
        limit: usize,
    ) -> Result<Vec<Record>> {
        told("list resources of all", list_all(self, kind, after, limit).await)
    }

    async fn history(
        &self,
        org: &OrgId,
        kind: &str,
        id: &ResourceId,
        before: Option<Revision>,
        limit: usize,
    ) -> Result<Vec<Record>> {
        told("read the history", history(self, (org, kind, id), before, limit).await)
    }

    async fn changes(&self, after: Revision, limit: usize) -> Result<Vec<Record>> {
        told("read the change feed", changes(self, after, limit).await)
    }

    async fn head(&self) -> Result<Revision> {
        told("read the latest revision", head(self).await)
    }

    async fn audit_log(&self, org: &OrgId, query: &AuditQuery) -> Result<Page<AuditEntry>> {
        told("read the audit log", audit_log(self, org, query).await)
    }

    async fn audit_head(&self, org: &OrgId) -> Result<Option<AuditHead>> {
        let head = async {
            commit::finish(self).await?;
            note::head(self, org).await
        };
        told("read the audit log", head.await)
    }
}

async fn commit_write(store: &MongoStore, write: &Write) -> Result<Vec<Record>, Failure> {
    for _ in 0..ROUNDS {
        let last = commit::finish(store).await?;
        let (present, handles) = present(store, write).await?;
        let heads = heads(store, write).await?;
        let (records, commit) = plan(write, present, handles, heads, last)?;
        if records.is_empty()
            || commit::append(store, last, records.len(), commit, write.now).await?
        {
            return Ok(records);
        }
    }
    Err(contended().into())
}

/// The latest versions of the resources to be changed, deleted ones included, and the handles of
/// those and of others that stand in their way.
async fn present(
    store: &MongoStore,
    write: &Write,
) -> Result<(HashMap<String, Record>, Handles), Failure> {
    let places: Vec<Bson> =
        write.changes.iter().map(|change| Bson::from(place_of(&change.record))).collect();
    let found = store.all(RESOURCE, doc! { "_id": { "$in": places } }, doc! {}).await?;
    let records = found.iter().map(|found| {
        let record = record(found, "revision")?;
        Ok((place_of(&record), record))
    });
    let records = records.collect::<Result<_, Failure>>()?;
    Ok((records, Handles::read(store, write, &found).await?))
}

/// The chains that the write makes longer.
async fn heads(store: &MongoStore, write: &Write) -> Result<HashMap<OrgId, AuditHead>, Failure> {
    let mut heads = HashMap::new();
    for change in &write.changes {
        let org = &change.record.org;
        if !heads.contains_key(org) {
            heads.insert(org.clone(), note::head(store, org).await?.unwrap_or_default());
        }
    }
    Ok(heads)
}

/// Works out every change, or what stands in the way of one.
fn plan(
    write: &Write,
    mut latest: HashMap<String, Record>,
    mut handles: Handles,
    mut heads: HashMap<OrgId, AuditHead>,
    last: i64,
) -> Result<(Vec<Record>, Commit), Failure> {
    let mut records = Vec::with_capacity(write.changes.len());
    let mut commit = Commit::default();
    let mut revision = Revision(last.cast_unsigned());
    for change in &write.changes {
        let place = place_of(&change.record);
        let before = latest.get(&place);
        let live = before.filter(|record| !record.deleted);
        check(change, live)?;
        revision = Revision(revision.0 + 1);
        let record = next_version(change, before, revision, write.now);
        let mut version = version_document(&record)?;
        let held = handles.change(&place, change)?;
        put(&mut version, "handles", Some(held.to_vec()).filter(|held| !held.is_empty()));
        put(&mut version, "prev", before.map(|before| before.revision.0.cast_signed()));
        commit.versions.push(version);
        let mut row = AuditEntry::of_change(write, change, live, &record);
        heads.entry(record.org.clone()).or_default().append(&record.org, &mut row);
        commit.audits.push(note::document(&record.org, &row));
        let own = |(_, effect): &(usize, &Effect)| !matches!(effect, Effect::Handles { .. });
        for (at, effect) in change.effects.iter().enumerate().filter(own) {
            commit.effects.push(effect::document(effect, &record.org, revision, at)?);
        }
        latest.insert(place, record.clone());
        records.push(record);
    }
    Ok((records, commit))
}

fn check(change: &Change, live: Option<&Record>) -> Result<()> {
    let record = &change.record;
    let missing = || {
        let message = format!("there is no {} `{}`", record.kind, record.id);
        Error::new(Code::ResourceNotFound, message)
    };
    match (change.expect, live) {
        (Expect::Absent, Some(_)) => Err(Error::new(
            Code::ResourceExists,
            format!("{} `{}` exists already", record.kind, record.id),
        )),
        (Expect::Revision(expected), Some(live)) if live.revision != expected => Err(Error::new(
            Code::RevisionConflict,
            format!(
                "{} `{}` is at revision {}, not {expected}; read it again",
                record.kind, record.id, live.revision
            ),
        )),
        (Expect::Revision(_) | Expect::Present, None) => Err(missing()),
        (Expect::Absent | Expect::Any, None) if record.deleted => Err(missing()),
        _ => Ok(()),
    }
}

fn next_version(
    change: &Change,
    before: Option<&Record>,
    revision: Revision,
    now: Timestamp,
) -> Record {
    let mut record = change.record.clone();
    record.revision = revision;
    record.version = before.map_or(1, |before| before.version + 1);
    record.created_at = before.map_or(now, |before| before.created_at);
    record.updated_at = now;
    if let Some(before) = before.filter(|_| record.deleted) {
        record.spec = before.spec.clone();
        record.status = before.status.clone();
    }
    record
}

fn place_of(record: &Record) -> String {
    place(&record.kind, record.org.as_str(), record.id.as_str())
}

/// Specs are kept as text: labels and fields of a spec may have names that a document cannot.
fn version_document(record: &Record) -> Result<Document, Failure> {
    let labels: Vec<Document> =
        record.labels.iter().map(|(key, value)| doc! { "k": key, "v": value }).collect();
    let mut kept = doc! {
        "_id": record.revision.0.cast_signed(),
        "kind": &*record.kind,
        "org": record.org.as_str(),
        "id": record.id.as_str(),
        "name": record.name.as_deref(),
        "labels": labels,
        "spec": serde_json::to_string(&record.spec)?,
        "status": serde_json::to_string(&record.status)?,
        "version": record.version.cast_signed(),
        "created_at": ms(record.created_at),
        "updated_at": ms(record.updated_at),
        "deleted": record.deleted,
    };
    if record.name.is_none() {
        kept.insert("name", Bson::Null);
    }
    Ok(kept)
}

fn record(found: &Document, revision: &str) -> Result<Record, Failure> {
    let mut labels = BTreeMap::new();
    for label in found.documents("labels") {
        labels.insert(label.text("k")?.to_owned(), label.text("v")?.to_owned());
    }
    Ok(Record {
        org: found.named("org")?,
        kind: found.text("kind")?.into(),
        id: found.named("id")?,
        name: found.maybe_text("name").map(str::to_owned),
        labels,
        spec: serde_json::from_str(found.text("spec")?)?,
        status: serde_json::from_str(found.text("status")?)?,
        revision: Revision(found.int(revision)?.cast_unsigned()),
        version: found.int("version")?.cast_unsigned(),
        created_at: found.time("created_at")?,
        updated_at: found.time("updated_at")?,
        deleted: found.flag("deleted"),
    })
}

async fn one(
    store: &MongoStore,
    org: &OrgId,
    kind: &str,
    id: &ResourceId,
) -> Result<Option<Record>, Failure> {
    commit::finish(store).await?;
    let filter = doc! { "_id": place(kind, org.as_str(), id.as_str()), "deleted": false };
    let found = store.light(RESOURCE).find_one(filter).await?;
    found.as_ref().map(|found| record(found, "revision")).transpose()
}

async fn list(
    store: &MongoStore,
    org: &OrgId,
    kind: &str,
    query: &ListQuery,
) -> Result<Page<Record>, Failure> {
    let mut filter = doc! { "kind": kind, "org": org.as_str(), "deleted": false };
    if let Some(after) = &query.page.after {
        filter.insert("id", doc! { "$gt": after.as_str() });
    }
    let labels: Vec<Document> = query
        .labels
        .iter()
        .map(|(key, value)| doc! { "$elemMatch": { "k": key, "v": value } })
        .collect();
    put(&mut filter, "labels", Some(doc! { "$all": labels }).filter(|_| !query.labels.is_empty()));
    let items = listed(store, filter, more_than(query.page.limit)).await?;
    Ok(Page::cut(items, query.page.limit))
}

async fn list_all(
    store: &MongoStore,
    kind: &str,
    after: Option<(OrgId, ResourceId)>,
    limit: usize,
) -> Result<Vec<Record>, Failure> {
    let mut filter = doc! { "kind": kind, "deleted": false };
    if let Some((org, id)) = after {
        let (org, id) = (org.as_str(), id.as_str());
        let later = vec![doc! { "org": org, "id": { "$gt": id } }, doc! { "org": { "$gt": org } }];
        filter.insert("$or", later);
    }
    listed(store, filter, count(limit.max(1))).await
}

async fn listed(store: &MongoStore, filter: Document, limit: i64) -> Result<Vec<Record>, Failure> {
    commit::finish(store).await?;
    let found: Vec<Document> = store
        .light(RESOURCE)
        .find(filter)
        .sort(doc! { "kind": 1, "org": 1, "id": 1 })
        .limit(limit)
        .await?
        .try_collect()
        .await?;
    found.iter().map(|found| record(found, "revision")).collect()
}

async fn history(
    store: &MongoStore,
    (org, kind, id): (&OrgId, &str, &ResourceId),
    before: Option<Revision>,
    limit: usize,
) -> Result<Vec<Record>, Failure> {
    commit::finish(store).await?;
    let mut filter = doc! { "kind": kind, "org": org.as_str(), "id": id.as_str() };
    if let Some(before) = before {
        filter.insert("_id", doc! { "$lt": before.0.cast_signed() });
    }
    let newest = doc! { "kind": -1, "org": -1, "id": -1, "_id": -1 };
    versions(store, filter, newest, limit).await
}

async fn changes(
    store: &MongoStore,
    after: Revision,
    limit: usize,
) -> Result<Vec<Record>, Failure> {
    // A write that is under way beyond this shows none of its changes rather than some.
    let last = commit::finish(store).await?;
    let filter = doc! { "_id": { "$gt": after.0.cast_signed(), "$lte": last } };
    versions(store, filter, doc! { "_id": 1 }, limit).await
}

async fn versions(
    store: &MongoStore,
    filter: Document,
    order: Document,
    limit: usize,
) -> Result<Vec<Record>, Failure> {
    let found: Vec<Document> = store
        .light(VERSION)
        .find(filter)
        .sort(order)
        .limit(count(limit.max(1)))
        .await?
        .try_collect()
        .await?;
    found.iter().map(|found| record(found, "_id")).collect()
}

async fn head(store: &MongoStore) -> Result<Revision, Failure> {
    let last = commit::finish(store).await?;
    let filter = doc! { "_id": { "$lte": last } };
    let found = store
        .light(VERSION)
        .find_one(filter)
        .sort(doc! { "_id": -1 })
        .projection(doc! { "_id": 1 })
        .await?;
    let revision = found.map(|found| found.int("_id")).transpose()?.unwrap_or_default();
    Ok(Revision(revision.cast_unsigned()))
}

async fn audit_log(
    store: &MongoStore,
    org: &OrgId,
    query: &AuditQuery,
) -> Result<Page<AuditEntry>, Failure> {
    commit::finish(store).await?;
    let mut filter = doc! { "org": org.as_str() };
    if let Some(after) = query.page.after {
        let after = i64::try_from(after.0).unwrap_or(i64::MAX);
        filter.insert("_id", doc! { "$lt": after });
    }
    let mut at = Document::new();
    put(&mut at, "$gte", query.since.map(ms));
    put(&mut at, "$lt", query.until.map(ms));
    put(&mut filter, "at", Some(at).filter(|at| !at.is_empty()));
    put(&mut filter, "kind", query.kind.as_deref());
    put(&mut filter, "actor", query.actor.as_deref());
    put(&mut filter, "action", query.action.as_deref());
    put(&mut filter, "id", query.id.as_ref().map(ResourceId::as_str));
    let found: Vec<Document> = store
        .light(AUDIT)
        .find(filter)
        .sort(doc! { "org": -1, "_id": -1 })
        .limit(more_than(query.page.limit))
        .await?
        .try_collect()
        .await?;
    let items = found.iter().map(note::entry).collect::<Result<_>>()?;
    Ok(Page::cut(items, query.page.limit))
}
