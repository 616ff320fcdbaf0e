//! What is under way on a connection: requests, and answers that wait to be read.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::response::Response;
use bytes::Bytes;
use http::Version;
use http_body::{Frame, SizeHint};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};

/// What is under way on one connection. Cloning shares it.
#[derive(Clone)]
pub(super) struct Work(watch::Sender<Busy>);

#[derive(Default)]
struct Busy {
    /// How many requests there are whose answers are not written or given up.
    requests: usize,
    /// The number of the next one.
    next: u64,
    /// Since when parts of answers were handed over and the next was not asked for; with HTTP/2, where
    /// one answer may wait for its reader while the connection goes on.
    handed: BTreeMap<u64, Instant>,
}

impl Work {
    pub(super) fn none() -> Self {
        Self(watch::Sender::default())
    }

    /// A request of this version of HTTP that is under way.
    pub(super) fn begin(&self, version: Version) -> Held {
        let mut number = 0;
        self.0.send_modify(|busy| {
            number = busy.next;
            busy.next += 1;
            busy.requests += 1;
        });
        Held { work: self.clone(), number, is_one_of_many: version == Version::HTTP_2 }
    }

    /// Something was written, be it what is left of an answer that is given away.
    pub(super) fn wrote(&self) {
        self.0.send_if_modified(|busy| busy.requests == 0);
    }

    /// Waits until nothing was under way, or written, for `idle`.
    pub(super) async fn quiet(&self, idle: Duration) {
        let mut busy = self.0.subscribe();
        // The sender lives as long as this.
        while busy.wait_for(|busy| busy.requests == 0).await.is_ok() {
            // Not for a count: a request may be over before anybody looks.
            if timeout(idle, busy.changed()).await.is_err() {
                return;
            }
        }
    }

    /// Waits until some answer was not read on for `unread`; told after twice that at most.
    pub(super) async fn unread(&self, unread: Duration) {
        loop {
            let oldest = self.0.borrow().handed.values().min().copied();
            match oldest.map(|since| since + unread) {
                Some(end) if end <= Instant::now() => return,
                Some(end) => sleep_until(end).await,
                None => sleep(unread).await,
            }
        }
    }

    /// Nobody is to be woken: who looks for old ones looks now and then.
    fn change(&self, change: impl FnOnce(&mut Busy)) {
        self.0.send_if_modified(|busy| {
            change(busy);
            false
        });
    }
}

/// A request that is under way, until its answer is written or given up.
pub(super) struct Held {
    work: Work,
    number: u64,
    /// Whether the connection may have others at the same time.
    is_one_of_many: bool,
}

impl Held {
    pub(super) fn with(self, response: Response) -> Response {
        response.map(|body| Body::new(HeldBody { body, rest: Bytes::new(), held: self }))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.work.0.send_modify(|busy| {
            busy.requests -= 1;
            busy.handed.remove(&self.number);
        });
    }
}

/// The most bytes of a part, so that a long answer is seen to go on while it is read slowly.
const PART: usize = 16 << 10;

/// The body of an answer, as long as it is being written.
struct HeldBody {
    body: Body,
    /// What is left of a part that was too large.
    rest: Bytes,
    held: Held,
}

impl HeldBody {
    fn next(&mut self, context: &mut Context<'_>) -> Poll<Option<Part>> {
        if self.rest.is_empty() {
            let frame = match ready!(Pin::new(&mut self.body).poll_frame(context)) {
                Some(Ok(frame)) => frame,
                ended => return Poll::Ready(ended),
            };
            match frame.into_data() {
                Ok(data) if data.len() > PART => self.rest = data,
                Ok(data) => return Poll::Ready(Some(Ok(Frame::data(data)))),
                Err(other) => return Poll::Ready(Some(Ok(other))),
            }
        }
        let end = self.rest.len().min(PART);
        Poll::Ready(Some(Ok(Frame::data(self.rest.split_to(end)))))
    }
}

type Part = Result<Frame<Bytes>, axum::Error>;

impl HttpBody for HeldBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Part>> {
        if !self.held.is_one_of_many {
            return Pin::new(&mut self.body).poll_frame(context);
        }
        let polled = self.next(context);
        let number = self.held.number;
        self.held.work.change(|busy| {
            if matches!(polled, Poll::Ready(Some(Ok(_)))) {
                busy.handed.insert(number, Instant::now());
            } else {
                busy.handed.remove(&number);
            }
        });
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (mut hint, rest) = (self.body.size_hint(), self.rest.len() as u64);
        if let Some(upper) = hint.upper() {
            hint.set_upper(upper + rest);
        }
        hint.set_lower(hint.lower() + rest);
        hint
    }
}
