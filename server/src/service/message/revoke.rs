//! Revokes a message: it stays in its place, without its content except a text.

use prost::Message as _;
use zim_protocol::{Message, MessageRevokeStatus, MessageType, RevokeMessage, RevokeType, message::Body};

use crate::db::{Tx, params};
use crate::effect::Audience;
use crate::error::Error;
use crate::journal::{ChangedConversation, LogWriter, Viewer};
use crate::key::UserKey;
use crate::service::group::{OWNER, is_above, role};

/// Which message is to be revoked, and by whom.
#[derive(Clone, Debug)]
pub(super) struct Revocation {
    /// The stored ID, or else the position.
    pub(super) id: Option<i64>,
    pub(super) seq: i64,
    pub(super) user: UserKey,
    pub(super) user_id: String,
    pub(super) now: i64,
    /// How long after it was sent a message can be revoked, milliseconds.
    pub(super) window_ms: i64,
    /// The caller's `revokeExtendedData`.
    pub(super) extended_data: String,
}

/// Revokes a message of a conversation. Returns its position, and how the user sees the conversation.
///
/// # Errors
/// There is no such message, or the user may not revoke it.
pub(super) async fn revoke(
    tx: &mut Tx<'_>,
    log: &mut LogWriter,
    conversation: &ChangedConversation,
    revocation: Revocation,
) -> Result<(i64, Viewer), Error> {
    let Revocation { id, seq, user, user_id, now, window_ms, extended_data } = revocation;
    let viewer = Viewer::of(tx, conversation.key, user).await?.ok_or_else(Error::conversation_closed)?;
    let (column, wanted) = id.map_or(("seq", seq), |id| ("id", id));
    let sql = format!("SELECT seq, sender, kind, ts, body FROM message WHERE conversation = $1 AND {column} = $2");
    let row = tx.fetch_one(&sql, &params![conversation.key, wanted]).await?.ok_or_else(Error::message_not_found)?;
    let seq: i64 = row.get(0)?;
    if !viewer.is_in_stay(seq) {
        return Err(Error::message_not_found());
    }
    if viewer.message_log.end.is_some() {
        return Err(match &conversation.audience {
            Audience::Group { name, .. } => Error::group_not_found(name),
            Audience::Peers(_) => Error::conversation_closed(),
        });
    }
    let (sender, kind, ts): (i64, i32, i64) = (row.get(1)?, row.get(2)?, row.get(3)?);
    let status = revoker(tx, conversation, user, UserKey(sender)).await?;
    check(status, kind, now - ts, window_ms)?;
    let body = revoked(
        &row.get::<Vec<u8>>(4)?,
        kind,
        RevokeMessage {
            revoke_timestamp: now,
            operated_user_id: user_id,
            revoke_status: status.unwrap_or_default() as i32,
            revoke_extended_data: extended_data,
            ..RevokeMessage::default()
        },
    )?;
    tx.execute(
        "UPDATE message SET kind = $3, body = $4 WHERE conversation = $1 AND seq = $2",
        &params![conversation.key, seq, MessageType::Revoke as i32, body],
    )
    .await?;
    log.change_message(tx, conversation, seq, (user, now)).await?;
    Ok((seq, viewer))
}

/// Returns as what a user may revoke a message of `sender`; `None`: not at all.
async fn revoker(
    tx: &mut Tx<'_>,
    conversation: &ChangedConversation,
    user: UserKey,
    sender: UserKey,
) -> Result<Option<MessageRevokeStatus>, Error> {
    let mut mine = None;
    if let Audience::Group { name, .. } = &conversation.audience {
        mine = Some(role(tx, conversation.key, user).await?.ok_or_else(|| Error::not_in_group(name))?);
    }
    if sender == user {
        return Ok(Some(MessageRevokeStatus::SelfRevoke));
    }
    // Somebody who has left is like a member.
    let theirs = if mine.is_some() { role(tx, conversation.key, sender).await?.unwrap_or(i64::MAX) } else { 0 };
    Ok(mine.filter(|mine| is_above(*mine, theirs)).map(|mine| match mine {
        OWNER => MessageRevokeStatus::GroupOwnerRevoke,
        _ => MessageRevokeStatus::GroupAdminRevoke,
    }))
}

/// Checks whether a message of this kind and age can be revoked.
fn check(status: Option<MessageRevokeStatus>, kind: i32, age_ms: i64, window_ms: i64) -> Result<(), Error> {
    if kind == MessageType::Revoke as i32 {
        return Err(Error::already_revoked());
    }
    if status.is_none() {
        return Err(Error::revoke_not_allowed());
    }
    if age_ms > window_ms {
        return Err(Error::revoke_too_late(window_ms / 1_000));
    }
    Ok(())
}

/// Builds the stored body of a revoked message. Only a text is kept, as the reference has it: its sender may edit it and send it
/// again, and the other user's devices get it too.
fn revoked(body: &[u8], kind: i32, revoke: RevokeMessage) -> Result<Vec<u8>, Error> {
    let before = Message::decode(body).map_err(Error::internal)?;
    let text = match before.body {
        Some(Body::Text(text)) => text.message,
        _ => String::new(),
    };
    let revoke = RevokeMessage {
        revoke_type: RevokeType::TwoWay as i32,
        original_message_type: kind,
        original_text_message_content: text,
        ..revoke
    };
    Ok(Message { body: Some(Body::Revoke(Box::new(revoke))), ..Message::default() }.encode_to_vec())
}

#[cfg(test)]
mod tests {
    use zim_protocol::ErrorCode;

    use super::*;

    #[test]
    fn only_an_own_recent_message_can_be_revoked_and_only_once() {
        let code = |is_own: bool, kind: MessageType, age_ms| {
            check(is_own.then_some(MessageRevokeStatus::SelfRevoke), kind as i32, age_ms, 120_000)
                .map_err(|error| error.code())
        };
        assert_eq!(code(true, MessageType::Text, 120_000), Ok(()));
        assert_eq!(code(true, MessageType::Text, 120_001), Err(ErrorCode::MessageModuleMessageExceedsRevokeTime));
        let not_allowed = ErrorCode::GroupModuleGroupNoCorrespondingOperationAuthority;
        assert_eq!(code(false, MessageType::Custom, 0), Err(not_allowed));
        assert_eq!(code(false, MessageType::Revoke, 999_999), Err(ErrorCode::MessageModuleMessageHasBeenRevoked));
    }

    #[test]
    fn the_content_is_gone_except_a_text() {
        let keep = |message: Message, kind: MessageType| {
            let stored = revoked(&message.encode_to_vec(), kind as i32, RevokeMessage::default()).unwrap();
            let message = Message::decode(&stored[..]).unwrap();
            assert_eq!((message.extended_data.as_str(), message.mentioned_user_ids.len()), ("", 0));
            match message.body {
                Some(Body::Revoke(revoke)) => (revoke.original_message_type, revoke.original_text_message_content),
                other => panic!("{other:?}"),
            }
        };
        let text = Message { extended_data: "x".into(), mentioned_user_ids: vec!["bob".into()], ..Message::text("hi") };
        assert_eq!(keep(text, MessageType::Text), (MessageType::Text as i32, "hi".to_owned()));
        let custom = zim_protocol::CustomMessage { message: "secret".into(), ..Default::default() };
        let custom = Message { body: Some(Body::Custom(custom)), ..Message::default() };
        assert_eq!(keep(custom, MessageType::Custom), (MessageType::Custom as i32, String::new()));
    }
}
