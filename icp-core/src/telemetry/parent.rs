use std::fmt;
use std::sync::Arc;

use tracing::Span;

use crate::event::TraceContext;

type Set = dyn Fn(&Span, &TraceContext) + Send + Sync;

/// What joins the span of an attempt to the trace that its event was published in.
#[derive(Clone)]
pub(crate) struct SpanParent(Arc<Set>);

impl SpanParent {
    pub(crate) fn new(set: impl Fn(&Span, &TraceContext) + Send + Sync + 'static) -> Self {
        Self(Arc::new(set))
    }

    pub(crate) fn set(&self, span: &Span, context: &TraceContext) {
        (self.0)(span, context);
    }
}

impl fmt::Debug for SpanParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SpanParent")
    }
}
