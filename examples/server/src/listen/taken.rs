//! Streams whose other side has to take what is written to them.

use std::io::{Error, ErrorKind, IoSlice, Result};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

use super::held::Work;

/// A stream that fails where nothing of what is written to it was taken for a while.
pub(super) struct Taken<I> {
    inner: I,
    patience: Duration,
    work: Work,
    /// Made when a write, or a flush, has to wait.
    writes: Option<Pin<Box<Sleep>>>,
    flushes: Option<Pin<Box<Sleep>>>,
}

impl<I> Taken<I> {
    /// Has `work` told of what was taken.
    pub(super) fn within(patience: Duration, inner: I, work: Work) -> Self {
        Self { inner, patience, work, writes: None, flushes: None }
    }

    fn written(
        &mut self,
        polled: Poll<Result<usize>>,
        context: &mut Context<'_>,
    ) -> Poll<Result<usize>> {
        if polled.is_ready() {
            self.work.wrote();
        }
        judged(polled, &mut self.writes, self.patience, context)
    }
}

/// What was polled, or a failure where that has been waited for too long.
fn judged<T>(
    polled: Poll<Result<T>>,
    waits: &mut Option<Pin<Box<Sleep>>>,
    patience: Duration,
    context: &mut Context<'_>,
) -> Poll<Result<T>> {
    if polled.is_ready() {
        *waits = None;
        return polled;
    }
    let waits = waits.get_or_insert_with(|| Box::pin(sleep(patience)));
    ready!(waits.as_mut().poll(context));
    Poll::Ready(Err(Error::new(ErrorKind::TimedOut, "nothing is read")))
}

impl<I: AsyncRead + Unpin> AsyncRead for Taken<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<Result<()>> {
        Pin::new(&mut self.inner).poll_read(context, into)
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Taken<I> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<Result<usize>> {
        let this = &mut *self;
        let polled = Pin::new(&mut this.inner).poll_write(context, bytes);
        this.written(polled, context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        let this = &mut *self;
        let polled = Pin::new(&mut this.inner).poll_write_vectored(context, bytes);
        this.written(polled, context)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        let this = &mut *self;
        let polled = Pin::new(&mut this.inner).poll_flush(context);
        judged(polled, &mut this.flushes, this.patience, context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        let this = &mut *self;
        let polled = Pin::new(&mut this.inner).poll_shutdown(context);
        judged(polled, &mut this.flushes, this.patience, context)
    }
}
