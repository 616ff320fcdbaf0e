//! Subscriptions: what happens now, as EVENT items.

use std::sync::Arc;

use icp::Result;
use icp::id::OrgId;
use icp::live::{AttemptCursor, Live, LiveAttempts, LiveChanges, LiveEnd};
use icp::resource::Revision;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Call, nothing};
use crate::host::{Desk, Ended, Host};
use crate::queue::Queue;
use crate::settings::read;
use crate::status::{Failure, Status};
use crate::tokens::Token;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Subscribe {
    org: String,
    stream: Stream,
    /// The cursor of the last item that was seen; by default only what happens from now on.
    #[serde(default)]
    after: Option<String>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Stream {
    Attempts,
    Changes,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Unsubscribe {
    subscription: u64,
}

/// What is followed, from where.
struct Follow {
    desk: Arc<Desk>,
    org: OrgId,
    stream: Stream,
    after: Option<String>,
}

enum Open {
    Attempts(Box<LiveAttempts>),
    Changes(Box<LiveChanges>),
}

/// One item: its document, and the cursor behind it.
type Told = Live<(Value, String)>;

pub(super) async fn subscribe(host: &Host, call: &Call) -> Ended {
    let input: Subscribe = read(&call.body)?;
    let queue = Arc::clone(call.queue()?);
    let token = host.subscriptions.add(queue.id(), call.tag)?;
    let org = OrgId::new(&input.org)?;
    let follow = Follow { desk: host.desk()?, org, stream: input.stream, after: input.after };
    let open = follow.open().await?;
    let tag = call.tag;
    // It ends with the runtime, or when it is called off.
    tokio::runtime::Handle::current().spawn(run(follow, open, queue, tag, token));
    nothing()
}

pub(super) fn unsubscribe(host: &Host, call: &Call) -> Ended {
    let input: Unsubscribe = read(&call.body)?;
    if host.subscriptions.cancel(call.queue()?.id(), input.subscription) {
        return nothing();
    }
    let message = format!("this queue has no subscription {}", input.subscription);
    Err(Failure::new(Status::NotFound, message))
}

async fn run(mut follow: Follow, mut open: Open, queue: Arc<Queue>, tag: u64, token: Token) {
    loop {
        let told = tokio::select! {
            told = open.next() => told,
            () = token.cancelled() => return,
        };
        let document = match told {
            Some(Live::Item((item, cursor))) => {
                let document = json!({ "item": item, "cursor": cursor });
                follow.after = Some(cursor);
                document
            }
            Some(Live::Gap) => json!({ "gap": true }),
            // A stream that is only old, or was too slow to be read, goes on where it was.
            Some(Live::End(LiveEnd::Age | LiveEnd::Behind)) => match follow.open().await {
                Ok(again) => {
                    open = again;
                    continue;
                }
                Err(error) => json!({ "end": error.code().as_str() }),
            },
            Some(Live::End(why)) => json!({ "end": why }),
            Some(_) => continue,
            None => return,
        };
        let ended = document.get("end").is_some();
        queue.event(tag, document.to_string().into_bytes());
        if ended {
            return;
        }
    }
}

impl Follow {
    async fn open(&self) -> Result<Open> {
        let (engine, after) = (&self.desk.engine, self.after.as_deref());
        Ok(match self.stream {
            Stream::Attempts => {
                let after: Option<AttemptCursor> = after.map(str::parse).transpose()?;
                Open::Attempts(Box::new(engine.live_attempts(&self.org, after).await?))
            }
            Stream::Changes => {
                let number = after.map(str::parse).transpose().map_err(|_| {
                    let message = "is not the cursor of a change; send one as it came, or none";
                    icp::Error::new(icp::Code::CursorInvalid, message)
                })?;
                let after = number.map(Revision);
                Open::Changes(Box::new(engine.live_changes(&self.org, after).await?))
            }
        })
    }
}

impl Open {
    async fn next(&mut self) -> Option<Told> {
        match self {
            Self::Attempts(stream) => {
                let live = stream.next().await?;
                Some(told(live, |attempt| (json!(attempt), attempt.cursor().to_string())))
            }
            Self::Changes(stream) => {
                let live = stream.next().await?;
                Some(told(live, |change| (json!(change), change.revision.to_string())))
            }
        }
    }
}

fn told<T>(live: Live<T>, item: impl Fn(&T) -> (Value, String)) -> Told {
    match live {
        Live::Item(found) => Live::Item(item(&found)),
        Live::End(why) => Live::End(why),
        // `Gap`, and what this version does not know.
        _ => Live::Gap,
    }
}
