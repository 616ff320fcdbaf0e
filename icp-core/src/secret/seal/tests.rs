use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;

use super::super::LocalKeys;
use super::*;

const PLACE: SealContext<'_> =
    SealContext { org: "acme", kind: "integration", id: "orders", slot: "auth.password" };

fn sealer(keys: &[(&str, u8)]) -> Sealer {
    let text: Vec<String> =
        keys.iter().map(|(id, fill)| format!("{id}:{}", STANDARD.encode([*fill; 32]))).collect();
    Sealer::new(Arc::new(LocalKeys::parse(&text.join("\n")).unwrap()))
}

fn refused(result: Result<SecretBytes>) -> Error {
    let error = result.unwrap_err();
    assert_eq!(error.code(), Code::KeyUnreadable);
    error
}

#[test]
fn every_flipped_bit_is_refused() {
    let sealer = sealer(&[("k1", 1)]);
    let sealed = sealer.seal(&PLACE, b"hush").unwrap();
    for bit in 0..sealed.0.len() * 8 {
        let mut bytes = sealed.0.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        refused(sealer.open(&PLACE, &SealedBytes(bytes)));
    }
}

#[test]
fn every_cut_is_refused() {
    let sealer = sealer(&[("k1", 1)]);
    let sealed = sealer.seal(&PLACE, b"hush").unwrap();
    for length in 0..sealed.0.len() {
        refused(sealer.open(&PLACE, &SealedBytes(sealed.0[..length].to_vec())));
    }
}

#[test]
fn a_value_opens_only_in_its_place() {
    let sealer = sealer(&[("k1", 1)]);
    let sealed = sealer.seal(&PLACE, b"hush").unwrap();
    for elsewhere in [
        SealContext { org: "other", ..PLACE },
        SealContext { kind: "route", ..PLACE },
        SealContext { id: "refunds", ..PLACE },
        SealContext { slot: "signing", ..PLACE },
        SealContext { org: "acmeintegration", kind: "", ..PLACE },
    ] {
        let error = refused(sealer.open(&elsewhere, &sealed));
        assert!(error.message().contains("`k1`"), "{error}");
    }
    assert_eq!(sealer.open(&PLACE, &sealed).unwrap().expose(), b"hush");
}

#[test]
fn an_old_key_opens_after_rotation_until_it_is_rewrapped_away() {
    let sealed = sealer(&[("k1", 1)]).seal(&PLACE, b"hush").unwrap();
    let both = sealer(&[("k2", 2), ("k1", 1)]);
    assert_eq!(both.open(&PLACE, &sealed).unwrap().expose(), b"hush");
    assert_eq!(both.seal(&PLACE, b"x").unwrap().key_id(), Some("k2"));

    let fresh = sealer(&[("k2", 2)]);
    let error = refused(fresh.open(&PLACE, &sealed));
    assert!(error.message().contains("`k1`"), "{error}");
    let rewrapped = both.rewrap(&PLACE, &sealed).unwrap();
    assert_eq!(fresh.open(&PLACE, &rewrapped).unwrap().expose(), b"hush");
    assert!(both.rewrap(&SealContext { id: "refunds", ..PLACE }, &sealed).is_err());
}

#[test]
fn another_key_of_the_same_name_does_not_fit() {
    let sealed = sealer(&[("k1", 1)]).seal(&PLACE, b"hush").unwrap();
    let error = refused(sealer(&[("k1", 9)]).open(&PLACE, &sealed));
    assert!(error.message().contains("`k1`"), "{error}");
}

#[test]
fn the_same_value_never_seals_to_the_same_bytes() {
    let sealer = sealer(&[("k1", 1)]);
    assert_ne!(sealer.seal(&PLACE, b"hush").unwrap(), sealer.seal(&PLACE, b"hush").unwrap());
}

proptest! {
    #[test]
    fn what_is_sealed_opens(
        plain in proptest::collection::vec(any::<u8>(), 0..300),
        parts in proptest::array::uniform4("\\PC{0,12}"),
    ) {
        let [org, kind, id, slot] = &parts;
        let context = SealContext { org, kind, id, slot };
        let sealer = sealer(&[("k1", 1)]);
        let sealed = sealer.seal(&context, &plain).unwrap();
        let opened = sealer.open(&context, &sealed).unwrap();
        prop_assert_eq!(opened.expose(), plain.as_slice());
    }

    #[test]
    fn moving_bytes_between_parts_of_the_context_is_refused(
        mut parts in proptest::array::uniform4("[a-z]{1,6}"),
        from in 0..3usize,
    ) {
        let sealer = sealer(&[("k1", 1)]);
        let [org, kind, id, slot] = &parts;
        let sealed = sealer.seal(&SealContext { org, kind, id, slot }, b"hush").unwrap();
        let moved = parts[from].pop().unwrap();
        parts[from + 1].insert(0, moved);
        let [org, kind, id, slot] = &parts;
        refused(sealer.open(&SealContext { org, kind, id, slot }, &sealed));
    }

    #[test]
    fn any_bytes_are_refused_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        refused(sealer(&[("k1", 1)]).open(&PLACE, &SealedBytes(bytes)));
    }
}
