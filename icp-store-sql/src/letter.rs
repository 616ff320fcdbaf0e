use async_trait::async_trait;
use icp_core::delivery::{Delivery, DeliveryState, EndReason};
use icp_core::error::{Code, Error, Result};
use icp_core::id::{DeliveryId, EventId, OrgId};
use icp_core::letter::{
    Abandon, Abandoned, Abandonment, Category, DueLetter, GroupQuery, Judgement, Letter,
    LetterGroup, LetterGroups, LetterStatus, LetterStore, NewNote, Note, Verdict, class_of,
};
use icp_core::time::Timestamp;
use sqlx::Database;

use crate::error::Failure;
use crate::lane::{self, Changes};
use crate::link::{Conn, Row};
use crate::row::{self, DELIVERY, LANE, LaneRow};
use crate::scope::Scope;
use crate::statement::{statement, text};
use crate::store::{SqlStore, commit, read};
use crate::{delivery, event};

/// The `letter` column of a dead delivery that was given up.
const ABANDONED: i64 = 1;
/// The `letter` column of a dead delivery that an automatic round repeated.
const REPEATED: i64 = 2;
/// The `letter_due` column of a dead delivery that is left to people.
pub(crate) const NEVER: i64 = i64::MAX;

#[async_trait]
impl<D: Database> LetterStore for SqlStore<D> {
    async fn letters(&self, org: &OrgId, ids: &[DeliveryId]) -> Result<Vec<Letter>> {
        read!(self, Scope::Of(org), "read dead letters", |conn| letters(conn, org, ids).await)
    }

    async fn letter_groups(&self, org: &OrgId, query: &GroupQuery) -> Result<LetterGroups> {
        read!(self, Scope::Of(org), "group dead letters", |conn| groups(conn, org, query).await)
    }

    async fn annotate(&self, note: NewNote) -> Result<()> {
        commit!(self, Scope::Of(&note.org), "note", |tx| take_note(tx, &note).await)
    }

    async fn abandon(&self, abandon: Abandon) -> Result<Vec<Abandoned>> {
        commit!(self, Scope::Of(&abandon.org), "abandon", |tx| abandon_all(tx, &abandon).await)
    }

    async fn due_letters(&self, now: Timestamp, limit: usize) -> Result<Vec<DueLetter>> {
        read!(self, Scope::Node, "read due letters", |conn| due(conn, now, limit).await)
    }

    async fn judge(&self, judgements: &[Judgement], now: Timestamp) -> Result<Vec<bool>> {
        commit!(self, Scope::Node, "judge letters", |tx| judge_all(tx, judgements, now).await)
    }
}

/// The class of the last attempt of `d`.
const CLASS: &str = "(SELECT json_extract(a.outcome, '$.failed') FROM icp_attempt a \
     WHERE a.delivery = d.id ORDER BY a.epoch DESC LIMIT 1)";

pub(crate) fn one_sql() -> String {
    format!(
        "SELECT {DELIVERY}, {CLASS}, d.letter, d.letter_due, l.at, l.actor, l.code, l.message \
         FROM icp_delivery d LEFT JOIN icp_letter l ON l.delivery = d.id \
         WHERE d.id = ? AND d.org = ? AND d.state = 3"
    )
}

async fn letters(
    conn: &mut Conn<'_>,
    org: &OrgId,
    ids: &[DeliveryId],
) -> Result<Vec<Letter>, Failure> {
    let mut letters = Vec::with_capacity(ids.len());
    for id in ids {
        let found = statement(one_sql())
            .bind(id.to_bytes())
            .bind(text(org.as_str()))
            .fetch_optional(&mut *conn)
            .await?;
        if let Some(found) = found {
            letters.push(letter(conn, &found).await?);
        }
    }
    Ok(letters)
}

async fn letter(conn: &mut Conn<'_>, found: &Row) -> Result<Letter, Failure> {
    let delivery = row::delivery(found)?;
    let class = class_of(delivery.reason.as_ref(), found.try_get(1)?);
    let given_up: i64 = found.try_get(2)?;
    let retry_at: Option<i64> = found.try_get(3)?;
    let (states, successor) = successors(conn, &delivery).await?;
    Ok(Letter {
        category: Category::of(&class),
        class,
        status: LetterStatus::of(given_up == ABANDONED, &states),
        retry_at: retry_at.filter(|at| given_up == 0 && *at != NEVER).map(Timestamp::from_millis),
        abandonment: abandonment(found)?,
        notes: notes(conn, delivery.id).await?,
        successor,
        delivery,
    })
}

fn abandonment(found: &Row) -> Result<Option<Abandonment>, Failure> {
    let Some(at) = row::maybe_time(found, 4)? else { return Ok(None) };
    let reason = EndReason { code: found.try_get(6)?, message: found.try_get(7)? };
    Ok(Some(Abandonment { at, actor: found.try_get(5)?, reason }))
}

pub(crate) const NOTES: &str = "SELECT at, author, text FROM icp_letter_note WHERE delivery = ?";

async fn notes(conn: &mut Conn<'_>, id: DeliveryId) -> Result<Vec<Note>, Failure> {
    let found = statement(NOTES).bind(id.to_bytes()).fetch_all(conn).await?;
    let notes = found.iter().map(|found| {
        let (author, text) = (found.try_get(1)?, found.try_get(2)?);
        Ok(Note { at: row::time(found, 0)?, author, text })
    });
    let mut notes = notes.collect::<Result<Vec<_>, Failure>>()?;
    notes.sort_unstable();
    Ok(notes)
}

pub(crate) const SUCCESSORS: &str = "SELECT s.id, s.state FROM icp_delivery s \
     INDEXED BY icp_delivery_event WHERE s.event = ? AND s.replay_of = ?";

/// The states of the deliveries that repeat it, and the last of these.
async fn successors(
    conn: &mut Conn<'_>,
    delivery: &Delivery,
) -> Result<(Vec<DeliveryState>, Option<DeliveryId>), Failure> {
    let found = statement(SUCCESSORS)
        .bind(delivery.event.to_bytes())
        .bind(delivery.id.to_bytes())
        .fetch_all(conn)
        .await?;
    let mut last = None;
    let mut states = Vec::with_capacity(found.len());
    for found in &found {
        last = last.max(Some(DeliveryId::from_bytes(row::bytes(found, 0)?)));
        states.push(row::state(found.try_get(1)?)?);
    }
    Ok((states, last))
}

/// Its parameters are the organization, the limit, and the integration where there is one.
pub(crate) fn groups_sql(of_integration: bool) -> String {
    let from = if of_integration {
        "icp_delivery d INDEXED BY icp_delivery_integration \
         WHERE d.org = ?1 AND d.integration = ?3 AND d.state = 3"
    } else {
        "icp_delivery d INDEXED BY icp_delivery_dead WHERE d.org = ?1 AND d.state = 3"
    };
    format!(
        "WITH v AS MATERIALIZED (SELECT d.integration AS integration, \
            coalesce(d.reason_code, 'unknown') AS code, \
            CASE WHEN d.reason_code = 'poison' THEN NULL ELSE {CLASS} END AS class, \
            CASE WHEN d.letter = {ABANDONED} THEN 1 ELSE 0 END AS given_up, d.updated_at AS at, \
            hex(d.id) AS id \
            FROM {from} ORDER BY d.id DESC LIMIT +?2) \
         SELECT v.integration, v.code, coalesce(v.class, v.code), count(*), \
            count(CASE WHEN v.given_up = 1 THEN 1 END), \
            min(v.at), max(v.at), max(v.id) FROM v GROUP BY 1, 2, 3 ORDER BY 4 DESC, 1, 2, 3"
    )
}

async fn groups(
    conn: &mut Conn<'_>,
    org: &OrgId,
    query: &GroupQuery,
) -> Result<LetterGroups, Failure> {
    let rows = statement(groups_sql(query.integration.is_some()))
        .bind(text(org.as_str()))
        .bind(i64::try_from(query.limit).unwrap_or(i64::MAX))
        .bind(query.integration.as_ref().map(|id| text(id.as_str())))
        .fetch_all(&mut *conn)
        .await?;
    let groups = rows.iter().map(group).collect::<Result<Vec<_>, _>>()?;
    let counted: u64 = groups.iter().map(|group| group.count).sum();
    let full = counted == query.limit as u64;
    Ok(LetterGroups { more: full && further(conn, org, query).await?, groups })
}

/// Whether there are more letters than are counted.
async fn further(conn: &mut Conn<'_>, org: &OrgId, query: &GroupQuery) -> Result<bool, Failure> {
    let page = icp_core::store::PageQuery { after: None, limit: query.limit };
    let integration = query.integration.clone();
    let dead = Some(DeliveryState::Dead);
    let query = icp_core::delivery::DeliveryQuery { state: dead, event: None, integration, page };
    let sql = format!("SELECT count(*) FROM ({}) v", delivery::list_sql(conn.dialect(), &query));
    let found = statement(sql)
        .bind(text(org.as_str()))
        .bind(None::<Vec<u8>>)
        .bind(None::<i64>)
        .bind(None::<Vec<u8>>)
        .bind(query.integration.as_ref().map(|id| text(id.as_str())))
        .bind(row::more_than(query.page.limit))
        .fetch_one(conn)
        .await?;
    Ok(found.try_get::<i64>(0)? > i64::try_from(query.page.limit).unwrap_or(i64::MAX))
}

fn group(found: &Row) -> Result<LetterGroup, Failure> {
    let class: String = found.try_get(2)?;
    Ok(LetterGroup {
        integration: row::resource_id(found, 0)?,
        code: found.try_get(1)?,
        category: Category::of(&class),
        class,
        count: found.try_get::<i64>(3)?.cast_unsigned(),
        abandoned: found.try_get::<i64>(4)?.cast_unsigned(),
        first_at: row::time(found, 5)?,
        last_at: row::time(found, 6)?,
        sample: DeliveryId::from_bytes(row::hex(found, 7)?),
    })
}

async fn take_note(conn: &mut Conn<'_>, new: &NewNote) -> Result<(), Failure> {
    let delivery = delivery::existing(conn, &new.org, new.delivery).await?;
    if delivery.state != DeliveryState::Dead {
        let message = format!("delivery `{}` is {}, not dead", delivery.id, delivery.state);
        return Err(Error::new(Code::DeliveryStateConflict, message).into());
    }
    statement(
        "INSERT INTO icp_letter_note (delivery, at, author, text) VALUES (?, ?, ?, ?) \
         ON CONFLICT DO NOTHING",
    )
    .bind(new.delivery.to_bytes().to_vec())
    .bind(new.note.at.as_millis())
    .bind(new.note.author.clone())
    .bind(new.note.text.clone())
    .execute(conn)
    .await?;
    Ok(())
}

pub(crate) const STANDS: &str = "SELECT state, letter FROM icp_delivery WHERE id = ? AND org = ?";

async fn abandon_all(conn: &mut Conn<'_>, abandon: &Abandon) -> Result<Vec<Abandoned>, Failure> {
    let mut answers = Vec::with_capacity(abandon.deliveries.len());
    for id in &abandon.deliveries {
        let found = statement(format!("{STANDS}{}", conn.dialect().for_update()))
            .bind(id.to_bytes().to_vec())
            .bind(text(abandon.org.as_str()))
            .fetch_optional(&mut *conn)
            .await?;
        let Some(found) = found else {
            answers.push(Abandoned::NotFound);
            continue;
        };
        let state = row::state(found.try_get(0)?)?;
        answers.push(if state != DeliveryState::Dead {
            Abandoned::NotDead(state)
        } else if found.try_get::<i64>(1)? == ABANDONED {
            Abandoned::Already
        } else {
            mark(conn, *id, ABANDONED, None).await?;
            give_up(conn, *id, &abandon.actor, &abandon.reason, abandon.now).await?;
            Abandoned::Done
        });
    }
    Ok(answers)
}

pub(crate) const MARK: &str =
    "UPDATE icp_delivery SET letter = ?, letter_due = ? WHERE id = ? AND state = 3";

async fn mark(
    conn: &mut Conn<'_>,
    id: DeliveryId,
    letter: i64,
    due: Option<i64>,
) -> Result<(), Failure> {
    statement(MARK).bind(letter).bind(due).bind(id.to_bytes().to_vec()).execute(conn).await?;
    Ok(())
}

async fn give_up(
    conn: &mut Conn<'_>,
    id: DeliveryId,
    actor: &str,
    reason: &EndReason,
    now: Timestamp,
) -> Result<(), Failure> {
    statement(
        "INSERT INTO icp_letter (delivery, at, actor, code, message) VALUES (?, ?, ?, ?, ?) \
         ON CONFLICT (delivery) DO NOTHING",
    )
    .bind(id.to_bytes().to_vec())
    .bind(now.as_millis())
    .bind(actor.to_owned())
    .bind(reason.code.clone())
    .bind(reason.message.clone())
    .execute(conn)
    .await?;
    Ok(())
}

/// How many deliveries carry `d` on, by the states of [`icp_core::letter::carries_on`]. One that
/// repeats a repeat of it does so too, and is newer.
const CARRIED_ON: &str = "(SELECT count(*) FROM icp_delivery s INDEXED BY icp_delivery_event \
     WHERE s.event = d.event AND s.integration = d.integration \
     AND (s.id > d.id OR s.replay_of = d.id) AND s.state IN (0, 1, 2, 3))";

/// Letters that were not judged yet, or whose round is due: its parameters are the moment and the
/// limit.
pub(crate) fn due_sql(fresh: bool) -> String {
    let which = if fresh { "d.letter_due IS NULL AND ?1 > 0" } else { "d.letter_due <= ?1" };
    format!(
        "SELECT {DELIVERY}, d.letter_due, (SELECT {LANE} FROM icp_lane l WHERE l.id = d.lane), \
         {CARRIED_ON} \
         FROM icp_delivery d INDEXED BY icp_delivery_letter \
         WHERE d.state = 3 AND d.letter = 0 AND {which} ORDER BY d.letter_due LIMIT +?2"
    )
}

async fn due(conn: &mut Conn<'_>, now: Timestamp, limit: usize) -> Result<Vec<DueLetter>, Failure> {
    let mut letters = Vec::new();
    for fresh in [true, false] {
        let rows = statement(due_sql(fresh))
            .bind(now.as_millis())
            .bind(i64::try_from(limit - letters.len()).unwrap_or(i64::MAX))
            .fetch_all(&mut *conn)
            .await?;
        for found in &rows {
            let lane = found.try_get::<Option<&str>>(2)?;
            let lane = lane.map(serde_json::from_str::<LaneRow<'_>>).transpose()?;
            let delivery = match row::delivery(found) {
                // It waits for whoever mends it, without keeping the others from their rounds.
                Err(failure) if failure.is_corrupt() => continue,
                read => read?,
            };
            letters.push(DueLetter {
                delivery,
                lane: lane.map(LaneRow::read).transpose()?,
                due_at: row::maybe_time(found, 1)?,
                carried_on: found.try_get::<i64>(3)? > 0,
            });
        }
    }
    Ok(letters)
}

async fn judge_all(
    conn: &mut Conn<'_>,
    judgements: &[Judgement],
    now: Timestamp,
) -> Result<Vec<bool>, Failure> {
    let mut applied = Vec::with_capacity(judgements.len());
    let mut changes = Changes::default();
    for judgement in judgements {
        applied.push(judge(conn, judgement, now, &mut changes).await?);
    }
    changes.apply(conn).await?;
    Ok(applied)
}

/// The guard: of several nodes that judge the same letter, the first changes what the others saw.
pub(crate) const JUDGE: &str = "UPDATE icp_delivery SET letter = ?, letter_due = ? \
     WHERE id = ? AND state = 3 AND letter = 0 AND letter_due IS NOT DISTINCT FROM ?";

async fn judge(
    conn: &mut Conn<'_>,
    judgement: &Judgement,
    now: Timestamp,
    changes: &mut Changes,
) -> Result<bool, Failure> {
    let (letter, due) = match &judgement.verdict {
        Verdict::Plan { due_at } => (0, Some(due_at.as_millis())),
        Verdict::Retry { .. } => (REPEATED, None),
        Verdict::Abandon { .. } => (ABANDONED, None),
        Verdict::Leave => (0, Some(NEVER)),
        _ => return Ok(false),
    };
    let again = matches!(judgement.verdict, Verdict::Retry { .. });
    if again && is_carried_on(conn, judgement.delivery).await? {
        return Ok(false);
    }
    let done = statement(JUDGE)
        .bind(letter)
        .bind(due)
        .bind(judgement.delivery.to_bytes().to_vec())
        .bind(judgement.seen.map(Timestamp::as_millis))
        .execute(&mut *conn)
        .await?;
    if done == 0 {
        return Ok(false);
    }
    match &judgement.verdict {
        Verdict::Retry { id } => {
            let lane = repeat(conn, judgement.delivery, *id, now).await?;
            changes.of(lane).wake = true;
        }
        Verdict::Abandon { reason } => {
            give_up(conn, judgement.delivery, "engine", reason, now).await?;
        }
        _ => {}
    }
    Ok(true)
}

pub(crate) fn carried_on_sql() -> String {
    format!("SELECT {CARRIED_ON} FROM icp_delivery d WHERE d.id = ?")
}

/// With the lane locked, as replays by hand do, so that one comes before the other.
async fn is_carried_on(conn: &mut Conn<'_>, id: DeliveryId) -> Result<bool, Failure> {
    let lane = statement("SELECT lane FROM icp_delivery WHERE id = ?");
    let Some(lane) = lane.bind(id.to_bytes()).fetch_optional(&mut *conn).await? else {
        return Ok(false);
    };
    lane::lock(conn, [row::bytes(&lane, 0)?]).await?;
    let found = statement(carried_on_sql()).bind(id.to_bytes()).fetch_one(conn).await?;
    Ok(found.try_get::<i64>(0)? > 0)
}

async fn repeat(
    conn: &mut Conn<'_>,
    old: DeliveryId,
    new: DeliveryId,
    now: Timestamp,
) -> Result<[u8; 16], Failure> {
    let sql = "SELECT lane, org, event FROM icp_delivery WHERE id = ?";
    let found = statement(sql).bind(old.to_bytes()).fetch_one(&mut *conn).await?;
    let lane = row::bytes(&found, 0)?;
    lane::lock(conn, [lane]).await?;
    let event = EventId::from_bytes(row::bytes(&found, 2)?);
    event::hold(conn, &row::org(&found, 1)?, &[event]).await?;
    statement(
        "INSERT INTO icp_delivery (id, org, event, integration, lane, fifo, state, due_at, epoch, \
         tries, throttles, rescues, expires_at, replay_of, round, created_at, updated_at) \
         SELECT ?1, org, event, integration, lane, fifo, 0, ?2, 0, 0, 0, 0, expires_at, id, \
         round + 1, ?2, ?2 FROM icp_delivery WHERE id = ?3",
    )
    .bind(new.to_bytes())
    .bind(now.as_millis())
    .bind(old.to_bytes())
    .execute(conn)
    .await?;
    Ok(lane)
}
