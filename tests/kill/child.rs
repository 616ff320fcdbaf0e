//! Processes of this test: this program, told by its environment what part to play.

use std::collections::BTreeMap;
use std::process::{ExitStatus, Stdio};

use icp::id::EventId;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::database::{self, Database};
use crate::point::{self, Point};
use crate::{PATIENCE, node, outbox, variable};

const DATABASE: &str = "ICP_KILL_DATABASE";
const PART: &str = "ICP_KILL_PART";
const FIRST: &str = "ICP_KILL_FIRST";
const POINT: &str = "ICP_KILL_POINT";

/// How far apart the numbers of two processes begin.
const NUMBERS: u64 = 1_000_000;

/// What a process does.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Act {
    /// Publishes and delivers.
    Work,
    /// Delivers only.
    Deliver,
    /// Writes events in transactions of its own.
    Host,
}

impl Act {
    const ALL: [(Self, &str); 3] =
        [(Self::Work, "work"), (Self::Deliver, "deliver"), (Self::Host, "host")];
}

/// What this process was told.
#[derive(Debug)]
pub(crate) struct Part {
    act: Act,
    url: String,
    first: u64,
    point: Option<Point>,
}

impl Part {
    pub(crate) fn of_this_process() -> Option<Self> {
        let name = variable(PART)?;
        let (act, _) = Act::ALL.into_iter().find(|(_, known)| *known == name).unwrap();
        let first = variable(FIRST).unwrap().parse().unwrap();
        let point = variable(POINT).map(|point| point.parse().unwrap());
        Some(Self { act, url: variable(DATABASE).unwrap(), first, point })
    }

    pub(crate) async fn play(self) -> ! {
        if self.act == Act::Host {
            outbox::host(&self.url, self.first).await;
        }
        let mut store = database::open(&self.url).await;
        if let Some(point) = self.point {
            store = point::ending(store, point);
        }
        match self.act {
            Act::Work => node::work(store, self.first).await,
            Act::Deliver | Act::Host => node::deliver(store).await,
        }
    }
}

/// Another process.
#[derive(Debug)]
pub(crate) struct Other {
    child: Child,
    told: watch::Receiver<Told>,
    reader: JoinSet<()>,
}

/// What a process said so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Told {
    pub(crate) started: bool,
    pub(crate) acknowledged: BTreeMap<u64, EventId>,
    /// What it finished, gave back and left behind when it was told to stop.
    pub(crate) drained: Option<(u64, u64, u64)>,
}

impl Other {
    /// Starts a process; `life` tells it apart from those that ran on the same database before.
    pub(crate) fn start(act: Act, database: &Database, life: u64, point: Option<&Point>) -> Self {
        let (_, name) = Act::ALL.into_iter().find(|(known, _)| *known == act).unwrap();
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .env(PART, name)
            .env(DATABASE, &database.url)
            .env(FIRST, (life * NUMBERS).to_string())
            .stdout(Stdio::piped())
            .kill_on_drop(true);
        if let Some(point) = point {
            command.env(POINT, point.to_string());
        }
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let (sender, told) = watch::channel(Told::default());
        let mut reader = JoinSet::new();
        reader.spawn(async move {
            // The last line may be cut in the middle.
            while let Ok(Some(line)) = lines.next_line().await {
                sender.send_modify(|told| told.hear(&line));
            }
        });
        Self { child, told, reader }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    /// Stops it, and returns when all of its threads stand still.
    pub(crate) fn stop(&self) {
        self.signal(Signal::STOP);
        waitid(WaitId::Pid(self.pid()), WaitIdOptions::STOPPED).unwrap();
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id().unwrap()).unwrap()).unwrap()
    }

    /// Waits until it said what `fits`.
    pub(crate) async fn said(&mut self, fits: impl Fn(&Told) -> bool) {
        let said = tokio::time::timeout(PATIENCE, self.told.wait_for(|told| fits(told))).await;
        assert!(said.is_ok_and(|said| said.is_ok()), "the process did not say it");
    }

    /// Kills it as the kernel does.
    pub(crate) async fn kill(mut self) -> Told {
        self.child.start_kill().unwrap();
        self.end().await.1
    }

    /// Waits until it ends by itself.
    pub(crate) async fn end(mut self) -> (ExitStatus, Told) {
        let status = tokio::time::timeout(PATIENCE, self.child.wait()).await;
        let status = status.unwrap_or_else(|_| panic!("the process did not end")).unwrap();
        while self.reader.join_next().await.is_some() {}
        (status, self.told.borrow().clone())
    }
}

impl Told {
    fn hear(&mut self, line: &str) {
        let words: Vec<_> = line.split(' ').collect();
        match words[..] {
            ["started"] => self.started = true,
            ["acknowledged", number, id] => {
                if let (Ok(number), Ok(id)) = (number.parse(), id.parse()) {
                    self.acknowledged.insert(number, id);
                }
            }
            ["drained", finished, released, unsettled] => {
                let [finished, released, unsettled] =
                    [finished, released, unsettled].map(|count| count.parse().unwrap());
                self.drained = Some((finished, released, unsettled));
            }
            _ => {}
        }
    }
}
