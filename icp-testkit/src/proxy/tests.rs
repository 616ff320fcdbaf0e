use std::io::ErrorKind;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

use super::*;
use crate::receiver::PATIENCE;

/// A server that sends back what it gets, and a proxy in front of it.
struct Stage {
    proxy: Proxy,
    /// How many bytes the server got in all.
    got: Arc<AtomicU64>,
    _server: JoinSet<()>,
}

impl Stage {
    async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = Proxy::start(listener.local_addr().unwrap()).await;
        let got = Arc::new(AtomicU64::new(0));
        let mut server = JoinSet::new();
        let count = Arc::clone(&got);
        server.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                connections.spawn(echo(stream, Arc::clone(&count)));
            }
        });
        Self { proxy, got, _server: server }
    }

    async fn client(&self) -> TcpStream {
        TcpStream::connect(self.proxy.addr()).await.unwrap()
    }

    /// Waits until the server got so many bytes in all.
    async fn reached(&self, bytes: u64) {
        self.until(|| self.got.load(Ordering::Acquire) >= bytes).await;
    }

    async fn until(&self, fits: impl Fn() -> bool) {
        let fits = async {
            while !fits() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(PATIENCE, fits).await.unwrap();
    }
}

async fn echo(mut stream: TcpStream, got: Arc<AtomicU64>) {
    let mut buffer = vec![0; 64 * 1_024];
    while let Ok(read @ 1..) = stream.read(&mut buffer).await {
        got.fetch_add(read as u64, Ordering::AcqRel);
        if stream.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}

/// Sends `text` and reads it back.
async fn echoed(client: &mut TcpStream, text: &[u8]) -> std::io::Result<()> {
    client.write_all(text).await?;
    let mut back = vec![0; text.len()];
    client.read_exact(&mut back).await?;
    assert_eq!(back, text);
    Ok(())
}

async fn silent(client: &mut TcpStream) {
    let heard = tokio::time::timeout(Duration::from_millis(100), client.read_u8()).await;
    assert!(heard.is_err(), "{heard:?}");
}

fn is_reset(result: std::io::Result<impl std::fmt::Debug>) {
    let error = result.unwrap_err();
    let kinds = [ErrorKind::ConnectionReset, ErrorKind::BrokenPipe];
    assert!(kinds.contains(&error.kind()), "{error:?}");
}

#[tokio::test]
async fn everything_passes_where_no_fault_is_set() {
    let stage = Stage::new().await;
    let mut client = stage.client().await;
    let text: Vec<u8> = (0..1_000_000_u32).map(|n| n.to_le_bytes()[0]).collect();
    let (mut reader, mut writer) = client.split();
    let mut back = vec![0; text.len()];
    let (sent, read) = tokio::join!(writer.write_all(&text), reader.read_exact(&mut back));
    sent.and(read).unwrap();
    assert_eq!(back, text);
    writer.shutdown().await.unwrap();
    assert_eq!(reader.read(&mut back).await.unwrap(), 0);
    let counts = stage.proxy.counts();
    assert_eq!((counts.accepted, counts.applied), (1, 0));
}

#[tokio::test]
async fn latency_delays_both_ways_and_ends_with_the_fault() {
    let stage = Stage::new().await;
    let mut client = stage.client().await;
    let (delay, jitter) = (Duration::from_millis(60), Duration::from_millis(20));
    stage.proxy.set(Fault::Latency { delay, jitter, seed: 1 });
    let start = Instant::now();
    echoed(&mut client, b"late").await.unwrap();
    assert!(start.elapsed() >= delay * 2, "{:?}", start.elapsed());

    let delay = Duration::from_secs(3_600);
    stage.proxy.set(Fault::Latency { delay, jitter, seed: 1 });
    client.write_all(b"held").await.unwrap();
    silent(&mut client).await;
    stage.proxy.heal();
    let mut back = [0; 4];
    client.read_exact(&mut back).await.unwrap();
    assert_eq!(&back, b"held");
}

#[tokio::test]
async fn bandwidth_is_kept_to() {
    let stage = Stage::new().await;
    let mut client = stage.client().await;
    stage.proxy.set(Fault::Bandwidth(100_000));
    let start = Instant::now();
    echoed(&mut client, &[7; 10_000]).await.unwrap();
    // A tenth of a second there; the way back overlaps with it where the stretches are small.
    assert!(start.elapsed() >= Duration::from_millis(100), "{:?}", start.elapsed());
}

#[tokio::test]
async fn a_stalled_connection_goes_on_without_a_hole() {
    let stage = Stage::new().await;
    let mut client = stage.client().await;
    stage.proxy.set(Fault::Stall);
    client.write_all(b"wait").await.unwrap();
    silent(&mut client).await;
    assert_eq!(stage.got.load(Ordering::Acquire), 0);
    stage.proxy.heal();
    let mut back = [0; 4];
    client.read_exact(&mut back).await.unwrap();
    assert_eq!(&back, b"wait");
    echoed(&mut client, b"more").await.unwrap();
}

#[tokio::test]
async fn a_black_hole_swallows_and_its_end_resets_what_lost_bytes() {
    let stage = Stage::new().await;
    let (mut talker, mut listener) = (stage.client().await, stage.client().await);
    echoed(&mut listener, b"x").await.unwrap();
    stage.proxy.set(Fault::BlackHole);
    talker.write_all(b"lost").await.unwrap();
    let mut fresh = stage.client().await;
    fresh.write_all(b"lost").await.unwrap();
    silent(&mut talker).await;
    silent(&mut fresh).await;
    stage.proxy.heal();
    is_reset(talker.read_u8().await);
    is_reset(fresh.read_u8().await);
    echoed(&mut listener, b"still here").await.unwrap();
    assert_eq!(stage.got.load(Ordering::Acquire), 11);
}

#[tokio::test]
async fn a_reset_takes_the_open_and_the_new() {
    let stage = Stage::new().await;
    let mut open = stage.client().await;
    echoed(&mut open, b"x").await.unwrap();
    stage.proxy.set(Fault::Reset);
    is_reset(open.read_u8().await);
    let mut fresh = stage.client().await;
    is_reset(fresh.read_u8().await);
    stage.proxy.heal();
    echoed(&mut stage.client().await, b"again").await.unwrap();
    assert_eq!(stage.proxy.counts().applied, 2);
}

#[tokio::test]
async fn a_reset_on_request_keeps_it_from_the_server() {
    let stage = Stage::new().await;
    let mut client = stage.client().await;
    echoed(&mut client, b"x").await.unwrap();
    stage.proxy.set(Fault::ResetOnRequest);
    silent(&mut client).await;
    client.write_all(b"lost").await.unwrap();
    is_reset(client.read_u8().await);
    assert_eq!(stage.got.load(Ordering::Acquire), 1);
}

#[tokio::test]
async fn a_half_closed_connection_still_takes_requests() {
    let stage = Stage::new().await;
    let mut client = stage.client().await;
    echoed(&mut client, b"x").await.unwrap();
    stage.proxy.set(Fault::HalfClose);
    assert_eq!(client.read(&mut [0; 8]).await.unwrap(), 0);
    client.write_all(b"heard").await.unwrap();
    stage.reached(6).await;
    let mut fresh = stage.client().await;
    assert_eq!(fresh.read(&mut [0; 8]).await.unwrap(), 0);
}

#[tokio::test]
async fn an_answer_is_cut_in_the_middle() {
    let stage = Stage::new().await;
    let mut client = stage.client().await;
    stage.proxy.set(Fault::CutAnswer(6));
    echoed(&mut client, b"short").await.unwrap();
    echoed(&mut client, b"again").await.unwrap();
    client.write_all(b"a long one").await.unwrap();
    let mut part = [0; 6];
    client.read_exact(&mut part).await.unwrap();
    assert_eq!(&part, b"a long");
    is_reset(client.read_u8().await);
}

#[tokio::test]
async fn a_request_is_cut_before_it_arrives() {
    let stage = Stage::new().await;
    let mut client = stage.client().await;
    stage.proxy.set(Fault::CutBefore(Pattern::holding("commit")));
    echoed(&mut client, b"insert").await.unwrap();
    client.write_all(b"COMMIT").await.unwrap();
    is_reset(client.read_u8().await);
    assert_eq!(stage.got.load(Ordering::Acquire), 6);
}

#[tokio::test]
async fn a_request_is_cut_after_it_arrived() {
    let stage = Stage::new().await;
    let (mut client, mut other) = (stage.client().await, stage.client().await);
    stage.proxy.set(Fault::CutAfter(Pattern::commit()));
    echoed(&mut client, b"insert").await.unwrap();
    client.write_all(b"Q\0\0\0\x0bCOMMIT\0").await.unwrap();
    is_reset(client.read_u8().await);
    assert_eq!(stage.got.load(Ordering::Acquire), 18);
    echoed(&mut other, b"not cut").await.unwrap();
    assert_eq!(stage.proxy.counts().applied, 1);
}

#[tokio::test]
async fn an_end_is_passed_on_late() {
    let stage = Stage::new().await;
    let mut client = stage.client().await;
    echoed(&mut client, b"x").await.unwrap();
    let pause = Duration::from_millis(50);
    stage.proxy.set(Fault::SlowClose(pause));
    let start = Instant::now();
    client.shutdown().await.unwrap();
    assert_eq!(client.read(&mut [0; 8]).await.unwrap(), 0);
    assert!(start.elapsed() >= pause * 2, "{:?}", start.elapsed());
}

#[tokio::test]
async fn connections_are_refused_and_open_ones_live_on() {
    let stage = Stage::new().await;
    let mut open = stage.client().await;
    echoed(&mut open, b"x").await.unwrap();
    stage.proxy.set(Fault::Refused);
    let refused = async {
        loop {
            let connected = TcpStream::connect(stage.proxy.addr()).await;
            if connected.is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused) {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, refused).await.unwrap();
    echoed(&mut open, b"lives").await.unwrap();
    stage.proxy.heal();
    let back = async {
        while TcpStream::connect(stage.proxy.addr()).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, back).await.unwrap();
    echoed(&mut stage.client().await, b"again").await.unwrap();
}

#[tokio::test]
async fn a_share_of_new_connections_is_lost() {
    let stage = Stage::new().await;
    stage.proxy.set(Fault::LoseConnections { percent: 50, seed: 3 });
    let mut clients = Vec::new();
    for _ in 0..40 {
        let mut client = stage.client().await;
        client.write_all(b"x").await.unwrap();
        clients.push(client);
    }
    let lost = || stage.proxy.counts().applied;
    stage.until(|| stage.got.load(Ordering::Acquire) + lost() == 40).await;
    assert!((8..=32).contains(&lost()), "{}", lost());
    stage.proxy.heal();
    let mut reset = 0;
    for mut client in clients {
        match client.read_u8().await {
            Ok(answer) => assert_eq!(answer, b'x'),
            failed => {
                is_reset(failed);
                reset += 1;
            }
        }
    }
    assert_eq!(reset, lost());
}

#[tokio::test]
async fn a_server_that_is_gone_resets() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = Proxy::start(listener.local_addr().unwrap()).await;
    drop(listener);
    let mut client = TcpStream::connect(proxy.addr()).await.unwrap();
    is_reset(client.read_u8().await);
}

#[tokio::test]
async fn what_comes_after_a_fault_is_not_late() {
    let stage = Stage::new().await;
    let mut client = stage.client().await;
    let (delay, jitter) = (Duration::from_secs(3_600), Duration::ZERO);
    stage.proxy.set(Fault::Latency { delay, jitter, seed: 1 });
    client.write_all(b"held").await.unwrap();
    let held = async {
        while stage.proxy.counts().applied == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, held).await.unwrap();
    stage.proxy.heal();
    client.read_exact(&mut [0; 4]).await.unwrap();
    let after = echoed(&mut client, b"after");
    tokio::time::timeout(PATIENCE, after).await.unwrap().unwrap();
}

#[tokio::test]
async fn an_address_is_led_through_the_proxy() {
    for (login, path) in [("", ""), ("u:p@", "/db?x=y"), ("u:p%40@", "?replicaSet=a")] {
        let (proxy, through) =
            Proxy::in_front_of(&format!("scheme://{login}127.0.0.1:9{path}")).await;
        assert_eq!(through, format!("scheme://{login}{}{path}", proxy.addr()));
        assert_eq!(proxy.shared.upstream, ([127, 0, 0, 1], 9).into());
    }
}
