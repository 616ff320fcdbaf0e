//! Programs in the host's own process: for hosts that write all of them themselves.

use std::io;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use async_trait::async_trait;
use bytes::Bytes;
use icp_core::error::{Code, Error, Result};
use icp_core::id::OrgId;
use icp_core::transform::{Limits, Plan, Report, TransformContext, TransformError, Transformer};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;

use crate::call::{Answer, Ask, Scene, done, nonsense};
use crate::host::{self, Host};
use crate::parts;
use crate::payload;
use crate::runner::{Answered, Runner};
use crate::service::{Replied, Service};
use crate::worker::STACK;

/// Runs programs on one thread of this process.
///
/// For tests, and for hosts that trust every program: one that crashes takes the process along,
/// and one that never returns holds up all others for good. Deadlines are kept only where an
/// engine looks at them, JavaScript's local time is the host's, and organizations wait for one
/// another.
#[derive(Debug)]
pub struct InProcess {
    limits: Limits,
    engine: Mutex<Sender<Question>>,
}

#[derive(Debug)]
struct Question {
    plan: String,
    ask: Ask,
    body: Vec<u8>,
    service: UnboundedSender<Asked>,
    reply: oneshot::Sender<Option<Answered>>,
}

/// What a program asks while it runs, and where its answer goes.
#[derive(Debug)]
struct Asked {
    question: host::Question,
    body: Vec<u8>,
    reply: Sender<Replied>,
}

/// The task that waits for the call under way.
#[derive(Debug, Default)]
struct Caller(Mutex<Option<UnboundedSender<Asked>>>);

impl Host for Caller {
    fn begins(&self, _: u64, _: usize) {}

    fn ask(&self, _: u64, question: host::Question, body: Vec<u8>) -> io::Result<Replied> {
        let (reply, replied) = channel();
        let caller = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let sent = caller.as_ref().map(|caller| caller.send(Asked { question, body, reply }));
        match sent {
            Some(Ok(())) => replied.recv().map_err(|_| io::ErrorKind::BrokenPipe.into()),
            _ => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }
}

impl InProcess {
    /// Starts the thread, which ends when this is dropped, and says so in the log: the choice is
    /// worth to be noticed.
    ///
    /// # Errors
    ///
    /// [`Code::ConfigInvalid`] for limits beyond their maxima, [`Code::Unsupported`] where no
    /// thread can be started.
    pub fn start(limits: Limits) -> Result<Self> {
        limits.validate()?;
        let (engine, questions) = channel();
        let of = limits.clone();
        let started: io::Result<_> = thread::Builder::new()
            .name("icp-programs".to_owned())
            .stack_size(STACK)
            .spawn(move || serve(&of, &questions));
        if let Err(error) = started {
            let message = "the thread for programs cannot be started";
            return Err(Error::new(Code::Unsupported, message).caused_by(error));
        }
        tracing::warn!("programs of organizations run in this process, without a sandbox");
        Ok(Self { limits, engine: Mutex::new(engine) })
    }

    async fn ask(
        &self,
        plan: &Plan,
        ask: Ask,
        body: Vec<u8>,
        mut service: Option<Service<'_>>,
    ) -> Result<Answered, TransformError> {
        let (reply, mut answered) = oneshot::channel();
        let (calls, mut called) = unbounded_channel();
        let question = Question { plan: plan.text().to_owned(), ask, body, service: calls, reply };
        let sent = match self.engine.lock() {
            Ok(engine) => engine.send(question).is_ok(),
            Err(_) => false,
        };
        let gone = || TransformError::new("crashed", "the thread for programs is gone");
        if !sent {
            return Err(gone());
        }
        loop {
            tokio::select! {
                biased;
                Some(asked) = called.recv() => {
                    let Some(service) = &mut service else { return Err(nonsense()) };
                    let replied = service.answer(asked.question, asked.body).await;
                    // The thread waits for it.
                    let _ = asked.reply.send(replied);
                }
                answered = &mut answered => return answered.ok().flatten().ok_or_else(gone),
            }
        }
    }
}

fn serve(limits: &Limits, questions: &Receiver<Question>) {
    let caller = Arc::new(Caller::default());
    let mut runner = Runner::new(Arc::clone(&caller) as Arc<dyn Host>);
    runner.take(Ask::Limits(limits.clone()), Vec::new());
    let mut held = String::new();
    while let Ok(Question { plan, ask, body, service, reply }) = questions.recv() {
        if plan != held {
            held.clone_from(&plan);
            runner.take(Ask::Plan { slot: 0 }, plan.into_bytes());
        }
        *caller.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(service);
        // Who asked may have stopped waiting.
        let _ = reply.send(runner.take(ask, body));
        runner.rest();
        *caller.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

#[async_trait]
impl Transformer for InProcess {
    async fn check(&self, plan: &Plan, _: &OrgId) -> Result<(), Vec<TransformError>> {
        parts::admit(plan)?;
        let asked = self.ask(plan, Ask::Check { number: 0, slot: 0 }, Vec::new(), None).await;
        let (answer, _) = asked.map_err(|error| vec![error])?;
        let Answer::Checked { failures, .. } = answer else { return Err(vec![nonsense()]) };
        let received = failures.into_iter().map(|failure| failure.received(&self.limits));
        let found: Vec<_> = received.collect();
        if found.is_empty() { Ok(()) } else { Err(found) }
    }

    async fn run(
        &self,
        plan: &Plan,
        input: Bytes,
        cx: &TransformContext<'_>,
    ) -> Result<Report, TransformError> {
        parts::run(self, plan, input, cx).await
    }
}

#[async_trait]
impl parts::Programs for InProcess {
    async fn run_programs(
        &self,
        plan: &Plan,
        input: Bytes,
        cx: &TransformContext<'_>,
    ) -> Result<Report, TransformError> {
        payload::admit_size(&input, &self.limits)?;
        let ask = Ask::Run { number: 0, slot: 0, scene: Scene::of(cx) };
        let service = Service::new(plan, cx, &self.limits);
        match self.ask(plan, ask, input.into(), Some(service)).await? {
            (Answer::Done { dropped, notes, .. }, body) => {
                done(plan, dropped, notes, body, &self.limits)
            }
            (Answer::Failed { failure, .. }, _) => Err(failure.received(&self.limits)),
            _ => Err(nonsense()),
        }
    }
}
