//! Events that arrive, at once or in the end.

use std::collections::BTreeSet;
use std::time::Duration;

use icp::delivery::{AttemptOutcome, DeliveryState};
use icp::event::NewEvent;
use icp::store::PageQuery;
use icp::time::Timestamp;
use icp_testkit::receiver::{Behaviour, Reaction};
use serde_json::json;
use standardwebhooks::Webhook;

use crate::stage::{Backend, SIGNING_SECRET, Stage};

crate::on_every_store! {
    an_event_arrives_signed,
    a_retry_keeps_the_id_and_gets_a_new_epoch,
    every_kind_of_failure_is_survived,
    what_is_exhausted_is_dead_and_can_be_replayed,
    a_redirect_is_not_followed,
    retry_after_holds_up_the_whole_lane,
    retry_after_may_be_a_date,
    an_event_is_not_delivered_before_it_is_due,
    an_event_whose_time_is_over_expires,
    events_of_one_key_keep_their_order,
}

async fn an_event_arrives_signed(backend: Backend) {
    let stage = Stage::new(backend).await;
    stage.integration("crm", json!({})).await;
    let body = json!({ "order": 17, "text": "grün" });
    let published = stage.publish("order.paid", &body).await;
    assert_eq!((published.deliveries, published.duplicate), (1, false));

    let received = stage.receiver.wait_for_to("/crm", 1).await.remove(0);
    Webhook::new(SIGNING_SECRET).unwrap().verify(&received.body, &received.headers).unwrap();
    assert_eq!(received.body, serde_json::to_vec(&body).unwrap());
    assert_eq!(received.id(), published.id.to_string());
    assert_eq!(received.header("content-type"), "application/json");
    assert_eq!(received.header("icp-event-type"), "order.paid");

    let delivery = stage.only(DeliveryState::Delivered).await;
    assert_eq!((delivery.tries, delivery.epoch, delivery.event), (1, 1, published.id));
    let attempts = stage.engine.attempts(&stage.org, delivery.id).await.unwrap();
    assert_eq!(attempts.len(), 1);
    assert_eq!(attempts[0].outcome, AttemptOutcome::Delivered);
    assert_eq!(attempts[0].status, Some(200));
    assert_eq!(received.header("icp-delivery"), delivery.id.to_string());
    stage.end().await;
}

async fn a_retry_keeps_the_id_and_gets_a_new_epoch(backend: Backend) {
    let stage = Stage::new(backend).await;
    stage.integration("crm", json!({})).await;
    stage.receiver.behave("/crm", Behaviour::script([Reaction::Status(500), Reaction::Reset]));
    let published = stage.publish("order.paid", &json!({})).await;

    let received = stage.receiver.wait_for_to("/crm", 3).await;
    let of = |name: &str| received.iter().map(|r| r.header(name).to_owned()).collect::<Vec<_>>();
    assert_eq!(of("webhook-id"), vec![published.id.to_string(); 3]);
    assert_eq!(of("icp-epoch"), ["1", "2", "3"]);
    assert_eq!(of("icp-attempt"), ["1", "2", "3"]);

    let delivery = stage.only(DeliveryState::Delivered).await;
    assert_eq!((delivery.tries, delivery.epoch), (3, 3));
    let attempts = stage.engine.attempts(&stage.org, delivery.id).await.unwrap();
    let statuses: Vec<_> = attempts.iter().map(|a| a.status).collect();
    assert_eq!(statuses, [Some(500), None, Some(200)]);
    assert_eq!(attempts[0].outcome, AttemptOutcome::Failed("status_500".into()));
    stage.end().await;
}

async fn every_kind_of_failure_is_survived(backend: Backend) {
    let stage = Stage::new(backend).await;
    let target = json!({
        "kind": "http", "url": stage.receiver.url("/crm"), "timeouts": { "total_ms": 150 },
    });
    let retry = json!({ "schedule": { "type": "list", "delays_seconds": [0] }, "max_attempts": 9 });
    let off = json!({ "enabled": false });
    let more = json!({ "target": target, "retry": retry, "breaker": off });
    stage.integration("crm", more).await;
    let failures = [
        Reaction::Status(500),
        Reaction::Status(429),
        Reaction::Status(503),
        Reaction::Hang,
        Reaction::Reset,
        Reaction::SlowBody(Duration::from_millis(20)),
    ];
    stage.receiver.behave("/crm", Behaviour::script(failures));
    stage.publish("order.paid", &json!({})).await;
    let delivery = stage.only(DeliveryState::Delivered).await;
    let attempts = stage.engine.attempts(&stage.org, delivery.id).await.unwrap();
    let classes: Vec<_> = attempts
        .iter()
        .map(|attempt| match &attempt.outcome {
            AttemptOutcome::Failed(class) => class.split('_').next().unwrap_or_default(),
            _ => "none",
        })
        .collect();
    assert_eq!(classes.len(), 7, "{attempts:?}");
    assert_eq!(classes[..3], ["status"; 3]);
    assert!(classes[3].starts_with("timeout"), "{attempts:?}");
    assert!(attempts[5].status.is_none() || attempts[5].status == Some(200), "{attempts:?}");
    stage.end().await;
}

async fn what_is_exhausted_is_dead_and_can_be_replayed(backend: Backend) {
    let stage = Stage::new(backend).await;
    stage.integration("crm", json!({})).await;
    stage.receiver.behave("/crm", Reaction::Status(500));
    let published = stage.publish("order.paid", &json!({})).await;
    let dead = stage.only(DeliveryState::Dead).await;
    assert_eq!((dead.tries, dead.reason.as_ref().unwrap().code.as_str()), (4, "exhausted"));
    let letters = stage.engine.dead_letters(&stage.org, &Default::default()).await.unwrap();
    assert_eq!(letters.items, std::slice::from_ref(&dead));

    stage.receiver.behave("/crm", Reaction::OK);
    let replay =
        stage.engine.replay(&stage.org, dead.id, &icp::resource::Actor::host()).await.unwrap();
    assert_eq!(replay.replay_of, Some(dead.id));
    assert_ne!(replay.id, dead.id);
    stage.reaches(replay.id, DeliveryState::Delivered).await;
    assert_eq!(stage.engine.delivery(&stage.org, dead.id).await.unwrap(), dead);
    let last = stage.receiver.requests("/crm").pop().unwrap();
    assert_eq!((last.id(), last.header("icp-epoch")), (published.id.to_string().as_str(), "1"));
    stage.end().await;
}

async fn a_redirect_is_not_followed(backend: Backend) {
    let stage = Stage::new(backend).await;
    stage.integration("crm", json!({})).await;
    stage.receiver.behave("/crm", Reaction::Redirect(stage.receiver.url("/elsewhere")));
    stage.publish("order.paid", &json!({})).await;
    let dead = stage.only(DeliveryState::Dead).await;
    assert_eq!(dead.reason.unwrap().code, "refused");
    let attempts = stage.engine.attempts(&stage.org, dead.id).await.unwrap();
    assert!(attempts.iter().all(|attempt| attempt.status == Some(307)), "{attempts:?}");
    assert_eq!(stage.receiver.seen().count("/elsewhere"), 0);
    stage.end().await;
}

async fn retry_after_may_be_a_date(backend: Backend) {
    let stage = Stage::new(backend).await;
    stage.integration("crm", json!({})).await;
    stage.receiver.behave("/crm", Behaviour::script([Reaction::RetryAfterDate(503, 2)]));
    stage.publish("order.paid", &json!({})).await;
    let received = stage.receiver.wait_for_to("/crm", 2).await;
    // A date has whole seconds, so up to one of the two is cut off.
    let waited = received[1].at.since(received[0].at);
    assert!(waited >= Duration::from_millis(950), "{waited:?}");
    let delivery = stage.only(DeliveryState::Delivered).await;
    assert_eq!((delivery.tries, delivery.throttles), (1, 1));
    stage.end().await;
}

async fn retry_after_holds_up_the_whole_lane(backend: Backend) {
    let stage = Stage::new(backend).await;
    stage.integration("crm", json!({ "max_in_flight": 1 })).await;
    stage.integration("other", json!({})).await;
    stage.receiver.behave("/crm", Behaviour::script([Reaction::RetryAfter(429, 1)]));
    stage.publish("order.paid", &json!(1)).await;
    let first = stage.receiver.wait_for_to("/crm", 1).await.remove(0);
    stage
        .until(async || {
            let lanes = stage.engine.lanes(&stage.org, PageQuery::default()).await.unwrap().items;
            lanes.into_iter().find_map(|lane| lane.blocked_until)
        })
        .await;
    for n in 2..5 {
        stage.publish("order.paid", &json!(n)).await;
    }
    stage.receiver.wait_for_to("/other", 4).await;
    let received = stage.receiver.wait_for_to("/crm", 5).await;
    let early: Vec<_> = received[1..]
        .iter()
        .filter(|later| later.at.since(first.at) < Duration::from_millis(950))
        .collect();
    assert!(early.is_empty(), "{early:?}");
    stage.settled(DeliveryState::Delivered, 8).await;
    let throttles: Vec<_> =
        stage.deliveries().await.iter().map(|d| (d.throttles, d.tries)).collect();
    assert_eq!(throttles.iter().filter(|t| **t == (1, 1)).count(), 1, "{throttles:?}");
    // The try that was given back shares its number with the next, and each can be shown.
    let deliveries = stage.deliveries().await;
    let given_back = deliveries.iter().find(|delivery| delivery.throttles == 1).unwrap();
    let shown = async |epoch| {
        let shown = stage.engine.attempt_curl(&stage.org, given_back.id, 1, epoch).await;
        shown.unwrap().command
    };
    for (asked, epoch) in [(Some(1), 1), (Some(2), 2), (None, 2)] {
        let command = shown(asked).await;
        assert!(command.contains(&format!("icp-epoch: {epoch}")), "{asked:?} {command}");
    }
    stage.end().await;
}

async fn an_event_is_not_delivered_before_it_is_due(backend: Backend) {
    let stage = Stage::new(backend).await;
    stage.integration("crm", json!({})).await;
    let due = stage.engine.now() + Duration::from_millis(250);
    let later = stage.event("order.paid", &json!("later")).due_at(due);
    let later = stage.engine.publish(later).await.unwrap();
    let now = stage.publish("order.paid", &json!("now")).await;
    let received = stage.receiver.wait_for_to("/crm", 2).await;
    let ids: Vec<_> = received.iter().map(|r| r.id().to_owned()).collect();
    assert_eq!(ids, [now.id.to_string(), later.id.to_string()]);
    assert!(received[1].at >= due, "{} < {due}", received[1].at);
    stage.settled(DeliveryState::Delivered, 2).await;
    stage.end().await;
}

async fn an_event_whose_time_is_over_expires(backend: Backend) {
    let stage = Stage::new(backend).await;
    let retry = json!({ "schedule": { "type": "list", "delays_seconds": [60] } });
    stage.integration("crm", json!({ "retry": retry })).await;
    stage.integration("paused", json!({ "events": ["order.paid"] })).await;
    stage.receiver.behave("/crm", Reaction::Status(500));
    stage.receiver.behave("/paused", Reaction::RetryAfter(503, 1));
    let short = |body: &str| -> NewEvent {
        let event = stage.event("order.paid", &json!(body));
        event.expires_after(Duration::from_millis(200))
    };
    stage.engine.publish(short("no retry fits")).await.unwrap();
    stage.settled(DeliveryState::Expired, 2).await;
    let never: Timestamp = stage.engine.now() - Duration::from_secs(1);
    let past = stage.event("order.paid", &json!(1)).expires_at(never);
    let refused = stage.engine.publish(past).await.unwrap_err();
    assert_eq!(refused.code(), icp::Code::EventInvalid);

    stage.change("crm", json!({ "enabled": false })).await;
    stage.change("paused", json!({ "enabled": false })).await;
    stage.receiver.behave("/held", Reaction::OK);
    stage.integration("held", json!({ "max_in_flight": 1 })).await;
    stage.receiver.behave("/held", Reaction::Hang);
    stage.publish("order.held", &json!("takes the room")).await;
    stage.receiver.wait_for_to("/held", 1).await;
    stage.engine.publish(short("waits for room in vain")).await.unwrap();
    stage.settled(DeliveryState::Expired, 3).await;
    stage.receiver.release("/held");
    stage.settled(DeliveryState::Delivered, 1).await;
    stage.end().await;
}

async fn events_of_one_key_keep_their_order(backend: Backend) {
    let stage = Stage::new(backend).await;
    stage.integration("crm", json!({ "ordering": "by_key" })).await;
    let failures = vec![Reaction::Status(500), Reaction::Reset];
    stage.receiver.behave("/crm", Behaviour::Share { seed: 5, percent: 25, failures });
    for n in 0..40 {
        let key = format!("order-{}", n % 4);
        let event = stage.event("order.changed", &json!({ "n": n })).ordering_key(key);
        stage.engine.publish(event).await.unwrap();
    }
    let ended = async || {
        let ended = stage.deliveries().await;
        (ended.iter().all(|d| d.state.is_final())).then_some(())
    };
    stage.until(ended).await;
    let seen = stage.receiver.seen();
    for lane in 0..4u64 {
        let mut last = None;
        let mut ids = BTreeSet::new();
        for request in seen.to("/crm") {
            let body: serde_json::Value = serde_json::from_slice(&request.body).unwrap();
            let n = body["n"].as_u64().unwrap();
            if n % 4 != lane {
                continue;
            }
            assert!(last.is_none_or(|last| last <= n), "{n} came after {last:?}");
            last = Some(n);
            ids.insert(request.id().to_owned());
        }
        assert_eq!(ids.len(), 10);
    }
    stage.end().await;
}
