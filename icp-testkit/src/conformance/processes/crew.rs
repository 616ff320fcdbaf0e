//! Processes of this program, told by their environment what to do, and what they say.

use std::future::Future;
use std::io::{Read, Write};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use icp_core::store::Store;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::unix::pipe;
use tokio::process::{Child, Command};

use super::{BEHAVIOURS, PROCESSES, world};

/// Far more than the slowest store needs.
const PATIENCE: Duration = Duration::from_secs(120);

const BEHAVIOUR: &str = "ICP_PROCESSES_BEHAVIOUR";
const ADDRESS: &str = "ICP_PROCESSES_ADDRESS";
const NUMBER: &str = "ICP_PROCESSES_NUMBER";

/// One of the processes.
#[derive(Clone, Debug)]
pub(super) struct Hand {
    behaviour: String,
    address: String,
    /// From 0 on.
    pub(super) number: usize,
}

/// What one process said, in words; in the order in which all of them spoke.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Told {
    pub(super) by: usize,
    pub(super) words: Vec<String>,
}

impl Hand {
    pub(super) fn of_this_process() -> Option<Self> {
        let number = variable(NUMBER)?.parse().unwrap();
        let (behaviour, address) = (variable(BEHAVIOUR).unwrap(), variable(ADDRESS).unwrap());
        Some(Self { behaviour, address, number })
    }

    /// Says it to the process that started this one. A line is written as a whole, and what all say
    /// goes into one pipe, so that who said something before another did comes before it.
    pub(super) fn say(&self, words: impl std::fmt::Display) {
        let line = format!("{} {words}\n", self.number);
        std::io::stdout().lock().write_all(line.as_bytes()).unwrap();
    }
}

impl Told {
    fn of(line: &str) -> Self {
        let mut words = line.split(' ').map(str::to_owned);
        let by = words.next().unwrap().parse().unwrap();
        Self { by, words: words.collect() }
    }

    /// The words, where there are so many of them.
    pub(super) fn words<const N: usize>(&self) -> [&str; N] {
        let words: Vec<_> = self.words.iter().map(String::as_str).collect();
        words.try_into().unwrap_or_else(|words| panic!("{words:?} are not {N} words"))
    }
}

#[expect(clippy::disallowed_methods, reason = "the processes of a test are told by environment")]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Does what this process was told to do, once all are there.
pub(super) async fn play<O, Opened>(hand: Hand, open: &O)
where
    O: Fn(String) -> Opened,
    Opened: Future<Output = Arc<dyn Store>>,
{
    let behaviour = BEHAVIOURS.iter().find(|known| known.name == hand.behaviour).unwrap();
    let world = world(open(hand.address.clone()).await, hand.number);
    hand.say("ready");
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
    (behaviour.act)(&world, hand).await;
}

/// Lets the processes work on a database, all from the same moment; answers what they said.
pub(super) async fn work(behaviour: &str, address: &str) -> Vec<Told> {
    let working = async {
        let (reader, writer) = std::io::pipe().unwrap();
        let mut children: Vec<Child> = (0..PROCESSES)
            .map(|number| {
                Command::new(std::env::current_exe().unwrap())
                    .env(BEHAVIOUR, behaviour)
                    .env(ADDRESS, address)
                    .env(NUMBER, number.to_string())
                    .stdin(Stdio::piped())
                    .stdout(writer.try_clone().unwrap())
                    .kill_on_drop(true)
                    .spawn()
                    .unwrap()
            })
            .collect();
        drop(writer);
        let reader = pipe::Receiver::from_owned_fd(reader.into()).unwrap();
        let mut lines = BufReader::new(reader).lines();
        for _ in 0..PROCESSES {
            let line = lines.next_line().await.unwrap();
            let ready = line.unwrap_or_else(|| panic!("a process ended before it was ready"));
            assert_eq!(Told::of(&ready).words::<1>(), ["ready"]);
        }
        for child in &mut children {
            drop(child.stdin.take());
        }
        let mut told = Vec::new();
        while let Some(line) = lines.next_line().await.unwrap() {
            told.push(Told::of(&line));
        }
        for mut child in children {
            let status = child.wait().await.unwrap();
            assert!(status.success(), "a process ended with {status}");
        }
        told
    };
    let told = tokio::time::timeout(PATIENCE, working).await;
    told.unwrap_or_else(|_| panic!("the processes are not over after {PATIENCE:?}"))
}
