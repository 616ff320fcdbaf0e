use std::collections::{BTreeMap, HashMap, HashSet};

use async_trait::async_trait;
use futures_util::TryStreamExt;
use icp_core::delivery::{AttemptOutcome, Delivery, DeliveryState};
use icp_core::error::{Code, Error, Result};
use icp_core::id::{DeliveryId, EventId, OrgId, ResourceId};
use icp_core::letter::{
    Abandon, Abandoned, Abandonment, Category, DueLetter, GroupQuery, Judgement, Letter,
    LetterGroup, LetterGroups, LetterStatus, LetterStore, NewNote, Note, Verdict, carries_on,
    class_of,
};
use icp_core::time::Timestamp;
use mongodb::bson::oid::ObjectId;
use mongodb::bson::{Bson, Document, doc};

use super::batch::{self, Lasts, Miss, Statement};
use super::delivery;
use super::error::{Failure, told};
use super::finish::at_most;
use super::lane::{self, Changes};
use super::row::{self, Fields, UNJUDGED, bin, bins, count, more_than, ms};
use super::store::{DELIVERY, MongoStore};
use super::{stay, step};

#[async_trait]
impl LetterStore for MongoStore {
    async fn letters(&self, org: &OrgId, ids: &[DeliveryId]) -> Result<Vec<Letter>> {
        told("read dead letters", letters(self, org, ids).await)
    }

    async fn letter_groups(&self, org: &OrgId, query: &GroupQuery) -> Result<LetterGroups> {
        told("group dead letters", groups(self, org, query).await)
    }

    async fn annotate(&self, note: NewNote) -> Result<()> {
        told("annotate a dead letter", annotate(self, &note).await)
    }

    async fn abandon(&self, abandon: Abandon) -> Result<Vec<Abandoned>> {
        told("abandon dead letters", give_up(self, &abandon).await)
    }

    async fn due_letters(&self, now: Timestamp, limit: usize) -> Result<Vec<DueLetter>> {
        told("find due letters", due(self, now, limit).await)
    }

    async fn judge(&self, judgements: &[Judgement], now: Timestamp) -> Result<Vec<bool>> {
        told("judge dead letters", judge(self, judgements, now).await)
    }
}

/// With the last attempt only.
fn fields() -> Document {
    doc! { "attempts": { "$slice": -1 } }
}

async fn letters(
    store: &MongoStore,
    org: &OrgId,
    ids: &[DeliveryId],
) -> Result<Vec<Letter>, Failure> {
    let wanted = bins(ids.iter().copied(), DeliveryId::to_bytes);
    let filter = doc! { "_id": { "$in": wanted.clone() }, "org": org.as_str(), "state": "dead" };
    let found = store.all(DELIVERY, filter, fields()).await?;
    let mut successors = successors(store, &found).await?;
    let mut letters = HashMap::new();
    for found in &found {
        let of = successors.remove(&found.id("_id")?).unwrap_or_default();
        let letter = letter(found, &of)?;
        letters.insert(letter.delivery.id, letter);
    }
    Ok(ids.iter().filter_map(|id| letters.get(id).cloned()).collect())
}

type Successors = HashMap<[u8; 16], BTreeMap<DeliveryId, DeliveryState>>;

/// The states of the deliveries that repeat those in `found`.
async fn successors(store: &MongoStore, found: &[Document]) -> Result<Successors, Failure> {
    let of = |field| found.iter().filter_map(|row| row.get(field).cloned()).collect::<Vec<Bson>>();
    let newer = doc! { "event": { "$in": of("event") }, "replay_of": { "$in": of("_id") } };
    let mut successors = Successors::new();
    for newer in &store.all(DELIVERY, newer, doc! { "replay_of": 1, "state": 1 }).await? {
        let of = successors.entry(newer.id("replay_of")?).or_default();
        of.insert(DeliveryId::from_bytes(newer.id("_id")?), newer.named("state")?);
    }
    Ok(successors)
}

fn letter(
    found: &Document,
    successors: &BTreeMap<DeliveryId, DeliveryState>,
) -> Result<Letter, Failure> {
    let delivery = row::delivery(found)?;
    let class = class(&delivery, found)?;
    let abandonment = found.get_document("abandoned").ok().map(abandonment).transpose()?;
    let states: Vec<DeliveryState> = successors.values().copied().collect();
    let mut notes = found.documents("notes").into_iter().map(note).collect::<Result<Vec<_>>>()?;
    notes.sort_unstable();
    Ok(Letter {
        category: Category::of(&class),
        class,
        status: LetterStatus::of(abandonment.is_some(), &states),
        retry_at: retry_at(found),
        abandonment,
        notes,
        successor: successors.keys().next_back().copied(),
        delivery,
    })
}

/// When the next round is due; nothing where the letter was not judged.
fn retry_at(found: &Document) -> Option<Timestamp> {
    found.maybe_int("judge_at").filter(|at| *at != UNJUDGED).map(Timestamp::from_millis)
}

fn class(delivery: &Delivery, found: &Document) -> Result<String, Failure> {
    let last = found.documents("attempts").last().map(|made| row::attempt(delivery.id, made));
    let outcome = last.transpose()?.map(|attempt| attempt.outcome);
    let class = match &outcome {
        Some(AttemptOutcome::Failed(class)) => Some(class.as_str()),
        _ => None,
    };
    Ok(class_of(delivery.reason.as_ref(), class))
}

fn abandonment(found: &Document) -> Result<Abandonment> {
    let reason = found.get_document("reason").ok().map(row::read_reason).transpose()?;
    let reason = reason.unwrap_or_else(|| icp_core::delivery::EndReason::new("unknown", ""));
    Ok(Abandonment { at: found.time("at")?, actor: found.text("actor")?.to_owned(), reason })
}

fn note(found: &Document) -> Result<Note> {
    Ok(Note {
        at: found.time("at")?,
        author: found.text("author")?.to_owned(),
        text: found.text("text")?.to_owned(),
    })
}

async fn groups(
    store: &MongoStore,
    org: &OrgId,
    query: &GroupQuery,
) -> Result<LetterGroups, Failure> {
    let mut filter = doc! { "org": org.as_str(), "state": "dead" };
    let integration = query.integration.as_ref().map(|id| id.as_str().to_owned());
    row::put(&mut filter, "integration", integration);
    let mut found: Vec<Document> = store
        .light(DELIVERY)
        .find(filter)
        .sort(doc! { "org": -1, "_id": -1 })
        .limit(more_than(query.limit))
        .projection(fields())
        .await?
        .try_collect()
        .await?;
    let more = found.len() > query.limit;
    found.truncate(query.limit);
    let mut groups: BTreeMap<(ResourceId, String, String), LetterGroup> = BTreeMap::new();
    for found in &found {
        let row = row::delivery(found)?;
        let class = class(&row, found)?;
        let code = row.reason.as_ref().map_or("unknown", |reason| &reason.code).to_owned();
        let key = (row.integration.clone(), code.clone(), class.clone());
        let group = groups.entry(key).or_insert_with(|| LetterGroup {
            integration: row.integration.clone(),
            category: Category::of(&class),
            code,
            class,
            count: 0,
            abandoned: 0,
            first_at: row.updated_at,
            last_at: row.updated_at,
            sample: row.id,
        });
        group.count += 1;
        group.abandoned += u64::from(found.contains_key("abandoned"));
        group.first_at = group.first_at.min(row.updated_at);
        group.last_at = group.last_at.max(row.updated_at);
    }
    let mut groups: Vec<_> = groups.into_values().collect();
    groups.sort_by_key(|group| std::cmp::Reverse(group.count));
    Ok(LetterGroups { groups, more })
}

async fn annotate(store: &MongoStore, new: &NewNote) -> Result<(), Failure> {
    let NewNote { org, delivery: id, note } = new;
    let note = doc! { "at": ms(note.at), "author": &note.author, "text": &note.text };
    let of_org = doc! { "_id": bin(id.to_bytes()), "org": org.as_str() };
    let mut dead = of_org.clone();
    dead.insert("state", "dead");
    let add = doc! { "$addToSet": { "notes": note } };
    if store.lasting(DELIVERY).update_one(dead, add).await?.matched_count > 0 {
        return Ok(());
    }
    let found = store.light(DELIVERY).find_one(of_org).projection(doc! { "state": 1 }).await?;
    let Some(found) = found else {
        let message = format!("there is no delivery `{id}`; check the id");
        return Err(Error::new(Code::DeliveryNotFound, message).into());
    };
    let message = format!("delivery `{id}` is {}, not dead", found.text("state")?);
    Err(Error::new(Code::DeliveryStateConflict, message).into())
}

async fn give_up(store: &MongoStore, abandon: &Abandon) -> Result<Vec<Abandoned>, Failure> {
    let Abandon { org, deliveries, actor, reason, now } = abandon;
    let token = ObjectId::new();
    let ids = bins(deliveries.iter().copied(), DeliveryId::to_bytes);
    let of_org = doc! { "_id": { "$in": ids }, "org": org.as_str() };
    let mut open = of_org.clone();
    open.insert("state", "dead");
    open.insert("abandoned", doc! { "$exists": false });
    let abandoned = abandoned(actor, reason, *now, token);
    let change = doc! { "$set": { "abandoned": abandoned }, "$unset": { "judge_at": "" } };
    store.lasting(DELIVERY).update_many(open, change).await?;
    let fields = doc! { "state": 1, "abandoned.by": 1 };
    let mut found = HashMap::new();
    for row in store.all(DELIVERY, of_org, fields).await? {
        let by = row.get_document("abandoned").and_then(|of| of.get_object_id("by")).ok();
        found.insert(row.id("_id")?, (row.named::<DeliveryState>("state")?, by));
    }
    let mut done = HashSet::new();
    let answers = deliveries.iter().map(|id| match found.get(&id.to_bytes()) {
        None => Abandoned::NotFound,
        Some((DeliveryState::Dead, by)) if *by == Some(token) && done.insert(*id) => {
            Abandoned::Done
        }
        Some((DeliveryState::Dead, _)) => Abandoned::Already,
        Some((state, _)) => Abandoned::NotDead(*state),
    });
    Ok(answers.collect())
}

fn abandoned(
    actor: &str,
    reason: &icp_core::delivery::EndReason,
    now: Timestamp,
    by: ObjectId,
) -> Document {
    doc! { "at": ms(now), "actor": actor, "reason": row::reason(reason), "by": by }
}

async fn due(store: &MongoStore, now: Timestamp, limit: usize) -> Result<Vec<DueLetter>, Failure> {
    let found: Vec<Document> = store
        .light(DELIVERY)
        .find(doc! { "judge_at": { "$lte": ms(now) } })
        .sort(doc! { "judge_at": 1, "_id": 1 })
        .limit(count(limit.max(1)))
        .projection(row::without_attempts())
        .await?
        .try_collect()
        .await?;
    // One that cannot be read waits for whoever mends it, and keeps no other from its round.
    let rows = found.iter().filter_map(|found| Some((found, row::delivery(found).ok()?)));
    let rows: Vec<(&Document, Delivery)> = rows.collect();
    let lanes =
        lane::look_up(store, rows.iter().map(|(_, row)| row.lane).collect::<HashSet<_>>()).await?;
    let line = Line::read(store, &found).await?;
    let letters = rows.into_iter().map(|(found, delivery)| DueLetter {
        lane: lanes.get(&delivery.lane).map(|seen| seen.lane.clone()),
        due_at: retry_at(found),
        carried_on: line.carries_on(found),
        delivery,
    });
    Ok(letters.collect())
}

async fn judge(
    store: &MongoStore,
    judgements: &[Judgement],
    now: Timestamp,
) -> Result<Vec<bool>, Failure> {
    let mut applied = Vec::with_capacity(judgements.len());
    let mut repeats = false;
    for judgement in judgements {
        let won = judge_one(store, judgement, now).await?;
        repeats |= won && matches!(judgement.verdict, Verdict::Retry { .. });
        applied.push(won);
    }
    if repeats {
        finish_repeats(store, usize::MAX).await?;
    }
    Ok(applied)
}

/// Of several nodes that judge the same letter, the first changes what the others saw.
async fn judge_one(
    store: &MongoStore,
    judgement: &Judgement,
    now: Timestamp,
) -> Result<bool, Failure> {
    let mut follows = 0;
    if matches!(judgement.verdict, Verdict::Retry { .. }) {
        let letter = doc! { "_id": bin(judgement.delivery.to_bytes()) };
        let found = store.all(DELIVERY, letter, doc! { "event": 1, "integration": 1 }).await?;
        let line = Line::read(store, &found).await?;
        if found.iter().any(|letter| line.carries_on(letter)) {
            return Ok(false);
        }
        follows = line.0.iter().map(step::next_place).max().unwrap_or_default();
    }
    let change = match &judgement.verdict {
        Verdict::Plan { due_at } => doc! { "$set": { "judge_at": ms(*due_at) } },
        Verdict::Leave => doc! { "$unset": { "judge_at": "" } },
        Verdict::Abandon { reason } => doc! {
            "$set": { "abandoned": abandoned("engine", reason, now, ObjectId::new()) },
            "$unset": { "judge_at": "" },
        },
        Verdict::Retry { id } => doc! {
            "$set": {
                "repeat": { "id": bin(id.to_bytes()), "at": ms(now), "follows": follows },
            },
            "$unset": { "judge_at": "" },
        },
        _ => return Ok(false),
    };
    let as_seen = doc! {
        "_id": bin(judgement.delivery.to_bytes()),
        "state": "dead",
        "judge_at": judgement.seen.map_or(UNJUDGED, ms),
    };
    Ok(store.lasting(DELIVERY).update_one(as_seen, change).await?.matched_count > 0)
}

/// All deliveries of the events of letters.
struct Line(Vec<Document>);

impl Line {
    async fn read(store: &MongoStore, letters: &[Document]) -> Result<Self, Failure> {
        let events: Vec<Bson> =
            letters.iter().filter_map(|letter| letter.get("event").cloned()).collect();
        let fields =
            doc! { "event": 1, "integration": 1, "replay_of": 1, "state": 1, "follows": 1 };
        let mut rows = store.all(DELIVERY, doc! { "event": { "$in": events } }, fields).await?;
        if let [letter] = letters {
            rows.retain(|row| alike(row, letter));
        }
        Ok(Self(rows))
    }

    /// Whether one of them carries a letter on.
    fn carries_on(&self, letter: &Document) -> bool {
        let id = letter.maybe_id("_id");
        let after = |row: &&Document| row.maybe_id("_id") > id || row.maybe_id("replay_of") == id;
        let newer = self.0.iter().filter(|row| alike(row, letter)).filter(after);
        newer.filter_map(|row| row.named::<DeliveryState>("state").ok()).any(carries_on)
    }
}

/// Whether two deliveries are of one event to one integration.
fn alike(one: &Document, other: &Document) -> bool {
    ["event", "integration"].iter().all(|field| one.get(field) == other.get(field))
}

/// Makes the deliveries of rounds that letters are waiting for. Where a replay was quicker, what it
/// made stands for the round.
pub(crate) async fn finish_repeats(store: &MongoStore, limit: usize) -> Result<(), Failure> {
    let found: Vec<Document> = store
        .light(DELIVERY)
        .find(doc! { "repeat.id": { "$exists": true } })
        .projection(row::without_attempts())
        .limit(at_most(limit))
        .await?
        .try_collect()
        .await?;
    let events = found.iter().map(|row| row.id("event").map(EventId::from_bytes));
    let there = stay::keep(store, events.collect::<Result<Vec<_>>>()?.into_iter()).await?;
    let (mut made, mut done) = (Vec::new(), Vec::new());
    let mut changes = Changes::default();
    let mut latest = Timestamp::EPOCH;
    for found in &found {
        let Ok(repeat) = found.get_document("repeat") else { continue };
        let (id, now) = (DeliveryId::from_bytes(repeat.id("id")?), repeat.time("at")?);
        let old = row::delivery(found)?;
        if there.contains(&old.event) {
            let new = Delivery { round: old.round + 1, ..delivery::repeated(&old, id, now) };
            let mut made_one = row::delivery_document(&new, found.flag("fifo"));
            made_one.insert("follows", repeat.int("follows")?);
            made.push(made_one);
            changes.of(old.lane).wake = true;
            latest = latest.max(now);
        }
        done.push(Statement {
            filter: doc! { "_id": bin(old.id.to_bytes()), "repeat.id": bin(id.to_bytes()) },
            change: doc! { "$unset": { "repeat": "" } }.into(),
        });
    }
    if done.is_empty() {
        return Ok(());
    }
    batch::insert(store.lasting(DELIVERY), &made).await?;
    changes.apply(store, latest).await?;
    store.update(DELIVERY, &done, Miss::Counted, Lasts::No).await?;
    Ok(())
}
