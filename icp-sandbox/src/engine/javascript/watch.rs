//! Runtimes that are kept within a heap and a stack, and stopped at a deadline.

use std::cell::Cell;
use std::rc::Rc;

use icp_core::transform::{Limits, TransformError};
use rquickjs::context::Intrinsic;
use rquickjs::{Context, Runtime};

use crate::engine::Deadline;

/// From which heap on garbage is looked for. A call is too short to look often.
const GARBAGE: usize = 4 << 20;

/// What stops a runtime. Without a deadline nothing does.
#[derive(Debug)]
pub(super) struct Watch {
    pub(super) limits: Limits,
    deadline: Cell<Option<Deadline>>,
    interrupted: Cell<bool>,
}

/// A runtime with one context, and its watch.
pub(super) fn start<I: Intrinsic>(limits: &Limits) -> Result<(Context, Rc<Watch>), TransformError> {
    let unusable = |_| unusable();
    let runtime = Runtime::new().map_err(unusable)?;
    runtime.set_max_stack_size(limits.stack_bytes as usize);
    runtime.set_gc_threshold(GARBAGE);
    let watch = Rc::new(Watch {
        limits: limits.clone(),
        deadline: Cell::new(None),
        interrupted: Cell::new(false),
    });
    let asked = Rc::clone(&watch);
    runtime.set_interrupt_handler(Some(Box::new(move || {
        let late = asked.is_late();
        if late {
            asked.interrupt();
        }
        late
    })));
    let context = Context::custom::<I>(&runtime).map_err(unusable)?;
    // Only now: a context that is made on a full heap takes the process along.
    runtime.set_memory_limit(limits.heap_bytes as usize);
    Ok((context, watch))
}

/// The failure of a runtime that cannot be made.
pub(super) fn unusable() -> TransformError {
    TransformError::new("memory", "the engine could not be started")
}

impl Watch {
    /// Stops the runtime at `deadline` from now on.
    pub(super) fn until(&self, deadline: Deadline) {
        self.deadline.set(Some(deadline));
    }

    /// Whether the deadline is over.
    pub(super) fn is_late(&self) -> bool {
        self.deadline.get().is_some_and(Deadline::is_over)
    }

    /// Notes that the program was stopped.
    pub(super) fn interrupt(&self) {
        self.interrupted.set(true);
    }

    /// Whether the program was stopped: then what it raised tells nothing.
    pub(super) fn has_interrupted(&self) -> bool {
        self.interrupted.get()
    }

    /// The failure of what took longer.
    pub(super) fn exceeded(&self) -> TransformError {
        self.deadline.get().unwrap_or_else(|| Deadline::begin(&self.limits)).exceeded()
    }

    /// The failure of what held more.
    pub(super) fn out_of_memory(&self) -> TransformError {
        let bytes = self.limits.heap_bytes;
        let message =
            format!("the program needs a heap of more than {bytes} bytes; hold less at once");
        TransformError::new("memory", message)
    }
}
