//! The server under test, with all that it says kept.

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode, Uri};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::process::Command;

use crate::harness::{Folder, Server, http};

/// How long a delivery may take to end.
const PATIENCE: Duration = Duration::from_secs(60);

/// A piece of what the product said, and where.
pub(super) type Said = (String, Vec<u8>);

pub(super) struct Stage {
    pub(super) folder: Folder,
    pub(super) server: Server,
    pub(super) key: String,
    /// Where receivers are: `/ok…` takes what comes, anything else refuses it.
    pub(super) receiver: String,
    http: reqwest::Client,
    said: Vec<Said>,
    wire: Kept,
    traces: Kept,
}

type Kept = Arc<Mutex<Vec<u8>>>;

impl Stage {
    pub(super) async fn set() -> Self {
        let (receiver, wire) = keeper(|uri| match uri.path().starts_with("/ok") {
            true => StatusCode::OK,
            false => StatusCode::INTERNAL_SERVER_ERROR,
        })
        .await;
        let (collector, traces) = keeper(|_| StatusCode::OK).await;
        let folder = Folder::new();
        let environment = [
            ("ICP_ALLOW_LOOPBACK", "true"),
            ("ICP_LOG", "trace"),
            ("ICP_OTLP_ENDPOINT", collector.as_str()),
            ("ICP_ORGANIZATION_METRICS", "10"),
        ];
        let log = fs::File::create(folder.path("log")).unwrap();
        let server = Server::start_logging(&folder, &environment, Stdio::from(log)).await;
        let key = server.key.clone().unwrap();
        Self { folder, server, key, receiver, http: http(), said: Vec::new(), wire, traces }
    }

    /// Sends a request and keeps its answer.
    pub(super) async fn call(&mut self, method: &str, path: &str, body: Option<&Value>) -> Value {
        let (status, answer) = self.ask(method, path, body, true).await;
        assert!(status < 500 || path.ends_with("/ready"), "{method} {path}: {status} {answer}");
        answer
    }

    /// As [`call`](Self::call), of what asks somebody who may be of no help.
    pub(super) async fn ask_about(&mut self, method: &str, path: &str, body: Option<&Value>) {
        let (status, answer) = self.ask(method, path, body, true).await;
        assert!([401, 503].contains(&status), "{method} {path}: {status} {answer}");
    }

    /// As [`call`](Self::call), of what has to go well.
    pub(super) async fn good(&mut self, method: &str, path: &str, body: Value) -> Value {
        let (status, answer) = self.ask(method, path, Some(&body), true).await;
        assert!((200..300).contains(&status), "{method} {path}: {status} {answer}");
        answer
    }

    /// As [`call`](Self::call), of what must not be taken.
    pub(super) async fn refused(&mut self, method: &str, path: &str, body: &Value) {
        let (status, answer) = self.ask(method, path, Some(body), true).await;
        assert!((400..500).contains(&status), "{method} {path} {body}: {status} {answer}");
    }

    /// As [`good`](Self::good), where the answer shows a secret, this once.
    pub(super) async fn once(&mut self, path: &str, body: Value) -> Value {
        let (status, answer) = self.ask("POST", path, Some(&body), false).await;
        assert!((200..300).contains(&status), "{path}: {status} {answer}");
        answer
    }

    async fn ask(
        &mut self,
        method: &str,
        path: &str,
        body: Option<&Value>,
        keep: bool,
    ) -> (u16, Value) {
        let url = format!("{}{path}", self.server.url);
        let mut request = self.http.request(method.parse().unwrap(), url).bearer_auth(&self.key);
        if let Some(body) = body {
            let media =
                if method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
            request = request.header("content-type", media).body(body.to_string());
        }
        let answer = request.send().await.unwrap();
        let (status, headers) = (answer.status().as_u16(), format!("{:?}", answer.headers()));
        // A stream goes on; its beginning is enough.
        let stream = headers.contains("text/event-stream");
        let bytes = match stream {
            true => Bytes::new(),
            false => answer.bytes().await.unwrap(),
        };
        if keep {
            let all = [headers.as_bytes(), b"\n", &bytes].concat();
            self.said.push((format!("the answer of {method} {path}"), all));
        }
        (status, serde_json::from_slice(&bytes).unwrap_or_default())
    }

    /// Runs a command of the command line and keeps what it says.
    pub(super) async fn run(&mut self, arguments: &[&str]) {
        let environment = [("ICP_URL", self.server.url.as_str()), ("ICP_API_KEY", &self.key)];
        let mut command: Command = self.folder.command(&environment);
        let output = command.args(arguments).stderr(Stdio::piped()).output().await.unwrap();
        let name = format!("the output of `{}`", arguments.join(" "));
        self.said.push((name, [output.stdout, output.stderr].concat()));
    }

    /// Waits until so many deliveries have ended like this; answers the last.
    pub(super) async fn ended(&mut self, org: &str, state: &str, count: usize) -> Value {
        let path = format!("{org}/deliveries?state={state}");
        let wait = async {
            loop {
                let (_, page) = self.ask("GET", &path, None, true).await;
                let items = page["items"].as_array().unwrap();
                if items.len() >= count {
                    return items[0].clone();
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.unwrap()
    }

    /// What was sent to receivers: where secrets have to be.
    pub(super) fn wire(&self) -> Vec<u8> {
        self.wire.lock().unwrap().clone()
    }

    /// Stops the server; answers all that was said, and all that is left in files but the key that
    /// seals.
    pub(super) async fn end(self) -> Vec<Said> {
        let mut said = self.said;
        // A commit moves what is in the write-ahead log; both are to be looked at.
        files(&self.folder.path(""), &mut said);
        let stopped = self.server.stop().await;
        said.push(("the last words".to_owned(), stopped.into_bytes()));
        files(&self.folder.path(""), &mut said);
        said.push(("the traces".to_owned(), self.traces.lock().unwrap().clone()));
        said
    }
}

fn files(folder: &Path, said: &mut Vec<Said>) {
    for file in fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        if path.is_file() && path.file_name().is_some_and(|name| name != "icp.key") {
            said.push((path.display().to_string(), fs::read(&path).unwrap()));
        }
    }
}

/// A server that keeps every request whole.
async fn keeper(
    status: impl Fn(&Uri) -> StatusCode + Clone + Send + Sync + 'static,
) -> (String, Kept) {
    let kept = Kept::default();
    let keep = Arc::clone(&kept);
    let take = move |uri: Uri, headers: HeaderMap, body: Bytes| {
        let head = format!("{uri} {headers:?}\n");
        keep.lock().unwrap().extend([head.as_bytes(), &body].concat());
        std::future::ready(status(&uri))
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let router = Router::new().fallback(take);
    #[expect(clippy::disallowed_methods, reason = "the test is the host of its receiver")]
    tokio::spawn(async move { axum::serve(listener, router).await });
    (url, kept)
}
