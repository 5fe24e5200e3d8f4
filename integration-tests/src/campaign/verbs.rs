//! What a client does to a message or to a conversation when the campaign tells it to.

use anyhow::Context;
use serde_json::{Value, json};
use zim_client_sdk::{MessageSendNotification, Zim};
use zim_protocol::{
    ConversationBaseInfo, ConversationNotificationStatus, ConversationType, GroupAdvancedConfig, GroupInfo, Message,
    MessageDeleteConfig, MessageEditConfig, MessagePinConfig, MessageQueryConfig, MessageReactionAddConfig,
    MessageRevokeConfig, MessageSendConfig,
};

use super::action::{GroupVerb, MessageVerb, SettingVerb};
use super::plan::TEAM;

/// The roles of the group.
const ADMINISTRATOR: i64 = 2;
const MEMBER: i64 = 3;
/// The last messages, of which one is chosen.
const LAST: i64 = 12;
/// The type of all reactions.
pub(super) const REACTION: &str = "+1";

/// The type of the conversation that is called so.
#[must_use]
pub fn kind_of(peer: &str) -> ConversationType {
    if peer == TEAM { ConversationType::Group } else { ConversationType::Peer }
}

/// Creates the group, with these members beside its creator.
///
/// # Errors
/// The call fails.
pub async fn create_group(zim: &Zim, members: Vec<String>) -> anyhow::Result<Value> {
    let info = GroupInfo { group_id: TEAM.to_owned(), ..GroupInfo::default() };
    drop(zim.create_group(info, members, GroupAdvancedConfig::default()).await?);
    Ok(Value::Null)
}

/// Changes the group. Returns whether it took effect.
///
/// # Errors
/// The call fails.
pub async fn change_group(zim: &Zim, user: &str, verb: GroupVerb, text: &str) -> anyhow::Result<Value> {
    let is_done = match verb {
        GroupVerb::Join => zim.join_group(TEAM).await.map(|_| true)?,
        GroupVerb::Leave => zim.leave_group(TEAM).await.map(|_| true)?,
        GroupVerb::Kick => zim.kick_group_members([user], TEAM).await?.error_user_list.is_empty(),
        GroupVerb::Invite => zim.invite_users_into_group([user], TEAM).await?.error_user_list.is_empty(),
        GroupVerb::Transfer => zim.transfer_group_owner(user, TEAM).await.map(|_| true)?,
        GroupVerb::Promote => zim.set_group_member_role(ADMINISTRATOR, user, TEAM).await.map(|_| true)?,
        GroupVerb::Demote => zim.set_group_member_role(MEMBER, user, TEAM).await.map(|_| true)?,
        GroupVerb::Rename => zim.update_group_name(text, TEAM).await.map(|_| true)?,
        GroupVerb::Nickname => zim.set_group_member_nickname(text, user, TEAM).await.map(|_| true)?,
    };
    Ok(json!({"isDone": is_done}))
}

/// Does something to one of the last messages of the conversation with `peer`. Returns its position.
///
/// # Errors
/// There is no such message, or the call fails.
pub async fn change_message(
    zim: &Zim,
    user: &str,
    peer: &str,
    (verb, pick): (MessageVerb, u64),
    text: String,
) -> anyhow::Result<Value> {
    let config = MessageQueryConfig { count: LAST, reverse: true, ..MessageQueryConfig::default() };
    let last = zim.query_history_message(peer, kind_of(peer), config).await?.message_list;
    let is_possible = |message: &&Message| {
        let is_own = message.sender_user_id == user;
        let is_right = match verb {
            MessageVerb::Revoke | MessageVerb::Edit => is_own,
            MessageVerb::Receipt => !is_own,
            _ => true,
        };
        message.message_seq > 0 && message.as_text().is_some() && is_right
    };
    let possible: Vec<&Message> = last.iter().filter(is_possible).collect();
    let at = usize::try_from(pick)? % possible.len().max(1);
    let message = *possible.get(at).context("there is no message for it")?;
    match verb {
        MessageVerb::Revoke => drop(zim.revoke_message(message, MessageRevokeConfig::default()).await?),
        MessageVerb::Edit => {
            // The first word says which call sent the message.
            let first = message.as_text().and_then(|text| text.split(' ').next()).unwrap_or_default();
            let edited = Message { body: Message::text(format!("{first} {text}")).body, ..message.clone() };
            drop(zim.edit_message(&edited, MessageEditConfig::default()).await?);
        }
        MessageVerb::React => {
            drop(zim.add_message_reaction(REACTION, message, MessageReactionAddConfig::default()).await?);
        }
        MessageVerb::TakeBack => drop(zim.delete_message_reaction(REACTION, message).await?),
        MessageVerb::Pin => zim.pin_message(message, true, MessagePinConfig::default()).await?,
        MessageVerb::Unpin => zim.pin_message(message, false, MessagePinConfig::default()).await?,
        MessageVerb::Reply => {
            let (config, notification) = (MessageSendConfig::default(), MessageSendNotification::default());
            // The answer is no message of the plan's: it is sent when the history has been read.
            let reply = Message::text(format!("r{text}"));
            drop(zim.reply_message(reply, message, config, notification).await?);
        }
        MessageVerb::Receipt => {
            let result = zim.send_message_receipts_read(std::slice::from_ref(message), peer, kind_of(peer)).await?;
            anyhow::ensure!(result.error_message_ids.is_empty(), "the receipt was refused");
        }
        MessageVerb::Delete => {
            let config = MessageDeleteConfig { is_also_delete_server_message: Some(true) };
            drop(zim.delete_messages(std::slice::from_ref(message), peer, kind_of(peer), config).await?);
        }
    }
    Ok(json!({"seq": message.message_seq}))
}

/// Sets something of the conversation with `peer`.
///
/// # Errors
/// The call fails.
pub async fn change_setting(zim: &Zim, peer: &str, verb: SettingVerb) -> anyhow::Result<Value> {
    let kind = kind_of(peer);
    let info = || ConversationBaseInfo { conversation_id: peer.to_owned(), conversation_type: kind as i32 };
    match verb {
        SettingVerb::Pin(is_pinned) => {
            drop(zim.update_conversation_pinned_state(is_pinned, peer, kind).await?);
        }
        SettingVerb::Mark(is_marked) => drop(zim.set_conversation_mark(7, is_marked, vec![info()]).await?),
        SettingVerb::Quiet(is_quiet) => {
            let status = match is_quiet {
                true => ConversationNotificationStatus::DoNotDisturb,
                false => ConversationNotificationStatus::Notify,
            };
            drop(zim.set_conversation_notification_status(status, peer, kind).await?);
        }
    }
    Ok(Value::Null)
}
