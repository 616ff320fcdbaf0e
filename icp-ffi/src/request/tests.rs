use super::*;
use crate::queue::Drained;

const LIMIT: Duration = Duration::from_secs(5);

fn handler(queue: &Arc<Queue>, room: usize) -> Handler {
    let kind = HandlerKind::Transformer;
    Handler::new(kind, "enrich".to_owned(), Arc::downgrade(queue), room, LIMIT)
}

async fn ask(requests: &Requests) -> Result<Vec<u8>, Unanswered> {
    requests.ask(HandlerKind::Transformer, "enrich", |_| b"?".to_vec()).await
}

/// The kinds and tags that come out of the queue.
fn drained(queue: &Queue) -> Vec<(u32, u64)> {
    let mut buffer = vec![0; 4_096];
    let Drained::Bytes(bytes) = queue.drain(&mut buffer, Some(Duration::ZERO)) else {
        return Vec::new();
    };
    buffer[..bytes]
        .chunks(32)
        .filter(|record| record.len() >= 24)
        .map(|r| {
            let kind = u32::from_ne_bytes(r[8..12].try_into().unwrap_or_default());
            (kind, u64::from_ne_bytes(r[..8].try_into().unwrap_or_default()))
        })
        .collect()
}

#[tokio::test]
async fn an_answer_reaches_who_asked_and_a_second_one_nobody() {
    let (requests, queue) = (Requests::default(), Queue::new().unwrap());
    requests.register(handler(&queue, 1)).unwrap();
    let answer = async {
        while drained(&queue).is_empty() {
            tokio::task::yield_now().await;
        }
        assert!(requests.respond(1, 0, b"!").is_ok());
        let again = requests.respond(1, 0, b"!").unwrap_err();
        assert_eq!(again.number(), Status::UnknownRequest.number());
    };
    let (answered, ()) = tokio::join!(ask(&requests), answer);
    assert_eq!(answered, Ok(b"!".to_vec()));
    assert!(drained(&queue).is_empty(), "nothing is called off");
}

#[tokio::test(start_paused = true)]
async fn without_an_answer_it_is_called_off() {
    let (requests, queue) = (Requests::default(), Queue::new().unwrap());
    assert_eq!(ask(&requests).await, Err(Unanswered::NoHandler));
    requests.register(handler(&queue, 1)).unwrap();
    assert_eq!(requests.register(handler(&queue, 1)).unwrap_err().number(), 3);
    let seen = async {
        tokio::time::sleep(LIMIT / 2).await;
        drained(&queue)
    };
    let (answered, seen) = tokio::join!(ask(&requests), seen);
    assert_eq!(answered, Err(Unanswered::Timeout(LIMIT)));
    assert_eq!(seen, [(2, 1)]);
    assert_eq!(drained(&queue), [(3, 1)], "the host may stop");
    assert!(requests.respond(1, 0, b"late").is_err());
}

#[tokio::test(start_paused = true)]
async fn one_more_than_there_is_room_for_waits() {
    let (requests, queue) = (Requests::default(), Queue::new().unwrap());
    requests.register(handler(&queue, 1)).unwrap();
    let answer = async {
        for id in 1..=2 {
            while drained(&queue) != [(2, id)] {
                tokio::task::yield_now().await;
            }
            assert!(drained(&queue).is_empty(), "the other one waits");
            requests.respond(id, 0, b"!").unwrap();
        }
    };
    let (first, second, ()) = tokio::join!(ask(&requests), ask(&requests), answer);
    assert!(first.is_ok() && second.is_ok());
}

#[tokio::test]
async fn a_handler_that_is_removed_or_not_drained_is_gone() {
    let (requests, queue) = (Requests::default(), Queue::new().unwrap());
    requests.register(handler(&queue, 1)).unwrap();
    let remove = async { requests.remove(HandlerKind::Transformer, "enrich").unwrap() };
    let (answered, ()) = tokio::join!(ask(&requests), remove);
    assert_eq!(answered, Err(Unanswered::Gone));
    assert_eq!(requests.remove(HandlerKind::Transformer, "enrich").unwrap_err().number(), 2);
    requests.register(handler(&queue, 1)).unwrap();
    queue.free();
    assert_eq!(ask(&requests).await, Err(Unanswered::Gone));
}

#[test]
fn the_words_of_a_failure_are_read_and_shortened() {
    assert_eq!(words(br#"{"message":"no quota","type":"X"}"#), "no quota");
    assert_eq!(words(b"plain"), "plain");
    assert_eq!(words(b""), "the handler failed");
    assert_eq!(words("é".repeat(2_000).as_bytes()).len(), 1_024);
}
