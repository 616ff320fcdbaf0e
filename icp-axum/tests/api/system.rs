use icp_core::Engine;
use icp_core::store::MemoryStore;
use icp_core::telemetry::SystemLog;
use serde_json::Value;
use tracing_subscriber::layer::SubscriberExt;

use crate::harness::Api;

#[tokio::test]
async fn the_process_tells_how_it_is_doing() {
    let api = Api::new().await;
    let status = api.get("/api/v1/system/status").await.expect(200);
    assert_eq!((&status["ready"], &status["store"]["backend"]), (&false.into(), &"memory".into()));
    assert_eq!(status["version"], env!("CARGO_PKG_VERSION"));
    assert!(status["uptime_seconds"].is_u64() && status["session"].is_string(), "{status}");
    if cfg!(target_os = "linux") {
        assert!(status["memory_bytes"].as_u64().unwrap() > 1_000_000);
    }
}

#[tokio::test]
async fn the_log_is_paged_filtered_and_without_secrets() {
    let log = SystemLog::default();
    let subscriber = tracing_subscriber::registry().with(log.layer());
    tracing::subscriber::with_default(subscriber, || {
        for n in 0..3 {
            tracing::info!(target: "app", n, password = "hush-hush", "said");
        }
        tracing::error!(target: "app::store", "Bearer hush-hush is broken");
    });
    let api = Api::of(Engine::builder(MemoryStore::new()).system_log(log)).await;
    let path = "/api/v1/system/log";
    let page = api.get(&format!("{path}?limit=2")).await;
    assert!(!page.text.contains("hush-hush"), "{}", page.text);
    let page = page.expect(200);
    assert_eq!(
        (&page["items"][0]["level"], &page["items"][1]["fields"]["n"]),
        (&"error".into(), &"2".into())
    );
    let next = page["next"].as_str().unwrap();
    let page = api.get(&format!("{path}?limit=2&cursor={next}")).await.expect(200);
    assert_eq!((page["items"].as_array().unwrap().len(), &page["next"]), (2, &Value::Null));
    let errors = api.get(&format!("{path}?level=warn&target=app::store")).await.expect(200);
    assert_eq!(errors["items"].as_array().unwrap().len(), 1);
    let later = api.get(&format!("{path}?since=2999-01-01T00:00:00Z")).await.expect(200);
    assert!(later["items"].as_array().unwrap().is_empty());
    api.get(&format!("{path}?level=loud")).await.problem(400, "query_invalid");
}
