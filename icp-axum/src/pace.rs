//! How fast the bodies of requests have to arrive, so that nobody holds a request open with a byte
//! now and then.

use std::error::Error as StdError;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use http_body::{Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until};

/// How long a body may take in any case.
const GRACE: Duration = Duration::from_secs(30);

/// How much longer for each byte that arrived: a second for 16 KiB.
const PER_BYTE: Duration = Duration::from_nanos(1_000_000_000 / (16 << 10));

/// A body that fails with [`TooSlow`] where it falls behind.
pub(crate) struct Paced {
    inner: Body,
    /// Made when the body is waited for the first time: most are there with their request.
    deadline: Option<(Instant, Pin<Box<Sleep>>)>,
    arrived: u64,
}

impl Paced {
    pub(crate) fn new(inner: Body) -> Self {
        Self { inner, deadline: None, arrived: 0 }
    }

    fn waits(&mut self, context: &mut Context<'_>) -> Poll<TooSlow> {
        let (begun, sleep) = self.deadline.get_or_insert_with(|| {
            let begun = Instant::now();
            (begun, Box::pin(sleep_until(begun + GRACE)))
        });
        let earned = PER_BYTE * u32::try_from(self.arrived).unwrap_or(u32::MAX);
        let deadline = *begun + GRACE + earned;
        if sleep.deadline() != deadline {
            sleep.as_mut().reset(deadline);
        }
        sleep.as_mut().poll(context).map(|()| TooSlow)
    }
}

impl HttpBody for Paced {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let frame = match Pin::new(&mut self.inner).poll_frame(context) {
            Poll::Ready(frame) => frame,
            Poll::Pending => {
                return self.waits(context).map(|slow| Some(Err(axum::Error::new(slow))));
            }
        };
        if let Some(Ok(frame)) = &frame {
            self.arrived += frame.data_ref().map_or(0, |data| data.len() as u64);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// The body arrives too slowly.
#[derive(Debug)]
pub(crate) struct TooSlow;

impl TooSlow {
    /// Whether this is why a body could not be read.
    pub(crate) fn is_behind(fault: &(dyn StdError + 'static)) -> bool {
        let mut next = Some(fault);
        while let Some(fault) = next {
            if fault.is::<Self>() {
                return true;
            }
            next = fault.source();
        }
        false
    }
}

impl fmt::Display for TooSlow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the body arrives too slowly")
    }
}

impl StdError for TooSlow {}

#[cfg(test)]
mod tests {
    use futures_util::stream;
    use http_body_util::BodyExt;

    use super::*;

    /// How long a body of `chunks` of `size` bytes is read, one each `gap`, and how much of it.
    async fn read(chunks: usize, size: usize, gap: Duration) -> (Duration, usize, bool) {
        let dribble = stream::unfold(0, move |sent| async move {
            tokio::time::sleep(gap).await;
            let chunk = Ok::<_, std::io::Error>(Bytes::from(vec![0; size]));
            (sent < chunks).then_some((chunk, sent + 1))
        });
        let mut body = Paced::new(Body::from_stream(dribble));
        let (begun, mut taken) = (Instant::now(), 0);
        loop {
            match body.frame().await {
                Some(Ok(frame)) => taken += frame.into_data().map_or(0, |data| data.len()),
                Some(Err(fault)) => return (begun.elapsed(), taken, TooSlow::is_behind(&fault)),
                None => return (begun.elapsed(), taken, false),
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_byte_a_second_is_not_waited_for_beyond_the_grace() {
        let (took, taken, slow) = read(1_000_000, 1, Duration::from_secs(1)).await;
        assert!(slow && taken >= 29);
        assert!(took < GRACE + Duration::from_secs(1), "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_large_body_may_take_as_long_as_it_goes_on() {
        let (took, taken, slow) = read(200, 32 << 10, Duration::from_secs(1)).await;
        assert!(!slow && took > GRACE * 5, "{took:?}");
        assert_eq!(taken, 200 * (32 << 10));
    }

    #[tokio::test(start_paused = true)]
    async fn what_stops_on_its_way_is_given_up() {
        let (took, taken, slow) = read(1_000, 1 << 20, Duration::from_secs(500)).await;
        assert!(slow && taken == 0);
        assert!(took < GRACE + Duration::from_secs(1), "{took:?}");
    }
}
