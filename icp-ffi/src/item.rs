//! The records that come out of a queue: a header of 24 bytes and a body, padded to 8.

/// The header of a record, in the byte order of the machine. Frozen.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(C)]
pub struct Item {
    /// The caller's tag, the id of the request, or the tag of the subscription.
    pub tag: u64,
    /// One of `ICP_ITEM_*`.
    pub kind: u32,
    /// Of completions: 0, or why it failed; the body is the error document then.
    pub status: i32,
    /// The length of the body in bytes, without padding.
    pub len: u32,
    /// 0; later versions may set bits, which a reader passes over.
    pub flags: u32,
}

/// The length of the header in bytes.
pub const HEADER: usize = size_of::<Item>();

macro_rules! kinds {
    ($($(#[doc = $doc:literal])+ $name:ident = $number:literal, $text:literal;)+) => {
        /// What a record tells.
        #[derive(Clone, Copy, Debug, Eq, PartialEq)]
        #[repr(u32)]
        pub enum Kind { $($(#[doc = $doc])+ $name = $number,)+ }

        impl Kind {
            /// Every kind, by number.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// The name, as in `COMPLETION`.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)+ }
            }

            /// What it means, for headers and pages.
            #[must_use]
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$name => concat!($($doc),+),)+ }
            }
        }
    };
}

kinds! {
    /// An operation ended.
    Completion = 1, "COMPLETION";
    /// A handler of the host is asked; answer with icp_respond.
    Request = 2, "REQUEST";
    /// A request needs no answer any more.
    RequestCancelled = 3, "REQUEST_CANCELLED";
    /// Something happened that a subscription follows.
    Event = 4, "EVENT";
    /// A line of the log.
    Log = 5, "LOG";
    /// Items were dropped because too many waited; the tag is that of their subscription, 0 of the log.
    Lagged = 6, "LAGGED";
}

impl Kind {
    /// The number.
    #[must_use]
    pub const fn number(self) -> u32 {
        self as u32
    }
}

/// The bytes that a record with a body of `len` bytes takes.
#[must_use]
pub const fn record_len(len: usize) -> usize {
    HEADER + len.next_multiple_of(8)
}

/// Hands a record over in parts, each with its place from the beginning of the record.
pub(crate) fn write_record(item: &Item, body: &[u8], mut put: impl FnMut(usize, &[u8])) {
    let fields = [
        &item.tag.to_ne_bytes()[..],
        &item.kind.to_ne_bytes(),
        &item.status.to_ne_bytes(),
        &item.len.to_ne_bytes(),
        &item.flags.to_ne_bytes(),
    ];
    let padding = &[0; 8][..record_len(body.len()) - HEADER - body.len()];
    let mut at = 0;
    for part in fields.into_iter().chain([body, padding]) {
        put(at, part);
        at += part.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layout_is_frozen() {
        assert_eq!((HEADER, align_of::<Item>()), (24, 8));
        let item = Item { tag: 0x0102, kind: 3, status: -4, len: 5, flags: 6 };
        let mut bytes = [0xff; 32];
        write_record(&item, b"hello", |at, part| {
            bytes[at..at + part.len()].copy_from_slice(part);
        });
        assert_eq!(bytes[..8], 0x0102_u64.to_ne_bytes());
        assert_eq!(bytes[8..12], 3_u32.to_ne_bytes());
        assert_eq!(bytes[12..16], (-4_i32).to_ne_bytes());
        assert_eq!(bytes[16..20], 5_u32.to_ne_bytes());
        assert_eq!(&bytes[24..29], b"hello");
        assert_eq!(bytes[29..], [0; 3]);
        assert_eq!([0, 1, 8, 9].map(record_len), [24, 32, 32, 40]);
    }

    #[test]
    fn numbers_are_frozen() {
        let numbers: Vec<_> = Kind::ALL.iter().map(|kind| kind.number()).collect();
        assert_eq!(numbers, [1, 2, 3, 4, 5, 6]);
    }
}
