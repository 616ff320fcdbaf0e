//! What may be reached: pure verdicts on URLs and addresses.

mod ranges;
mod spec;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

use sha2::{Digest, Sha256};
use url::{Host, Url};

pub use spec::{Entry, PolicySpec};

use super::error::FailureClass;
use ranges::Verdict;

// The two standard ports and their usual unprivileged twins: receivers behind an ingress need no
// more, and every other open port inside a network is some other service.
const DEFAULT_PORTS: [u16; 4] = [80, 443, 8080, 8443];

// Names that mean something only inside one machine, network or cluster. Refused by name as well
// as by address, because their addresses may be public.
const PRIVATE_SUFFIXES: [&str; 11] = [
    "local",
    "localhost",
    "localdomain",
    "internal",
    "intranet",
    "lan",
    "home",
    "corp",
    "private",
    "svc",
    "arpa",
];
const METADATA_NAMES: [&str; 3] = ["metadata.goog", "metadata.google.com", "metadata.azure.com"];

/// What may be reached, decided by values alone.
///
/// The order of judgement: scheme, user name, port, then for a name the deny list, the
/// [`restrict_to`](PolicyBuilder::restrict_to) list and the names of private networks, and for
/// every address the deny list, the ranges that are never reachable, the allow list and the
/// private ranges. Deny wins over allow.
#[derive(Clone, Eq, PartialEq)]
pub struct AddressPolicy {
    rules: Rules,
    fingerprint: [u8; 32],
}

#[derive(Clone, Debug, Eq, PartialEq)]
struct Rules {
    https_only: bool,
    ports: BTreeSet<u16>,
    allow: Vec<Entry>,
    deny: Vec<Entry>,
    only: Vec<Entry>,
    loopback: bool,
}

/// Where a URL leads, after it was judged; a name is still to be resolved and its addresses are
/// still to be judged.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Target<'a> {
    /// The host, a name or an address.
    pub host: Host<&'a str>,
    /// The port, the scheme's own if the URL names none.
    pub port: u16,
    /// Whether the scheme is `https`.
    pub tls: bool,
}

/// A refusal, with the rule that made it.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{subject} is refused by the rule `{rule}` of the address policy")]
#[non_exhaustive]
pub struct Denied {
    /// Stable name of the rule, lower case with underscores.
    pub rule: &'static str,
    /// What was refused: a host, a port or an address, never a secret.
    pub subject: String,
}

impl Denied {
    fn new(rule: &'static str, subject: impl Into<String>) -> Self {
        Self { rule, subject: subject.into() }
    }

    /// [`FailureClass::UrlInvalid`] when the URL could never be sent, else
    /// [`FailureClass::AddressDenied`].
    #[must_use]
    pub fn class(&self) -> FailureClass {
        match self.rule {
            "scheme" | "userinfo" | "host_missing" => FailureClass::UrlInvalid,
            _ => FailureClass::AddressDenied,
        }
    }
}

impl Default for AddressPolicy {
    fn default() -> Self {
        Self::strict()
    }
}

impl AddressPolicy {
    /// Public addresses only, over HTTP or HTTPS, on the ports 80, 443, 8080 and 8443.
    #[must_use]
    pub fn strict() -> Self {
        Self::builder().build()
    }

    /// Starts from [`strict`](Self::strict).
    pub fn builder() -> PolicyBuilder {
        PolicyBuilder {
            rules: Rules {
                https_only: false,
                ports: DEFAULT_PORTS.into(),
                allow: Vec::new(),
                deny: Vec::new(),
                only: Vec::new(),
                loopback: false,
            },
        }
    }

    /// Judges everything about a URL that can be judged without a lookup, address literals
    /// included.
    ///
    /// # Errors
    /// The first rule that refuses it.
    pub fn check_url<'a>(&self, url: &'a Url) -> Result<Target<'a>, Denied> {
        let tls = match url.scheme() {
            "https" => true,
            "http" => false,
            other => return Err(Denied::new("scheme", format!("scheme {other}"))),
        };
        if !tls && self.rules.https_only {
            return Err(Denied::new("https_only", "scheme http"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(Denied::new("userinfo", "a url with a user name"));
        }
        let host = url.host().ok_or_else(|| Denied::new("host_missing", "a url without host"))?;
        let port = url.port().unwrap_or(if tls { 443 } else { 80 });
        let any_port = self.rules.loopback && is_loopback(&host);
        if !any_port && !self.rules.ports.contains(&port) {
            return Err(Denied::new("port", format!("port {port}")));
        }
        match host {
            Host::Domain(name) => self.check_name(name)?,
            Host::Ipv4(address) => self.check_literal(address.into())?,
            Host::Ipv6(address) => self.check_literal(address.into())?,
        }
        Ok(Target { host, port, tls })
    }

    /// Judges one address; an IPv4-mapped one by the IPv4 rules.
    ///
    /// # Errors
    /// The first rule that refuses it.
    pub fn check_address(&self, address: IpAddr) -> Result<(), Denied> {
        let address = address.to_canonical();
        let denied = |rule| Err(Denied::new(rule, format!("address {address}")));
        if self.rules.deny.iter().any(|entry| entry.holds(address)) {
            return denied("deny_list");
        }
        if self.rules.loopback && address.is_loopback() {
            return Ok(());
        }
        match ranges::judge(address) {
            Verdict::Public => Ok(()),
            Verdict::Private(_) if self.rules.allow.iter().any(|entry| entry.holds(address)) => {
                Ok(())
            }
            Verdict::Private(rule) | Verdict::Shut(rule) => denied(rule),
        }
    }

    /// A digest of all rules: two policies with the same digest judge everything alike.
    #[must_use]
    pub fn fingerprint(&self) -> &[u8; 32] {
        &self.fingerprint
    }

    /// One line on what differs from [`strict`](Self::strict), for the start-up log.
    #[must_use]
    pub fn describe(&self) -> String {
        let rules = &self.rules;
        let ports: Vec<_> = rules.ports.iter().map(u16::to_string).collect();
        let schemes = if rules.https_only { "https only" } else { "http and https" };
        let mut text = format!("public addresses, {schemes}, ports {}", ports.join(" "));
        for (what, list) in
            [("opened", &rules.allow), ("denied", &rules.deny), ("restricted to", &rules.only)]
        {
            if !list.is_empty() {
                let list: Vec<_> = list.iter().map(Entry::to_string).collect();
                text.push_str(&format!(", {what}: {}", list.join(" ")));
            }
        }
        if rules.loopback {
            text.push_str(", LOOPBACK ALLOWED: for development only");
        }
        text
    }

    fn check_literal(&self, address: IpAddr) -> Result<(), Denied> {
        if !self.rules.only.is_empty() {
            return Err(Denied::new("not_listed", format!("address {address}")));
        }
        self.check_address(address)
    }

    fn check_name(&self, name: &str) -> Result<(), Denied> {
        let denied = |rule| Err(Denied::new(rule, format!("host {name}")));
        let named = |list: &[Entry]| list.iter().any(|entry| entry.names(name));
        if name.split('.').any(str::is_empty) {
            return denied("name_malformed");
        }
        if named(&self.rules.deny) {
            return denied("deny_list");
        }
        if !self.rules.only.is_empty() && !named(&self.rules.only) {
            return denied("not_listed");
        }
        if METADATA_NAMES.contains(&name) || name == "metadata.google.internal" {
            return denied("metadata");
        }
        if self.rules.loopback && is_localhost(name) || named(&self.rules.allow) {
            return Ok(());
        }
        match name.rsplit_once('.') {
            None => denied("single_label"),
            Some((_, last)) if PRIVATE_SUFFIXES.contains(&last) => denied("private_name"),
            Some(_) => Ok(()),
        }
    }
}

fn is_loopback(host: &Host<&str>) -> bool {
    match host {
        Host::Domain(name) => is_localhost(name),
        Host::Ipv4(address) => address.is_loopback(),
        Host::Ipv6(address) => IpAddr::V6(*address).to_canonical().is_loopback(),
    }
}

fn is_localhost(name: &str) -> bool {
    name == "localhost" || name.ends_with(".localhost")
}

impl fmt::Debug for AddressPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("AddressPolicy").field(&self.describe()).finish()
    }
}

/// Makes an [`AddressPolicy`] that differs from the strict one.
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until `build`"]
pub struct PolicyBuilder {
    rules: Rules,
}

impl PolicyBuilder {
    /// Whether plain HTTP is refused; default false.
    pub fn https_only(mut self, yes: bool) -> Self {
        self.rules.https_only = yes;
        self
    }

    /// Replaces the ports that may be used; default 80, 443, 8080, 8443.
    pub fn ports(mut self, ports: impl IntoIterator<Item = u16>) -> Self {
        self.rules.ports = ports.into_iter().collect();
        self
    }

    /// Opens a private network or a private name.
    ///
    /// A network opens its addresses in the ranges 10/8, 172.16/12, 192.168/16, 100.64/10,
    /// 198.18/15 and fc00::/7; loopback, link-local, metadata and reserved addresses stay shut.
    /// A name lifts the rules on names only: its addresses are judged as any others, so reaching
    /// a private name takes two entries, the name and its network. Ports are not opened by either.
    pub fn allow(mut self, entry: Entry) -> Self {
        self.rules.allow.push(entry);
        self
    }

    /// Refuses a network or a name, whatever is allowed.
    pub fn deny(mut self, entry: Entry) -> Self {
        self.rules.deny.push(entry);
        self
    }

    /// Refuses every host that no `restrict_to` entry names; address literals are refused even
    /// where a network entry holds them.
    ///
    /// For URLs made from a template with a part chosen by an organization, such as an OAuth
    /// token URL with a subdomain.
    pub fn restrict_to(mut self, entry: Entry) -> Self {
        self.rules.only.push(entry);
        self
    }

    /// Opens 127/8, ::1 and `localhost` on every port, for development and tests only.
    pub fn allow_loopback(mut self) -> Self {
        self.rules.loopback = true;
        self
    }

    /// The policy.
    #[must_use]
    pub fn build(self) -> AddressPolicy {
        let fingerprint = Sha256::digest(format!("{:?}", self.rules)).into();
        AddressPolicy { rules: self.rules, fingerprint }
    }
}
