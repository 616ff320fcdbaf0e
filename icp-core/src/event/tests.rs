use super::*;

fn accept(event: NewEvent) -> Result<Event> {
    let now = Timestamp::from_millis(1_000_000);
    event.accept(EventId::from_bytes([1; 16]), now, Revision::ZERO, &EventLimits::default())
}

#[test]
fn json_needs_not_be_an_object() {
    for body in ["null", "17", "\"x\"", "[1]", "{}"] {
        assert!(accept(NewEvent::raw("acme", "a.b", JSON, body)).is_ok(), "{body}");
    }
    let error =
        accept(NewEvent::raw("acme", "a.b", "application/cloudevents+json", "{")).unwrap_err();
    assert_eq!(error.code(), Code::EventInvalid);
    assert_eq!(error.list()[0].pointer, "/body");
}

#[test]
fn other_content_passes_byte_for_byte() {
    let event =
        accept(NewEvent::raw("acme", "a.b", "text/plain; charset=latin1", vec![0xff, 0])).unwrap();
    assert_eq!(&event.body[..], [0xff, 0]);
    assert!(!event.is_json());
}

#[test]
fn every_fault_is_listed() {
    let event = NewEvent::raw("acme", "a.b", "nonsense", "x")
        .unit("../x")
        .idempotency_key("")
        .ordering_key("k".repeat(257))
        .trace("x", None)
        .expires_at(Timestamp::EPOCH);
    let error = accept(event).unwrap_err();
    let mut pointers: Vec<_> = error.list().iter().map(|v| v.pointer.as_str()).collect();
    pointers.sort_unstable();
    assert_eq!(
        pointers,
        [
            "/content_type",
            "/expires_at",
            "/idempotency_key",
            "/ordering_key",
            "/traceparent",
            "/unit"
        ]
    );
}

#[test]
fn the_body_limit_is_exact() {
    assert!(accept(NewEvent::raw("acme", "a.b", "x/y", vec![0; 1 << 20])).is_ok());
    let error = accept(NewEvent::raw("acme", "a.b", "x/y", vec![0; (1 << 20) + 1])).unwrap_err();
    assert_eq!(error.code(), Code::BodyTooLarge);
}

#[test]
fn due_and_expiry_are_ordered() {
    let at = Timestamp::from_millis;
    let new = || NewEvent::raw("acme", "a.b", "x/y", "");
    assert_eq!(accept(new().due_at(at(5))).unwrap().due_at, None, "a past due time means now");
    assert!(accept(new().due_at(at(2_000_000)).expires_at(at(2_000_000))).is_err());
    assert!(accept(new().due_at(at(2_000_000)).expires_at(at(2_000_001))).is_ok());
    assert!(accept(new().due_at(Timestamp::MAX)).is_err());
    assert_eq!(
        accept(new().expires_after(Duration::from_secs(1))).unwrap().expires_at,
        Some(at(1_001_000))
    );
}
