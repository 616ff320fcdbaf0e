use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use proptest::prelude::*;

use super::*;

const DENIED_NETS: &[&str] = &[
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.0.2.0/24",
    "192.88.99.0/24",
    "192.168.0.0/16",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "224.0.0.0/4",
    "240.0.0.0/4",
    "::/8",
    "64:ff9b::/96",
    "64:ff9b:1::/48",
    "100::/64",
    "2001::/23",
    "2001:db8::/32",
    "2002::/16",
    "3fff::/20",
    "5f00::/16",
    "fc00::/7",
    "fe80::/10",
    "fec0::/10",
    "ff00::/8",
];

fn inside(net: IpNet, bits: u128) -> IpAddr {
    match net {
        IpNet::V4(net) => {
            let host = u32::try_from(bits >> 96).unwrap() & !u32::from(net.netmask());
            Ipv4Addr::from(u32::from(net.network()) | host).into()
        }
        IpNet::V6(net) => {
            let host = bits & !u128::from(net.netmask());
            Ipv6Addr::from(u128::from(net.network()) | host).into()
        }
    }
}

proptest! {
    #[test]
    fn no_address_of_a_denied_net_is_allowed(index in 0..DENIED_NETS.len(), bits: u128) {
        let net: IpNet = DENIED_NETS[index].parse().unwrap();
        let address = inside(net, bits);
        // Under ::/8 lie the mapped addresses, which follow the IPv4 rules.
        prop_assume!(address.to_canonical().is_ipv6() || address.is_ipv4());
        prop_assert!(AddressPolicy::strict().check_address(address).is_err(), "{address}");
        if let IpAddr::V4(v4) = address {
            let mapped = IpAddr::V6(v4.to_ipv6_mapped());
            prop_assert!(AddressPolicy::strict().check_address(mapped).is_err(), "{mapped}");
        }
    }

    #[test]
    fn arbitrary_text_never_panics(text in "\\PC{0,64}") {
        for text in [text.clone(), format!("http://{text}"), format!("https://a.{text}:1/")] {
            if let Ok(url) = Url::parse(&text) {
                let _ = AddressPolicy::strict().check_url(&url);
            }
        }
        if let Ok(entry) = text.parse::<Entry>() {
            prop_assert_eq!(entry.to_string().parse::<Entry>().unwrap(), entry);
        }
    }
}

fn rule(policy: &AddressPolicy, url: &str) -> &'static str {
    policy.check_url(&url.parse().unwrap()).map_or_else(|denied| denied.rule, |_| "")
}

#[test]
fn an_allow_entry_opens_a_private_range_and_nothing_else() {
    let policy = AddressPolicy::builder()
        .allow("0.0.0.0/0".parse().unwrap())
        .allow("::/0".parse().unwrap())
        .deny("10.9.0.0/16".parse().unwrap())
        .build();
    let table = [
        ("http://10.1.2.3/", ""),
        ("http://[fd12::1]/", ""),
        ("http://10.9.2.3/", "deny_list"),
        ("http://[::ffff:10.9.2.3]/", "deny_list"),
        ("http://127.0.0.1/", "loopback"),
        ("http://169.254.169.254/", "metadata"),
        ("http://100.100.100.200/", "metadata"),
        ("http://[fd00:ec2::254]/", "metadata"),
    ];
    for (url, expected) in table {
        assert_eq!(rule(&policy, url), expected, "{url}");
    }
}

#[test]
fn an_allowed_name_still_has_its_addresses_judged() {
    let policy = AddressPolicy::builder().allow("*.svc.cluster.local".parse().unwrap()).build();
    assert_eq!(rule(&policy, "http://api.svc.cluster.local/"), "");
    assert_eq!(rule(&policy, "http://svc.cluster.local/"), "private_name");
    assert_eq!(rule(&policy, "http://apisvc.cluster.local/"), "private_name");
    assert!(policy.check_address("10.0.0.1".parse().unwrap()).is_err());
}

#[test]
fn loopback_is_a_switch_that_shows() {
    let policy = AddressPolicy::builder().allow_loopback().build();
    for url in ["http://127.0.0.1:3999/", "http://[::1]:1/", "http://localhost:5000/"] {
        assert_eq!(rule(&policy, url), "", "{url}");
    }
    assert_eq!(rule(&policy, "http://example.com:3999/"), "port");
    assert!(policy.describe().contains("LOOPBACK"));
    assert_ne!(policy.fingerprint(), AddressPolicy::strict().fingerprint());
}

#[test]
fn a_document_lists_every_violation_with_its_pointer() {
    let spec = PolicySpec {
        ports: vec![443, 0],
        allow: vec!["10.0.0.0/8".into(), "169.254.0.0/16".into(), "::ffff:10.0.0.0/104".into()],
        deny: vec!["a b".into(), "*.bad.example".into()],
        ..PolicySpec::default()
    };
    let found: Vec<_> = spec.validate().into_iter().map(|v| (v.pointer, v.code)).collect();
    let expected = [
        ("/ports/1", "port_invalid"),
        ("/allow/1", "entry_without_effect"),
        ("/allow/2", "entry_invalid"),
        ("/deny/0", "entry_invalid"),
    ];
    assert_eq!(found, expected.map(|(p, c)| (p.to_owned(), c.to_owned())));
    assert!(spec.policy().is_err());
    assert!(serde_json::from_str::<PolicySpec>(r#"{"port":[1]}"#).is_err());
    assert_eq!(PolicySpec::default().policy().unwrap(), AddressPolicy::strict());
}
