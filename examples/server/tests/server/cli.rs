//! The commands, run as people run them: the real binary against a real server.
#![expect(clippy::unwrap_used, reason = "what a test needs fails by panicking")]

mod apply;
mod doctor;
mod keys;
mod look;
mod wrong;

use std::process::{Output, Stdio};

use tokio::io::AsyncWriteExt;

use crate::harness::{Folder, Server};

/// What a command said, and how it ended.
#[derive(Debug)]
pub(super) struct Said {
    pub(super) code: Option<i32>,
    pub(super) out: String,
    pub(super) err: String,
}

impl Said {
    fn of(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Self { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }

    /// Its answer, where it went well.
    #[track_caller]
    pub(super) fn well(self) -> String {
        assert_eq!(self.code, Some(0), "{self:?}");
        self.out
    }

    /// What it complained of, with this exit code.
    #[track_caller]
    pub(super) fn ill(self, code: i32) -> String {
        assert_eq!(self.code, Some(code), "{self:?}");
        self.err
    }
}

/// A server with its bootstrap key, and commands that call it.
pub(super) struct Stage {
    pub(super) folder: Folder,
    pub(super) server: Server,
    pub(super) key: String,
}

impl Stage {
    pub(super) async fn set() -> Self {
        let folder = Folder::new();
        let server = Server::start(&folder, &[("ICP_ALLOW_LOOPBACK", "true")]).await;
        let key = server.key.clone().unwrap();
        Self { folder, server, key }
    }

    /// Runs a command with the server and its key in the environment.
    pub(super) async fn run(&self, arguments: &[&str]) -> Said {
        self.run_with(arguments, "").await
    }

    /// As [`run`](Self::run), with something to read.
    pub(super) async fn run_with(&self, arguments: &[&str], input: &str) -> Said {
        let environment = [("ICP_URL", self.server.url.as_str()), ("ICP_API_KEY", &self.key)];
        run(&self.folder, arguments, &environment, input).await
    }

    pub(super) fn write(&self, name: &str, text: &str) {
        std::fs::write(self.folder.path(name), text).unwrap();
    }
}

/// Runs a command to its end.
pub(super) async fn run(
    folder: &Folder,
    arguments: &[&str],
    environment: &[(&str, &str)],
    input: &str,
) -> Said {
    let mut command = folder.command(environment);
    command.args(arguments).stdin(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // One that reads nothing may have ended.
    let _ = stdin.write_all(input.as_bytes()).await;
    drop(stdin);
    Said::of(child.wait_with_output().await.unwrap())
}
