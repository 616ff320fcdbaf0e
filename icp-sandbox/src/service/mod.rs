//! The host's side of what programs ask while they run.

mod http;
mod lookup;

use icp_core::transform::{Limits, Plan, Program, TransformContext};

use self::http::Requests;
use crate::host::{Question, Refusal, Reply};

/// Answers the questions of one call, within the limits.
#[derive(Debug)]
pub(crate) struct Service<'a> {
    cx: &'a TransformContext<'a>,
    left: u32,
    most: u32,
    requests: Requests<'a>,
}

/// A reply, with the body it goes with.
pub(crate) type Replied = (Reply, Vec<u8>);

impl<'a> Service<'a> {
    pub(crate) fn new(plan: &Plan, cx: &'a TransformContext<'a>, limits: &'a Limits) -> Self {
        let sends = plan.programs().any(Program::sends);
        Self {
            cx,
            left: limits.host_calls,
            most: limits.host_calls,
            requests: Requests::new(cx.outlet.filter(|_| sends), limits),
        }
    }

    /// Whether the answer takes time that is not the worker's.
    pub(crate) fn waits(question: &Question) -> bool {
        matches!(question, Question::Http(_))
    }

    pub(crate) async fn answer(&mut self, question: Question, body: Vec<u8>) -> Replied {
        let Some(left) = self.left.checked_sub(1) else {
            let message = format!("the plan asked its host {} times; ask less often", self.most);
            return refused(Refusal::new("too_many_host_calls", message));
        };
        self.left = left;
        let answered = match question {
            Question::Lookup(question) => lookup::answer(self.cx.lookups, &question, &body),
            Question::Http(request) => self.requests.send(request, body).await,
        };
        answered.unwrap_or_else(refused)
    }
}

fn refused(refusal: Refusal) -> Replied {
    (Reply::Refused(refusal), Vec::new())
}
