//! The address tables: what is public, what can be opened, what stays shut.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What the tables say about an address.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Verdict {
    /// Globally reachable.
    Public,
    /// Private, and openable by an allow entry.
    Private(&'static str),
    /// Never reachable, whatever is allowed.
    Shut(&'static str),
}

struct Range4(Ipv4Addr, u8, Verdict);
struct Range6(Ipv6Addr, u8, Verdict);

const fn v4(a: u8, b: u8, c: u8, d: u8, length: u8, verdict: Verdict) -> Range4 {
    Range4(Ipv4Addr::new(a, b, c, d), length, verdict)
}

const fn v6(head: [u16; 4], length: u8, verdict: Verdict) -> Range6 {
    Range6(Ipv6Addr::new(head[0], head[1], head[2], head[3], 0, 0, 0, 0), length, verdict)
}

use Verdict::{Private, Public, Shut};

// The first match decides, so the metadata addresses precede the ranges around them.
// Beyond link-local: ECS tasks, Oracle, Alibaba and the Azure host agent.
const V4: &[Range4] = &[
    v4(169, 254, 169, 254, 32, Shut("metadata")),
    v4(169, 254, 170, 2, 32, Shut("metadata")),
    v4(192, 0, 0, 192, 32, Shut("metadata")),
    v4(100, 100, 100, 200, 32, Shut("metadata")),
    v4(168, 63, 129, 16, 32, Shut("metadata")),
    v4(0, 0, 0, 0, 8, Shut("this_network")),
    v4(10, 0, 0, 0, 8, Private("private_network")),
    v4(100, 64, 0, 0, 10, Private("shared_network")),
    v4(127, 0, 0, 0, 8, Shut("loopback")),
    v4(169, 254, 0, 0, 16, Shut("link_local")),
    v4(172, 16, 0, 0, 12, Private("private_network")),
    v4(192, 0, 0, 0, 24, Shut("protocol_assignments")),
    v4(192, 0, 2, 0, 24, Shut("documentation")),
    v4(192, 88, 99, 0, 24, Shut("relay_anycast")),
    v4(192, 168, 0, 0, 16, Private("private_network")),
    v4(198, 18, 0, 0, 15, Private("benchmark_network")),
    v4(198, 51, 100, 0, 24, Shut("documentation")),
    v4(203, 0, 113, 0, 24, Shut("documentation")),
    v4(224, 0, 0, 0, 4, Shut("multicast")),
    v4(240, 0, 0, 0, 4, Shut("reserved")),
];

// Only 2000::/3 is public, minus what is carved out of it; the rest falls through to the end.
const V6: &[Range6] = &[
    v6([0xfd00, 0xec2, 0, 0], 32, Shut("metadata")),
    Range6(Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254), 128, Shut("metadata")),
    Range6(Ipv6Addr::UNSPECIFIED, 128, Shut("this_network")),
    Range6(Ipv6Addr::LOCALHOST, 128, Shut("loopback")),
    v6([0xfc00, 0, 0, 0], 7, Private("private_network")),
    v6([0xfe80, 0, 0, 0], 10, Shut("link_local")),
    v6([0xfec0, 0, 0, 0], 10, Shut("site_local")),
    v6([0xff00, 0, 0, 0], 8, Shut("multicast")),
    v6([0x2001, 0, 0, 0], 23, Shut("protocol_assignments")),
    v6([0x2001, 0xdb8, 0, 0], 32, Shut("documentation")),
    v6([0x2002, 0, 0, 0], 16, Shut("tunnel")),
    v6([0x3fff, 0, 0, 0], 20, Shut("documentation")),
    v6([0x2000, 0, 0, 0], 3, Public),
    v6([0, 0, 0, 0], 0, Shut("not_global")),
];

/// Judges one address; an IPv4-mapped one by its IPv4 form.
pub(super) fn judge(address: IpAddr) -> Verdict {
    match address.to_canonical() {
        IpAddr::V4(address) => judge_v4(address),
        IpAddr::V6(address) => judge_v6(address),
    }
}

fn judge_v4(address: Ipv4Addr) -> Verdict {
    let bits = address.to_bits();
    V4.iter()
        .find(|Range4(net, length, _)| {
            (bits ^ net.to_bits()).checked_shr(32 - u32::from(*length)).unwrap_or(0) == 0
        })
        .map_or(Public, |range| range.2)
}

fn judge_v6(address: Ipv6Addr) -> Verdict {
    // ISATAP puts an IPv4 address behind 0000:5efe or 0200:5efe under any prefix.
    let [.., marker, efe, _, _] = address.segments();
    if marker & !0x0200 == 0 && efe == 0x5efe {
        return Shut("tunnel");
    }
    let bits = address.to_bits();
    V6.iter()
        .find(|Range6(net, length, _)| {
            (bits ^ net.to_bits()).checked_shr(128 - u32::from(*length)).unwrap_or(0) == 0
        })
        .map_or(Shut("not_global"), |range| range.2)
}
