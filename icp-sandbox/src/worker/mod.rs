//! The worker: a process that is confined, then runs plans one after the other.

mod confine;

use std::io::{self, Stdin};
use std::os::fd::AsFd;
use std::process::exit;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread;

use rustix::event::{PollFd, PollFlags, poll};

pub use confine::confine;

use crate::call::{Answer, Ask};
use crate::frame;
use crate::host::{Host, Question, Reply};
use crate::runner::Runner;

/// The one argument that makes a process a worker.
pub(crate) const ARGUMENT: &str = "--icp-sandbox-worker";

/// The stack of the thread that engines run on, in bytes.
pub(crate) const STACK: usize = 8 << 20;

/// Turns this process into a worker if it was started as one, and then never returns; does
/// nothing otherwise.
///
/// To be the first line of `main` in a host that lets the sandbox start its own executable:
/// before threads, runtimes, configuration and secrets.
pub fn run_if_asked() {
    if std::env::args().nth(1).is_some_and(|argument| argument == ARGUMENT) {
        exit(run());
    }
}

fn run() -> i32 {
    let builder = thread::Builder::new().name("engine".to_owned()).stack_size(STACK);
    let (confined, wait) = channel::<()>();
    let (there, begun) = channel::<()>();
    let started = builder.spawn(move || {
        // The filter wants every thread there, past what threads and engines ask the system for
        // once; and nothing is read before it is there.
        let mut runner = Runner::new(Arc::new(Line));
        runner.warm_up();
        if there.send(()).is_ok() && wait.recv().is_ok() {
            exit(i32::from(serve(&mut runner).is_err()));
        }
    });
    let Ok(thread) = started else { return 71 };
    if begun.recv().is_err() || confine().is_err() || confined.send(()).is_err() {
        return 71;
    }
    until_orphaned(&io::stdin());
    drop(thread);
    0
}

/// Waits until nobody holds the other end of the input any more. The engine reads it; this is
/// for the time in which it does not. A signal on the parent's death would be of the thread that
/// started the worker, which may end long before its process.
fn until_orphaned(input: &Stdin) {
    loop {
        let mut watched = [PollFd::from_borrowed_fd(input.as_fd(), PollFlags::empty())];
        match poll(&mut watched, None) {
            Ok(_) if watched.iter().any(|fd| fd.revents().intersects(gone())) => return,
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(_) => return,
        }
    }
}

fn gone() -> PollFlags {
    PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL
}

/// Answers what comes in until there is nothing more.
fn serve(runner: &mut Runner) -> io::Result<()> {
    while let Some(asked) = frame::read(&mut io::stdin())? {
        if let Some((answer, body)) = runner.take(asked.head()?, asked.body) {
            frame::write(&mut io::stdout(), &answer, &body)?;
            runner.rest();
        }
    }
    Ok(())
}

/// The host at the other end of the pipes.
#[derive(Debug)]
struct Line;

impl Host for Line {
    fn begins(&self, number: u64, program: usize) {
        // Who does not listen any more ends this process.
        drop(frame::write(&mut io::stdout(), &Answer::Begins { number, program }, &[]));
    }

    fn ask(&self, number: u64, question: Question, body: Vec<u8>) -> io::Result<(Reply, Vec<u8>)> {
        frame::write(&mut io::stdout(), &Answer::Asks { number, question }, &body)?;
        let answered = frame::read(&mut io::stdin())?.ok_or(io::ErrorKind::UnexpectedEof)?;
        match answered.head()? {
            Ask::Reply { number: of, reply } if of == number => Ok((reply, answered.body)),
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }
}
