//! Revokes a message: it stays in its place, without its content except a text.

use prost::Message as _;
use zim_protocol::{
    Message, MessageChange, MessageChangeKind, MessageEntry, MessageRevokeStatus, MessageType, RevokeMessage,
    RevokeType, message::Body,
};

use super::target::Reference;
use super::{pin, reply};
use crate::config;
use crate::db::{Tx, params};
use crate::error::Error;
use crate::journal::{ChangedConversation, LogWriter};
use crate::key::UserKey;
use crate::push;
use crate::service::group::{OWNER, is_above, role};
use crate::service::media::drop_refs;

/// Revokes a message. Returns it as the caller sees it.
///
/// # Errors
/// There is no such message, or the user may not revoke it.
pub(super) async fn revoke(
    tx: &mut Tx<'_>,
    log: &mut LogWriter,
    reference: &Reference,
    (window_ms, by_server, media): (i64, bool, &config::Media),
    extended_data: String,
) -> Result<MessageEntry, Error> {
    let (target, role) = reference.find_to_change(tx).await?;
    let (conversation, user, now) = (&reference.conversation, reference.user, reference.now);
    let (status, window_ms) = match by_server {
        true => (Some(MessageRevokeStatus::ServerApiRevoke), i64::MAX),
        false => (revoker(tx, conversation, (user, role), target.sender).await?, window_ms),
    };
    check(status, target.kind, now - target.ts, window_ms)?;
    let body = revoked(
        &target.body,
        target.kind,
        RevokeMessage {
            revoke_timestamp: now,
            operated_user_id: reference.user_id.to_string(),
            revoke_status: status.unwrap_or_default() as i32,
            revoke_extended_data: extended_data,
            ..RevokeMessage::default()
        },
    )?;
    if pin::is_pinned(tx, conversation.key, target.seq).await? {
        pin::unpin(tx, log, reference, target.seq).await?;
    }
    tx.execute(
        "UPDATE message SET kind = $3, body = $4 WHERE conversation = $1 AND seq = $2",
        &params![conversation.key, target.seq, MessageType::Revoke as i32, body],
    )
    .await?;
    push::forget(tx, conversation.key, target.seq).await?;
    drop_refs(tx, conversation.key, target.seq, (now, media)).await?;
    let sql = "DELETE FROM combine WHERE conversation = $1 AND seq = $2";
    tx.execute(sql, &params![conversation.key, target.seq]).await?;
    let change = MessageChange { kind: MessageChangeKind::Revoked as i32, ..MessageChange::default() };
    log.change_message(tx, conversation, target.seq, change, (user, now)).await?;
    reply::revoked(tx, log, reference, (target.seq, target.flags)).await?;
    reference.entry(tx, &target).await
}

/// Returns as what a user may revoke a message of `sender`; `None`: not at all.
async fn revoker(
    tx: &mut Tx<'_>,
    conversation: &ChangedConversation,
    (user, mine): (UserKey, Option<i64>),
    sender: UserKey,
) -> Result<Option<MessageRevokeStatus>, Error> {
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
    if kind == MessageType::Tips as i32 {
        return Err(Error::message_type_unsupported("revoked"));
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
        assert_eq!(code(true, MessageType::Tips, 0), Err(ErrorCode::CommonModuleParamsInvalid));
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
