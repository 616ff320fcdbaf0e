//! A server of one test's own.

use std::fs::Permissions;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// A kind of server.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    Postgres,
    MariaDb,
    Mongo,
}

impl Kind {
    pub(crate) const ALL: [Self; 3] = [Self::Postgres, Self::MariaDb, Self::Mongo];

    /// How long the store may take to set right what calls that were cut off have left.
    pub(crate) fn settling(self) -> Duration {
        match self {
            Self::Postgres | Self::MariaDb => Duration::ZERO,
            Self::Mongo => Duration::from_secs(20),
        }
    }

    /// A port below those that systems give to clients for their end of a connection: while the
    /// server is down, one that connects again and again would get it sooner or later, and hold it.
    /// No two servers of this process get the same, though neither listens yet.
    fn free_port(self) -> u16 {
        static SERVERS: AtomicU16 = AtomicU16::new(0);
        let first = match self {
            Self::Postgres => 20_000,
            Self::MariaDb => 22_000,
            Self::Mongo => 24_000,
        };
        let begin = u16::try_from(std::process::id() % 1_000).unwrap();
        let begin = begin + 100 * SERVERS.fetch_add(1, Ordering::Relaxed);
        let is_free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
        (begin..begin + 100).map(|offset| first + offset).find(is_free).unwrap()
    }

    /// What `scripts/services` calls it.
    pub(crate) fn service(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::MariaDb => "mariadb",
            Self::Mongo => "mongo",
        }
    }
}

/// A running server with an empty folder and a port of its own; it is killed when this is dropped.
#[derive(Debug)]
pub(crate) struct Server {
    kind: Kind,
    /// Where it is.
    pub(crate) url: String,
    port: u16,
    folder: TempDir,
}

impl Server {
    pub(crate) async fn start(kind: Kind) -> Self {
        // The servers run as users of their own, who have to get in.
        let open = Permissions::from_mode(0o755);
        let folder = tempfile::Builder::new().permissions(open).tempdir().unwrap();
        let mut server = Self { kind, url: String::new(), port: kind.free_port(), folder };
        server.run("up").await;
        let exports = server.run("env").await;
        let url = exports.lines().find(|line| line.contains("_URL='")).unwrap();
        server.url = url.split('\'').nth(1).unwrap().to_owned();
        server
    }

    /// Has it done what `scripts/services` calls `verb`; answers what that prints.
    pub(crate) async fn run(&self, verb: &'static str) -> String {
        let mut command = self.command(verb);
        let ended = tokio::task::spawn_blocking(move || command.output());
        let ended = ended.await.unwrap().unwrap();
        let told = String::from_utf8_lossy(&ended.stderr);
        assert!(ended.status.success(), "{} of {}: {told}", verb, self.kind.service());
        String::from_utf8(ended.stdout).unwrap()
    }

    /// Kills it at once, and has it come back; blocks until it has.
    pub(crate) fn crash(&self) {
        let id = std::fs::read_to_string(self.folder.path().join(self.kind.service()).join("pid"));
        let id = id.unwrap().split(char::is_whitespace).next().unwrap().parse().unwrap();
        kill_process(Pid::from_raw(id).unwrap(), Signal::KILL).unwrap();
        for verb in ["kill", "up"] {
            let ended = self.command(verb).output().unwrap();
            assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
        }
    }

    fn command(&self, verb: &str) -> Command {
        let service = self.kind.service();
        let mut command = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/services"));
        command
            .args([verb, service])
            .env("ICP_SERVICES_DIR", self.folder.path())
            .env(format!("ICP_SERVICES_{}_PORT", service.to_uppercase()), self.port.to_string());
        command
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.command("kill").output();
    }
}
