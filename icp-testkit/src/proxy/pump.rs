//! One way of a connection.

use std::sync::atomic::Ordering;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::fault::Verdict;
use super::link::{Broken, Link};
use super::{Fault, Shared};

const STRETCH: usize = 16 * 1_024;
/// How many stretches may be under way; then the sender waits, as for a full buffer.
const UNDER_WAY: usize = 64;

/// Which way bytes go.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Way {
    /// From the client to the server.
    Request,
    /// From the server to the client.
    Answer,
}

/// Something on its way.
struct Parcel {
    load: Load,
    /// When it arrives; `None` where it waits for another fault, or none.
    due: Option<Instant>,
    /// The turn of the fault that holds it up.
    turn: u64,
}

enum Load {
    Bytes(Vec<u8>),
    Close,
    Reset,
}

/// Passes on what comes from `from` until it ends.
pub(super) async fn run(
    shared: &Shared,
    link: &Link,
    way: Way,
    from: ReadHalf<'_>,
    to: WriteHalf<'_>,
) -> Result<(), Broken> {
    let (sender, receiver) = mpsc::channel(UNDER_WAY);
    let taken = take(shared, link, way, from, sender);
    let given = give(shared, link, way, receiver, to);
    tokio::try_join!(taken, given).map(|_| ())
}

async fn take(
    shared: &Shared,
    link: &Link,
    way: Way,
    mut from: ReadHalf<'_>,
    sender: mpsc::Sender<Parcel>,
) -> Result<(), Broken> {
    let mut buffer = vec![0; STRETCH];
    let mut last = Instant::now();
    let mut since = 0;
    for draw in 0.. {
        let read = from.read(&mut buffer).await.map_err(|_| Broken)?;
        let state = shared.state.borrow().clone();
        let now = Instant::now();
        let turn = state.turn;
        // What an earlier fault held up went on when that was over.
        if turn != since {
            (last, since) = (now, turn);
        }
        if read == 0 {
            let pause = state.fault.as_ref().map(Fault::close_after).unwrap_or_default();
            let held = matches!(state.fault, Some(Fault::Stall | Fault::BlackHole));
            if held || !pause.is_zero() {
                shared.apply();
            }
            let due = (!held).then_some(last.max(now + pause));
            let _ = sender.send(Parcel { load: Load::Close, due, turn }).await;
            return Ok(());
        }
        let bytes = &buffer[..read];
        let before = answered(link, way, read)?;
        let fault = state.fault.as_ref();
        let verdict = fault.map_or(Verdict::Pass, |fault| fault.judge(way, bytes, before, draw));
        if verdict != Verdict::Pass {
            shared.apply();
        }
        let mut passed = bytes;
        let mut due = Some(last.max(now));
        match verdict {
            Verdict::Pass => {}
            Verdict::Late(by) => {
                let from = if fault.is_some_and(Fault::is_narrow) { last.max(now) } else { now };
                due = Some(last.max(from + by));
            }
            Verdict::Hold => due = None,
            Verdict::Swallow => {
                link.holed.store(true, Ordering::Release);
                continue;
            }
            Verdict::CutAt(0) => return Err(Broken),
            Verdict::CutAt(at) => passed = &bytes[..at],
            Verdict::PassAndCut => link.cut.store(true, Ordering::Release),
        }
        last = due.unwrap_or(last);
        let parcel = Parcel { load: Load::Bytes(passed.to_vec()), due, turn };
        if sender.send(parcel).await.is_err() {
            return Err(Broken);
        }
        if matches!(verdict, Verdict::CutAt(_)) {
            let _ = sender.send(Parcel { load: Load::Reset, due, turn }).await;
            return Ok(());
        }
    }
    Ok(())
}

/// Counts the bytes of an answer; answers how many came before. A request begins a new one.
fn answered(link: &Link, way: Way, read: usize) -> Result<usize, Broken> {
    match way {
        Way::Request => {
            link.answered.store(0, Ordering::Release);
            Ok(0)
        }
        Way::Answer if link.cut.load(Ordering::Acquire) => Err(Broken),
        Way::Answer => Ok(link.answered.fetch_add(read, Ordering::AcqRel)),
    }
}

async fn give(
    shared: &Shared,
    link: &Link,
    way: Way,
    mut receiver: mpsc::Receiver<Parcel>,
    mut to: WriteHalf<'_>,
) -> Result<(), Broken> {
    let mut state = shared.state.subscribe();
    let mut closed = false;
    loop {
        let half = matches!(state.borrow_and_update().fault, Some(Fault::HalfClose));
        if half && way == Way::Answer && !closed {
            shared.apply();
            link.holed.store(true, Ordering::Release);
            let _ = to.shutdown().await;
            closed = true;
        }
        let parcel = tokio::select! {
            parcel = receiver.recv() => parcel,
            changed = state.changed() => match changed {
                Ok(()) => continue,
                Err(_) => return Err(Broken),
            },
        };
        let Some(parcel) = parcel else { return Ok(()) };
        arrival(shared, &parcel).await;
        match parcel.load {
            Load::Bytes(_) if closed => {}
            Load::Bytes(bytes) => to.write_all(&bytes).await.map_err(|_| Broken)?,
            Load::Close => {
                let _ = to.shutdown().await;
                return Ok(());
            }
            Load::Reset => return Err(Broken),
        }
    }
}

/// Waits until a parcel arrives: when it is due, or when what holds it up is over.
async fn arrival(shared: &Shared, parcel: &Parcel) {
    let mut state = shared.state.subscribe();
    let over = async {
        let _ = state.wait_for(|state| state.turn != parcel.turn).await;
    };
    let due = async {
        match parcel.due {
            Some(due) => tokio::time::sleep_until(due).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        biased;
        () = due => {}
        () = over => {}
    }
}
