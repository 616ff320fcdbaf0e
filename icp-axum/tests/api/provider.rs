//! The tokens and logins of a provider of OpenID Connect that others wrote.
#![expect(clippy::unwrap_used, reason = "what a test needs fails by panicking")]

use std::path::Path;
use std::process::Stdio;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::harness::Api;
use crate::idp::PAGE;

const ACME: &str = "/api/v1/organizations/acme";
/// As the script has it.
const SECRET: &str = "a secret of thirty-two characters";

/// A running provider.
struct Provider {
    issuer: String,
    questions: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
    _process: Child,
}

impl Provider {
    async fn start() -> Self {
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
        let packages = target.join("oracles");
        let there = packages.join("node_modules/oidc-provider").is_dir();
        assert!(there, "{} is not complete: run `scripts/oracles`", packages.display());
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/api/provider.mjs");
        let mut node = Command::new("node");
        node.arg("--no-warnings").arg(script).arg(&packages).arg(PAGE);
        node.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
        let mut process = node.spawn().unwrap();
        let questions = process.stdin.take().unwrap();
        let answers = BufReader::new(process.stdout.take().unwrap()).lines();
        let mut provider = Self { issuer: String::new(), questions, answers, _process: process };
        provider.issuer = provider.answer().await;
        provider
    }

    async fn ask(&mut self, question: Value) -> String {
        self.questions.write_all(format!("{question}\n").as_bytes()).await.unwrap();
        self.answer().await
    }

    /// The next line that is an answer: the provider's own advice is among them.
    async fn answer(&mut self) -> String {
        loop {
            let line = self.answers.next_line().await.unwrap().unwrap();
            if let Ok(answer) = serde_json::from_str(&line) {
                return answer;
            }
        }
    }
}

/// `acme`, which takes the provider's tokens and lets its people in.
async fn world() -> (Api, Provider) {
    let (api, provider) = (Api::new().await, Provider::start().await);
    let made = api.post("/api/v1/organizations", json!({ "id": "acme", "spec": {} })).await;
    made.expect(201);
    let client = json!({ "client_id": "client", "client_secret": SECRET });
    let mut login = client.clone();
    login["redirect_uris"] = json!([PAGE]);
    login["provision"] = json!([{ "role": "viewer" }]);
    let spec = json!({
        "issuer": provider.issuer,
        "audiences": ["urn:icp", "client"],
        "grants": [{ "role": "viewer" }],
        "introspection": client,
        "login": login,
    });
    let issuer = json!({ "id": "provider", "spec": spec });
    api.post(&format!("{ACME}/issuers"), issuer).await.expect(201);
    (api, provider)
}

#[tokio::test]
async fn its_tokens_are_taken_signed_and_opaque() {
    let (api, mut provider) = world().await;
    let signed = provider.ask(json!({ "ask": "token", "resource": "urn:icp" })).await;
    assert_eq!(signed.split('.').count(), 3);
    let elsewhere = provider.ask(json!({ "ask": "token", "resource": "urn:other" })).await;
    let opaque = provider.ask(json!({ "ask": "token" })).await;
    assert!(!opaque.contains('.'));
    let list = format!("{ACME}/integrations");
    for (token, status) in
        [(&signed, 200), (&opaque, 200), (&elsewhere, 401), (&format!("{signed}A"), 401)]
    {
        let answer = api.as_holder(token, "GET", &list, Value::Null).await;
        assert_eq!(answer.status, status, "{token}: {}", answer.text);
    }
    let denied = api.as_holder(&signed, "POST", &list, crate::harness::orders()).await;
    denied.problem(403, "permission_denied");
}

#[tokio::test]
async fn its_people_log_in_by_a_code() {
    let (api, mut provider) = world().await;
    for _ in ["made", "known"] {
        let start = json!({ "organization": "acme", "issuer": "provider", "redirect_uri": PAGE });
        let left = api.as_nobody("/api/v1/auth/oidc/start", start).await.expect(200);
        let visit = json!({ "ask": "visit", "url": left["url"], "who": "ann" });
        let back = url::Url::parse(&provider.ask(visit).await).unwrap();
        let said = |name: &str| {
            let found = back.query_pairs().find(|(known, _)| known == name);
            found.map(|(_, value)| Value::from(value.into_owned()))
        };
        let back = json!({
            "state": said("state"), "code": said("code"), "iss": said("iss"),
            "binding": left["binding"],
        });
        let session = api.as_nobody("/api/v1/auth/oidc/callback", back).await.expect(200);
        let access = session["access_token"].as_str().unwrap();
        let me = api.as_holder(access, "GET", "/api/v1/auth/me", Value::Null).await.expect(200);
        assert_eq!(me["organization"], "acme", "{me}");
    }
    let users = api.get(&format!("{ACME}/users")).await.expect(200);
    assert_eq!(users["items"].as_array().unwrap().len(), 1);
    assert_eq!(users["items"][0]["spec"]["email"], "ann@example.com");
}
