//! Waiting for the end of deliveries.

use std::collections::BTreeMap;
use std::time::Duration;

use icp::delivery::DeliveryQuery;
use icp::id::{DeliveryId, EventId, OrgId};
use serde::Deserialize;

use super::{Call, route};
use crate::host::{Desk, Ended};
use crate::settings::{milliseconds, read};
use crate::status::{Failure, Status};

/// How long the first pause between two looks is, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(250));

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Input {
    org: String,
    #[serde(default)]
    event: Option<EventId>,
    #[serde(default)]
    delivery: Option<DeliveryId>,
    #[serde(default = "timeout")]
    timeout_ms: u64,
}

fn timeout() -> u64 {
    30_000
}

/// What is waited for.
enum Of {
    Event(EventId),
    Delivery(DeliveryId),
}

/// The store is asked again and again: deliveries of other nodes end without a word to this one.
pub(super) async fn run(desk: &Desk, call: &Call) -> Ended {
    let input: Input = read(&call.body)?;
    let of = match (input.event, input.delivery) {
        (Some(event), None) => Of::Event(event),
        (None, Some(delivery)) => Of::Delivery(delivery),
        _ => return Err(Failure::at("/event", "name one of `event` and `delivery`")),
    };
    let org = OrgId::new(&input.org)?;
    let most = milliseconds("/timeout_ms", input.timeout_ms)?;
    let called_off = async {
        match &call.waiting {
            Some(token) => token.cancelled().await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        ended = tokio::time::timeout(most, ended(desk, &org, &of)) => match ended {
            Ok(ended) => ended?,
            Err(_) => {
                let message = "not every delivery ended in this time; they go on";
                return Err(Failure::new(Status::Timeout, message));
            }
        },
        () = called_off => {
            return Err(Failure::new(Status::Cancelled, "the wait was called off"));
        }
    }
    shown(desk, &input.org, &of).await
}

async fn ended(desk: &Desk, org: &OrgId, of: &Of) -> Result<(), Failure> {
    let mut pause = PAUSES.0;
    while !have_ended(desk, org, of).await? {
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSES.1);
    }
    Ok(())
}

async fn have_ended(desk: &Desk, org: &OrgId, of: &Of) -> Result<bool, Failure> {
    let event = match of {
        Of::Delivery(id) => return Ok(desk.engine.delivery(org, *id).await?.state.is_final()),
        Of::Event(id) => *id,
    };
    desk.engine.event(org, event).await?;
    let mut query = DeliveryQuery { event: Some(event), ..DeliveryQuery::default() };
    loop {
        let page = desk.engine.deliveries(org, &query).await?;
        if !page.items.iter().all(|delivery| delivery.state.is_final()) {
            return Ok(false);
        }
        match page.items.last() {
            Some(last) if page.more => query.page.after = Some(last.id),
            _ => return Ok(true),
        }
    }
}

/// The deliveries as the HTTP API shows them.
async fn shown(desk: &Desk, org: &str, of: &Of) -> Ended {
    match of {
        Of::Event(id) => {
            let parts = ["organizations", org, "deliveries"];
            let mut ask = route::Ask::new(http::Method::GET, &parts, Vec::new());
            let query = [("event", id.to_string()), ("limit", "100".to_owned())];
            let query = query.map(|(name, value)| (name.to_owned(), value.into()));
            ask.query(&BTreeMap::from(query))?;
            route::ask(desk, ask).await
        }
        Of::Delivery(id) => {
            let id = id.to_string();
            let parts = ["organizations", org, "deliveries", &id];
            let one =
                route::ask(desk, route::Ask::new(http::Method::GET, &parts, Vec::new())).await?;
            Ok([b"{\"items\":[", one.as_slice(), b"]}"].concat())
        }
    }
}
