use std::thread;

use super::*;
use crate::admission::Admission;
use crate::item::HEADER;

/// The records in `bytes`.
fn records(bytes: &[u8]) -> Vec<(u64, u32, Vec<u8>)> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let number = |from: usize| u32::from_ne_bytes(bytes[from..from + 4].try_into().unwrap());
        let tag = u64::from_ne_bytes(bytes[at..at + 8].try_into().unwrap());
        let len = number(at + 16) as usize;
        found.push((tag, number(at + 8), bytes[at + HEADER..at + HEADER + len].to_vec()));
        at += record_len(len);
    }
    found
}

fn drained(queue: &Queue, cap: usize) -> Vec<(u64, u32, Vec<u8>)> {
    let mut buffer = vec![0; cap];
    match queue.drain(&mut buffer, Some(Duration::ZERO)) {
        Drained::Bytes(bytes) => records(&buffer[..bytes]),
        other => panic!("{other:?}"),
    }
}

#[cfg(target_os = "linux")]
fn readable(queue: &Queue) -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let signal = i32::try_from(queue.fd()).unwrap();
    // The queue outlives the look at its descriptor, which is duplicated by its number.
    let path = format!("/proc/self/fd/{signal}");
    assert!(std::fs::read_link(path).unwrap().to_string_lossy().contains("eventfd"));
    let fd = queue.signal.as_ref().unwrap().borrowed();
    let mut fds = [PollFd::new(fd, PollFlags::IN)];
    poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).unwrap() == 1
}

#[test]
#[cfg(target_os = "linux")]
fn the_descriptor_is_readable_while_something_is_in() {
    let queue = Queue::new().unwrap();
    assert!(!readable(&queue));
    queue.request(1, b"a".to_vec());
    queue.request(2, b"b".to_vec());
    assert!(readable(&queue));
    assert_eq!(drained(&queue, record_len(1)).len(), 1);
    assert!(readable(&queue), "one is left");
    assert_eq!(drained(&queue, 1_024).len(), 1);
    assert!(!readable(&queue));
    queue.wake();
    assert!(readable(&queue));
    assert!(drained(&queue, 64).is_empty());
    assert!(!readable(&queue));
}

#[test]
fn a_record_that_does_not_fit_says_how_long_it_is_and_stays() {
    let queue = Queue::new().unwrap();
    queue.request(7, vec![1; 100]);
    let mut small = [0; 64];
    assert_eq!(queue.drain(&mut small, None), Drained::TooSmall(128));
    assert_eq!(drained(&queue, 128)[0].2, vec![1; 100]);
}

#[test]
fn a_request_that_nobody_saw_is_taken_back_silently() {
    let queue = Queue::new().unwrap();
    queue.request(1, Vec::new());
    queue.call_off(1);
    assert!(drained(&queue, 64).is_empty());
    queue.request(2, Vec::new());
    assert_eq!(drained(&queue, 64).len(), 1);
    queue.call_off(2);
    assert_eq!(drained(&queue, 64)[0].1, Kind::RequestCancelled.number());
}

#[test]
fn events_and_lines_are_bounded_and_what_is_lost_is_counted() {
    let queue = Queue::new().unwrap();
    for _ in 0..RING + 5 {
        queue.event(3, b"e".to_vec());
    }
    queue.log(b"l".to_vec());
    let found = drained(&queue, 1 << 20);
    assert_eq!(found.len(), RING + 2);
    assert_eq!(found[RING], (3, Kind::Lagged.number(), br#"{"dropped":5}"#.to_vec()));
    assert_eq!(found[RING + 1].1, Kind::Log.number());
    queue.event(3, b"e".to_vec());
    assert_eq!(drained(&queue, 64).len(), 1, "there is room again");
}

#[test]
fn nothing_is_lost_or_doubled_between_threads() {
    const EACH: u64 = if cfg!(miri) { 20 } else { 2_000 };
    let queue = Queue::new().unwrap();
    let mut seen: Vec<u64> = thread::scope(|scope| {
        let queue = &queue;
        let drainers: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(move || {
                    let mut seen = Vec::new();
                    let mut buffer = vec![0; 512];
                    loop {
                        match queue.drain(&mut buffer, None) {
                            Drained::Bytes(bytes) => {
                                seen.extend(records(&buffer[..bytes]).iter().map(|r| r.0));
                            }
                            Drained::Ended => return seen,
                            Drained::TooSmall(_) => panic!("every record fits"),
                        }
                    }
                })
            })
            .collect();
        let admission = Admission::new(usize::MAX);
        let producers: Vec<_> = (0..8)
            .map(|of| {
                let admission = Arc::clone(&admission);
                scope.spawn(move || {
                    for number in 0..EACH {
                        let permit = admission.take().unwrap();
                        queue.complete(of * EACH + number, Ok(vec![0; 9]), permit);
                    }
                })
            })
            .collect();
        producers.into_iter().for_each(|producer| producer.join().unwrap());
        queue.end();
        drainers.into_iter().flat_map(|drainer| drainer.join().unwrap()).collect()
    });
    seen.sort_unstable();
    assert_eq!(seen, (0..8 * EACH).collect::<Vec<_>>());
}

#[test]
fn after_its_end_it_is_drained_to_the_last_record() {
    let queue = Queue::new().unwrap();
    queue.request(1, Vec::new());
    queue.end();
    assert_eq!(drained(&queue, 64).len(), 1);
    assert_eq!(queue.drain(&mut [0; 64], None), Drained::Ended);
    queue.free();
    assert!(!queue.request(2, Vec::new()));
}
