//! How many groups a user may be in.

use zim_integration_tests::{World, refusal, soon};
use zim_protocol::{ErrorCode, GroupAdvancedConfig};

use crate::group::{create, info};

#[tokio::test]
async fn dismiss_group_makes_room_for_another() {
    let world = World::with(|config| config.limits.max_groups = 1).await;
    let (ann, bob, cai) = (world.user("ann").await, world.user("bob").await, world.user("cai").await);
    create(&ann, "first", &["bob"]).await;
    create(&cai, "open", &[]).await;
    let another = async |id: &str| soon(ann.create_group(info(id), [""; 0], GroupAdvancedConfig::default())).await;
    let full = ErrorCode::GroupModuleCreateGroupError;
    assert_eq!(refusal(another("second").await), full);
    assert_eq!(refusal(soon(bob.join_group("open")).await), ErrorCode::GroupModuleJoinGroupError);
    soon(ann.dismiss_group("first")).await.unwrap();
    another("second").await.unwrap();
    soon(bob.join_group("open")).await.unwrap();
    assert_eq!(refusal(another("third").await), full);
    world.end().await;
}
