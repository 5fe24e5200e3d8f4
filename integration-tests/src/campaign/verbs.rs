//! What a client does to a message or to a conversation when the campaign tells it to.

use anyhow::Context;
use serde_json::{Value, json};
use zim_client_sdk::{MessageSendNotification, Zim};
use zim_protocol::{
    ConversationBaseInfo, ConversationNotificationStatus, ConversationType, Message, MessageDeleteConfig,
    MessageEditConfig, MessagePinConfig, MessageQueryConfig, MessageReactionAddConfig, MessageRevokeConfig,
    MessageSendConfig,
};

use super::plan::{MessageVerb, SettingVerb};

const PEER: ConversationType = ConversationType::Peer;
/// The last messages, of which one is chosen.
const LAST: i64 = 12;
/// The type of all reactions.
pub(super) const REACTION: &str = "+1";

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
    let last = zim.query_history_message(peer, PEER, config).await?.message_list;
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
            let result = zim.send_message_receipts_read(std::slice::from_ref(message), peer, PEER).await?;
            anyhow::ensure!(result.error_message_ids.is_empty(), "the receipt was refused");
        }
        MessageVerb::Delete => {
            let config = MessageDeleteConfig { is_also_delete_server_message: Some(true) };
            drop(zim.delete_messages(std::slice::from_ref(message), peer, PEER, config).await?);
        }
    }
    Ok(json!({"seq": message.message_seq}))
}

/// Sets something of the conversation with `peer`.
///
/// # Errors
/// The call fails.
pub async fn change_setting(zim: &Zim, peer: &str, verb: SettingVerb) -> anyhow::Result<Value> {
    let info = || ConversationBaseInfo { conversation_id: peer.to_owned(), conversation_type: PEER as i32 };
    match verb {
        SettingVerb::Pin(is_pinned) => {
            drop(zim.update_conversation_pinned_state(is_pinned, peer, PEER).await?);
        }
        SettingVerb::Mark(is_marked) => drop(zim.set_conversation_mark(7, is_marked, vec![info()]).await?),
        SettingVerb::Quiet(is_quiet) => {
            let status = match is_quiet {
                true => ConversationNotificationStatus::DoNotDisturb,
                false => ConversationNotificationStatus::Notify,
            };
            drop(zim.set_conversation_notification_status(status, peer, PEER).await?);
        }
    }
    Ok(Value::Null)
}
