//! Attributes of rooms and of their members: who may change them, what the members are told, and the limits.

use std::collections::{BTreeMap, HashMap};

use zim_integration_tests::{Device, World, eventually, refusal, room, soon};
use zim_protocol::{
    EndRoomAttributesBatchOperationRequest, ErrorCode, Event, EventKind, RoomAdvancedConfig,
    RoomAttributesBatchOperationConfig, RoomAttributesDeleteConfig, RoomAttributesSetConfig,
    RoomAttributesUpdateAction, RoomAttributesUpdateInfo, RoomMemberAttributesInfo, RoomMemberAttributesQueryConfig,
    RoomMemberAttributesSetConfig, SetRoomAttributesRequest,
};

use crate::room::{create, info, is_told};

const NOT_IN: ErrorCode = ErrorCode::RoomModuleUserIsNotInTheRoom;
const NONE: ErrorCode = ErrorCode::RoomModuleTheRoomDoesNotExist;
const INVALID: ErrorCode = ErrorCode::CommonModuleParamsInvalid;
const REFUSED: ErrorCode = ErrorCode::RoomModuleRoomAttributesOperationFailedCompletely;

const PLAIN: RoomAttributesSetConfig =
    RoomAttributesSetConfig { is_force: false, is_delete_after_owner_left: false, is_update_owner: false };

fn pairs<const N: usize>(pairs: [(&str, &str); N]) -> HashMap<String, String> {
    pairs.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

async fn all(device: &Device, room_id: &str) -> BTreeMap<String, String> {
    let found = soon(device.query_room_all_attributes(room_id)).await.unwrap();
    assert_eq!(found.room_id, room_id);
    found.room_attributes.into_iter().collect()
}

fn sorted<const N: usize>(of: [(&str, &str); N]) -> BTreeMap<String, String> {
    pairs(of).into_iter().collect()
}

/// The changes of attributes that a device was told of, in short: `+a=1 -b`; a batch of both begins with `batch`.
fn changes(device: &Device) -> Vec<String> {
    let mut all = Vec::new();
    for event in device.seen() {
        let (name, room_id, infos) = match &event {
            Event::RoomAttributesUpdated(event) => ("", &event.room_id, &event.infos),
            Event::RoomAttributesBatchUpdated(event) => ("batch ", &event.room_id, &event.infos),
            _ => continue,
        };
        assert_eq!(room_id, "stage");
        let mut parts = Vec::new();
        for info in infos {
            let mut attributes: Vec<_> = info.room_attributes.iter().collect();
            attributes.sort();
            parts.extend(attributes.into_iter().map(|(key, value)| match info.action() {
                RoomAttributesUpdateAction::Set => format!("+{key}={value}"),
                RoomAttributesUpdateAction::Delete => format!("-{key}"),
            }));
        }
        all.push(format!("{name}{}", parts.join(" ")));
    }
    all
}

async fn is_changed(device: &Device, change: &str) {
    eventually(&format!("the change {change}"), async || changes(device).iter().any(|one| one == change).then_some(()))
        .await;
}

/// A room with Ann and Bob in it, and Dan who is not.
struct Stage {
    world: World,
    ann: Device,
    bob: Device,
    dan: Device,
}

impl Stage {
    async fn new() -> Self {
        let world = World::new().await;
        let (ann, bob, dan) = (world.user("ann").await, world.user("bob").await, world.user("dan").await);
        create(&ann, "stage").await;
        soon(bob.join_room("stage")).await.unwrap();
        is_told(&ann, "stage +bob").await;
        Self { world, ann, bob, dan }
    }

    /// What was changed before this has been told everywhere.
    async fn barrier(&self, text: &str) {
        self.ann.say(room("stage"), text).await;
        self.bob.receives(text).await;
        self.bob.say(room("stage"), text).await;
        self.ann.receives(text).await;
    }

    async fn end(self) {
        self.ann.say("dan", "the end").await;
        self.dan.receives("the end").await;
        assert!(changes(&self.dan).is_empty());
        assert!(self.dan.seen_of(EventKind::RoomMemberAttributesUpdated).is_empty());
        self.world.end().await;
    }
}

async fn set(device: &Device, attributes: HashMap<String, String>, config: RoomAttributesSetConfig) -> Vec<String> {
    let set = soon(device.set_room_attributes(attributes, "stage", config)).await.unwrap();
    assert_eq!(set.room_id, "stage");
    set.error_keys
}

#[tokio::test]
async fn set_room_attributes_tells_all_members_and_the_owner_keeps_what_is_theirs() {
    let stage = Stage::new().await;
    let (ann, bob) = (&stage.ann, &stage.bob);
    assert!(set(ann, pairs([("a", "1"), ("b", "1")]), PLAIN).await.is_empty());
    // One is Ann's, one is new.
    assert_eq!(set(bob, pairs([("a", "2"), ("c", "2")]), PLAIN).await, ["a"]);
    assert_eq!(refusal(soon(bob.set_room_attributes(pairs([("a", "2")]), "stage", PLAIN)).await), REFUSED);
    // With force it is changed and stays Ann's; then Bob takes it.
    let force = RoomAttributesSetConfig { is_force: true, ..PLAIN };
    set(bob, pairs([("a", "3")]), force).await;
    assert_eq!(refusal(soon(bob.set_room_attributes(pairs([("a", "4")]), "stage", PLAIN)).await), REFUSED);
    set(bob, pairs([("a", "5")]), RoomAttributesSetConfig { is_update_owner: true, ..force }).await;
    set(bob, pairs([("a", "6")]), PLAIN).await;
    assert_eq!(refusal(soon(ann.set_room_attributes(pairs([("a", "7")]), "stage", PLAIN)).await), REFUSED);
    // What stays the same is no change.
    set(bob, pairs([("a", "6")]), PLAIN).await;
    stage.barrier("done").await;
    let expected = ["+a=1 +b=1", "+c=2", "+a=3", "+a=5", "+a=6"];
    assert_eq!(
        (changes(ann), changes(bob)),
        (expected.map(str::to_owned).to_vec(), expected.map(str::to_owned).to_vec())
    );
    assert_eq!(all(bob, "stage").await, sorted([("a", "6"), ("b", "1"), ("c", "2")]));
    assert_eq!(refusal(soon(stage.dan.set_room_attributes(pairs([("a", "1")]), "stage", PLAIN)).await), NOT_IN);
    assert_eq!(refusal(soon(stage.dan.set_room_attributes(pairs([("a", "1")]), "none", PLAIN)).await), NONE);
    assert_eq!(refusal(soon(ann.set_room_attributes(pairs([]), "stage", PLAIN)).await), INVALID);
    stage.end().await;
}

#[tokio::test]
async fn set_room_attributes_and_create_room_have_the_limits_of_the_reference() {
    let stage = Stage::new().await;
    let ann = &stage.ann;
    let (key, value) = ("k".repeat(16), "v".repeat(1_024));
    set(ann, pairs([(&key, &value)]), PLAIN).await;
    let try_set = |key: String, value: String| ann.set_room_attributes([(key, value)].into(), "stage", PLAIN);
    let too_long = ErrorCode::RoomModuleTheLengthOfRoomAttributeKeyExceedsLimit;
    assert_eq!(refusal(soon(try_set("k".repeat(17), String::new())).await), too_long);
    let too_long = ErrorCode::RoomModuleTheLengthOfRoomAttributeValueExceedsLimit;
    assert_eq!(refusal(soon(try_set("k".into(), "v".repeat(1_025))).await), too_long);
    // 16 + 1,024 bytes, three times 1 + 1,024, and the rest of 5,120.
    for key in ["a", "b", "c"] {
        set(ann, pairs([(key, &value)]), PLAIN).await;
    }
    let rest = 5_120 - (16 + 1_024) - 3 * 1_025 - 1;
    set(ann, pairs([("d", &"v".repeat(rest))]), PLAIN).await;
    let total = ErrorCode::RoomModuleTheTotalLengthOfRoomAttributesValueExceedsLimit;
    assert_eq!(refusal(soon(try_set("d".into(), "v".repeat(rest + 1))).await), total);
    let keys: Vec<String> = all(ann, "stage").await.into_keys().collect();
    soon(ann.delete_room_attributes(keys, "stage", RoomAttributesDeleteConfig::default())).await.unwrap();
    let many = |count: usize| (0..count).map(|number| (format!("k{number}"), String::new())).collect();
    let number = ErrorCode::RoomModuleTheNumberOfRoomAttributesExceedsLimit;
    assert_eq!(refusal(soon(ann.set_room_attributes(many(21), "stage", PLAIN)).await), number);
    soon(ann.set_room_attributes(many(20), "stage", PLAIN)).await.unwrap();
    assert_eq!(refusal(soon(try_set("one more".into(), String::new())).await), number);
    // The same for those that a room begins with.
    let config = |attributes| RoomAdvancedConfig { room_attributes: attributes, ..RoomAdvancedConfig::default() };
    assert_eq!(refusal(soon(ann.create_room(info("x"), config(many(21)))).await), number);
    let long = pairs([("k", &"v".repeat(1_025))]);
    assert_eq!(refusal(soon(ann.create_room(info("x"), config(long))).await), too_long);
    let most = |last: &str| pairs([("a", &value), ("b", &value), ("c", &value), ("d", &value), ("last", last)]);
    assert_eq!(refusal(soon(ann.create_room(info("x"), config(most(&"v".repeat(1_017))))).await), total);
    soon(ann.create_room(info("x"), config(most(&"v".repeat(1_016))))).await.unwrap();
    stage.end().await;
}

#[tokio::test]
async fn set_room_attributes_of_an_owner_who_leaves_go_with_them_if_they_should() {
    let stage = Stage::new().await;
    let (ann, bob) = (&stage.ann, &stage.bob);
    set(bob, pairs([("seat", "bob")]), RoomAttributesSetConfig { is_delete_after_owner_left: true, ..PLAIN }).await;
    set(bob, pairs([("song", "Blackbird")]), PLAIN).await;
    set(ann, pairs([("host", "ann")]), RoomAttributesSetConfig { is_delete_after_owner_left: true, ..PLAIN }).await;
    soon(bob.leave_room("stage")).await.unwrap();
    is_changed(ann, "-seat").await;
    assert_eq!(all(ann, "stage").await, sorted([("host", "ann"), ("song", "Blackbird")]));
    assert_eq!(changes(ann), ["+seat=bob", "+song=Blackbird", "+host=ann", "-seat"]);
    // Who enters gets all of them at once.
    let before = changes(bob).len();
    soon(bob.join_room("stage")).await.unwrap();
    eventually("the attributes", async || (changes(bob).len() > before).then_some(())).await;
    assert_eq!(changes(bob).split_off(before), ["+host=ann +song=Blackbird"]);
    stage.end().await;
}

#[tokio::test]
async fn delete_room_attributes_removes_own_ones_and_others_with_force() {
    let stage = Stage::new().await;
    let (ann, bob) = (&stage.ann, &stage.bob);
    set(ann, pairs([("a", "1"), ("b", "1"), ("c", "1")]), PLAIN).await;
    set(bob, pairs([("d", "1")]), PLAIN).await;
    let (plain, force) = (RoomAttributesDeleteConfig::default(), RoomAttributesDeleteConfig { is_force: true });
    let deleted = soon(bob.delete_room_attributes(["d", "a", "x"], "stage", plain)).await.unwrap();
    assert_eq!((deleted.room_id.as_str(), deleted.error_keys), ("stage", vec!["a".to_owned(), "x".to_owned()]));
    assert_eq!(refusal(soon(bob.delete_room_attributes(["a"], "stage", plain)).await), REFUSED);
    assert_eq!(refusal(soon(ann.delete_room_attributes(["x"], "stage", plain)).await), REFUSED);
    soon(bob.delete_room_attributes(["a", "b"], "stage", force)).await.unwrap();
    stage.barrier("done").await;
    for device in [ann, bob] {
        assert_eq!(changes(device), ["+a=1 +b=1 +c=1", "+d=1", "-d", "-a -b"]);
    }
    assert_eq!(all(ann, "stage").await, sorted([("c", "1")]));
    assert_eq!(refusal(soon(stage.dan.delete_room_attributes(["c"], "stage", force)).await), NOT_IN);
    assert_eq!(refusal(soon(stage.dan.delete_room_attributes(["c"], "none", force)).await), NONE);
    let nothing: [&str; 0] = [];
    assert_eq!(refusal(soon(ann.delete_room_attributes(nothing, "stage", plain)).await), INVALID);
    stage.end().await;
}

#[tokio::test]
async fn begin_room_attributes_batch_operation_holds_back_until_the_end() {
    let stage = Stage::new().await;
    let (ann, bob) = (&stage.ann, &stage.bob);
    set(ann, pairs([("a", "1"), ("b", "1")]), PLAIN).await;
    let config = RoomAttributesBatchOperationConfig::default();
    ann.begin_room_attributes_batch_operation("stage", config).unwrap();
    let common = ErrorCode::RoomModuleRoomAttributesCommonError;
    assert_eq!(refusal(ann.begin_room_attributes_batch_operation("stage", config)), common);
    assert_eq!(refusal(ann.begin_room_attributes_batch_operation("none", config)), NOT_IN);
    set(ann, pairs([("a", "2"), ("c", "2")]), PLAIN).await;
    let removed = soon(ann.delete_room_attributes(["b"], "stage", RoomAttributesDeleteConfig::default())).await;
    assert!(removed.unwrap().error_keys.is_empty());
    assert_eq!(all(bob, "stage").await, sorted([("a", "1"), ("b", "1")]));
    let ended = soon(ann.end_room_attributes_batch_operation("stage")).await.unwrap();
    assert_eq!(ended.room_id, "stage");
    // Another one has only one direction; the one after it is never ended.
    ann.begin_room_attributes_batch_operation("stage", config).unwrap();
    set(ann, pairs([("d", "1")]), PLAIN).await;
    set(ann, pairs([("e", "1")]), PLAIN).await;
    soon(ann.end_room_attributes_batch_operation("stage")).await.unwrap();
    bob.begin_room_attributes_batch_operation("stage", config).unwrap();
    set(bob, pairs([("f", "1")]), PLAIN).await;
    stage.barrier("done").await;
    for device in [ann, bob] {
        assert_eq!(changes(device), ["+a=1 +b=1", "batch +a=2 +c=2 -b", "+d=1 +e=1"]);
    }
    stage.end().await;
}

#[tokio::test]
async fn end_room_attributes_batch_operation_does_all_of_it_or_nothing() {
    let stage = Stage::new().await;
    let (ann, bob) = (&stage.ann, &stage.bob);
    set(ann, pairs([("a", "1")]), PLAIN).await;
    let common = ErrorCode::RoomModuleRoomAttributesCommonError;
    assert_eq!(refusal(soon(bob.end_room_attributes_batch_operation("stage")).await), common);
    assert_eq!(refusal(soon(stage.dan.end_room_attributes_batch_operation("stage")).await), NOT_IN);
    let plain = RoomAttributesBatchOperationConfig::default();
    bob.begin_room_attributes_batch_operation("stage", plain).unwrap();
    set(bob, pairs([("b", "1")]), PLAIN).await;
    set(bob, pairs([("a", "2")]), PLAIN).await;
    assert_eq!(refusal(soon(bob.end_room_attributes_batch_operation("stage")).await), REFUSED);
    assert_eq!(all(bob, "stage").await, sorted([("a", "1")]));
    // Nor does it remove what is not there.
    bob.begin_room_attributes_batch_operation("stage", plain).unwrap();
    set(bob, pairs([("b", "1")]), PLAIN).await;
    soon(bob.delete_room_attributes(["none"], "stage", RoomAttributesDeleteConfig::default())).await.unwrap();
    assert_eq!(refusal(soon(bob.end_room_attributes_batch_operation("stage")).await), REFUSED);
    assert_eq!(all(bob, "stage").await, sorted([("a", "1")]));
    // The configuration of the batch counts, and not that of its parts.
    let config =
        RoomAttributesBatchOperationConfig { is_force: true, is_delete_after_owner_left: true, is_update_owner: true };
    bob.begin_room_attributes_batch_operation("stage", config).unwrap();
    set(bob, pairs([("b", "1")]), PLAIN).await;
    set(bob, pairs([("a", "2")]), PLAIN).await;
    soon(bob.end_room_attributes_batch_operation("stage")).await.unwrap();
    is_changed(ann, "+a=2 +b=1").await;
    soon(bob.leave_room("stage")).await.unwrap();
    is_changed(ann, "-a -b").await;
    // A batch of nothing, and one of too much.
    let mut raw = stage.world.raw_user("ann", 1).await;
    let operation = RoomAttributesUpdateInfo { action: 0, room_attributes: pairs([("a", "1")]) };
    let batch = |count: usize| EndRoomAttributesBatchOperationRequest {
        room_id: "stage".into(),
        config: None,
        operations: vec![operation.clone(); count],
    };
    for count in [0, 100] {
        raw.call(&batch(count)).await.unwrap();
    }
    assert_eq!(raw.call(&batch(101)).await.unwrap_err().code, INVALID as i32);
    raw.end().await;
    stage.end().await;
}

#[tokio::test]
async fn query_room_all_attributes_is_for_members() {
    let stage = Stage::new().await;
    assert!(all(&stage.ann, "stage").await.is_empty());
    assert_eq!(refusal(soon(stage.dan.query_room_all_attributes("stage")).await), NOT_IN);
    assert_eq!(refusal(soon(stage.dan.query_room_all_attributes("none")).await), NONE);
    // A creator brings some, which are theirs.
    let room_attributes = pairs([("host", "dan")]);
    let config = RoomAdvancedConfig { room_attributes, ..RoomAdvancedConfig::default() };
    let eve = stage.world.user("eve").await;
    soon(eve.create_room(info("hall"), config.clone())).await.unwrap();
    assert_eq!(all(&eve, "hall").await, sorted([("host", "dan")]));
    // Of one who only enters, they do not count.
    let other = RoomAdvancedConfig { room_attributes: pairs([("host", "ann")]), ..config };
    soon(stage.ann.enter_room(info("hall"), other)).await.unwrap();
    assert_eq!(all(&stage.ann, "hall").await, sorted([("host", "dan")]));
    let set =
        SetRoomAttributesRequest { room_attributes: pairs([("host", "x")]), room_id: "hall".into(), config: None };
    let mut raw = stage.world.raw_user("ann", 1).await;
    assert_eq!(raw.call(&set).await.unwrap_err().code, REFUSED as i32);
    raw.end().await;
    stage.world.end().await;
}

const GOES: RoomMemberAttributesSetConfig = RoomMemberAttributesSetConfig { is_delete_after_owner_left: None };
const STAYS: RoomMemberAttributesSetConfig = RoomMemberAttributesSetConfig { is_delete_after_owner_left: Some(false) };

/// The changes of attributes of members that a device was told of, in short: `ann: bob k=v`.
fn member_changes(device: &Device) -> Vec<String> {
    let mut all = Vec::new();
    for event in device.seen_of(EventKind::RoomMemberAttributesUpdated) {
        let Event::RoomMemberAttributesUpdated(event) = event else { panic!("{event:?}") };
        for info in &event.infos {
            all.push(format!("{}: {}", event.operated_info.clone().unwrap().user_id, short(&info.attributes_info)));
        }
    }
    all
}

fn short(info: &Option<RoomMemberAttributesInfo>) -> String {
    let info = info.clone().unwrap();
    let attributes: BTreeMap<_, _> = info.attributes.into_iter().collect();
    let pairs: Vec<_> = attributes.iter().map(|(key, value)| format!("{key}={value}")).collect();
    format!("{} {}", info.user_id, pairs.join(" "))
}

async fn of_members(device: &Device, users: &[&str]) -> Vec<String> {
    let found = soon(device.query_room_members_attributes(users.iter().copied(), "stage")).await.unwrap();
    found.infos.into_iter().map(|info| short(&Some(info))).collect()
}

#[tokio::test]
async fn set_room_members_attributes_tells_all_members() {
    let stage = Stage::new().await;
    let (ann, bob) = (&stage.ann, &stage.bob);
    let set = ann.set_room_members_attributes(pairs([("level", "1")]), ["bob", "ann", "dan", "nobody"], "stage", GOES);
    let set = soon(set).await.unwrap();
    assert_eq!(set.room_id, "stage");
    let infos: Vec<_> = set.infos.iter().map(|info| short(&info.attributes_info)).collect();
    assert_eq!(infos, ["bob level=1", "ann level=1"]);
    assert!(set.infos.iter().all(|info| info.error_keys.is_empty()));
    assert_eq!(set.error_user_list, ["nobody", "dan"]);
    // The others stay.
    soon(bob.set_room_members_attributes(pairs([("hat", "red")]), ["bob"], "stage", GOES)).await.unwrap();
    stage.barrier("done").await;
    for device in [ann, bob] {
        assert_eq!(member_changes(device), ["ann: bob level=1", "ann: ann level=1", "bob: bob hat=red"]);
    }
    assert_eq!(of_members(ann, &["ann", "bob", "dan"]).await, ["ann level=1", "bob hat=red level=1"]);
    let dan = &stage.dan;
    let try_set = |device: &Device, user: &str, room_id: &str| {
        device.set_room_members_attributes(pairs([("k", "v")]), [user.to_owned()], room_id, GOES)
    };
    assert_eq!(refusal(soon(try_set(dan, "ann", "stage")).await), NOT_IN);
    assert_eq!(refusal(soon(try_set(dan, "ann", "none")).await), NONE);
    assert_eq!(refusal(soon(try_set(ann, "dan", "stage")).await), NOT_IN);
    stage.end().await;
}

#[tokio::test]
async fn set_room_members_attributes_has_the_limits_of_the_reference() {
    let stage = Stage::new().await;
    let ann = &stage.ann;
    // The clock stands still, and 20 changes of a room are allowed at once.
    let try_set = |attributes: HashMap<String, String>| {
        stage.world.clock.advance(500);
        ann.set_room_members_attributes(attributes, ["ann"], "stage", GOES)
    };
    soon(try_set(pairs([("12345678", &"v".repeat(64))]))).await.unwrap();
    let key = ErrorCode::RoomModuleTheLengthOfRoomMemberAttributesKeyExceedsLimit;
    assert_eq!(refusal(soon(try_set(pairs([("123456789", "v")]))).await), key);
    let value = ErrorCode::RoomModuleTheLengthOfRoomMemberAttributesValueExceedsLimit;
    assert_eq!(refusal(soon(try_set(pairs([("k", &"v".repeat(65))]))).await), value);
    // 72 bytes are there; 72 more are allowed.
    let total = ErrorCode::RoomModuleTheTotalLengthOfRoomMemberAttributesExceedsLimit;
    assert_eq!(refusal(soon(try_set(pairs([("abcdefgh", &"v".repeat(64)), ("x", "")]))).await), total);
    soon(try_set(pairs([("abcdefgh", &"v".repeat(64))]))).await.unwrap();
    let bob = &stage.bob;
    let many = |count: usize| (0..count).map(|number| (format!("{number}"), String::new())).collect();
    let common = ErrorCode::RoomModuleRoomMemberAttributesCommonError;
    let of_bob = |count| bob.set_room_members_attributes(many(count), ["bob"], "stage", GOES);
    assert_eq!(refusal(soon(of_bob(31)).await), common);
    soon(of_bob(30)).await.unwrap();
    let one_more = bob.set_room_members_attributes(pairs([("x", "")]), ["bob"], "stage", GOES);
    assert_eq!(refusal(soon(one_more).await), common);
    let users = (0..101).map(|number| format!("u{number}"));
    let too_many = ann.set_room_members_attributes(pairs([("k", "v")]), users, "stage", GOES);
    assert_eq!(refusal(soon(too_many).await), INVALID);
    stage.end().await;
}

#[tokio::test]
async fn set_room_members_attributes_is_for_500_members_and_20_times_in_ten_seconds() {
    let stage = Stage::new().await;
    let ann = &stage.ann;
    // As if 499 users had some and had left: those that stay count until the room ends.
    let done = stage.world.server().app().db.submit(zim_server::db::Scope::none(), async |tx| {
        let sql = "INSERT INTO room_member_attribute (conversation, account, key, value, goes_with_owner) \
                   SELECT conversation, $1, 'k', 'v', 0 FROM room";
        for account in 1..500_i64 {
            tx.execute(sql, &zim_server::params![-account]).await?;
        }
        Ok(())
    });
    done.await.unwrap();
    let set = |user: &str| ann.set_room_members_attributes(pairs([("k", "v")]), [user.to_owned()], "stage", GOES);
    // Bob is the 500th.
    soon(set("bob")).await.unwrap();
    let full = ErrorCode::RoomModuleTheMemberNumberOfRoomMemberAttributesExceedsLimit;
    assert_eq!(refusal(soon(set("ann")).await), full);
    soon(set("bob")).await.unwrap();
    for _ in 3..20 {
        soon(set("bob")).await.unwrap();
    }
    let too_fast = ErrorCode::CommonModuleTriggerServerFrequencyLimit;
    assert_eq!(refusal(soon(set("bob")).await), too_fast);
    stage.world.clock.advance(500);
    soon(set("bob")).await.unwrap();
    stage.end().await;
}

#[tokio::test]
async fn set_room_members_attributes_tells_only_those_whom_it_concerns_in_a_room_of_more_than_500() {
    let stage = Stage::new().await;
    let (ann, bob, cai) = (&stage.ann, &stage.bob, stage.world.user("cai").await);
    soon(cai.join_room("stage")).await.unwrap();
    for members in [500_i64, 501] {
        // As if there were so many.
        let done = stage.world.server().app().db.submit(zim_server::db::Scope::none(), async move |tx| {
            tx.execute("UPDATE room SET members = $1", &zim_server::params![members]).await?;
            Ok(())
        });
        done.await.unwrap();
        let attributes = pairs([("of", &members.to_string())]);
        soon(ann.set_room_members_attributes(attributes, ["bob"], "stage", GOES)).await.unwrap();
    }
    stage.barrier("done").await;
    cai.receives("done").await;
    for device in [ann, bob] {
        assert_eq!(member_changes(device), ["ann: bob of=500", "ann: bob of=501"]);
    }
    assert_eq!(member_changes(&cai), ["ann: bob of=500"]);
    stage.end().await;
}

#[tokio::test]
async fn query_room_members_attributes_shows_those_that_stay_when_their_user_returns() {
    let stage = Stage::new().await;
    let (ann, bob) = (&stage.ann, &stage.bob);
    soon(ann.set_room_members_attributes(pairs([("goes", "1")]), ["bob"], "stage", GOES)).await.unwrap();
    soon(ann.set_room_members_attributes(pairs([("stays", "1")]), ["bob"], "stage", STAYS)).await.unwrap();
    assert_eq!(of_members(ann, &["bob"]).await, ["bob goes=1 stays=1"]);
    soon(bob.leave_room("stage")).await.unwrap();
    assert!(of_members(ann, &["bob"]).await.is_empty());
    soon(bob.join_room("stage")).await.unwrap();
    assert_eq!(of_members(ann, &["bob"]).await, ["bob stays=1"]);
    assert_eq!(refusal(soon(stage.dan.query_room_members_attributes(["ann"], "stage")).await), NOT_IN);
    assert_eq!(refusal(soon(stage.dan.query_room_members_attributes(["ann"], "none")).await), NONE);
    // Ann has asked three times; five within 30 seconds are allowed.
    of_members(ann, &["bob"]).await;
    of_members(ann, &["bob"]).await;
    let asked = ann.query_room_members_attributes(["bob"], "stage");
    assert_eq!(refusal(soon(asked).await), ErrorCode::CommonModuleTriggerServerFrequencyLimit);
    stage.world.clock.advance(30_000);
    let users = |count| (0..count).map(|number| format!("u{number}"));
    soon(ann.query_room_members_attributes(users(100), "stage")).await.unwrap();
    assert_eq!(refusal(soon(ann.query_room_members_attributes(users(101), "stage")).await), INVALID);
    stage.end().await;
}

#[tokio::test]
async fn query_room_member_attributes_list_has_pages_of_members_with_attributes() {
    let stage = Stage::new().await;
    let (ann, bob) = (&stage.ann, &stage.bob);
    let cai = stage.world.user("cai").await;
    soon(cai.join_room("stage")).await.unwrap();
    soon(ann.set_room_members_attributes(pairs([("k", "1")]), ["ann", "cai"], "stage", STAYS)).await.unwrap();
    let page = |next_flag: String, count| {
        ann.query_room_member_attributes_list("stage", RoomMemberAttributesQueryConfig { next_flag, count })
    };
    let first = soon(page(String::new(), 1)).await.unwrap();
    let second = soon(page(first.next_flag.clone(), 1)).await.unwrap();
    let listed: Vec<_> = first.infos.into_iter().chain(second.infos).map(|info| short(&Some(info))).collect();
    assert_eq!((listed, second.next_flag.as_str()), (vec!["ann k=1".to_owned(), "cai k=1".to_owned()], ""));
    soon(cai.leave_room("stage")).await.unwrap();
    let all = soon(page(String::new(), 100)).await.unwrap();
    assert_eq!(all.infos.len(), 1, "who is not in the room is not listed");
    for (flag, count) in [("", 0), ("", 101), ("x", 1)] {
        assert_eq!(refusal(soon(page(flag.into(), count)).await), INVALID, "{flag} {count}");
    }
    let config = RoomMemberAttributesQueryConfig { next_flag: String::new(), count: 1 };
    assert_eq!(refusal(soon(stage.dan.query_room_member_attributes_list("stage", config.clone())).await), NOT_IN);
    assert_eq!(refusal(soon(stage.dan.query_room_member_attributes_list("none", config)).await), NONE);
    assert!(member_changes(bob).len() == 2);
    stage.end().await;
}

#[tokio::test]
async fn query_room_member_attributes_list_may_be_asked_five_times_in_30_seconds() {
    let stage = Stage::new().await;
    let config = || RoomMemberAttributesQueryConfig { next_flag: String::new(), count: 1 };
    let page = || stage.ann.query_room_member_attributes_list("stage", config());
    for _ in 0..5 {
        soon(page()).await.unwrap();
    }
    assert_eq!(refusal(soon(page()).await), ErrorCode::CommonModuleTriggerServerFrequencyLimit);
    stage.world.clock.advance(30_000);
    soon(page()).await.unwrap();
    stage.end().await;
}
