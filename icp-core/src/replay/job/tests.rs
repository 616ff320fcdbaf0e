use super::*;

fn at(secs: u64) -> Timestamp {
    Timestamp::from_millis(1_795_232_700_000) + Duration::from_secs(secs)
}

fn job(state: ReplayState, examined: u64, created: u64, total: Option<u64>) -> ReplayJob {
    ReplayJob {
        id: ReplayId::from_bytes([1; 16]),
        org: OrgId::new("acme").unwrap(),
        request: ReplayRequest::since(at(0)).until(at(9)).rate(10),
        actor: Actor::host(),
        state,
        progress: ReplayProgress { examined, created, skipped: 0, total },
        cursor: None,
        fence: 3,
        owner: None,
        lease_until: None,
        next_at: at(0),
        error: None,
        created_at: at(0),
        started_at: None,
        ended_at: None,
        updated_at: at(0),
    }
}

#[test]
fn percent_and_eta_follow_the_progress() {
    use ReplayState::*;
    for (state, examined, created, total, percent, eta) in [
        (Running, 0, 0, Some(100), Some(0), None),
        (Running, 50, 50, Some(100), Some(50), Some(at(105))),
        (Running, 50, 100, Some(100), Some(50), Some(at(110))),
        (Running, 50, 0, Some(100), Some(50), Some(at(100))),
        (Running, 99, 0, Some(1_000), Some(9), Some(at(100))),
        (Running, 120, 60, Some(100), Some(100), Some(at(100))),
        (Running, 50, 50, None, None, None),
        (Running, 0, 0, Some(0), Some(0), None),
        (Pending, 50, 50, Some(100), Some(50), Some(at(105))),
        (Paused, 50, 50, Some(100), Some(50), None),
        (Done, 0, 0, Some(0), Some(100), None),
        (Cancelled, 50, 50, Some(100), Some(50), None),
    ] {
        let job = job(state, examined, created, total);
        assert_eq!((job.percent(), job.eta(at(100))), (percent, eta), "{state} {examined}");
    }
}

#[test]
fn only_a_step_from_its_fence_and_place_is_admitted() {
    let mut job = job(ReplayState::Running, 0, 0, None);
    job.cursor = Some(EventId::from_bytes([5; 16]));
    let step = |fence, from: Option<u8>| ReplayStep {
        job: job.id,
        fence,
        from: from.map(|n| EventId::from_bytes([n; 16])),
        to: None,
        examined: 0,
        skipped: 0,
        items: Vec::new(),
        error: None,
        next: ReplayNext::Done,
        now: at(1),
    };
    assert!(job.admit(&step(3, Some(5))).is_ok());
    for stale in [step(2, Some(5)), step(4, Some(5)), step(3, Some(4)), step(3, None)] {
        assert_eq!(job.admit(&stale).unwrap_err().code(), Code::LeaseLost);
    }
    for state in ReplayState::ALL.into_iter().filter(|state| *state != ReplayState::Running) {
        let job = ReplayJob { state, ..job.clone() };
        assert!(job.admit(&step(3, Some(5))).is_err(), "{state}");
    }
}

#[test]
fn the_last_error_is_kept_until_there_is_another() {
    let mut job = job(ReplayState::Running, 0, 0, None);
    let step = |error: Option<&str>| ReplayStep {
        job: job.id,
        fence: 3,
        from: None,
        to: None,
        examined: 0,
        skipped: 0,
        items: Vec::new(),
        error: error.map(|code| EndReason::new(code, "for the test")),
        next: ReplayNext::At { next_at: at(1), lease_until: at(2) },
        now: at(1),
    };
    let steps = [step(None), step(Some("one")), step(None), step(Some("two"))];
    let errors = steps.map(|step| {
        job.advance(&step, 0);
        job.error.as_ref().map(|error| error.code.clone())
    });
    let expected = [None, Some("one"), Some("one"), Some("two")];
    assert_eq!(errors, expected.map(|code| code.map(str::to_owned)));
}

#[test]
fn a_job_is_read_back_from_json() {
    let mut job = job(ReplayState::Failed, 7, 6, Some(8));
    job.cursor = Some(EventId::from_bytes([5; 16]));
    job.error = Some(EndReason::new("internal", "for the test"));
    job.request = job.request.states([crate::delivery::DeliveryState::Dead]).reason("ü");
    let text = serde_json::to_string(&job).unwrap();
    assert_eq!(serde_json::from_str::<ReplayJob>(&text).unwrap(), job);
}
