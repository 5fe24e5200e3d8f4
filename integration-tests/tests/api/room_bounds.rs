//! Rooms: every way in and every way to set attributes has the same refusals, and both sides of what a request may have.

use std::collections::HashMap;
use std::ops::Range;

use zim_integration_tests::{World, refusal, room, soon};
use zim_protocol::{
    ErrorCode, EventKind, RoomAdvancedConfig, RoomAttributesBatchOperationConfig, RoomAttributesDeleteConfig,
    RoomAttributesSetConfig, RoomEvent, RoomMemberAttributesSetConfig, RoomState,
};

use crate::room::{create, delay, in_room, info, is_told, list, states};

const INVALID: ErrorCode = ErrorCode::CommonModuleParamsInvalid;
const NUMBER: ErrorCode = ErrorCode::RoomModuleTheNumberOfRoomAttributesExceedsLimit;
const KEY: ErrorCode = ErrorCode::RoomModuleTheLengthOfRoomAttributeKeyExceedsLimit;
const VALUE: ErrorCode = ErrorCode::RoomModuleTheLengthOfRoomAttributeValueExceedsLimit;
const TOTAL: ErrorCode = ErrorCode::RoomModuleTheTotalLengthOfRoomAttributesValueExceedsLimit;

/// Attributes with keys of three bytes, and values of so many.
fn many(numbers: Range<usize>, value: usize) -> HashMap<String, String> {
    numbers.map(|number| (format!("k{number:02}"), "v".repeat(value))).collect()
}

/// An attribute with a key and a value of these lengths.
fn one(key: usize, value: usize) -> HashMap<String, String> {
    HashMap::from([("k".repeat(key), "v".repeat(value))])
}

#[tokio::test]
async fn whoever_enters_or_switches_is_refused_as_those_who_create_and_join() {
    let world = World::with(|config| {
        config.limits.max_rooms = 3;
        config.limits.max_room_members = 1;
    })
    .await;
    let (ann, bob, cai) = (world.user("ann").await, world.user("bob").await, world.user("cai").await);
    let dan = world.user("dan").await;
    create(&ann, "one").await;
    create(&bob, "two").await;
    let full = ErrorCode::RoomModuleJoinRoomError;
    assert_eq!(refusal(soon(cai.enter_room(info("two"), delay(0))).await), full);
    assert_eq!(refusal(soon(ann.switch_room("one", info("two"), true, delay(0))).await), full);
    assert_eq!(
        states(&ann).split_off(2),
        [
            in_room("two", RoomState::Connecting, RoomEvent::ActiveSwitch),
            in_room("two", RoomState::Disconnected, RoomEvent::SwitchFailed)
        ]
    );
    let with = |room_attributes| RoomAdvancedConfig { room_attributes, ..RoomAdvancedConfig::default() };
    // Five of 3 and 1,022 bytes are five bytes more than a room may have.
    for (attributes, code) in
        [(many(0..21, 0), NUMBER), (one(17, 0), KEY), (one(1, 1_025), VALUE), (many(0..5, 1_022), TOTAL)]
    {
        let entered = soon(cai.enter_room(info("three"), with(attributes.clone()))).await;
        assert_eq!(refusal(entered), code);
        let switched = soon(ann.switch_room("one", info("three"), true, with(attributes))).await;
        assert_eq!(refusal(switched), code);
    }
    soon(cai.enter_room(info("three"), with(many(0..20, 0)))).await.unwrap();
    let all = ErrorCode::RoomModuleTheNumberOfExistingRoomsHasReachedLimit;
    assert_eq!(refusal(soon(dan.enter_room(info("four"), delay(0))).await), all);
    assert_eq!(refusal(soon(ann.switch_room("one", info("four"), true, delay(0))).await), all);
    // Ann is in the first room all the time.
    assert_eq!(list(&ann, "one").await, ["ann"]);
    let leaving = ann.leave_room("one");
    let switched = soon(ann.switch_room("one", info("two"), false, delay(0))).await;
    assert_eq!(refusal(switched), ErrorCode::RoomModuleTheRoomIsConnecting);
    soon(leaving).await.unwrap();
    soon(dan.enter_room(info("four"), delay(0))).await.unwrap();
    world.end().await;
}

#[tokio::test]
async fn a_batch_that_would_be_too_much_changes_nothing() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    create(&ann, "stage").await;
    soon(bob.join_room("stage")).await.unwrap();
    is_told(&ann, "stage +bob").await;
    let begin = || ann.begin_room_attributes_batch_operation("stage", RoomAttributesBatchOperationConfig::default());
    let set = |attributes| ann.set_room_attributes(attributes, "stage", RoomAttributesSetConfig::default());
    for (sets, code) in [
        (vec![many(0..20, 0), many(20..21, 0)], NUMBER),
        (vec![many(0..1, 0), one(17, 0)], KEY),
        (vec![many(0..1, 0), one(1, 1_025)], VALUE),
        (vec![many(0..4, 1_022), many(4..5, 1_022)], TOTAL),
    ] {
        begin().unwrap();
        for attributes in sets {
            soon(set(attributes)).await.unwrap();
        }
        assert_eq!(refusal(soon(ann.end_room_attributes_batch_operation("stage")).await), code);
    }
    // What comes after it has been heard by all.
    ann.say(room("stage"), "nothing").await;
    bob.receives("nothing").await;
    bob.say(room("stage"), "nothing either").await;
    ann.receives("nothing either").await;
    for device in [&ann, &bob] {
        assert!(device.seen_of(EventKind::RoomAttributesUpdated).is_empty());
        assert!(device.seen_of(EventKind::RoomAttributesBatchUpdated).is_empty());
    }
    begin().unwrap();
    for attributes in [many(0..10, 0), many(10..20, 0)] {
        soon(set(attributes)).await.unwrap();
    }
    soon(ann.end_room_attributes_batch_operation("stage")).await.unwrap();
    let found = soon(bob.query_room_all_attributes("stage")).await.unwrap().room_attributes;
    assert_eq!(found, many(0..20, 0));
    world.end().await;
}

#[tokio::test]
async fn a_request_about_members_or_attributes_names_some_and_no_more_than_it_may() {
    let world = World::new().await;
    let ann = world.user("ann").await;
    create(&ann, "stage").await;
    soon(ann.set_room_attributes(many(0..1, 0), "stage", RoomAttributesSetConfig::default())).await.unwrap();
    let delete = |count: usize| {
        let keys = many(0..count, 0).into_keys();
        ann.delete_room_attributes(keys, "stage", RoomAttributesDeleteConfig::default())
    };
    assert_eq!(refusal(soon(delete(21)).await), INVALID);
    assert_eq!(soon(delete(20)).await.unwrap().error_keys.len(), 19);
    // Ann, and others whom nobody knows.
    let set = |count: usize| {
        let users = (1..count).map(|number| format!("u{number}")).chain(["ann".to_owned()]);
        ann.set_room_members_attributes(one(1, 1), users, "stage", RoomMemberAttributesSetConfig::default())
    };
    assert_eq!(refusal(soon(set(101)).await), INVALID);
    let changed = soon(set(100)).await.unwrap();
    assert_eq!((changed.infos.len(), changed.error_user_list.len()), (1, 99));
    let (nobody, config) = ([""; 0], RoomMemberAttributesSetConfig::default);
    assert_eq!(refusal(soon(ann.set_room_members_attributes(one(1, 1), nobody, "stage", config())).await), INVALID);
    let nothing = ann.set_room_members_attributes(HashMap::new(), ["ann"], "stage", config());
    assert_eq!(refusal(soon(nothing).await), INVALID);
    assert_eq!(refusal(soon(ann.query_room_members_attributes(nobody, "stage")).await), INVALID);
    assert_eq!(refusal(soon(ann.query_room_members(nobody, "stage")).await), INVALID);
    world.end().await;
}

#[tokio::test]
async fn a_room_that_waits_for_its_next_member_keeps_its_name_and_no_attributes() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    let config = RoomAdvancedConfig { room_attributes: many(0..1, 1), room_destroy_delay_time: 60 };
    soon(ann.create_room(info("stage"), config)).await.unwrap();
    let stays = RoomMemberAttributesSetConfig { is_delete_after_owner_left: Some(false) };
    soon(ann.set_room_members_attributes(one(1, 1), ["ann"], "stage", stays)).await.unwrap();
    soon(ann.leave_room("stage")).await.unwrap();
    let joined = soon(bob.join_room("stage")).await.unwrap();
    assert_eq!(joined.room_info.unwrap().base_info.unwrap(), info("stage"));
    soon(ann.join_room("stage")).await.unwrap();
    assert_eq!(soon(bob.query_room_all_attributes("stage")).await.unwrap().room_attributes, HashMap::new());
    let found = soon(bob.query_room_members_attributes(["ann"], "stage")).await.unwrap().infos;
    assert_eq!(found.iter().map(|info| info.attributes.len()).collect::<Vec<_>>(), [0]);
    world.end().await;
}
