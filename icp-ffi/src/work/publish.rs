//! Publishing.

use icp::Code;
use icp::event::NewEvent;
use serde::Serialize;
use serde_json::value::RawValue;

use super::{event, json, route};
use crate::host::{Desk, Ended};
use crate::settings::read;
use crate::status::{Failure, Status};

/// The most events of one call.
const MOST: usize = 1_000;

/// One event of several that was refused.
#[derive(Serialize)]
struct Refused {
    error: Failure,
}

pub(super) async fn one(desk: &Desk, body: Vec<u8>) -> Ended {
    match event::quick(&body) {
        Some(event) => json(&desk.engine.publish(event).await?),
        None => Box::pin(by_route(desk, &body)).await,
    }
}

pub(super) async fn many(desk: &Desk, body: &[u8]) -> Ended {
    let events: Vec<&RawValue> = serde_json::from_slice(body).map_err(|_| {
        let found: Result<Vec<serde_json::Value>, _> = read(body);
        found.err().unwrap_or_else(|| Failure::at("", "should be a list of events"))
    })?;
    if events.len() > MOST {
        let message = format!("{} events are given; send at most {MOST}", events.len());
        return Err(icp::Error::new(Code::BatchTooLarge, message).into());
    }
    let quick: Vec<_> = events.iter().map(|raw| event::quick(raw.get().as_bytes())).collect();
    let good: Vec<NewEvent> = quick.iter().flatten().cloned().collect();
    let mut published = desk.engine.publish_batch(good).await.into_iter();
    let mut answers = Vec::with_capacity(events.len());
    for (raw, quick) in events.iter().zip(&quick) {
        let answer = match quick {
            Some(_) => match published.next() {
                Some(answer) => answer.map_err(Failure::from).and_then(|answer| json(&answer)),
                None => Err(Failure::new(Status::Internal, "the event got no answer")),
            },
            None => Box::pin(by_route(desk, raw.get().as_bytes())).await,
        };
        answers.push(match answer {
            Ok(answer) => answer,
            Err(error) => json(&Refused { error })?,
        });
    }
    Ok(listed(&answers))
}

/// The documents as one list.
fn listed(answers: &[Vec<u8>]) -> Vec<u8> {
    let mut list = vec![b'['];
    list.extend(answers.join(&b','));
    list.push(b']');
    list
}

async fn by_route(desk: &Desk, body: &[u8]) -> Ended {
    let (org, rest) = event::parted(body)?;
    let ask = route::Ask::post(&["organizations", &org, "events"], rest);
    route::ask(desk, ask).await
}
