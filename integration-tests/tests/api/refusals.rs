//! Refusals that belong to no other file: groups that are not there, and a folder that is none.

use zim_client_sdk::Zim;
use zim_integration_tests::{World, refusal, soon};
use zim_protocol::{CacheConfig, ErrorCode, FileCacheClearConfig, FileCacheQueryConfig, GroupMemberQueryConfig};

use crate::group::create;
use crate::media::Files;

#[tokio::test]
async fn dismiss_group_and_kick_group_members_and_query_group_member_list_need_the_group() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    create(&ann, "crew", &[]).await;
    let (none, not_in) = (ErrorCode::GroupModuleGroupDoesNotExist, ErrorCode::GroupModuleUserIsNotInTheGroup);
    assert_eq!(refusal(soon(bob.dismiss_group("crew")).await), not_in);
    assert_eq!(refusal(soon(bob.kick_group_members(["ann"], "crew")).await), not_in);
    assert_eq!(refusal(soon(ann.kick_group_members(["bob"], "none")).await), none);
    let page = || GroupMemberQueryConfig { next_flag: 0, count: 100 };
    assert_eq!(refusal(soon(bob.query_group_member_list("crew", page())).await), not_in);
    assert_eq!(refusal(soon(ann.query_group_member_list("none", page())).await), none);
    assert_eq!(soon(ann.query_group_member_list("crew", page())).await.unwrap().user_list.len(), 1);
    world.end().await;
}

#[tokio::test]
async fn query_local_file_cache_and_clear_local_file_cache_need_a_folder() {
    let world = World::new().await;
    let ann = world.user("ann").await;
    let files = Files::new();
    Zim::set_cache_config(CacheConfig { cache_path: files.add("file", b"") });
    let size = soon(ann.query_local_file_cache(FileCacheQueryConfig::default())).await;
    let cleared = soon(ann.clear_local_file_cache(FileCacheClearConfig::default())).await;
    let failed = ErrorCode::MessageModuleCacheFileOpenFailed;
    assert_eq!((refusal(size), refusal(cleared)), (failed, failed));
    assert_eq!(refusal(soon(ann.keep_media_bytes(b"paper".to_vec())).await), failed);
    Zim::set_cache_config(CacheConfig::default());
    soon(ann.clear_local_file_cache(FileCacheClearConfig::default())).await.unwrap();
    world.end().await;
}
