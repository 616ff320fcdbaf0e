//! Workers that are shell scripts, and what they may send.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use icp_sandbox::{Builder, Sandbox};
use tokio::time::timeout;

const READY: &str = r#""ready""#;

/// The answer to the first call.
pub(crate) const GOOD: &str =
    r#"{"done":{"number":1,"dropped":null,"notes":{"warnings":[],"console":[],"cpu_micros":1}}}"#;

/// The answer to a later call.
pub(crate) fn good(number: usize) -> String {
    GOOD.replace(":1,\"dropped", &format!(":{number},\"dropped"))
}

pub(crate) fn frame(head: &str, body: &str) -> Vec<u8> {
    let length = |text: &str| u32::try_from(text.len()).unwrap().to_le_bytes();
    [&length(head)[..], &length(body), head.as_bytes(), body.as_bytes()].concat()
}

/// A worker that is a shell script: it is greeted, says that it is ready, then does as `script`
/// says. The file `answer` beside it holds the bytes it may send.
pub(crate) struct Fake {
    dir: tempfile::TempDir,
}

impl Fake {
    pub(crate) fn new(script: &str, answer: &[u8]) -> Self {
        Self::raw(&format!("head -c 8 > $AT/greeting\ncat $AT/ready\n{script}"), answer)
    }

    /// One that says by itself that it is ready, or does not.
    pub(crate) fn raw(script: &str, answer: &[u8]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("answer"), answer).unwrap();
        std::fs::write(dir.path().join("ready"), frame(READY, "")).unwrap();
        let text = format!("#!/bin/sh\nAT={}\n{script}\n", dir.path().display());
        std::fs::write(dir.path().join("worker"), text).unwrap();
        let executable = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(dir.path().join("worker"), executable).unwrap();
        Self { dir }
    }

    /// What the script wrote to this file.
    pub(crate) fn told(&self, file: &str) -> String {
        std::fs::read_to_string(self.dir.path().join(file)).unwrap_or_default()
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.dir.path().join("worker")
    }

    pub(crate) fn builder(&self) -> Builder {
        Sandbox::builder().program(self.path())
    }

    pub(crate) fn sandbox(&self) -> Sandbox {
        self.builder().build().unwrap()
    }
}

/// Waits for what must become so.
pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let waited = timeout(Duration::from_secs(20), async {
        while !holds() {
            tokio::task::yield_now().await;
        }
    });
    assert!(waited.await.is_ok(), "{what}");
}

pub(crate) fn is_gone(pid: u32) -> bool {
    !Path::new(&format!("/proc/{pid}")).exists()
}
