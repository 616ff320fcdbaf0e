//! The behaviours every store must show, as one registry that each backend mounts.
//!
//! A backend's test target has `harness = false` and one line of `main`:
//!
//! ```no_run
//! use std::sync::Arc;
//!
//! use icp_core::store::MemoryStore;
//! use icp_testkit::conformance::{self, Fixture};
//!
//! conformance::main("memory", || async {
//!     let store = MemoryStore::new();
//!     let outbox = store.clone();
//!     Fixture::new(Arc::new(store), move |event| {
//!         let outbox = outbox.clone();
//!         async move { outbox.publish_in_outbox(event) }
//!     })
//! });
//! ```

mod access;
mod analytics;
mod audit;
mod cancel;
mod chain;
mod contention;
mod delivery;
mod erasure;
mod event;
mod health;
mod lane;
mod letter;
pub mod losses;
mod order;
mod pause;
#[cfg(unix)]
pub mod processes;
mod pruning;
mod replay;
mod resource;
mod retention;
mod session;
mod slot;
mod world;

use std::any::Any;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use icp_core::event::Event;
use icp_core::store::Store;
use libtest_mimic::{Arguments, Trial};

/// A future that a behaviour or a hook returns.
pub type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// A fresh store, and what is needed around it.
pub struct Fixture {
    /// The store; empty.
    pub store: Arc<dyn Store>,
    /// Writes an outbox row as a committed transaction of a host does.
    pub outbox: Box<dyn Fn(Event) -> BoxFuture<()> + Send + Sync>,
    /// Kept until the behaviour is over, for a temporary directory or a server.
    pub guard: Box<dyn Any + Send + Sync>,
}

impl Fixture {
    /// A fixture without a guard.
    pub fn new<F>(
        store: Arc<dyn Store>,
        outbox: impl Fn(Event) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let outbox = Box::new(move |event| Box::pin(outbox(event)) as BoxFuture<()>);
        Self { store, outbox, guard: Box::new(()) }
    }

    /// Keeps `guard` until the behaviour is over.
    #[must_use]
    pub fn guarded_by(mut self, guard: impl Any + Send + Sync) -> Self {
        self.guard = Box::new(guard);
        self
    }
}

impl fmt::Debug for Fixture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fixture").field("store", &self.store).finish_non_exhaustive()
    }
}

/// One thing every store does.
#[derive(Clone, Copy, Debug)]
pub struct Behaviour {
    /// The noun and what is expected of it, as in `delivery::claim_is_exclusive`.
    pub name: &'static str,
    /// Shows it on a fresh store; panics where the store fails.
    pub run: fn(Fixture) -> BoxFuture<()>,
}

macro_rules! registry {
    ($($noun:ident { $($name:ident,)+ })+) => {
        /// Every behaviour, by noun.
        pub const BEHAVIOURS: &[Behaviour] = &[$($(Behaviour {
            name: concat!(stringify!($noun), "::", stringify!($name)),
            run: |fixture| Box::pin($noun::$name(world::World::new(fixture))),
        },)+)+];
    };
}

registry! {
    access {
        a_resource_is_found_by_its_handles,
        handles_are_replaced_kept_and_let_go_of,
        a_taken_handle_refuses_the_whole_write,
        a_write_hands_a_handle_on,
        a_handle_has_one_of_racing_holders,
    }
    analytics {
        sums_are_told_by_hour_day_and_integration,
        a_repeated_batch_counts_once,
        racing_nodes_add_up,
        failures_are_grouped_and_bounded,
        another_organization_sees_nothing,
        hours_and_days_go_by_age,
        an_organization_with_sums_alone_is_come_by,
    }
    audit {
        clean_when_empty,
        clean_after_every_transition,
        replays_do_not_count_as_fan_out,
        paused_lanes_are_not_asleep,
    }
    cancel {
        a_batch_ends_what_the_filter_takes,
        without_a_reason_it_only_counts,
        each_part_of_the_filter_counts,
        leased_ones_are_left_and_counted,
        batches_keep_to_their_limit_and_go_on,
        an_order_goes_on_behind_what_was_called_off,
        another_organization_is_not_touched,
    }
    chain {
        rows_of_changes_and_notes_hang_together,
        each_organization_has_its_own,
        a_refused_write_leaves_it_as_it_was,
        racing_writers_make_one,
        a_look_meanwhile_finds_it_whole,
        what_is_kept_after_pruning_hangs_together,
        a_younger_row_that_tells_an_older_time_waits,
        rows_are_found_by_who_what_and_when,
    }
    contention {
        claims_race_settles_and_every_delivery_is_taken_once,
        one_that_changes_hands_is_counted_all_the_time,
        racing_reports_of_one_outcome_are_recorded_once,
        racing_publishers_of_many_keys_make_one_event_each,
        followers_of_the_feed_miss_nothing_while_it_grows,
        racing_relays_take_each_outbox_row_once,
        racing_nodes_take_each_replay_once,
        nothing_is_lost_where_everything_happens_at_once,
    }
    delivery {
        a_claim_leases,
        a_leased_one_is_not_claimed_again,
        a_claim_keeps_to_its_limit,
        not_before_it_is_due,
        earliest_due_goes_first,
        delivered_is_recorded_with_its_attempt,
        settling_twice_is_stale_and_harmless,
        a_stale_lease_beside_the_next_does_not_displace_it,
        a_stale_epoch_writes_nothing,
        a_notice_goes_out_with_its_outcome_only,
        stale_and_live_settle_side_by_side,
        a_retry_waits_and_counts,
        a_refund_gives_the_try_back_but_not_the_epoch,
        throttles_are_counted_apart,
        each_end_has_its_state_and_reason,
        an_expired_one_is_swept,
        a_leased_one_is_not_swept,
        a_sweep_keeps_to_its_limit,
        a_replay_is_new_and_linked,
        a_repeated_replay_makes_one,
        only_what_has_ended_is_replayed,
        only_a_ready_one_is_cancelled,
        lists_are_newest_first_and_paged,
        lists_filter_by_state_event_and_integration,
        another_organization_sees_nothing,
        counts_follow_the_states,
    }
    erasure {
        an_event_loses_its_content_and_stays,
        what_waits_is_called_off_and_its_lane_goes_on,
        attempts_and_letters_lose_what_they_tell,
        what_is_under_way_is_erased_once_it_ends,
        the_duty_leaves_one_under_way_alone,
        a_subject_is_erased_batch_by_batch,
        an_outbox_row_is_erased_before_it_is_relayed,
    }
    event {
        is_read_back_whole,
        bodies_round_trip_byte_for_byte,
        timestamps_keep_their_milliseconds,
        belongs_to_its_organization,
        fans_out_to_every_delivery,
        without_deliveries_is_kept,
        taken_in_twice_is_written_once,
        same_key_and_body_is_a_duplicate,
        same_key_and_another_body_is_a_conflict,
        keys_hold_within_a_batch,
        keys_of_organizations_are_apart,
        a_key_whose_time_is_over_is_replaced,
        concurrent_publishers_of_one_key_make_one,
        lists_are_newest_first_and_paged,
        lists_filter_by_type_and_time,
        lists_filter_by_idempotency_key,
        outbox_rows_are_oldest_first_until_taken_in,
        an_outbox_row_is_relayed_once,
        an_outbox_row_that_is_gone_writes_nothing,
        an_outbox_duplicate_goes_and_a_conflict_stays,
        handed_over_deliveries_are_leased,
        hand_over_keeps_to_the_budget_and_the_room,
        hand_over_passes_nobody_by,
        hand_over_respects_a_pause,
        hand_over_needs_a_known_session,
    }
    health {
        a_failing_lane_opens_and_gives_nothing,
        refusals_open_nothing,
        a_success_between_failures_keeps_it_closed,
        a_recovery_is_seen_between_those_of_others,
        one_probe_goes_and_its_success_closes,
        one_of_racing_nodes_gets_the_probe,
        a_probe_may_be_handed_over_once,
        a_failed_probe_doubles_the_wait,
        a_lost_probe_is_sent_again,
        what_was_under_way_decides_nothing,
        a_later_block_outlasts_the_breaker,
        fifo_lanes_have_breakers_of_their_own,
        an_open_lane_takes_no_share,
        an_overloaded_lane_is_narrowed_and_widens,
        effects_keep_to_what_a_narrowed_lane_may,
        a_batch_over_many_lanes_hits_those_it_should,
        changed_rules_begin_afresh,
        changed_rules_are_no_credit,
        a_rate_holds_over_claims_and_lanes,
        a_rate_holds_over_racing_nodes,
        a_wait_for_the_rate_costs_no_try,
        hand_over_keeps_to_the_rate,
        backlogs_and_totals_are_told,
        the_pace_is_counted,
    }
    lane {
        is_made_from_its_seed_once,
        lists_are_ordered_by_id_and_paged,
        a_backlog_starves_nobody,
        weights_are_honoured,
        many_lanes_gain_nothing,
        idling_is_no_credit,
        gives_no_more_than_per_lane,
        gives_nothing_of_who_is_left_out,
        what_is_not_for_at_once_waits,
        gives_no_more_than_it_has_room,
        fifo_goes_one_by_one_in_order,
        fifo_waits_for_its_head,
        fifo_moves_on_when_its_head_is_called_off,
        keys_do_not_hold_each_other_up,
        a_block_holds_the_whole_lane,
        a_block_is_no_credit,
        the_later_of_two_blocks_holds,
        hand_over_respects_a_block,
        a_pause_rests_and_its_end_wakes,
        effects_change_existing_lanes,
        the_next_moment_of_work_is_told,
    }
    letter {
        a_dead_one_is_a_letter_with_its_class,
        only_dead_ones_of_the_organization_are_letters,
        groups_count_by_error,
        groups_count_the_newest_and_say_that_there_are_more,
        notes_are_kept_once_and_in_order,
        abandoning_answers_for_each,
        what_repeats_it_decides_its_status,
        a_judged_one_is_due_when_its_round_is,
        a_replay_by_hand_takes_the_place_of_a_round,
        a_round_is_linked_counted_and_claimed,
        a_round_keeps_the_expiry,
        an_abandoned_one_gets_no_round,
        a_round_makes_one_delivery_under_contention,
    }
    order {
        a_failed_head_steps_aside,
        stepping_aside_frees_the_next_at_once,
        a_block_stays_with_the_order,
        a_replay_of_one_set_aside_stays_beside,
        stepping_aside_needs_the_lease,
        block_keeps_order_without_a_gap,
        skip_after_breaks_order_only_for_those_set_aside,
        dead_letter_keeps_order_and_moves_on,
    }
    pause {
        holds_an_integration_and_lets_it_go_on_in_order,
        holds_a_whole_organization,
        reasons_stand_beside_each_other,
        holds_lanes_that_are_made_later,
        nothing_is_handed_over_to_a_new_lane_at_rest,
        what_is_under_way_ends_and_keeps_its_tries,
        one_that_steps_aside_rests_too,
        lanes_at_rest_lend_nobody_credit,
    }
    pruning {
        a_replay_counts_what_it_made_of_events_that_go,
        what_is_under_way_ends_before_it_goes,
        lanes_of_keys_that_come_and_go_lose_nothing,
    }
    replay {
        a_job_is_read_back_whole,
        lists_are_newest_first_and_paged,
        a_claim_takes_what_has_waited_longest,
        its_owner_claims_again_and_others_after_the_lease,
        a_released_job_is_free_at_once,
        one_of_racing_claims_wins,
        a_step_writes_deliveries_and_its_place,
        a_step_is_written_once,
        a_stale_fence_writes_nothing,
        racing_steps_write_one_batch,
        racing_jobs_make_one_of_each,
        a_job_and_a_round_make_one,
        a_job_and_a_round_make_one_after_a_repeat_was_called_off,
        a_resting_or_cancelled_job_takes_no_step,
        an_ended_job_changes_no_more,
        what_was_replayed_meanwhile_is_left_out,
        a_further_integration_counts_as_fan_out,
        order_holds_in_a_fifo_lane,
        due_times_are_kept,
        a_scan_walks_its_range_in_order,
        counts_are_bounded,
    }
    resource {
        is_read_back_whole,
        belongs_to_its_organization_and_kind,
        versions_and_revisions_count_up,
        expectations_are_checked,
        a_write_is_all_or_nothing,
        later_changes_see_earlier_ones,
        a_deletion_leaves_a_tombstone,
        made_again_counts_its_versions_on,
        history_is_newest_first,
        the_feed_is_in_order_of_revision,
        lists_are_ordered_and_paged,
        lists_filter_by_every_label,
        operators_list_all_organizations,
        every_write_has_its_audit_row,
        the_audit_log_is_filtered_and_paged,
        notes_stand_in_the_log_and_not_in_the_feed,
        replays_and_cancellations_leave_a_note,
        concurrent_writes_get_distinct_revisions,
        one_of_two_writers_at_a_revision_wins,
    }
    retention {
        old_deliveries_go_with_their_events,
        an_event_with_many_deliveries_goes_bit_by_bit,
        what_has_not_ended_stays_with_its_event,
        dead_letters_have_their_own_time,
        an_event_stays_for_its_time_and_its_key,
        keys_go_when_their_time_is_over,
        audit_rows_go_by_age,
        replaced_versions_go_and_the_latest_stays,
        every_organization_is_come_by,
        what_ended_in_any_way_is_removed,
        ended_replays_go_with_their_links,
        a_lane_of_a_key_goes_with_its_last_delivery,
        what_a_lane_remembers_keeps_it,
        a_key_whose_lane_is_gone_begins_anew,
    }
    session {
        beats_are_counted,
        unknown_ones_cannot_beat_or_claim,
        closing_forgets,
        closing_keeps_one_that_holds_leases,
        rescue_takes_every_lease_and_forgets,
        rescue_keeps_to_its_limit,
        orphans_are_rescued_after_their_lease,
        poison_ends_dead_at_the_third_rescue,
        renewing_moves_the_end_of_live_leases_only,
        a_rescued_lease_can_be_neither_renewed_nor_settled,
        settle_and_rescue_end_in_one_outcome,
        claims_are_exclusive_under_contention,
        no_wake_up_is_lost_under_contention,
    }
    slot {
        is_read_back_whole,
        too_large_ones_are_refused,
        expectations_are_checked,
        a_repeated_put_answers_the_same,
        one_whose_time_is_over_counts_as_gone,
        removing_names_the_version_or_any,
        a_sweep_takes_what_is_over_bit_by_bit,
        one_of_racing_puts_wins,
    }
}

/// Runs every behaviour against the stores that `factory` makes, each on its own, and exits the
/// process as a test harness does; takes the arguments of `cargo test`.
///
/// Behaviours are named `<backend>::<noun>::<behaviour>`.
pub fn main<F, Made>(backend: &str, factory: F)
where
    F: Fn() -> Made + Clone + Send + 'static,
    Made: Future<Output = Fixture> + Send,
{
    let trial = |behaviour: &Behaviour| {
        let (factory, run) = (factory.clone(), behaviour.run);
        Trial::test(format!("{backend}::{}", behaviour.name), move || {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(4)
                .enable_all()
                .build()?;
            runtime.block_on(async { run(factory().await).await });
            Ok(())
        })
    };
    let trials = BEHAVIOURS.iter().map(trial).collect();
    libtest_mimic::run(&Arguments::from_args(), trials).exit();
}
