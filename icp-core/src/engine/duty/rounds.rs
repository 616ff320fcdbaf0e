//! Judges dead letters, and delivers once more those whose automatic round is due. Every `sweep`.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::engine::core::Core;
use crate::error::Result;
use crate::id::DeliveryId;
use crate::letter::{self, DueLetter, Judgement, Known, Verdict};

const BATCH: usize = 50;

/// How many batches a tick takes at the most, so that a flood of dead letters does not keep the
/// store from its other work.
const BATCHES: usize = 20;

pub(crate) async fn run(core: Arc<Core>, stop: CancellationToken) {
    while core.doze().pause(&stop, core.config.sweep).await {
        if let Err(error) = once(&core).await {
            core.metrics.store_errors.inc();
            tracing::warn!(icp.error = error.code().as_str(), "judging letters failed: {error}");
        }
    }
}

pub(crate) async fn once(core: &Core) -> Result<()> {
    for _ in 0..BATCHES {
        let now = core.clock.now();
        let letters = core.store.due_letters(now, BATCH).await?;
        let mut judgements = Vec::with_capacity(letters.len());
        for letter in &letters {
            // One whose integration cannot be read now is judged at another tick.
            if let Ok(verdict) = verdict(core, letter).await {
                let (delivery, seen) = (letter.delivery.id, letter.due_at);
                judgements.push(Judgement { delivery, seen, verdict });
            }
        }
        if judgements.is_empty() {
            return Ok(());
        }
        let applied = core.store.judge(&judgements, now).await?;
        count(core, &judgements, &applied);
        if letters.len() < BATCH {
            return Ok(());
        }
    }
    Ok(())
}

async fn verdict(core: &Core, letter: &DueLetter) -> Result<Verdict> {
    let delivery = &letter.delivery;
    let view = match core.org(&delivery.org).await {
        Ok(view) => Some(view),
        Err(error) if error.code() == crate::error::Code::OrganizationUnknown => None,
        Err(error) => return Err(error),
    };
    let integration =
        view.as_ref().and_then(|view| view.matching.integration(&delivery.integration));
    let now = core.clock.now();
    let policy = match integration {
        Some(Ok(integration)) => Some(&integration.auto_retry),
        // It cannot be read now; what it asks for is not known.
        Some(Err(_)) => return Ok(Verdict::Plan { due_at: now + letter::CLOSED }),
        None => None,
    };
    let id = DeliveryId::generate(core.ids.as_ref());
    Ok(letter::judge(letter, &Known { policy, id, now }))
}

fn count(core: &Core, judgements: &[Judgement], applied: &[bool]) {
    let applied = judgements.iter().zip(applied).filter(|(_, applied)| **applied);
    let mut made = 0;
    for (judgement, _) in applied {
        match judgement.verdict {
            Verdict::Retry { .. } => made += 1,
            Verdict::Abandon { .. } => {
                core.metrics.letters_abandoned.inc();
            }
            Verdict::Plan { .. } | Verdict::Leave => {}
        }
    }
    core.metrics.letters_retried.inc_by(made as u64);
    if made > 0 {
        core.announce(made);
    }
}
