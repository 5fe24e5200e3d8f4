//! People.

use zim_integration_tests::{World, refusal, soon};
use zim_protocol::{ErrorCode, Event, EventKind, QueryUsersInfoRequest, UserFullInfo, UsersInfoQueryConfig};

fn name(info: &UserFullInfo) -> &str {
    &info.base_info.as_ref().unwrap().user_name
}

const FRESH: UsersInfoQueryConfig = UsersInfoQueryConfig { is_query_from_server: true };

#[tokio::test]
async fn query_users_info_finds_those_who_are_there_and_names_those_who_are_not() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    soon(bob.update_user_name("Bob")).await.unwrap();
    let found = soon(ann.query_users_info(["bob", "nobody", "ann"], FRESH)).await.unwrap();
    let ids: Vec<&str> = found.user_list.iter().map(|info| info.base_info.as_ref().unwrap().user_id.as_str()).collect();
    assert_eq!((ids.len(), ids.contains(&"ann"), ids.contains(&"bob")), (2, true, true));
    assert!(found.user_list.iter().any(|info| name(info) == "Bob"));
    assert_eq!(found.error_user_list.len(), 1);
    assert_eq!(found.error_user_list[0].user_id, "nobody");
    assert_eq!(found.error_user_list[0].reason, i64::from(ErrorCode::CommonModuleUserIsNotExist as i32));
    world.end().await;
}

#[tokio::test]
async fn query_users_info_is_refused_for_none_more_than_ten_and_what_is_no_id() {
    let world = World::new().await;
    let ann = world.user("ann").await;
    let eleven: Vec<String> = (0..11).map(|number| format!("user{number}")).collect();
    let eleven: Vec<&str> = eleven.iter().map(String::as_str).collect();
    for ids in [vec![], eleven, vec!["b ob"], vec![""]] {
        let refused = soon(ann.query_users_info(ids.clone(), FRESH)).await;
        assert_eq!(refusal(refused), ErrorCode::CommonModuleParamsInvalid, "{ids:?}");
        let mut raw = world.raw_user("ann", 1).await;
        let user_ids = ids.iter().map(|id| (*id).to_owned()).collect();
        let refused = raw.call(&QueryUsersInfoRequest { user_ids, config: None }).await.unwrap_err();
        assert_eq!(refused.code, ErrorCode::CommonModuleParamsInvalid as i32, "{ids:?}");
        raw.end().await;
    }
    world.end().await;
}

#[tokio::test]
async fn query_users_info_is_limited_to_ten_ids_in_ten_seconds() {
    let world = World::new().await;
    let mut raw = world.raw_user("ann", 1).await;
    let ask =
        |count: usize| QueryUsersInfoRequest { user_ids: (0..count).map(|n| format!("u{n}")).collect(), config: None };
    raw.call(&ask(6)).await.unwrap();
    raw.call(&ask(4)).await.unwrap();
    let refused = raw.call(&ask(1)).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::CommonModuleUserInfoQueriedLimit as i32);
    world.clock.advance(9_999);
    assert!(raw.call(&ask(1)).await.is_err());
    world.clock.advance(1);
    raw.call(&ask(10)).await.unwrap();
    raw.end().await;
    // The SDK keeps to it by itself.
    let bob = world.user("bob").await;
    let ten: Vec<String> = (0..10).map(|number| format!("u{number}")).collect();
    soon(bob.query_users_info(ten.iter().map(String::as_str), FRESH)).await.unwrap();
    assert_eq!(refusal(soon(bob.query_users_info(["ann"], FRESH)).await), ErrorCode::CommonModuleUserInfoQueriedLimit);
    world.end().await;
}

#[tokio::test]
async fn query_users_info_of_somebody_known_needs_no_server() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    soon(bob.update_user_name("Bob")).await.unwrap();
    soon(ann.query_users_info(["bob"], FRESH)).await.unwrap();
    soon(bob.update_user_name("Robert")).await.unwrap();
    let held = soon(ann.query_users_info(["bob"], UsersInfoQueryConfig::default())).await.unwrap();
    assert_eq!(name(&held.user_list[0]), "Bob");
    let fresh = soon(ann.query_users_info(["bob"], FRESH)).await.unwrap();
    assert_eq!(name(&fresh.user_list[0]), "Robert");
    world.end().await;
}

#[tokio::test]
async fn update_user_name_is_told_to_the_other_devices_only() {
    let world = World::new().await;
    let (phone, laptop, bob) = (world.user("ann").await, world.device("ann").await, world.user("bob").await);
    let updated = soon(phone.update_user_name("Ann the Great")).await.unwrap();
    assert_eq!(updated.user_name, "Ann the Great");
    match laptop.next(EventKind::UserInfoUpdated).await {
        Event::UserInfoUpdated(event) => assert_eq!(name(event.info.as_ref().unwrap()), "Ann the Great"),
        other => panic!("{other:?}"),
    }
    // What follows has arrived everywhere: nobody else was told.
    phone.say("bob", "done").await;
    bob.hears("done").await;
    assert!(phone.seen_of(EventKind::UserInfoUpdated).is_empty());
    assert!(bob.seen_of(EventKind::UserInfoUpdated).is_empty());
    let found = soon(bob.query_users_info(["ann"], FRESH)).await.unwrap();
    assert_eq!(name(&found.user_list[0]), "Ann the Great");
    world.end().await;
}

#[tokio::test]
async fn update_user_name_takes_256_bytes_and_not_one_more() {
    let world = World::new().await;
    let ann = world.user("ann").await;
    let longest = "é".repeat(128);
    assert_eq!(soon(ann.update_user_name(&longest)).await.unwrap().user_name, longest);
    for bad in [format!("{longest}x"), "a\0b".to_owned()] {
        assert_eq!(refusal(soon(ann.update_user_name(&bad)).await), ErrorCode::CommonModuleParamsInvalid);
    }
    let found = soon(ann.query_users_info(["ann"], FRESH)).await.unwrap();
    assert_eq!(name(&found.user_list[0]), longest);
    world.end().await;
}

#[tokio::test]
async fn update_user_name_twice_ends_with_the_second() {
    let world = World::new().await;
    let ann = world.user("ann").await;
    let (first, second) = (ann.update_user_name("first"), ann.update_user_name("second"));
    let (first, second) = soon(async { tokio::join!(first, second) }).await;
    first.unwrap();
    second.unwrap();
    let found = soon(ann.query_users_info(["ann"], FRESH)).await.unwrap();
    assert_eq!(name(&found.user_list[0]), "second");
    world.end().await;
}
