//! How much may be under way at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::status::{Failure, Status};

/// Counts what is under way: from submit until its completion is drained, so that a host that
/// stops to drain cannot make the queue grow.
#[derive(Debug)]
pub(crate) struct Admission {
    most: usize,
    taken: AtomicUsize,
}

/// Room for one operation, free again when this is dropped.
#[derive(Debug)]
pub(crate) struct Permit(Arc<Admission>);

impl Admission {
    pub(crate) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most, taken: AtomicUsize::new(0) })
    }

    pub(crate) fn take(self: &Arc<Self>) -> Result<Permit, Failure> {
        let permit = Permit(Arc::clone(self));
        if self.taken.fetch_add(1, Ordering::AcqRel) < self.most {
            return Ok(permit);
        }
        let most = self.most;
        let message = format!("{most} operations are under way; drain the queue and try again");
        Err(Failure::new(Status::Busy, message))
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_beyond_is_busy_until_something_ends() {
        let admission = Admission::new(2);
        let first = admission.take().unwrap();
        let _second = admission.take().unwrap();
        assert_eq!(admission.take().unwrap_err().number(), Status::Busy.number());
        drop(first);
        assert!(admission.take().is_ok());
    }
}
