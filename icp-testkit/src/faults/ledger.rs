//! The ledger: what was acknowledged is delivered, once for each integration, and under one id.

use std::collections::{BTreeMap, BTreeSet};

use icp_core::delivery::{Delivery, DeliveryQuery, DeliveryState};
use icp_core::event::EventQuery;
use icp_core::id::{DeliveryId, EventId, OrgId};
use icp_core::store::{PageQuery, Store};

use crate::receiver::Received;

const PAGE: usize = 500;

/// The account of a run: what the publishers were answered, what the store holds, and what came in
/// at the receiver.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    /// The event that each publisher's number was acknowledged as.
    pub acknowledged: BTreeMap<u64, EventId>,
    /// Every event in the store.
    pub events: BTreeSet<EventId>,
    /// Every delivery in the store.
    pub deliveries: Vec<Delivery>,
    /// What came in: the event's id, the delivery's, its epoch, and the number in the body.
    pub received: Vec<Receipt>,
}

/// One request as the ledger needs it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Receipt {
    /// The `webhook-id`.
    pub event: String,
    /// The `icp-delivery`.
    pub delivery: String,
    /// The `icp-epoch`.
    pub epoch: String,
    /// The number that the publisher wrote into the body.
    pub number: Option<u64>,
}

/// What is wrong with an account. Duplicates under one id are told and not wrong.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Findings {
    /// Numbers that were acknowledged and not delivered.
    pub lost: Vec<u64>,
    /// Numbers of which more than one event was made.
    pub repeated: Vec<u64>,
    /// Events that were fanned out twice to an integration.
    pub fanned_out_twice: Vec<EventId>,
    /// Deliveries that did not end as delivered, or did not come in.
    pub undelivered: Vec<DeliveryId>,
    /// Requests of an event that the store does not hold.
    pub strangers: Vec<String>,
    /// Deliveries of which one epoch was sent twice: two nodes held one lease.
    pub sent_twice_in_an_epoch: Vec<String>,
    /// How often an event was sent again under the same id.
    pub duplicates: usize,
}

impl Findings {
    /// Whether the ledger closes.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        *self == Self { duplicates: self.duplicates, ..Self::default() }
    }
}

impl Ledger {
    /// Reads the account of an organization: its store, and what came in.
    ///
    /// # Panics
    ///
    /// Where the store does not answer.
    pub async fn read(
        store: &dyn Store,
        org: &OrgId,
        acknowledged: BTreeMap<u64, EventId>,
        received: &[Received],
    ) -> Self {
        let received = received.iter().map(Receipt::of).collect();
        let (events, deliveries) = (events(store, org).await, deliveries(store, org).await);
        Self { acknowledged, events, deliveries, received }
    }

    /// Of these numbers, those whose events the store holds: what is lost of them are deliveries.
    #[must_use]
    pub fn held(&self, numbers: &[u64]) -> Vec<u64> {
        let of = |number: &&u64| {
            self.acknowledged.get(*number).is_some_and(|event| self.events.contains(event))
        };
        numbers.iter().filter(of).copied().collect()
    }

    /// Compares the three.
    #[must_use]
    pub fn close(&self) -> Findings {
        let mut findings = Findings::default();
        let mut times: BTreeMap<&str, usize> = BTreeMap::new();
        let mut ids: BTreeMap<u64, BTreeSet<&str>> = BTreeMap::new();
        let mut sent = BTreeSet::new();
        for receipt in &self.received {
            *times.entry(&receipt.event).or_default() += 1;
            if let Some(number) = receipt.number {
                ids.entry(number).or_default().insert(&receipt.event);
            }
            if !sent.insert((&receipt.delivery, &receipt.epoch)) {
                findings.sent_twice_in_an_epoch.push(receipt.delivery.clone());
            }
        }
        let known: BTreeSet<_> = self.events.iter().map(EventId::to_string).collect();
        let strange = times.keys().filter(|id| !known.contains(**id));
        findings.strangers = strange.map(|id| (*id).to_owned()).collect();
        let several = ids.iter().filter(|(_, ids)| ids.len() > 1);
        findings.repeated = several.map(|(number, _)| *number).collect();
        let mut made = BTreeSet::new();
        let mut ended = BTreeSet::new();
        for delivery in self.deliveries.iter().filter(|delivery| delivery.replay_of.is_none()) {
            if !made.insert((delivery.event, &delivery.integration)) {
                findings.fanned_out_twice.push(delivery.event);
            }
            let came = times.contains_key(delivery.event.to_string().as_str());
            if delivery.state == DeliveryState::Delivered && came {
                ended.insert(delivery.event);
            } else {
                findings.undelivered.push(delivery.id);
            }
        }
        let lost = self.acknowledged.iter().filter(|(_, event)| !ended.contains(event));
        findings.lost = lost.map(|(number, _)| *number).collect();
        findings.duplicates = times.values().map(|times| times - 1).sum();
        findings
    }
}

impl Receipt {
    fn of(request: &Received) -> Self {
        let body: Option<serde_json::Value> = serde_json::from_slice(&request.body).ok();
        Self {
            event: request.id().to_owned(),
            delivery: request.header("icp-delivery").to_owned(),
            epoch: request.header("icp-epoch").to_owned(),
            number: body.and_then(|body| body["number"].as_u64()),
        }
    }
}

async fn events(store: &dyn Store, org: &OrgId) -> BTreeSet<EventId> {
    let mut events = BTreeSet::new();
    let mut page = PageQuery { after: None, limit: PAGE };
    loop {
        let query = EventQuery { page, ..EventQuery::default() };
        let found = store.events(org, &query).await.unwrap();
        page.after = found.items.last().map(|event| event.id);
        events.extend(found.items.iter().map(|event| event.id));
        if !found.more {
            return events;
        }
    }
}

async fn deliveries(store: &dyn Store, org: &OrgId) -> Vec<Delivery> {
    let mut deliveries = Vec::new();
    let mut page = PageQuery { after: None, limit: PAGE };
    loop {
        let query = DeliveryQuery { page, ..DeliveryQuery::default() };
        let found = store.deliveries(org, &query).await.unwrap();
        page.after = found.items.last().map(|delivery| delivery.id);
        deliveries.extend(found.items);
        if !found.more {
            return deliveries;
        }
    }
}
