#![expect(clippy::unwrap_used, reason = "what a test needs fails by panicking")]

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use axum::Router;
use axum::http::HeaderMap;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, ChildStdout, Command};
use tokio::sync::mpsc;

const PATIENCE: Duration = Duration::from_secs(60);

/// The folder a server runs in.
pub(crate) struct Folder(TempDir);

impl Folder {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn command(&self, environment: &[(&str, &str)]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_icp-server"));
        command
            .current_dir(self.0.path())
            .env_clear()
            .env("ICP_LISTEN", "127.0.0.1:0")
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    /// What a server that cannot start says.
    pub(crate) async fn failure(&self, environment: &[(&str, &str)]) -> String {
        let output = self.command(environment).stderr(Stdio::piped()).output();
        let output = tokio::time::timeout(PATIENCE, output).await.unwrap().unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert!(output.stdout.is_empty());
        String::from_utf8(output.stderr).unwrap()
    }
}

/// A client that no proxy of this machine comes between.
pub(crate) fn http() -> reqwest::Client {
    // Another test of this process may have been first.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().no_proxy().build().unwrap()
}

/// A server that runs.
pub(crate) struct Server {
    pub(crate) url: String,
    pub(crate) key: Option<String>,
    pub(crate) said: String,
    child: Child,
    stdout: BufReader<ChildStdout>,
    http: reqwest::Client,
}

impl Server {
    /// Waits until the server says where it listens, and with which key.
    pub(crate) async fn start(folder: &Folder, environment: &[(&str, &str)]) -> Self {
        Self::start_logging(folder, environment, Stdio::inherit()).await
    }

    /// As [`start`](Self::start), with what is logged going to `log`.
    pub(crate) async fn start_logging(
        folder: &Folder,
        environment: &[(&str, &str)],
        log: impl Into<Stdio>,
    ) -> Self {
        let mut child = folder.command(environment).stderr(log).spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut said = String::new();
        let read = async {
            while !said.contains("API key") {
                assert_ne!(stdout.read_line(&mut said).await.unwrap(), 0, "{said}");
            }
        };
        tokio::time::timeout(PATIENCE, read).await.unwrap();
        let after = |words: &str| {
            let line = said.lines().find_map(|line| line.strip_prefix(words))?;
            Some(line.to_owned())
        };
        let url = after("icp listens on ").unwrap();
        let key = after("API key, shown this once: ");
        let http = http();
        Self { url, key, said, child, stdout, http }
    }

    /// What the calls that the server suggests do.
    pub(crate) async fn set_up(&self, key: &str, receiver: &str) {
        self.post(key, "/organizations", json!({"id": "acme", "spec": {}})).await;
        let secret = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
        let integration = json!({"id": "orders", "spec": {
            "events": ["order.*"],
            "target": {"kind": "http", "url": receiver},
            "signing": {"keys": [{"secret": secret}]},
        }});
        self.post(key, "/organizations/acme/integrations", integration).await;
    }

    pub(crate) async fn publish(&self, key: &str, data: Value) -> String {
        let event = json!({"type": "order.paid", "data": data});
        let answer = self.post(key, "/organizations/acme/events", event).await;
        assert_eq!(answer["deliveries"], 1, "{answer}");
        answer["id"].as_str().unwrap().to_owned()
    }

    /// What the server says to a document that it does not take.
    pub(crate) async fn refused(&self, key: &str, path: &str, body: Value) -> Value {
        let url = format!("{}/api/v1{path}", self.url);
        let answer = self.http.post(url).bearer_auth(key).json(&body).send().await.unwrap();
        assert!(answer.status().is_client_error());
        answer.json().await.unwrap()
    }

    pub(crate) async fn post(&self, key: &str, path: &str, body: Value) -> Value {
        let url = format!("{}/api/v1{path}", self.url);
        let request = self.http.post(url).bearer_auth(key).json(&body);
        request.send().await.unwrap().error_for_status().unwrap().json().await.unwrap()
    }

    pub(crate) async fn get(&self, key: &str, path: &str) -> Value {
        let url = format!("{}/api/v1{path}", self.url);
        let answer = self.http.get(url).bearer_auth(key).send().await.unwrap();
        answer.error_for_status().unwrap().json().await.unwrap()
    }

    /// Its resident memory.
    pub(crate) fn resident_kib(&self) -> u64 {
        let path = format!("/proc/{}/status", self.child.id().unwrap());
        let status = std::fs::read_to_string(path).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// Asks the server to stop and answers the rest of what it said.
    pub(crate) async fn stop(mut self) -> String {
        let pid = self.child.id().unwrap().to_string();
        let kill = Command::new("kill").args(["-TERM", &pid]).status().await.unwrap();
        assert!(kill.success());
        let mut said = String::new();
        let ended = async {
            self.stdout.read_to_string(&mut said).await.unwrap();
            self.child.wait().await.unwrap()
        };
        let status = tokio::time::timeout(PATIENCE, ended).await.unwrap();
        assert_eq!(status.code(), Some(0), "{said}");
        said
    }
}

/// An endpoint that takes everything and tells the test.
pub(crate) struct Receiver {
    pub(crate) url: String,
    arrivals: mpsc::UnboundedReceiver<Arrival>,
}

/// What arrived.
pub(crate) struct Arrival {
    pub(crate) id: String,
    pub(crate) signature: String,
    pub(crate) body: String,
}

impl Receiver {
    pub(crate) async fn start() -> Self {
        let (sender, arrivals) = mpsc::unbounded_channel();
        let take = move |headers: HeaderMap, body: String| async move {
            let text = |name: &str| headers[name].to_str().unwrap().to_owned();
            let (id, signature) = (text("webhook-id"), text("webhook-signature"));
            sender.send(Arrival { id, signature, body }).unwrap();
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hooks", listener.local_addr().unwrap());
        let router = Router::new().route("/hooks", axum::routing::post(take));
        #[expect(clippy::disallowed_methods, reason = "the test is the host of its receiver")]
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { url, arrivals }
    }

    pub(crate) async fn next(&mut self) -> Arrival {
        tokio::time::timeout(PATIENCE, self.arrivals.recv()).await.unwrap().unwrap()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.arrivals.is_empty()
    }
}
