//! What each operation does. They only translate: the engine and its HTTP API hold the policy.

mod control;
pub(crate) mod event;
mod follow;
mod handlers;
mod outbox;
mod publish;
mod resource;
mod route;
mod wait;

use std::sync::Arc;

use icp::Code;
use serde::Serialize;

use crate::host::{Ended, Host};
use crate::op::Op;
use crate::queue::Queue;
use crate::status::{Failure, Status};
use crate::tokens::Token;

/// What an operation was asked with.
pub(crate) struct Call {
    pub(crate) tag: u64,
    /// Where its end goes; none where a thread waits for it.
    pub(crate) queue: Option<Arc<Queue>>,
    pub(crate) body: Vec<u8>,
    /// Of operations that wait: that it is called off.
    pub(crate) waiting: Option<Token>,
}

impl Call {
    /// The queue, for operations after which more follows than their end.
    fn queue(&self) -> Result<&Arc<Queue>, Failure> {
        self.queue.as_ref().ok_or_else(|| {
            let message = "more follows than its end; submit it with a queue";
            Failure::new(Status::Invalid, message)
        })
    }
}

/// Does an operation. A task has room for the largest thing that it may do, and is moved when it is
/// made: publishing, which hosts do most, is not to pay for what they do now and then.
pub(crate) async fn run(host: &Arc<Host>, op: Op, call: Call) -> Ended {
    match op {
        Op::Publish => publish::one(&*host.desk()?, call.body).await,
        Op::PublishMany => publish::many(&*host.desk()?, &call.body).await,
        _ => Box::pin(run_any(host, op, call)).await,
    }
}

async fn run_any(host: &Arc<Host>, op: Op, call: Call) -> Ended {
    match op {
        Op::Start => control::start(host, &call.body).await,
        Op::Shutdown => control::shutdown(host, &call.body).await,
        Op::Health => control::health(&*host.desk()?, &call.body).await,
        Op::Metrics => control::metrics(&*host.desk()?, &call.body),
        Op::Publish => publish::one(&*host.desk()?, call.body).await,
        Op::PublishMany => publish::many(&*host.desk()?, &call.body).await,
        Op::OutboxInsert => outbox::insert(host, &call.body).await,
        Op::DeliveryWait => wait::run(&*host.desk()?, &call).await,
        Op::HandlerRegister => handlers::register(host, &call),
        Op::HandlerRemove => handlers::remove(host, &call),
        Op::Subscribe => follow::subscribe(host, &call).await,
        Op::Unsubscribe => follow::unsubscribe(host, &call),
        Op::ResourcePut => resource::put(&*host.desk()?, &call.body).await,
        Op::ResourceGet => resource::get(&*host.desk()?, &call.body).await,
        Op::ResourceList => resource::list(&*host.desk()?, &call.body).await,
        Op::ResourceDelete => resource::delete(&*host.desk()?, &call.body).await,
        Op::Api => route::any(&*host.desk()?, &call.body).await,
        Op::EventGet
        | Op::EventList
        | Op::EventExplain
        | Op::DeliveryGet
        | Op::DeliveryList
        | Op::DeliveryRetry
        | Op::DeliveryAttempts
        | Op::DeadLetterList
        | Op::DeadLetterReplay
        | Op::DryRunTransform
        | Op::DryRunFilter
        | Op::IntegrationTest => route::fixed(&*host.desk()?, op, &call.body).await,
    }
}

/// The JSON form of an answer.
pub(crate) fn json(answer: &impl Serialize) -> Ended {
    serde_json::to_vec(answer)
        .map_err(|_| icp::Error::new(Code::Internal, "the answer has no json form").into())
}

/// The answer of operations that have nothing to tell.
fn nothing() -> Ended {
    Ok(b"null".to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Settings;

    #[test]
    fn a_task_that_publishes_is_small() {
        let settings = Settings::read(br#"{"store":"memory:"}"#).unwrap();
        let host = Arc::new(Host::new(settings));
        let call = Call { tag: 1, queue: None, body: Vec::new(), waiting: None };
        let size = size_of_val(&run(&host, Op::Publish, call));
        assert!(size <= 4_096, "{size}");
    }
}
