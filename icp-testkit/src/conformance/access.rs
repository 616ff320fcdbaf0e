use icp_core::access::ApiKeyRecord;
use icp_core::id::ApiKeyId;

use super::world::{World, at, race};

fn key(serial: u8) -> ApiKeyRecord {
    ApiKeyRecord { id: ApiKeyId::from_bytes([serial; 16]), hash: [serial; 32], created_at: at(0) }
}

pub(super) async fn first_key_is_stored_once(world: World) {
    assert!(world.bootstrap_key(key(1)).await.unwrap());
    assert!(!world.bootstrap_key(key(2)).await.unwrap());
    assert_eq!(world.api_key(key(1).id).await.unwrap(), Some(key(1)));
    assert_eq!(world.api_key(key(2).id).await.unwrap(), None);
}

pub(super) async fn first_key_has_one_winner(world: World) {
    let store = world.store();
    let won = race((1..=8).map(|serial| {
        let store = std::sync::Arc::clone(&store);
        async move { store.bootstrap_key(key(serial)).await.unwrap() }
    }))
    .await;
    assert_eq!(won.into_iter().filter(|won| *won).count(), 1);
}
