//! What a client does to a message or to a conversation when the campaign tells it to.

use serde_json::{Value, json};
use zim_client_sdk::{Error, MessageSendNotification, Zim};
use zim_protocol::message::Body;
use zim_protocol::{
    CombineMessage, ConversationBaseInfo, ConversationDeleteConfig, ConversationNotificationStatus, ConversationType,
    ErrorCode, GroupAdvancedConfig, GroupInfo, Message, MessageDeleteConfig, MessageEditConfig, MessagePinConfig,
    MessageQueryConfig, MessageReactionAddConfig, MessageRevokeConfig, MessageSendConfig,
};

use super::action::{GroupVerb, MessageVerb, SettingVerb};
use super::live_plan::ROOMS;
use super::plan::{CLUB, TEAM};

/// The roles of the group.
const ADMINISTRATOR: i64 = 2;
const MEMBER: i64 = 3;
/// The last messages, of which one is chosen.
const LAST: i64 = 12;
/// The most messages that are deleted or combined at once.
const SOME: usize = 3;
/// These begin the text of a reply, the title of a combined message, and the texts of an inserted message and of one that does not count
/// as unread; the rest is the text of the call.
pub(super) const REPLY: char = 'r';
pub(super) const COMBINED: char = 'c';
pub(super) const INSERTED: char = 'i';
pub(super) const UNCOUNTED: char = 'u';
/// Separates what a combined message combines.
const PART: &str = " | ";
/// The type of all reactions.
pub(super) const REACTION: &str = "+1";

/// The type of the conversation that is called so.
#[must_use]
pub fn kind_of(peer: &str) -> ConversationType {
    match peer {
        CLUB => ConversationType::Group,
        // Those of long runs have a number.
        team if team.starts_with(TEAM) => ConversationType::Group,
        room if ROOMS.contains(&room) => ConversationType::Room,
        _ => ConversationType::Peer,
    }
}

/// Creates a group, with these members beside its creator.
///
/// # Errors
/// The call fails.
pub async fn create_group(zim: &Zim, group: &str, members: Vec<String>) -> anyhow::Result<Value> {
    let info = GroupInfo { group_id: group.to_owned(), ..GroupInfo::default() };
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

/// Does something to some of the last messages of the conversation with `peer`, or to the conversation. Returns the positions of the
/// messages and what came of it.
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
    match verb {
        MessageVerb::DeleteAll
        | MessageVerb::DeleteAllHere
        | MessageVerb::DeleteEverything
        | MessageVerb::DeleteEverythingHere
        | MessageVerb::DeleteConversation
        | MessageVerb::ReceiptAll
        | MessageVerb::Insert
        | MessageVerb::Uncounted => change_conversation(zim, peer, verb, text).await,
        _ => {
            let chosen = choose(zim, user, peer, (verb, pick)).await?;
            let [message, ..] = &*chosen else { anyhow::bail!("there is no message for it") };
            let done = change(zim, message, (&chosen, peer), verb, text).await?;
            let seqs: Vec<i64> = chosen.iter().map(|message| message.message_seq).collect();
            Ok(json!({"seqs": seqs, "done": done}))
        }
    }
}

/// Chooses among the last messages of a conversation one that something is possible with, or a few.
async fn choose(zim: &Zim, user: &str, peer: &str, (verb, pick): (MessageVerb, u64)) -> anyhow::Result<Vec<Message>> {
    let config = MessageQueryConfig { count: LAST, reverse: true, ..MessageQueryConfig::default() };
    let last = zim.query_history_message(peer, kind_of(peer), config).await?.message_list;
    let is_possible = |message: &Message| {
        let is_own = message.sender_user_id == user;
        let is_right = match verb {
            MessageVerb::Revoke => is_own,
            MessageVerb::Edit => is_own && message.as_text().is_some(),
            MessageVerb::Receipt => !is_own,
            _ => true,
        };
        message.message_seq > 0 && said(message).is_some() && is_right
    };
    let possible: Vec<Message> = last.into_iter().filter(is_possible).collect();
    let pick = usize::try_from(pick)?;
    let count = match verb {
        MessageVerb::DeleteSome | MessageVerb::Combine => 1 + pick % SOME,
        _ => 1,
    };
    let at = pick % possible.len().max(1);
    Ok(possible.iter().cycle().skip(at).take(count.min(possible.len())).cloned().collect())
}

/// Does something to a message, or to all of `chosen`.
async fn change(
    zim: &Zim,
    message: &Message,
    (chosen, peer): (&[Message], &str),
    verb: MessageVerb,
    text: String,
) -> anyhow::Result<Value> {
    let mut done = Value::Null;
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
        MessageVerb::ReactMore => {
            let config = MessageReactionAddConfig { increase_count: 2 };
            drop(zim.add_message_reaction(REACTION, message, config).await?);
        }
        MessageVerb::TakeBackAll => zim.delete_message_all_reactions(message).await?,
        MessageVerb::TakeBack => drop(zim.delete_message_reaction(REACTION, message).await?),
        MessageVerb::Pin => zim.pin_message(message, true, MessagePinConfig::default()).await?,
        MessageVerb::Unpin => zim.pin_message(message, false, MessagePinConfig::default()).await?,
        MessageVerb::Reply => {
            // The answer is no message of the plan's: it is sent when the history has been read.
            let reply = Message::text(format!("{REPLY}{text}"));
            let sent = zim.reply_message(reply, message, asking(), MessageSendNotification::default()).await?;
            done = json!({"seq": sent.message.map(|sent| sent.message_seq)});
        }
        MessageVerb::Receipt => {
            let result = zim.send_message_receipts_read(chosen, peer, kind_of(peer)).await?;
            anyhow::ensure!(result.error_message_ids.is_empty(), "the receipt was refused");
        }
        MessageVerb::Combine => {
            let combine = CombineMessage {
                title: format!("{COMBINED}{text}"),
                summary: text,
                message_list: chosen.to_vec(),
                ..CombineMessage::default()
            };
            let combine = Message { body: Some(Body::Combine(Box::new(combine))), ..Message::default() };
            let (config, notification) = (asking(), MessageSendNotification::default());
            let sent = zim.send_message(combine, peer, kind_of(peer), config, notification).await?;
            let parts: Vec<Option<&str>> = chosen.iter().map(said).collect();
            done = json!({"seq": sent.message.map(|sent| sent.message_seq), "parts": parts});
        }
        MessageVerb::LocalData => {
            drop(zim.update_message_local_extended_data(&text, message).await?);
            done = json!({"id": message.message_id});
        }
        _ => {
            let config = MessageDeleteConfig { is_also_delete_server_message: Some(!verb.is_here()) };
            drop(zim.delete_messages(chosen, peer, kind_of(peer), config).await?);
        }
    }
    Ok(done)
}

async fn change_conversation(zim: &Zim, peer: &str, verb: MessageVerb, text: String) -> anyhow::Result<Value> {
    let kind = kind_of(peer);
    match verb {
        MessageVerb::DeleteAll | MessageVerb::DeleteAllHere => {
            let config = MessageDeleteConfig { is_also_delete_server_message: Some(!verb.is_here()) };
            drop(zim.delete_all_message(peer, kind, config).await?);
        }
        MessageVerb::DeleteEverything | MessageVerb::DeleteEverythingHere => {
            let config = MessageDeleteConfig { is_also_delete_server_message: Some(!verb.is_here()) };
            zim.delete_all_conversation_messages(config).await?;
        }
        MessageVerb::Uncounted => {
            let message = Message::text(format!("{UNCOUNTED}{text}"));
            let config = MessageSendConfig { disable_unread_message_count: true, ..asking() };
            let sent = zim.send_message(message, peer, kind, config, MessageSendNotification::default()).await?;
            return Ok(json!({"done": {"seq": sent.message.map(|sent| sent.message_seq)}}));
        }
        MessageVerb::DeleteConversation => {
            let config = ConversationDeleteConfig { is_also_delete_server_conversation: true };
            drop(zim.delete_conversation(peer, kind, config).await?);
        }
        MessageVerb::Insert => {
            let inserted = Message::text(format!("{INSERTED}{text}"));
            drop(zim.insert_message_to_local_db(inserted, peer, kind, peer).await?);
        }
        _ => drop(zim.send_conversation_message_receipt_read(peer, kind).await?),
    }
    Ok(Value::Null)
}

fn asking() -> MessageSendConfig {
    MessageSendConfig { has_receipt: true, ..MessageSendConfig::default() }
}

/// Returns the text of a message, or the title of a combined one; `None` of one that was revoked.
fn said(message: &Message) -> Option<&str> {
    match &message.body {
        Some(Body::Combine(combine)) => Some(&combine.title),
        _ => message.as_text(),
    }
}

/// Returns what a message shows; of a combined one also what it combines, as whoever opens it sees it.
///
/// # Errors
/// There is no connection just then.
pub async fn opened(zim: &Zim, message: &Message) -> Result<Option<String>, Error> {
    let Some(Body::Combine(combine)) = &message.body else { return Ok(message.as_text().map(str::to_owned)) };
    let found = match zim.query_combine_message_detail(message).await {
        Ok(found) => found.message.unwrap_or_default(),
        Err(error) if error.code() == ErrorCode::NetworkModuleNetworkError => return Err(error),
        Err(error) => return Ok(Some(with_parts(&combine.title, &[error.to_string()]))),
    };
    let mut parts = Vec::new();
    if let Some(Body::Combine(found)) = &found.body {
        for part in &found.message_list {
            parts.push(Box::pin(opened(zim, part)).await?.unwrap_or_default());
        }
    }
    Ok(Some(with_parts(&combine.title, &parts)))
}

/// Returns what a stored combined message shows.
pub(super) fn stored_parts(combine: &CombineMessage) -> String {
    let parts: Vec<String> = combine
        .message_list
        .iter()
        .map(|part| match &part.body {
            Some(Body::Combine(inner)) => stored_parts(inner),
            _ => part.as_text().unwrap_or_default().to_owned(),
        })
        .collect();
    with_parts(&combine.title, &parts)
}

fn with_parts(title: &str, parts: &[String]) -> String {
    format!("{title} [{}]", parts.join(PART))
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
