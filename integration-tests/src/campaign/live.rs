//! What a client does in rooms and about calls when the campaign tells it to, and how it looks into a room that it has entered.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::time::sleep;
use zim_client_sdk::{Error, MessageSendNotification, Zim};
use zim_protocol::{
    CallAcceptConfig, CallCancelConfig, CallEndConfig, CallInvitationMode, CallInvitationQueryConfig, CallInviteConfig,
    CallJoinConfig, CallQuitConfig, CallRejectConfig, CallingInviteConfig, ConversationType, ErrorCode, Event, Message,
    MessagePriority, MessageSendConfig, RoomAdvancedConfig, RoomAttributesBatchOperationConfig,
    RoomAttributesDeleteConfig, RoomAttributesOperatedResult, RoomAttributesSetConfig, RoomInfo,
    RoomMemberAttributesQueryConfig, RoomMemberAttributesSetConfig, RoomMemberQueryConfig, RoomState,
};

use super::action::{BATCH_KEYS, Batching, CallVerb, GOES_WITH_OWNER, RoomVerb, Saying};
use super::live_plan::other_room;

/// The name of the event with what a device finds when it looks into a room.
pub(super) const LOOKED: &str = "campaignLookedIntoRoom";
/// The name of the event with which a device begins to look again.
pub(super) const LOOKS_AGAIN: &str = "campaignLooksIntoRoomAgain";
/// The pause between two looks, and how many there are.
const PAUSE: Duration = Duration::from_millis(200);
const LOOKS: usize = 40;
/// The size of pages.
const PAGE: i64 = 100;

type Answer = BoxFuture<'static, anyhow::Result<Value>>;

/// Does something in a room. What is said has its place among other messages when this returns.
pub fn act_in_room(zim: &Zim, (room, user): (&str, &str), verb: RoomVerb, text: String) -> Answer {
    let name_of = |key: u8| format!("k{key}");
    match verb {
        RoomVerb::Enter => {
            let info = RoomInfo { room_id: room.to_owned(), room_name: text };
            let entered = zim.enter_room(info, RoomAdvancedConfig::default());
            Box::pin(async move { Ok(json!({"isDone": entered.await?.room_info.is_some()})) })
        }
        RoomVerb::Join => {
            let joined = zim.join_room(room);
            Box::pin(async move { Ok(json!({"isDone": joined.await?.room_info.is_some()})) })
        }
        RoomVerb::Leave => {
            let left = zim.leave_room(room);
            Box::pin(async move { Ok(json!({"isDone": !left.await?.room_id.is_empty()})) })
        }
        RoomVerb::LeaveAll => {
            let left = zim.leave_all_room();
            Box::pin(async move { Ok(serde_json::to_value(left.await?)?) })
        }
        RoomVerb::Say(saying) => {
            let message = match saying {
                Saying::Text | Saying::High | Saying::Low => Message::text(&*text),
                Saying::Command => Message::command(text.clone()),
                Saying::Barrage => Message::barrage(&*text),
            };
            let message = Message { extended_data: text, ..message };
            let priority = match saying {
                Saying::High => MessagePriority::High,
                Saying::Low => MessagePriority::Low,
                _ => MessagePriority::Unspecified,
            };
            let config = MessageSendConfig { priority: priority as i32, ..MessageSendConfig::default() };
            let notification = MessageSendNotification::default();
            let sent = zim.send_message(message, room, ConversationType::Room, config, notification);
            Box::pin(async move { Ok(json!({"isDone": sent.await?.message.is_some()})) })
        }
        RoomVerb::Set { key, is_forced, takes } => {
            let config = RoomAttributesSetConfig {
                is_force: is_forced,
                is_delete_after_owner_left: key >= GOES_WITH_OWNER,
                is_update_owner: takes,
            };
            let set = zim.set_room_attributes([(name_of(key), text)].into(), room, config);
            Box::pin(async move { Ok(json!({"isDone": set.await?.error_keys.is_empty()})) })
        }
        RoomVerb::Remove { key, is_forced } => {
            let config = RoomAttributesDeleteConfig { is_force: is_forced };
            let removed = zim.delete_room_attributes([name_of(key)], room, config);
            Box::pin(async move { Ok(json!({"isDone": removed.await?.error_keys.is_empty()})) })
        }
        RoomVerb::Switch => {
            let info = RoomInfo { room_id: room.to_owned(), room_name: text };
            let switched = zim.switch_room(other_room(room), info, true, RoomAdvancedConfig::default());
            Box::pin(async move { Ok(json!({"isDone": switched.await?.room_info.is_some()})) })
        }
        RoomVerb::Batch(batching) => batch(zim, room, batching, &text),
        RoomVerb::SetOf { key, stays } => {
            let config = RoomMemberAttributesSetConfig { is_delete_after_owner_left: Some(!stays) };
            let set = zim.set_room_members_attributes([(name_of(key), text)].into(), [user.to_owned()], room, config);
            Box::pin(async move { Ok(json!({"isDone": set.await?.error_user_list.is_empty()})) })
        }
    }
}

/// Changes attributes at once. All of it is called here, so that nothing else becomes a part of the batch.
fn batch(zim: &Zim, room: &str, batching: Batching, text: &str) -> Answer {
    let config = RoomAttributesBatchOperationConfig { is_force: true, ..RoomAttributesBatchOperationConfig::default() };
    if let Err(error) = zim.begin_room_attributes_batch_operation(room, config) {
        return Box::pin(async move { Err(anyhow::Error::from(error)) });
    }
    let mut held: Vec<BoxFuture<'static, Result<RoomAttributesOperatedResult, Error>>> = Vec::new();
    for key in BATCH_KEYS {
        let is_set = match batching {
            Batching::SetsAll => true,
            Batching::RemovesLast => key != BATCH_KEYS[2],
            Batching::RemovesAll => false,
        };
        if is_set {
            let attributes = [(key.to_owned(), text.to_owned())].into();
            held.push(Box::pin(zim.set_room_attributes(attributes, room, RoomAttributesSetConfig::default())));
        } else {
            held.push(Box::pin(zim.delete_room_attributes([key], room, RoomAttributesDeleteConfig::default())));
        }
    }
    let ended = zim.end_room_attributes_batch_operation(room);
    Box::pin(async move {
        for one in held {
            drop(one.await?);
        }
        drop(ended.await?);
        Ok(json!({"isDone": true}))
    })
}

/// Does something about a call.
pub fn act_in_call(zim: &Zim, (call_id, users): (&str, Vec<String>), verb: CallVerb, text: String) -> Answer {
    macro_rules! answer {
        ($answer:expr) => {{
            let answer = $answer;
            Box::pin(async move { Ok(serde_json::to_value(answer.await?)?) })
        }};
    }
    let extended_data = text;
    match verb {
        CallVerb::Invite { is_advanced, timeout_s, is_checked } => {
            let mode = if is_advanced { CallInvitationMode::Advanced } else { CallInvitationMode::General };
            let config = CallInviteConfig {
                timeout: Some(timeout_s),
                mode: mode as i32,
                extended_data,
                enable_not_received_check: is_checked,
                push_config: None,
            };
            answer!(zim.call_invite(users, config))
        }
        CallVerb::Accept => answer!(zim.call_accept(call_id, CallAcceptConfig { extended_data })),
        CallVerb::Reject => answer!(zim.call_reject(call_id, CallRejectConfig { extended_data })),
        CallVerb::Cancel => {
            let config = CallCancelConfig { extended_data, ..CallCancelConfig::default() };
            answer!(zim.call_cancel(Vec::<String>::new(), call_id, config))
        }
        CallVerb::TakeBack => {
            let config = CallCancelConfig { extended_data, ..CallCancelConfig::default() };
            answer!(zim.call_cancel(users, call_id, config))
        }
        CallVerb::Add => answer!(zim.calling_invite(users, call_id, CallingInviteConfig::default())),
        CallVerb::Join => answer!(zim.call_join(call_id, CallJoinConfig { extended_data })),
        CallVerb::Quit => {
            answer!(zim.call_quit(call_id, CallQuitConfig { extended_data, ..CallQuitConfig::default() }))
        }
        CallVerb::End => answer!(zim.call_end(call_id, CallEndConfig { extended_data, ..CallEndConfig::default() })),
    }
}

/// Queries the calls of the user, each with the states of its users.
///
/// # Errors
/// The query fails.
pub async fn call_list(zim: &Zim) -> anyhow::Result<Value> {
    let (mut all, mut next_flag) = (serde_json::Map::new(), 0);
    loop {
        let found = zim.query_call_invitation_list(CallInvitationQueryConfig { count: PAGE, next_flag }).await?;
        for call in found.call_list {
            let users: BTreeMap<&str, i32> =
                call.call_user_list.iter().map(|user| (user.user_id.as_str(), user.state)).collect();
            all.insert(call.call_id.clone(), json!({"state": call.state, "users": users}));
        }
        next_flag = found.next_flag;
        if next_flag == 0 {
            return Ok(all.into());
        }
    }
}

/// Queries who is in a room, and its attributes.
///
/// # Errors
/// The device is not in the room, or the query fails.
pub async fn room_as_answered(zim: &Zim, room: &str) -> anyhow::Result<Value> {
    let attributes = zim.query_room_all_attributes(room).await?.room_attributes;
    Ok(json!({"members": members(zim, room).await?, "attributes": attributes}))
}

async fn members(zim: &Zim, room: &str) -> Result<Vec<String>, Error> {
    let config = RoomMemberQueryConfig { count: PAGE, ..RoomMemberQueryConfig::default() };
    let found = zim.query_room_member_list(room, config).await?;
    Ok(found.member_list.into_iter().map(|member| member.user_id).collect())
}

/// Counts how often a device was connected to each room.
#[derive(Debug, Default)]
pub struct Looks(Mutex<HashMap<String, u64>>);

impl Looks {
    /// Returns what is to be asked after an event: who is in a room that the device is connected to. Events tell only of changes. The
    /// answer is in the form of an event; `None`: the device is out again.
    pub fn after(
        &self,
        zim: &Zim,
        event: &Event,
    ) -> Option<impl Future<Output = Option<Value>> + Send + 'static + use<>> {
        let Event::RoomStateChanged(change) = event else { return None };
        if change.state() != RoomState::Connected {
            return None;
        }
        let (zim, room) = (zim.clone(), change.room_id.clone());
        let number = {
            let mut counts = self.0.lock();
            let count = counts.entry(room.clone()).or_default();
            *count += 1;
            *count
        };
        Some(async move { look(&zim, &room, number).await })
    }

    /// Returns what is to be asked again of a room that the device is still in, if it has ever been: that it asks, and who is in the
    /// room.
    pub fn again(&self, zim: &Zim, room: &str) -> Option<(Value, impl Future<Output = Option<Value>> + use<>)> {
        let number = {
            let mut counts = self.0.lock();
            let count = counts.get_mut(room)?;
            *count += 1;
            *count
        };
        let (zim, room) = (zim.clone(), room.to_owned());
        let begins = json!({"name": LOOKS_AGAIN, "roomID": room});
        Some((begins, async move { look(&zim, &room, number).await }))
    }
}

async fn look(zim: &Zim, room: &str, number: u64) -> Option<Value> {
    let gone = [ErrorCode::RoomModuleUserIsNotInTheRoom, ErrorCode::RoomModuleTheRoomDoesNotExist];
    for _ in 0..LOOKS {
        match members(zim, room).await {
            Ok(members) => {
                let config = RoomMemberAttributesQueryConfig { next_flag: String::new(), count: PAGE };
                // A user may ask five times in half a minute. Who may not does without.
                let found = zim.query_room_member_attributes_list(room, config).await.ok();
                let of_members = found.map(|found| {
                    let all = found.infos.into_iter().map(|info| (info.user_id, info.attributes));
                    all.collect::<BTreeMap<_, _>>()
                });
                return Some(json!({
                    "name": LOOKED, "roomID": room, "number": number, "members": members, "ofMembers": of_members,
                }));
            }
            Err(error) if gone.contains(&error.code()) => return None,
            Err(_) => sleep(PAUSE).await,
        }
    }
    None
}
