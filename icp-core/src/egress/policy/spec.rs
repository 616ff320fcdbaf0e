//! The policy as an organization's settings document.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use url::Host;

use super::{AddressPolicy, DEFAULT_PORTS, ranges};
use crate::error::{Code, Error, Result, Violation};

/// One line of an allow or deny list: a network, a host name, or all names below one.
///
/// Text forms: `10.2.0.0/16` or a single address, `hooks.example.com`, `*.example.com` (which
/// does not include `example.com` itself).
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[non_exhaustive]
pub enum Entry {
    /// Every address of a network.
    Net(IpNet),
    /// One host name, in lower-case ASCII form.
    Host(String),
    /// Every name that ends in a dot and this one, in lower-case ASCII form.
    Below(String),
}

impl Entry {
    /// Whether this entry names `host`, which is in lower-case ASCII form.
    pub(super) fn names(&self, host: &str) -> bool {
        match self {
            Self::Net(_) => false,
            Self::Host(name) => name == host,
            Self::Below(name) => {
                host.strip_suffix(name.as_str()).is_some_and(|head| head.ends_with('.'))
            }
        }
    }

    /// Whether this entry holds `address`, which is in canonical form.
    pub(super) fn holds(&self, address: IpAddr) -> bool {
        matches!(self, Self::Net(net) if net.contains(&address))
    }
}

impl FromStr for Entry {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let invalid = || {
            Error::new(
                Code::ConfigInvalid,
                "write a network such as 10.2.0.0/16, a host name, or *. and a host name",
            )
        };
        if let Some(net) =
            text.parse::<IpNet>().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
        {
            let mapped = matches!(net, IpNet::V6(net) if net.addr().to_ipv4_mapped().is_some());
            return if mapped { Err(invalid()) } else { Ok(Self::Net(net.trunc())) };
        }
        let (name, below) = text.strip_prefix("*.").map_or((text, false), |name| (name, true));
        match Host::parse(name) {
            Ok(Host::Domain(name)) if well_formed(&name) => {
                Ok(if below { Self::Below(name) } else { Self::Host(name) })
            }
            Ok(Host::Domain(_) | Host::Ipv4(_) | Host::Ipv6(_)) | Err(_) => Err(invalid()),
        }
    }
}

fn well_formed(name: &str) -> bool {
    !name.contains('*') && name.split('.').all(|label| !label.is_empty())
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Net(net) => net.fmt(f),
            Self::Host(name) => f.write_str(name),
            Self::Below(name) => write!(f, "*.{name}"),
        }
    }
}

/// What an organization's calls may reach, as a document.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct PolicySpec {
    /// Whether plain HTTP is refused; default false.
    pub https_only: bool,
    /// The ports that may be used; default 80, 443, 8080, 8443.
    pub ports: Vec<u16>,
    /// Networks or host names to open; see [`PolicyBuilder::allow`](super::PolicyBuilder::allow).
    pub allow: Vec<String>,
    /// Networks or host names to refuse; this list wins over `allow`.
    pub deny: Vec<String>,
}

impl Default for PolicySpec {
    fn default() -> Self {
        Self {
            https_only: false,
            ports: DEFAULT_PORTS.to_vec(),
            allow: Vec::new(),
            deny: Vec::new(),
        }
    }
}

impl PolicySpec {
    /// Every broken rule, each with its JSON pointer; empty when the document is acceptable.
    #[must_use]
    pub fn validate(&self) -> Vec<Violation> {
        let mut found = Vec::new();
        if self.ports.is_empty() {
            found.push(Violation::new("/ports", "ports_empty", "list at least one port"));
        }
        for (index, _) in self.ports.iter().enumerate().filter(|(_, port)| **port == 0) {
            let pointer = format!("/ports/{index}");
            found.push(Violation::new(pointer, "port_invalid", "use a port from 1 to 65535"));
        }
        for (list, entries) in [("allow", &self.allow), ("deny", &self.deny)] {
            for (index, text) in entries.iter().enumerate() {
                let pointer = format!("/{list}/{index}");
                match text.parse::<Entry>() {
                    Err(error) => {
                        found.push(Violation::new(pointer, "entry_invalid", error.message()));
                    }
                    Ok(entry) if list == "allow" && never_opens(&entry) => {
                        found.push(Violation::new(
                            pointer,
                            "entry_without_effect",
                            "this network can never be opened; remove the entry",
                        ));
                    }
                    Ok(_) => {}
                }
            }
        }
        found
    }

    /// The policy that this document describes.
    ///
    /// # Errors
    /// [`Code::ResourceInvalid`] with every violation.
    pub fn policy(&self) -> Result<AddressPolicy> {
        let violations = self.validate();
        if !violations.is_empty() {
            return Err(Error::violations(Code::ResourceInvalid, violations));
        }
        let mut builder =
            AddressPolicy::builder().https_only(self.https_only).ports(self.ports.iter().copied());
        for text in &self.allow {
            builder = builder.allow(text.parse()?);
        }
        for text in &self.deny {
            builder = builder.deny(text.parse()?);
        }
        Ok(builder.build())
    }
}

// Both ends shut by the same rule: the network lies inside one range.
fn never_opens(entry: &Entry) -> bool {
    let Entry::Net(net) = entry else { return false };
    let (first, last) = (ranges::judge(net.network()), ranges::judge(net.broadcast()));
    first == last && matches!(first, ranges::Verdict::Shut(_)) && net.prefix_len() >= 4
}
