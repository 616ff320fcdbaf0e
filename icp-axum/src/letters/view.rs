use axum::http::StatusCode;
use icp_core::delivery::Delivery;
use icp_core::id::DeliveryId;
use icp_core::letter::{
    Abandonment, Category, IntegrationLetters, Letter, LetterGroups, LetterStatus, Note,
};
use icp_core::time::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

use crate::deliveries::DeliveryView;
use crate::problem::Problem;

/// A dead letter as the API shows it: its delivery, and what is known of it.
#[derive(Debug, JsonSchema, Serialize)]
pub(super) struct LetterView {
    #[serde(flatten)]
    delivery: DeliveryView,
    /// What went wrong last, as in `status_500`.
    class: String,
    /// What kind of error that is.
    category: Category,
    /// Where the letter stands.
    status: LetterStatus,
    /// When the next automatic round makes a new delivery of it.
    retry_at: Option<Timestamp>,
    /// The newest delivery that repeats it.
    successor: Option<DeliveryId>,
    /// Who gave it up, and why.
    abandonment: Option<Abandonment>,
    /// What people noted, oldest first.
    notes: Vec<Note>,
}

impl From<Letter> for LetterView {
    fn from(letter: Letter) -> Self {
        Self {
            delivery: letter.delivery.into(),
            class: letter.class,
            category: letter.category,
            status: letter.status,
            retry_at: letter.retry_at,
            successor: letter.successor,
            abandonment: letter.abandonment,
            notes: letter.notes,
        }
    }
}

/// Dead letters by integration, ordered by id.
#[derive(Debug, JsonSchema, Serialize)]
pub(super) struct Summary {
    integrations: Vec<IntegrationLetters>,
    /// Whether there are older dead letters that were not counted.
    more: bool,
}

impl From<LetterGroups> for Summary {
    fn from(groups: LetterGroups) -> Self {
        Self { integrations: groups.by_integration(), more: groups.more }
    }
}

/// What became of each dead letter, in order.
#[derive(Debug, JsonSchema, Serialize)]
pub(super) struct Abandonments {
    results: Vec<AbandonItem>,
}

/// What became of one dead letter: `letter` where it is given up, else `problem`.
#[derive(Debug, JsonSchema, Serialize)]
pub(super) struct AbandonItem {
    /// Which.
    id: DeliveryId,
    /// The letter.
    #[serde(skip_serializing_if = "Option::is_none")]
    letter: Option<LetterView>,
    /// Why it is not given up.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<Problem>,
}

impl AbandonItem {
    pub(super) fn of(id: DeliveryId, letter: icp_core::Result<Letter>) -> Self {
        match letter {
            Ok(letter) => Self { id, letter: Some(letter.into()), problem: None },
            Err(error) => Self { id, letter: None, problem: Some(error.into()) },
        }
    }
}

impl Abandonments {
    pub(super) fn of(results: Vec<AbandonItem>) -> Self {
        Self { results }
    }

    /// 200 where every one is given up, else 207.
    pub(super) fn status(&self) -> StatusCode {
        if self.results.iter().all(|item| item.problem.is_none()) {
            StatusCode::OK
        } else {
            StatusCode::MULTI_STATUS
        }
    }
}

/// What became of each dead letter that was to be delivered once more, in order.
#[derive(Debug, JsonSchema, Serialize)]
pub(super) struct Retries {
    results: Vec<RetryItem>,
}

/// What became of one dead letter: `delivery` where it is delivered once more, else `problem`.
#[derive(Debug, JsonSchema, Serialize)]
pub(super) struct RetryItem {
    /// Which.
    id: DeliveryId,
    /// The new delivery.
    #[serde(skip_serializing_if = "Option::is_none")]
    delivery: Option<DeliveryView>,
    /// Why there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<Problem>,
}

impl RetryItem {
    pub(super) fn of(id: DeliveryId, made: icp_core::Result<Delivery>) -> Self {
        match made {
            Ok(delivery) => Self { id, delivery: Some(delivery.into()), problem: None },
            Err(error) => Self { id, delivery: None, problem: Some(error.into()) },
        }
    }
}

impl Retries {
    pub(super) fn of(results: Vec<RetryItem>) -> Self {
        Self { results }
    }

    /// 200 where every one is delivered once more, else 207.
    pub(super) fn status(&self) -> StatusCode {
        if self.results.iter().all(|item| item.problem.is_none()) {
            StatusCode::OK
        } else {
            StatusCode::MULTI_STATUS
        }
    }
}
