//! Verdicts of the address policy.

use std::hint::black_box;
use std::net::IpAddr;

use icp::egress::AddressPolicy;
use url::Url;

use crate::Round;

/// Judges an address that may be reached, by a policy with a few entries.
#[must_use]
pub fn address() -> Round {
    let policy = policy();
    let address: IpAddr = "203.0.112.7".parse().unwrap();
    Box::new(move || policy.check_address(black_box(address)).unwrap())
}

/// Judges a URL with a name that may be reached.
#[must_use]
pub fn url() -> Round {
    let policy = policy();
    let url: Url = "https://hooks.example.com/orders?source=icp".parse().unwrap();
    Box::new(move || {
        black_box(policy.check_url(black_box(&url)).unwrap());
    })
}

fn policy() -> AddressPolicy {
    AddressPolicy::builder()
        .allow("10.20.0.0/16".parse().unwrap())
        .deny("198.51.100.0/24".parse().unwrap())
        .deny("*.internal.example.com".parse().unwrap())
        .build()
}
