//! Name lookup as a seam: the client asks once per connection and judges every answer.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;

/// Turns a host name into addresses.
///
/// Called once for each new connection. All answers are judged, and a single denied one refuses
/// the call; an error or an empty answer refuses it too. Implementations do no judging.
#[async_trait::async_trait]
pub trait Resolver: Send + Sync {
    /// Every address of `host`, in the order in which to try them.
    ///
    /// # Errors
    /// Any error refuses the call.
    ///
    /// # Cancellation
    /// The future is dropped when the connect timeout is reached.
    async fn resolve(&self, host: &str) -> io::Result<Vec<IpAddr>>;
}

/// The operating system's lookup, by way of tokio.
#[cfg(feature = "http")]
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemResolver;

#[cfg(feature = "http")]
#[async_trait::async_trait]
impl Resolver for SystemResolver {
    async fn resolve(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        Ok(tokio::net::lookup_host((host, 0)).await?.map(|address| address.ip()).collect())
    }
}

/// A fixed table, for tests of hosts and for machines without DNS; unknown names are errors.
#[derive(Clone, Debug, Default)]
pub struct StaticResolver {
    names: HashMap<String, Vec<IpAddr>>,
}

impl StaticResolver {
    /// An empty table.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds or replaces the addresses of `host`, which is compared in lower case.
    #[must_use]
    pub fn with(mut self, host: &str, addresses: impl IntoIterator<Item = IpAddr>) -> Self {
        self.names.insert(host.to_ascii_lowercase(), addresses.into_iter().collect());
        self
    }
}

#[async_trait::async_trait]
impl Resolver for StaticResolver {
    async fn resolve(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        self.names
            .get(host)
            .cloned()
            .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "name not in the table"))
    }
}
