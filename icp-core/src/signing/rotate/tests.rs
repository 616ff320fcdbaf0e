use proptest::prelude::*;

use super::*;

const NOW: Timestamp = Timestamp::from_millis(1_000_000);
const HOUR: Duration = Duration::from_secs(3_600);

fn key(id: &str, expires_at: Option<Timestamp>) -> SigningKeySpec {
    SigningKeySpec { id: id.to_owned(), secret: Secret::Masked, expires_at }
}

fn shown(keys: &[SigningKeySpec]) -> Vec<(&str, Option<Timestamp>)> {
    keys.iter().map(|key| (key.id.as_str(), key.expires_at)).collect()
}

#[test]
fn the_new_key_is_first_and_those_before_get_an_end() {
    let mut keys = vec![key("a", None)];
    assert!(rotate(&mut keys, key("b", None), NOW, HOUR).is_empty());
    assert_eq!(shown(&keys), [("b", None), ("a", Some(NOW + HOUR))]);

    let later = NOW + Duration::from_secs(60);
    assert!(rotate(&mut keys, key("c", None), later, HOUR).is_empty());
    let expected = [("c", None), ("b", Some(later + HOUR)), ("a", Some(NOW + HOUR))];
    assert_eq!(shown(&keys), expected, "an earlier end stays");

    assert_eq!(rotate(&mut keys, key("d", None), later, HOUR), ["a"]);
    assert_eq!(keys.len(), KEPT);
}

#[test]
fn without_an_overlap_only_the_new_key_stays() {
    let mut keys = vec![key("a", None), key("b", Some(NOW)), key("c", Some(NOW + HOUR))];
    assert_eq!(rotate(&mut keys, key("d", None), NOW, Duration::ZERO), ["a", "b", "c"]);
    assert_eq!(shown(&keys), [("d", None)]);
}

#[test]
fn the_preferred_key_and_the_last_that_signs_stay() {
    let expired = Some(NOW);
    let live = Some(NOW + HOUR);
    for (keys, id, code) in [
        (vec![key("a", None)], "a", Some(Code::SigningKeyLast)),
        (vec![key("a", None), key("b", expired)], "a", Some(Code::SigningKeyLast)),
        (vec![key("a", expired), key("b", live)], "b", Some(Code::SigningKeyLast)),
        (vec![key("a", None), key("b", live)], "a", Some(Code::SigningKeyPrimary)),
        (vec![key("a", None), key("b", live)], "c", Some(Code::SigningKeyUnknown)),
        (vec![key("a", None), key("b", live)], "b", None),
        (vec![key("a", None), key("b", expired)], "b", None),
    ] {
        let mut left = keys.clone();
        let done = remove(&mut left, id, NOW);
        assert_eq!(done.as_ref().err().map(Error::code), code, "{keys:?} {id}");
        assert_eq!(left.len(), keys.len() - usize::from(done.is_ok()));
    }
}

proptest! {
    /// However often and however quickly keys are rotated.
    #[test]
    fn there_is_always_one_preferred_key_without_an_end(
        steps in prop::collection::vec((0_u64..100_000, 0_u64..100_000), 1..30),
    ) {
        let mut keys = vec![key("first", None)];
        let mut now = NOW;
        for (number, (pause, overlap)) in steps.into_iter().enumerate() {
            now = now + Duration::from_secs(pause);
            let before: Vec<_> = keys.iter().map(|key| key.id.clone()).collect();
            let id = number.to_string();
            let dropped = rotate(&mut keys, key(&id, None), now, Duration::from_secs(overlap));
            prop_assert_eq!(shown(&keys)[0], (id.as_str(), None));
            prop_assert!(keys.len() <= KEPT);
            prop_assert!(keys[1..].iter().all(|key| key.expires_at.is_some_and(|at| at > now)));
            prop_assert_eq!(keys.len() + dropped.len(), before.len() + 1);
        }
    }
}
