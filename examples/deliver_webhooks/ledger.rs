//! What was published, what became of it, and whether nothing is missing.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};

use icp::delivery::{Audit, Delivery, DeliveryQuery, DeliveryState};
use icp::engine::Engine;
use icp::store::PageQuery;
use icp_testkit::receiver::{Receiver, Seen};
use standardwebhooks::Webhook;

use crate::endpoints::Endpoint;
use crate::scenario::Result;

/// The account of a whole run.
#[derive(Debug)]
pub(crate) struct Ledger {
    pub(crate) rows: Vec<Row>,
    pub(crate) audit: Audit,
}

/// The account of one endpoint.
#[derive(Debug, Default)]
pub(crate) struct Row {
    pub(crate) endpoint: String,
    /// Events that were published and are meant for it.
    pub(crate) published: usize,
    /// Deliveries by the state they ended in.
    pub(crate) ended: BTreeMap<&'static str, usize>,
    /// Published events without an ended delivery, or delivered without having come in.
    pub(crate) missing: Vec<String>,
    /// Events that came although they were not meant for it.
    pub(crate) uninvited: Vec<String>,
    /// Events that the receiver took more than once, and how often.
    pub(crate) duplicates: Vec<(String, usize)>,
    pub(crate) calls: usize,
    pub(crate) bad_signatures: usize,
    /// How often it was switched off by a 410 and on again.
    pub(crate) switched_on: usize,
}

const STATES: [DeliveryState; 5] = [
    DeliveryState::Delivered,
    DeliveryState::Dead,
    DeliveryState::Skipped,
    DeliveryState::Cancelled,
    DeliveryState::Expired,
];

impl Row {
    /// Accounts for `endpoint`: `published` are the ids that are meant for it.
    pub(crate) async fn of(
        endpoint: &Endpoint,
        published: &BTreeSet<String>,
        engine: &Engine,
        receiver: &Receiver,
    ) -> Result<Self> {
        let path = endpoint.path();
        let seen = receiver.seen();
        let taken = seen.taken(&path);
        let mut row = Self {
            endpoint: format!("{} {}", endpoint.org, endpoint.id),
            published: published.len(),
            calls: seen.count(&path),
            bad_signatures: bad_signatures(endpoint, &seen)?,
            missing: published.iter().cloned().collect(),
            ..Self::default()
        };
        for delivery in deliveries(engine, endpoint).await? {
            let event = delivery.event.to_string();
            if !published.contains(&event) {
                row.uninvited.push(event);
                continue;
            }
            if !delivery.state.is_final() {
                continue;
            }
            *row.ended.entry(delivery.state.as_str()).or_default() += 1;
            if delivery.state != DeliveryState::Delivered || taken.contains_key(&event) {
                row.missing.retain(|id| *id != event);
            }
        }
        row.uninvited.extend(seen.ids(&path).into_keys().filter(|id| !published.contains(id)));
        row.duplicates = taken.into_iter().filter(|(_, count)| *count > 1).collect();
        Ok(row)
    }

    /// Deliveries that ended in `state`.
    pub(crate) fn ended(&self, state: DeliveryState) -> usize {
        self.ended.get(state.as_str()).copied().unwrap_or_default()
    }

    /// Whether everything is accounted for, once, and every signature is good.
    pub(crate) fn closes(&self) -> bool {
        self.published == self.ended.values().sum::<usize>()
            && self.missing.is_empty()
            && self.uninvited.is_empty()
            && self.bad_signatures == 0
    }
}

impl Ledger {
    /// Whether every row closes and the store breaks no invariant.
    pub(crate) fn closes(&self) -> bool {
        self.audit.is_clean() && self.rows.iter().all(Row::closes)
    }

    /// Writes the table and what there is to say about it.
    ///
    /// # Errors
    ///
    /// Those of `out`.
    pub(crate) fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        write!(out, "{:<26}{:>10}", "endpoint", "published")?;
        for state in STATES {
            write!(out, "{:>11}", state.as_str())?;
        }
        writeln!(out, "{:>9}{:>8}{:>12}{:>9}", "missing", "calls", "duplicates", "bad sigs")?;
        for row in &self.rows {
            write!(out, "{:<26}{:>10}", row.endpoint, row.published)?;
            for state in STATES {
                write!(out, "{:>11}", row.ended(state))?;
            }
            let (missing, duplicates) = (row.missing.len(), row.duplicates.len());
            writeln!(out, "{missing:>9}{:>8}{duplicates:>12}{:>9}", row.calls, row.bad_signatures)?;
        }
        self.remarks(out)
    }

    fn remarks(&self, out: &mut dyn Write) -> io::Result<()> {
        for row in &self.rows {
            for (id, count) in &row.duplicates {
                writeln!(out, "duplicate: {} took {id} {count} times", row.endpoint)?;
            }
            for id in &row.missing {
                writeln!(out, "MISSING: {} never got {id}", row.endpoint)?;
            }
            for id in &row.uninvited {
                writeln!(out, "UNINVITED: {} got {id}", row.endpoint)?;
            }
            if row.switched_on > 0 {
                let times = row.switched_on;
                writeln!(
                    out,
                    "{}: answered 410, was switched off; switched on again {times} time(s), what waited went out",
                    row.endpoint
                )?;
            }
        }
        let calls: usize = self.rows.iter().map(|row| row.calls).sum();
        let bad: usize = self.rows.iter().map(|row| row.bad_signatures).sum();
        writeln!(out, "signatures: {} of {calls} verified", calls - bad)?;
        let verdict = if self.audit.is_clean() { "every invariant holds" } else { "BROKEN" };
        writeln!(out, "store: {verdict} over {} deliveries", self.audit.deliveries)?;
        if !self.audit.is_clean() {
            writeln!(out, "{:?}", self.audit)?;
        }
        let verdict = if self.closes() { "the ledger closes" } else { "THE LEDGER DOES NOT CLOSE" };
        writeln!(out, "{verdict}")
    }
}

/// Requests whose signature an independent implementation does not accept.
fn bad_signatures(endpoint: &Endpoint, seen: &Seen) -> Result<usize> {
    let webhook = Webhook::new(endpoint.secret.expose())?;
    let path = endpoint.path();
    let bad = |request: &&icp_testkit::receiver::Received| {
        webhook.verify(&request.body, &request.headers).is_err()
    };
    Ok(seen.to(&path).filter(bad).count())
}

async fn deliveries(engine: &Engine, endpoint: &Endpoint) -> Result<Vec<Delivery>> {
    let mut found = Vec::new();
    let mut page = PageQuery { after: None, limit: 500 };
    loop {
        let integration = Some(endpoint.id.clone());
        let query = DeliveryQuery { integration, page, ..DeliveryQuery::default() };
        let answer = engine.deliveries(&endpoint.org, &query).await?;
        page.after = answer.items.last().map(|delivery| delivery.id);
        found.extend(answer.items);
        if !answer.more {
            return Ok(found);
        }
    }
}
