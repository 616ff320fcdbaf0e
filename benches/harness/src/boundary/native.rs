//! The baseline: one thread outside the runtime hands events in as JSON and takes answers as JSON.

use std::io::BufRead;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use icp::Engine;
use icp::event::{JSON, NewEvent};
use icp::id::OrgId;
use icp::resource::{Actor, Draft};
use icp::store::MemoryStore;
use icp::store_sql::sqlite::{SqliteStore, Synchronous};
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;
use tokio::runtime::{Builder, Runtime};

use super::{IN_FLIGHT, Line, Turn};
use crate::{Result, usage};

/// As the library has it where nothing else is set.
const THREADS: usize = 2;

#[derive(Deserialize)]
struct Envelope<'a> {
    org: String,
    r#type: String,
    #[serde(borrow)]
    data: &'a RawValue,
}

type Answer = Result<Vec<u8>>;

/// Does what standard input asks for, as the hosts in other languages do.
pub(crate) fn serve() -> Result<()> {
    let mut lines = std::io::stdin().lock().lines();
    let event: Arc<str> = lines.next().ok_or("no event was given")??.into();
    let many: Arc<str> = format!("[{}]", vec![&*event; IN_FLIGHT].join(",")).into();
    for line in lines {
        let line: Line = line?.parse()?;
        let turn = match &*line.arm {
            "one" => Host::open(None)?.one_by_one(&event, line.count)?,
            "many" => Host::open(None)?.all(&many, line.count / IN_FLIGHT, 2, publish_many)?,
            "durable" => {
                let folder = tempfile::tempdir()?;
                let host = Host::open(Some(folder.path()))?;
                host.all(&event, line.count, IN_FLIGHT, publish)?
            }
            _ => Host::open(None)?.all(&event, line.count, IN_FLIGHT, publish)?,
        };
        turn.print();
    }
    Ok(())
}

struct Host {
    runtime: Runtime,
    engine: Engine,
    running: icp::engine::Running,
}

impl Host {
    fn open(folder: Option<&std::path::Path>) -> Result<Self> {
        let runtime = Builder::new_multi_thread().worker_threads(THREADS).enable_all().build()?;
        let (engine, running) = runtime.block_on(async {
            let engine = match folder {
                None => Engine::builder(MemoryStore::new()),
                Some(folder) => {
                    let builder = SqliteStore::builder(folder.join("icp.db"));
                    Engine::builder(builder.synchronous(Synchronous::Full).open().await?)
                }
            };
            let engine = engine.build()?;
            let running = engine.start().await?;
            let organization = Draft { spec: json!({}), ..Draft::default() };
            let (org, host) = (OrgId::new("acme")?, Actor::host());
            engine.resources().create(&org, "organization", organization, &host).await?;
            Result::Ok((engine, running))
        })?;
        Ok(Self { runtime, engine, running })
    }

    /// Hands in one and takes its answer, again and again.
    fn one_by_one(self, body: &Arc<str>, count: usize) -> Result<Turn> {
        let mut took = Vec::with_capacity(count);
        let (sender, answers) = channel();
        let began = (usage::now(), usage::cpu());
        for _ in 0..count {
            let began = usage::now();
            self.submit(body, &sender, publish);
            ended(&answers)?;
            took.push(usage::now().saturating_sub(began));
        }
        took.sort_unstable();
        let median = took.get(count / 2).copied().unwrap_or_default();
        Ok(self.closed(Turn::since(began, median)))
    }

    /// As many calls, so many of them at once.
    fn all<F>(
        self,
        body: &Arc<str>,
        calls: usize,
        at_once: usize,
        call: fn(Engine, Arc<str>) -> F,
    ) -> Result<Turn>
    where
        F: Future<Output = Answer> + Send + 'static,
    {
        let (sender, answers) = channel();
        let began = (usage::now(), usage::cpu());
        for number in 0..calls {
            if number >= at_once {
                ended(&answers)?;
            }
            self.submit(body, &sender, call);
        }
        for _ in 0..calls.min(at_once) {
            ended(&answers)?;
        }
        Ok(self.closed(Turn::since(began, Duration::ZERO)))
    }

    fn submit<F>(&self, body: &Arc<str>, done: &Sender<Answer>, call: fn(Engine, Arc<str>) -> F)
    where
        F: Future<Output = Answer> + Send + 'static,
    {
        let (called, done) = (call(self.engine.clone(), Arc::clone(body)), done.clone());
        self.runtime.spawn(async move {
            let _ = done.send(called.await);
        });
    }

    fn closed(self, turn: Turn) -> Turn {
        self.runtime.block_on(self.running.shutdown(Duration::from_secs(1)));
        turn
    }
}

fn ended(answers: &Receiver<Answer>) -> Result<()> {
    answers.recv()?.map(|_| ())
}

fn read(json: &str) -> Result<NewEvent> {
    let Envelope { org, r#type, data } = serde_json::from_str(json)?;
    Ok(NewEvent::raw(org, r#type, JSON, data.get().to_owned().into_bytes()))
}

async fn publish(engine: Engine, body: Arc<str>) -> Answer {
    Ok(serde_json::to_vec(&engine.publish(read(&body)?).await?)?)
}

async fn publish_many(engine: Engine, body: Arc<str>) -> Answer {
    let events: Vec<&RawValue> = serde_json::from_str(&body)?;
    let events = events.iter().map(|event| read(event.get())).collect::<Result<Vec<_>>>()?;
    let answers = engine.publish_batch(events).await;
    let answers = answers.into_iter().collect::<icp::Result<Vec<_>>>()?;
    Ok(serde_json::to_vec(&answers)?)
}
