//! One question to a worker: its time is measured, and what its programs ask is answered.

use std::future::Future;
use std::io;
use std::time::Duration;

use icp_core::transform::Limits;
use tokio::time::{Instant, timeout};

use crate::call::{Answer, Ask, Failure, Notes};
use crate::frame;
use crate::host::Question;
use crate::pool::{Meter, Process, Seat};
use crate::service::{Replied, Service};

/// How much longer than its processor time a call may take by the clock on the wall.
const PATIENCE: u32 = 20;

/// The same of one whose worker yields, which has a third of a busy processor.
const PATIENCE_YIELDING: u32 = 3 * PATIENCE;

/// How soon a worker is looked at again at the least.
const BLINK: Duration = Duration::from_millis(1);

/// After how much processor time a worker yields to others: most programs take a hundredth of it.
const LONG: Duration = Duration::from_millis(20);

/// What a worker told in the end.
#[derive(Debug)]
pub(crate) enum Told {
    Checked(Vec<Failure>),
    Done {
        dropped: Option<String>,
        notes: Notes,
        body: Vec<u8>,
    },
    Failed {
        failure: Failure,
    },
    /// An answer to another question: the worker is not what it was.
    Stale,
}

/// One question, and how far its answer is.
#[derive(Debug)]
pub(crate) struct Exchange<'a> {
    pub(crate) limits: &'a Limits,
    pub(crate) number: u64,
    /// The program that is under way.
    pub(crate) at: usize,
}

impl Exchange<'_> {
    /// Sends `bytes`, and waits for the answer; none where it takes too long, an error where the
    /// worker is gone or makes no sense.
    pub(crate) async fn answer(
        &mut self,
        worker: &mut Process,
        seat: &mut Seat<'_>,
        mut service: Option<Service<'_>>,
        bytes: &[u8],
    ) -> Option<io::Result<Told>> {
        let mut patience = Patience::begin(worker, self.limits);
        let told = self.heard(&mut patience, worker, seat, &mut service, bytes).await;
        if patience.lasted {
            worker.has_yielded();
        }
        told
    }

    async fn heard(
        &mut self,
        patience: &mut Patience,
        worker: &mut Process,
        seat: &mut Seat<'_>,
        service: &mut Option<Service<'_>>,
        bytes: &[u8],
    ) -> Option<io::Result<Told>> {
        if let Err(error) = patience.wait(worker.say(bytes)).await? {
            return Some(Err(error));
        }
        loop {
            let heard = patience.wait(worker.hear(self.longest())).await?;
            let (question, body) = match heard.map(|(answer, body)| self.take(answer, body)) {
                Err(error) | Ok(Err(error)) => return Some(Err(error)),
                Ok(Ok(Heard::Told(told))) => return Some(Ok(told)),
                Ok(Ok(Heard::Begins)) => continue,
                Ok(Ok(Heard::Asks(question, body))) => (question, body),
            };
            let Some(service) = service else {
                return Some(Err(io::ErrorKind::InvalidData.into()));
            };
            let replied = answered(service, seat, question, body).await;
            let sent = match self.reply(replied) {
                Ok(bytes) => patience.wait(worker.say(&bytes)).await?,
                Err(error) => Err(error),
            };
            if let Err(error) = sent {
                return Some(Err(error));
            }
        }
    }

    fn take(&mut self, answer: Answer, body: Vec<u8>) -> io::Result<Heard> {
        let told = match answer {
            Answer::Begins { number, program } if number == self.number => {
                self.at = program;
                return Ok(Heard::Begins);
            }
            Answer::Asks { number, question } if number == self.number => {
                return Ok(Heard::Asks(question, body));
            }
            Answer::Checked { number, failures } if number == self.number => {
                Told::Checked(failures)
            }
            Answer::Done { number, dropped, notes } if number == self.number => {
                Told::Done { dropped, notes, body }
            }
            Answer::Failed { number, failure } if number == self.number => Told::Failed { failure },
            Answer::Ready => return Err(io::ErrorKind::InvalidData.into()),
            _ => Told::Stale,
        };
        Ok(Heard::Told(told))
    }

    fn reply(&self, (reply, body): Replied) -> io::Result<Vec<u8>> {
        frame::encode(&Ask::Reply { number: self.number, reply }, &body)
    }

    /// The longest body that a worker may send.
    fn longest(&self) -> usize {
        self.limits.output_bytes.max(self.limits.http_bytes) as usize
    }
}

enum Heard {
    Told(Told),
    Begins,
    Asks(Question, Vec<u8>),
}

/// The answer to a question. While others are waited for, the seat's place among those that
/// compute is free for another.
async fn answered(
    service: &mut Service<'_>,
    seat: &mut Seat<'_>,
    question: Question,
    body: Vec<u8>,
) -> Replied {
    match Service::waits(&question) {
        true => seat.aside(service.answer(question, body)).await,
        false => service.answer(question, body).await,
    }
}

/// How long a worker is still waited for.
#[derive(Debug)]
struct Patience {
    meter: Option<Meter>,
    before: Option<Duration>,
    hard: Duration,
    /// How long it was waited for so far; at least the processor time it can have taken.
    waited: Duration,
    /// Whether the call took long.
    lasted: bool,
    /// Whether the worker yields to others by now.
    yields: bool,
}

impl Patience {
    fn begin(worker: &Process, limits: &Limits) -> Self {
        let meter = worker.meter();
        let hard = Duration::from_millis(u64::from(limits.deadline_ms + limits.grace_ms));
        let before = meter.and_then(Meter::cpu);
        let yields = worker.yields();
        Self { meter, before, hard, waited: Duration::ZERO, lasted: false, yields }
    }

    /// What `awaited` gives; none where the worker takes too long for it.
    async fn wait<T>(&mut self, awaited: impl Future<Output = T>) -> Option<T> {
        tokio::pin!(awaited);
        loop {
            let left = self.left()?;
            let began = Instant::now();
            let given = timeout(left, &mut awaited).await;
            self.waited += began.elapsed();
            if let Ok(given) = given {
                return Some(given);
            }
        }
    }

    /// How long to wait before it is looked at again. On a busy machine the worker may not have
    /// had its time yet.
    fn left(&mut self) -> Option<Duration> {
        let next = if self.lasted { self.hard } else { LONG.min(self.hard) };
        if self.waited < next {
            return Some(next - self.waited);
        }
        let used = self.used();
        self.lasted |= used.is_some_and(|used| used >= LONG);
        if let (true, false, Some(meter)) = (self.lasted, self.yields, self.meter) {
            meter.lower();
            self.yields = true;
        }
        let soon = |of: Duration, used: Duration| of.saturating_sub(used).max(BLINK);
        if self.waited < self.hard {
            let hard = self.hard - self.waited;
            return Some(match used {
                Some(used) if !self.lasted => hard.min(soon(LONG, used)),
                _ => hard,
            });
        }
        let used = used?;
        let times = if self.yields { PATIENCE_YIELDING } else { PATIENCE };
        let patient = used < self.hard && self.waited < self.hard * times;
        patient.then(|| soon(self.hard, used))
    }

    /// The processor time the worker took for the call; none where the system does not tell.
    fn used(&self) -> Option<Duration> {
        let now = self.meter.and_then(Meter::cpu)?;
        Some(now.saturating_sub(self.before?))
    }
}
