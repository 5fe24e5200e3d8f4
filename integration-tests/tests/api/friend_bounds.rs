//! The limits and permissions of friend calls, past the SDK, which refuses such calls itself, and through it.

use std::collections::HashMap;

use zim_integration_tests::{RawClient, World, refusal, soon};
use zim_protocol::{
    AcceptFriendApplicationRequest, AddFriendRequest, BlacklistQueryConfig, CheckFriendsRelationRequest,
    DeleteFriendsRequest, ErrorCode, FriendAddConfig, FriendApplicationAcceptConfig, FriendApplicationListQueryConfig,
    FriendApplicationRejectConfig, FriendApplicationSendConfig, FriendDeleteConfig, FriendListQueryConfig,
    FriendRelationCheckConfig, FriendSearchConfig, QueryBlacklistRequest, QueryFriendApplicationListRequest,
    QueryFriendListRequest, QueryFriendsInfoRequest, RejectFriendApplicationRequest, Rpc, SendFriendApplicationRequest,
    UpdateFriendAliasRequest, UpdateFriendAttributesRequest,
};

use zim_server::db::{Scope, Tx, params};

use crate::friend::{add, attributes, friends};

const INVALID: ErrorCode = ErrorCode::CommonModuleParamsInvalid;
const TOO_MANY: ErrorCode = ErrorCode::FriendModuleFriendOperationLimitExceeded;

async fn refused<R: Rpc>(raw: &mut RawClient, rpc: &R, why: ErrorCode) {
    let request = serde_json::to_string(rpc).unwrap();
    match raw.call(rpc).await {
        Ok(_) => panic!("{}: {request} was accepted", R::METHOD.path),
        Err(error) => assert_eq!(error.code, why as i32, "{}: {request}", R::METHOD.path),
    }
}

fn alias(characters: usize) -> String {
    "語".repeat(characters)
}

/// Attributes of `bytes` bytes, with all allowed keys.
fn all_attributes(bytes: usize) -> HashMap<String, String> {
    let rest = "x".repeat(bytes - 5 * 2 - 4);
    attributes([("k0", "a"), ("k1", "b"), ("k2", "c"), ("k3", "d"), ("k4", &rest)])
}

fn ids(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("nobody{number}")).collect()
}

#[tokio::test]
async fn the_server_checks_the_limits_of_aliases_and_attributes() {
    let world = World::new().await;
    world.raw_user("bob", 1).await.end().await;
    let mut ann = world.raw_user("ann", 2).await;
    let good = FriendAddConfig {
        friend_alias: alias(256),
        friend_attributes: all_attributes(1_024),
        wording: "é".repeat(1_024),
    };
    let bad = [
        FriendAddConfig { friend_alias: alias(257), ..good.clone() },
        FriendAddConfig { friend_attributes: all_attributes(1_025), ..good.clone() },
        FriendAddConfig { friend_attributes: attributes([("k5", "x")]), ..good.clone() },
        FriendAddConfig { wording: "é".repeat(1_025), ..good.clone() },
    ];
    let bob = || "bob".to_owned();
    for config in &bad {
        refused(&mut ann, &AddFriendRequest { user_id: bob(), config: Some(config.clone()) }, INVALID).await;
        let FriendAddConfig { friend_alias, friend_attributes, wording } = config.clone();
        let config = FriendApplicationSendConfig { wording, friend_alias, friend_attributes, push_config: None };
        let asks = SendFriendApplicationRequest { user_id: bob(), config: Some(config.clone()) };
        refused(&mut ann, &asks, INVALID).await;
    }
    for config in &bad[..3] {
        let FriendAddConfig { friend_alias, friend_attributes, .. } = config.clone();
        let config = FriendApplicationAcceptConfig { friend_alias, friend_attributes, push_config: None };
        let accepts = AcceptFriendApplicationRequest { user_id: bob(), config: Some(config) };
        refused(&mut ann, &accepts, INVALID).await;
    }
    for user_id in ["", "b ob", &"x".repeat(33)] {
        let user_id = user_id.to_owned();
        refused(&mut ann, &AddFriendRequest { user_id: user_id.clone(), config: None }, INVALID).await;
        refused(&mut ann, &SendFriendApplicationRequest { user_id: user_id.clone(), config: None }, INVALID).await;
        refused(&mut ann, &AcceptFriendApplicationRequest { user_id: user_id.clone(), config: None }, INVALID).await;
        refused(&mut ann, &RejectFriendApplicationRequest { user_id, config: None }, INVALID).await;
    }
    let added = ann.call(&AddFriendRequest { user_id: bob(), config: Some(good.clone()) }).await.unwrap();
    assert_eq!(added.friend_info.unwrap().friend_attributes, good.friend_attributes);
    refused(&mut ann, &UpdateFriendAliasRequest { friend_alias: alias(257), user_id: bob() }, INVALID).await;
    ann.call(&UpdateFriendAliasRequest { friend_alias: alias(256), user_id: bob() }).await.unwrap();
    for friend_attributes in [HashMap::new(), all_attributes(1_025), attributes([("k5", "x")])] {
        refused(&mut ann, &UpdateFriendAttributesRequest { friend_attributes, user_id: bob() }, INVALID).await;
    }
    let friend_attributes = all_attributes(1_024);
    ann.call(&UpdateFriendAttributesRequest { friend_attributes, user_id: bob() }).await.unwrap();
    ann.end().await;
    world.end().await;
}

#[tokio::test]
async fn the_server_checks_how_many_users_a_call_names() {
    let world = World::new().await;
    let mut ann = world.raw_user("ann", 2).await;
    let unregistered = ErrorCode::FriendModuleFriendAreUnregistered;
    for (user_ids, why) in [(Vec::new(), INVALID), (ids(20), unregistered), (ids(21), TOO_MANY)] {
        let config = None;
        refused(&mut ann, &DeleteFriendsRequest { user_ids: user_ids.clone(), config }, why).await;
        let config = None;
        refused(&mut ann, &CheckFriendsRelationRequest { user_ids: user_ids.clone(), config }, why).await;
        refused(&mut ann, &QueryFriendsInfoRequest { user_ids }, why).await;
    }
    let user_ids = vec!["ann".to_owned()];
    for kind in [-1, 2] {
        let config = Some(FriendDeleteConfig { r#type: kind });
        refused(&mut ann, &DeleteFriendsRequest { user_ids: user_ids.clone(), config }, INVALID).await;
        let config = Some(FriendRelationCheckConfig { r#type: kind });
        refused(&mut ann, &CheckFriendsRelationRequest { user_ids: user_ids.clone(), config }, INVALID).await;
    }
    for count in [-1, 0, 101] {
        let config = Some(FriendListQueryConfig { next_flag: 0, count });
        refused(&mut ann, &QueryFriendListRequest { config }, INVALID).await;
        let config = Some(FriendApplicationListQueryConfig { next_flag: 0, count });
        refused(&mut ann, &QueryFriendApplicationListRequest { config }, INVALID).await;
    }
    refused(&mut ann, &QueryFriendListRequest { config: None }, INVALID).await;
    refused(&mut ann, &QueryFriendApplicationListRequest { config: None }, INVALID).await;
    for count in [1, 100] {
        let config = Some(FriendListQueryConfig { next_flag: 0, count });
        assert!(ann.call(&QueryFriendListRequest { config }).await.unwrap().friend_list.is_empty());
        let config = Some(FriendApplicationListQueryConfig { next_flag: 0, count });
        let found = ann.call(&QueryFriendApplicationListRequest { config }).await.unwrap();
        assert!(found.application_list.is_empty());
    }
    ann.end().await;
    world.end().await;
}

#[tokio::test]
async fn accept_friend_application_is_refused_when_the_applicants_list_is_full() {
    let world = World::with(|config| {
        let limits = &mut config.limits;
        assert_eq!((limits.max_friends, limits.friend_application_valid_s), (3_000, 7 * 86_400));
        limits.max_friends = 1;
    })
    .await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    world.raw_user("carl", 1).await.end().await;
    soon(ann.send_friend_application("bob", FriendApplicationSendConfig::default())).await.unwrap();
    add(&ann, "carl").await;
    let accepted = soon(bob.accept_friend_application("ann", FriendApplicationAcceptConfig::default())).await;
    assert_eq!(refusal(accepted), ErrorCode::FriendModuleFriendNumsLimit);
    assert!(friends(&bob).await.is_empty(), "a refusal changes neither list");
    soon(ann.delete_friends(["carl"], FriendDeleteConfig::default())).await.unwrap();
    soon(bob.accept_friend_application("ann", FriendApplicationAcceptConfig::default())).await.unwrap();
    assert_eq!((friends(&ann).await, friends(&bob).await), (vec!["bob".to_owned()], vec!["ann".to_owned()]));
    world.end().await;
}

#[tokio::test]
async fn friends_and_blacklist_need_a_login() {
    let world = World::new().await;
    let nobody = world.client();
    let code = ErrorCode::NetworkModuleUserIsNotLogged;
    let page = FriendListQueryConfig { next_flag: 0, count: 1 };
    let config = FriendApplicationListQueryConfig { next_flag: 0, count: 1 };
    let blocked = BlacklistQueryConfig { next_flag: 0, count: 1 };
    let search = FriendSearchConfig { count: 1, keywords: vec!["a".to_owned()], ..FriendSearchConfig::default() };
    let codes = [
        refusal(soon(nobody.add_friend("a", FriendAddConfig::default())).await),
        refusal(soon(nobody.send_friend_application("a", FriendApplicationSendConfig::default())).await),
        refusal(soon(nobody.accept_friend_application("a", FriendApplicationAcceptConfig::default())).await),
        refusal(soon(nobody.reject_friend_application("a", FriendApplicationRejectConfig::default())).await),
        refusal(soon(nobody.delete_friends(["a"], FriendDeleteConfig::default())).await),
        refusal(soon(nobody.check_friends_relation(["a"], FriendRelationCheckConfig::default())).await),
        refusal(soon(nobody.update_friend_alias("x", "a")).await),
        refusal(soon(nobody.update_friend_attributes(attributes([("k0", "x")]), "a")).await),
        refusal(soon(nobody.query_friends_info(["a"])).await),
        refusal(soon(nobody.query_friend_list(page)).await),
        refusal(soon(nobody.query_friend_application_list(config)).await),
        refusal(soon(nobody.search_local_friends(search)).await),
        refusal(soon(nobody.add_users_to_blacklist(["a"])).await),
        refusal(soon(nobody.remove_users_from_blacklist(["a"])).await),
        refusal(soon(nobody.query_blacklist(blocked)).await),
        refusal(soon(nobody.check_user_is_in_blacklist("a")).await),
    ];
    assert_eq!(codes, [code; 16]);
    world.end().await;
}

/// Profiles may be large: a page of a hundred of them would not fit into a frame. A page ends earlier, and loses nobody.
#[tokio::test]
async fn a_page_of_large_profiles_is_limited_in_bytes() {
    const USERS: i64 = 40;
    let world = World::with(|config| config.limits.max_user_extended_data_bytes = 32_768).await;
    let mut ann = world.raw_user("ann", 1).await;
    let app = world.server().app();
    let app_id = i64::from(world.app_id());
    let users: Vec<(i64, i64)> = (1..=USERS).map(|place| (app.ids.next(), place)).collect();
    let added = app.db.submit(Scope::none(), async move |tx: &mut Tx<'_>| {
        for (id, place) in users {
            for sql in [
                "INSERT INTO account (id, app, name, pos, user_name, avatar_url, extended_data, info_at, created_at) \
                 VALUES ($1, $2, $3, 0, '', '', $4, 0, $5)",
                "INSERT INTO friend (account, friend, alias, attributes, wording, created_at, place) \
                 SELECT id, $1, '', '{}', '', 0, $5 FROM account WHERE app = $2 AND name = 'ann' AND $3 <> $4",
                "INSERT INTO block (account, blocked, pos) \
                 SELECT id, $1, $5 FROM account WHERE app = $2 AND name = 'ann' AND $3 <> $4",
                "INSERT INTO friend_application (account, peer, type, state, wording, alias, attributes, created_at, \
                 updated_at, expires_at, place) SELECT id, $1, 1, 1, '', '', '{}', 0, 0, 0, $5 \
                 FROM account WHERE app = $2 AND name = 'ann' AND $3 <> $4",
            ] {
                let data = "x".repeat(30_000);
                tx.execute(sql, &params![id, app_id, format!("user{place}"), data, place]).await?;
            }
        }
        let sql = "UPDATE account SET friend_count = $2, block_count = $2 WHERE app = $1 AND name = 'ann'";
        Ok(tx.execute(sql, &params![app_id, USERS]).await?)
    });
    added.await.unwrap();
    let expected: Vec<String> = (1..=USERS).rev().map(|place| format!("user{place}")).collect();
    macro_rules! pages {
        ($request:expr, $list:ident, $id:expr) => {{
            let (mut found, mut pages, mut next_flag) = (Vec::new(), 0, 0);
            loop {
                let page = ann.call(&$request(next_flag)).await.unwrap();
                let bytes = prost::Message::encoded_len(&page);
                assert!(bytes < 300_000, "a page of {bytes} bytes");
                found.extend(page.$list.into_iter().map($id));
                (pages, next_flag) = (pages + 1, page.next_flag);
                if next_flag == 0 {
                    break;
                }
            }
            assert!(pages > 3, "{pages} pages");
            assert_eq!(found, expected);
        }};
    }
    let friends = |next_flag| QueryFriendListRequest { config: Some(FriendListQueryConfig { next_flag, count: 100 }) };
    pages!(friends, friend_list, |friend: zim_protocol::FriendInfo| friend.user_id);
    let blocked = |next_flag| QueryBlacklistRequest { config: Some(BlacklistQueryConfig { next_flag, count: 100 }) };
    pages!(blocked, blacklist, |user: zim_protocol::UserInfo| user.user_id);
    let applications = |next_flag| QueryFriendApplicationListRequest {
        config: Some(FriendApplicationListQueryConfig { next_flag, count: 100 }),
    };
    pages!(applications, application_list, |info: zim_protocol::FriendApplicationInfo| info
        .apply_user
        .unwrap()
        .user_id);
    ann.end().await;
    world.end().await;
}
