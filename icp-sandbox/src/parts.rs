//! Plans of several parts: what looks up runs here, where the tables are.

use async_trait::async_trait;
use bytes::Bytes;
use icp_core::transform::{
    HostStep, InPlace, Outcome, Plan, Report, TransformContext, TransformError, Transformer,
};

/// What runs plans whose steps look nothing up.
#[async_trait]
pub(crate) trait Programs: Sync {
    async fn run_programs(
        &self,
        plan: &Plan,
        input: Bytes,
        cx: &TransformContext<'_>,
    ) -> Result<Report, TransformError>;
}

/// Refuses plans with steps that nobody runs here.
pub(crate) fn admit(plan: &Plan) -> Result<(), Vec<TransformError>> {
    let unasked: Vec<_> = plan.host_steps().map(HostStep::unasked).collect();
    if unasked.is_empty() { Ok(()) } else { Err(unasked) }
}

/// Runs the parts of `plan` one after the other, those with programs by `programs`.
pub(crate) async fn run(
    programs: &impl Programs,
    plan: &Plan,
    input: Bytes,
    cx: &TransformContext<'_>,
) -> Result<Report, TransformError> {
    let mut report = Report::new(Outcome::Value(input));
    for part in plan.parts() {
        let Outcome::Value(input) = &report.outcome else { break };
        let input = input.clone();
        let made = match part.programs().next() {
            Some(_) => programs.run_programs(part, input, cx).await?,
            None => InPlace.run(part, input, cx).await?,
        };
        report = report.then(made);
    }
    Ok(report)
}
