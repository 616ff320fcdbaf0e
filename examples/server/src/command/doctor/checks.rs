//! The checks themselves.

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use icp::access::OrganizationSpec;
use icp::egress::{AddressPolicy, Client, EgressRequest, EgressResponse};
use icp::resource::Spec;
use icp::sandbox::Sandbox;
use icp::time::{Clock, SystemClock};
use tower::ServiceExt;
use url::Url;

use super::Check;
use crate::config::Config;
use crate::schema::Schema;
use crate::{key_file, store};

/// Receivers refuse signatures that are older or newer than five minutes.
const TOLERANCE: Duration = Duration::from_secs(300);
/// Beyond this a clock is not kept by anything.
const DRIFT: Duration = Duration::from_secs(10);

pub(super) fn configuration(config: &Config) -> Check {
    let name = "configuration";
    if config.allow_loopback {
        let fix = "set `allow_loopback` to false, but for development";
        return Check::warn(name, "integrations may send to this machine and without TLS", fix);
    }
    Check::ok(name, "every setting is acceptable")
}

pub(super) fn listen(config: &Config) -> Check {
    let (name, address) = ("listen", config.listen);
    match std::net::TcpListener::bind(address) {
        Err(fault) => Check::warn(
            name,
            format!("cannot listen on {address} now: {fault}"),
            "nothing, where the server runs already; else choose another `listen`",
        ),
        Ok(_) if !address.ip().is_loopback() => Check::warn(
            name,
            format!("{address} is open to others, and API keys go there without TLS"),
            "put a proxy that ends TLS before it",
        ),
        Ok(_) => Check::ok(name, format!("{address} is free")),
    }
}

/// `in_use` is whether the store holds what is sealed.
pub(super) fn key_file(config: &Config, in_use: bool) -> Check {
    let (name, path) = ("key file", &config.key_file);
    let shown = path.display();
    match key_file::load(path) {
        Err(error) => Check::fail(name, error.to_string(), "put back the file that was kept"),
        Ok(None) if in_use => Check::fail(
            name,
            format!("`{shown}` is missing, and the store holds secrets that are sealed with it"),
            "put the file back, or set `key_file` to where it is",
        ),
        Ok(None) => Check::ok(name, format!("`{shown}` is made at the first start")),
        Ok(Some(_)) => {
            let mode = std::fs::metadata(path).map(|found| found.permissions().mode() & 0o777);
            match mode {
                Ok(mode) if mode & 0o077 != 0 => Check::warn(
                    name,
                    format!("`{shown}` can be read by others (mode {mode:o})"),
                    format!("chmod 600 {shown}"),
                ),
                _ => Check::ok(name, format!("`{shown}` holds usable keys")),
            }
        }
    }
}

/// The store with its tables; and whether it holds organizations, where that can be told.
pub(super) async fn store(config: &Config) -> (Check, Option<bool>) {
    let name = "store";
    let unusable = |error: icp::Error| {
        let fix = "check `store_url`, that the server is reachable, and what its user may do";
        let causes = std::error::Error::source(&error);
        let cause = causes.map(|cause| format!(": {cause}")).unwrap_or_default();
        (Check::fail(name, format!("{error} [{}]{cause}", error.code()), fix), None)
    };
    let status = match Schema::of(config).await {
        Ok(schema) => schema.status(config).await,
        Err(error) => Err(error),
    };
    let status = match status {
        Ok(status) => status,
        Err(error) => return unusable(error),
    };
    let url = &config.store_url;
    if status.newer {
        let says = format!("a newer version was at {url}");
        let fix = "run that version; this one may serve beside it where it is compatible";
        return (Check::warn(name, says, fix), None);
    }
    if !status.used {
        let says = format!("{url} is empty; its tables are made at the first start");
        return (Check::ok(name, says), Some(false));
    }
    if !status.pending.is_empty() {
        let says = format!("{url} is behind by {} steps", status.pending.len());
        return (Check::warn(name, says, "run `icp-server migrate`, or start the server"), None);
    }
    match organizations(config).await {
        Ok(has) => {
            (Check::ok(name, format!("{url} answers, its tables are up to date")), Some(has))
        }
        Err(error) => unusable(error),
    }
}

async fn organizations(config: &Config) -> icp::Result<bool> {
    let opened = store::open(config).await?;
    let found = opened.store.resources_of_all(OrganizationSpec::KIND, None, 1).await;
    opened.close().await?;
    Ok(!found?.is_empty())
}

/// Whether a request goes out as deliveries do, and whether the answer's date is ours.
pub(super) async fn egress(config: &Config, url: Option<&Url>) -> Vec<Check> {
    let roots = rustls_native_certs::load_native_certs().certs.len();
    let mut checks = Vec::new();
    checks.push(if roots == 0 {
        let fix = "install the root certificates of the system (`ca-certificates`)";
        Check::fail("certificates", "there is none that TLS could be judged by", fix)
    } else {
        Check::ok("certificates", format!("{roots} roots are trusted"))
    });
    let Some(url) = url else { return checks };
    match called(config, url).await {
        Ok(answer) => {
            let remote = answer.remote.map(|remote| format!(" at {remote}")).unwrap_or_default();
            let host = url.host_str().unwrap_or_default();
            let says = format!("{host}{remote} answered {}", answer.status.as_u16());
            checks.push(Check::ok("egress", says));
            checks.extend(clock(&answer));
        }
        Err(says) => {
            let fix = "check DNS, firewall and the proxy; name an address that should answer with \
                       `--egress-url`, or skip this with `--offline`";
            checks.push(Check::warn("egress", says, fix));
        }
    }
    checks
}

async fn called(config: &Config, url: &Url) -> Result<EgressResponse, String> {
    let policy = if config.allow_loopback {
        AddressPolicy::builder().https_only(false).allow_loopback().build()
    } else {
        AddressPolicy::strict()
    };
    let client = Client::builder().build().map_err(|fault| fault.to_string())?;
    let request = EgressRequest::new(http::Method::GET, url.clone(), "", Arc::new(policy));
    let answer = client.into_transport().oneshot(request).await;
    answer.map_err(|fault| format!("{}: {}", fault.class.as_str(), fault.message))
}

/// How far this clock is from that of who answered; none where the answer has no date.
fn clock(answer: &EgressResponse) -> Option<Check> {
    let date = answer.headers.get(http::header::DATE)?.to_str().ok()?;
    let there = httpdate::parse_http_date(date).ok()?;
    let millis = u64::try_from(SystemClock.now().as_millis()).ok()?;
    Some(judged(SystemTime::UNIX_EPOCH + Duration::from_millis(millis), there))
}

fn judged(here: SystemTime, there: SystemTime) -> Check {
    let off = here.duration_since(there).or_else(|_| there.duration_since(here));
    let off = off.unwrap_or_default();
    let says = format!("{} s from that of who answered", off.as_secs());
    let fix = "keep the clock by NTP";
    if off >= TOLERANCE {
        return Check::fail("clock", format!("{says}: receivers refuse the signatures"), fix);
    }
    if off >= DRIFT { Check::warn("clock", says, fix) } else { Check::ok("clock", says) }
}

pub(super) async fn sandbox(config: &Config) -> Check {
    let name = "sandbox";
    if !config.sandbox {
        let fix = "set `sandbox` to true, where transformations are to hold programs";
        return Check::warn(name, "switched off: integrations with programs are refused", fix);
    }
    let built = Sandbox::builder().own_executable().build();
    let probed = match built {
        Ok(sandbox) => sandbox.probe().await,
        Err(error) => Err(error),
    };
    match probed {
        Ok(()) => Check::ok(name, "a worker starts and runs a program"),
        Err(error) => Check::fail(
            name,
            format!("no worker can be started: {error}"),
            "see docs/concepts/transformations.md for what the system must allow, or set `sandbox` \
             to false",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    #[test]
    fn a_clock_is_judged_by_what_receivers_bear() {
        let here = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        for (off, verdict) in [
            (0, Verdict::Ok),
            (9, Verdict::Ok),
            (10, Verdict::Warn),
            (299, Verdict::Warn),
            (300, Verdict::Fail),
        ] {
            let off = Duration::from_secs(off);
            assert_eq!(judged(here, here + off).verdict, verdict);
            assert_eq!(judged(here, here - off).verdict, verdict);
        }
    }
}
