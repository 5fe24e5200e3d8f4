//! Takes the content of a user's messages away when the user is erased. They stay in their places like revoked messages, so the devices
//! of others lose the content by the log of changes, and counts and positions stay as they are.

use std::sync::Arc;

use prost::Message as _;
use zim_protocol::{
    ConversationRef, ConversationType, Message, MessageChange, MessageChangeKind, MessageRevokeStatus, MessageType,
    RevokeMessage, RevokeType, message::Body, tips_message_change_info::Body as Changed,
};

use super::target::Reference;
use super::{pin, reply};
use crate::app::App;
use crate::config;
use crate::connection::Identity;
use crate::db::{Scope, Tx, params};
use crate::effect::Audience;
use crate::error::Error;
use crate::journal::{ChangedConversation, LogWriter};
use crate::key::{ConversationKey, UserKey};
use crate::push;
use crate::service::media::drop_refs;

/// What a revoked message says of an erased sender, `revokeExtendedData`.
const REASON: &str = "{\"reason\":\"erased\"}";
/// The positions that one job looks at, and the messages that it changes.
const LOOKED_AT: i64 = 2_000;
const ERASED_AT_ONCE: i64 = 100;

/// The last position of the user's stays, and the tips about their leave, which come after it.
const END: &str = "CASE WHEN m.to_seq + 2 < c.seq THEN m.to_seq + 2 ELSE c.seq END";

/// A conversation with messages of the user.
struct Place {
    key: ConversationKey,
    kind: i32,
    name: String,
    peer: UserKey,
    peer_id: String,
    /// Nothing is appended to a group that was dismissed.
    is_dismissed: bool,
}

impl App {
    /// Erases some of a user's messages. Returns whether there may be more.
    ///
    /// # Errors
    /// The store fails.
    pub(crate) async fn erase_messages(&self, identity: &Identity) -> Result<bool, Error> {
        let user = identity.user;
        let Some(place) = self.db.read(async move |tx| next(tx, user).await).await? else { return Ok(false) };
        let Place { key, kind, name, peer, peer_id, is_dismissed } = place;
        let audience = match kind == ConversationType::Group as i32 {
            true => Audience::Group { conversation: key, name: Arc::from(name) },
            false => Audience::Peers([(user, Arc::clone(&identity.user_id)), (peer, Arc::from(peer_id))]),
        };
        let scrambler = Arc::clone(&self.tenants.of(identity.app)?.scrambler);
        let conversation = ChangedConversation { key, audience, scrambler };
        // Nobody asks, so the conversation needs no name.
        let reference = Reference::of_server(ConversationRef::default(), conversation, self.clock.now_ms());
        let (media, user_id) = (self.config.media.clone(), Arc::clone(&identity.user_id));
        let erased = self.db.submit(Scope::conversation(key), async move |tx| {
            let mut log = LogWriter::new(None);
            page(tx, &mut log, (&reference, is_dismissed), (user, &*user_id), &media).await?;
            log.finish(tx).await.map(drop)
        });
        erased.await.map(|()| true)
    }
}

/// Returns the first conversation with positions that were not looked at.
async fn next(tx: &mut Tx<'_>, user: UserKey) -> Result<Option<Place>, Error> {
    let sql = format!(
        "SELECT c.id, c.type, c.name, m.peer, p.name, c.end_rev FROM member m JOIN conversation c ON c.id = m.conversation \
         LEFT JOIN account p ON p.id = m.peer WHERE m.account = $1 AND m.erased_seq < {END} ORDER BY m.conversation LIMIT 1"
    );
    let Some(row) = tx.fetch_one(&sql, &params![user]).await? else { return Ok(None) };
    Ok(Some(Place {
        key: ConversationKey(row.get(0)?),
        kind: row.get(1)?,
        name: row.get(2)?,
        peer: UserKey(row.get(3)?),
        peer_id: row.get::<Option<String>>(4)?.unwrap_or_default(),
        is_dismissed: row.get::<Option<i64>>(5)?.is_some(),
    }))
}

/// Erases the messages of a user in the next positions of a conversation, and the name of the user in tips.
async fn page(
    tx: &mut Tx<'_>,
    log: &mut LogWriter,
    (reference, is_dismissed): (&Reference, bool),
    (user, user_id): (UserKey, &str),
    media: &config::Media,
) -> Result<(), Error> {
    let key = reference.conversation.key;
    let sql = format!(
        "SELECT m.erased_seq, {END} FROM member m JOIN conversation c ON c.id = m.conversation \
         WHERE m.account = $1 AND m.conversation = $2"
    );
    let Some(row) = tx.fetch_one(&sql, &params![user, key]).await? else { return Ok(()) };
    let (after, end): (i64, i64) = (row.get(0)?, row.get(1)?);
    let through = end.min(after + LOOKED_AT);
    let sql = "SELECT seq, kind, flags, body FROM message WHERE conversation = $1 AND seq > $2 AND seq <= $3 \
               AND (sender = $4 OR kind = $5) AND LENGTH(body) > 0 ORDER BY seq LIMIT $6";
    let tips = MessageType::Tips as i32;
    let rows = tx.fetch(sql, &params![key, after, through, user, tips, ERASED_AT_ONCE]).await?;
    let mut reached = through;
    for row in &rows {
        let (seq, kind, flags): (i64, i32, u32) = (row.get(0)?, row.get(1)?, row.get(2)?);
        let body: Vec<u8> = row.get(3)?;
        if kind != tips {
            erase(tx, log, (reference, is_dismissed), (seq, kind, flags), &body, media).await?;
        } else if let Some(body) = without_name(&body, user_id)? {
            let sql = "UPDATE message SET body = $3 WHERE conversation = $1 AND seq = $2";
            tx.execute(sql, &params![key, seq, body]).await?;
        }
        if i64::try_from(rows.len()).is_ok_and(|count| count >= ERASED_AT_ONCE) {
            reached = seq;
        }
    }
    let sql = "UPDATE member SET erased_seq = $3 WHERE account = $1 AND conversation = $2";
    tx.execute(sql, &params![user, key, reached]).await?;
    Ok(())
}

async fn erase(
    tx: &mut Tx<'_>,
    log: &mut LogWriter,
    (reference, is_dismissed): (&Reference, bool),
    (seq, kind, flags): (i64, i32, u32),
    body: &[u8],
    media: &config::Media,
) -> Result<(), Error> {
    let (key, now) = (reference.conversation.key, reference.now);
    let (body, is_news) = erased(body, kind, now)?;
    if !is_news {
        return Ok(());
    }
    let was_revoked = kind == MessageType::Revoke as i32;
    if !is_dismissed && !was_revoked && pin::is_pinned(tx, key, seq).await? {
        pin::unpin(tx, log, reference, seq).await?;
    }
    let sql = "UPDATE message SET kind = $3, body = $4 WHERE conversation = $1 AND seq = $2";
    tx.execute(sql, &params![key, seq, MessageType::Revoke as i32, body]).await?;
    push::forget(tx, key, seq).await?;
    drop_refs(tx, key, seq, (now, media)).await?;
    tx.execute("DELETE FROM combine WHERE conversation = $1 AND seq = $2", &params![key, seq]).await?;
    if is_dismissed {
        return Ok(());
    }
    let change = MessageChange { kind: MessageChangeKind::Revoked as i32, ..MessageChange::default() };
    log.change_message(tx, &reference.conversation, seq, change, (reference.user, now)).await?;
    if was_revoked { Ok(()) } else { reply::revoked(tx, log, reference, (seq, flags)).await }
}

/// Takes the name and the avatar of a user out of the body of a tip; `None`: they are not in it.
fn without_name(body: &[u8], user_id: &str) -> Result<Option<Vec<u8>>, Error> {
    let mut message = Message::decode(body).map_err(Error::internal)?;
    let Some(Body::Tips(tip)) = &mut message.body else { return Ok(None) };
    let named = tip.operated_user.iter_mut().chain(&mut tip.target_user_list);
    for user in named.filter(|user| user.user_id == user_id) {
        user.user_name.clear();
        user.user_avatar_url.clear();
    }
    if let Some(Changed::GroupMember(info)) = tip.change_info.as_mut().and_then(|info| info.body.as_mut())
        && let Some(owner) = info.group_new_owner.as_mut().filter(|owner| owner.user_id == user_id)
    {
        owner.user_name.clear();
        owner.user_avatar_url.clear();
    }
    let without = message.encode_to_vec();
    Ok((without != body).then_some(without))
}

/// Builds the body of a message of an erased user; false: it is that already.
fn erased(body: &[u8], kind: i32, now: i64) -> Result<(Vec<u8>, bool), Error> {
    let before = match Message::decode(body).map_err(Error::internal)?.body {
        Some(Body::Revoke(revoke)) => *revoke,
        _ => RevokeMessage {
            revoke_type: RevokeType::TwoWay as i32,
            revoke_timestamp: now,
            original_message_type: kind,
            ..RevokeMessage::default()
        },
    };
    let is_news = before.revoke_extended_data != REASON;
    let revoke = RevokeMessage {
        operated_user_id: String::new(),
        original_text_message_content: String::new(),
        revoke_extended_data: REASON.to_owned(),
        revoke_status: MessageRevokeStatus::ServerApiRevoke as i32,
        ..before
    };
    Ok((Message { body: Some(Body::Revoke(Box::new(revoke))), ..Message::default() }.encode_to_vec(), is_news))
}

#[cfg(test)]
mod tests {
    use zim_protocol::{
        GroupMemberSimpleInfo, TipsMessage, TipsMessageChangeInfo, TipsMessageGroupMemberChangeInfo, UserInfo,
    };

    use super::*;

    #[test]
    fn a_tip_loses_the_name_of_the_user_alone() {
        let named =
            |id: &str| UserInfo { user_id: id.into(), user_name: format!("Name of {id}"), ..UserInfo::default() };
        let owner = GroupMemberSimpleInfo { user_id: "ann".into(), user_name: "Ann".into(), ..Default::default() };
        let change = TipsMessageGroupMemberChangeInfo { group_new_owner: Some(owner), ..Default::default() };
        let tip = TipsMessage {
            operated_user: Some(named("ann")),
            target_user_list: vec![named("bob"), named("ann")],
            change_info: Some(TipsMessageChangeInfo {
                body: Some(Changed::GroupMember(change)),
                ..TipsMessageChangeInfo::default()
            }),
            ..TipsMessage::default()
        };
        let body = Message { body: Some(Body::Tips(Box::new(tip))), ..Message::default() }.encode_to_vec();
        let without = without_name(&body, "ann").unwrap().unwrap();
        let has = |text: &str| without.windows(text.len()).any(|part| part == text.as_bytes());
        assert!(has("Name of bob") && !has("Name of ann") && !has("Ann") && has("ann"));
        assert_eq!(without_name(&without, "ann").unwrap(), None);
        assert_eq!(without_name(&without, "eve").unwrap(), None);
    }

    #[test]
    fn nothing_of_the_content_is_left_and_a_second_time_changes_nothing() {
        let message = Message { extended_data: "x".into(), ..Message::text("secret") };
        let (body, is_news) = erased(&message.encode_to_vec(), MessageType::Text as i32, 7).unwrap();
        let found = Message::decode(&body[..]).unwrap();
        assert!(is_news && found.extended_data.is_empty());
        let Some(Body::Revoke(revoke)) = found.body else { panic!("no revocation") };
        assert_eq!((revoke.original_text_message_content.as_str(), revoke.revoke_timestamp), ("", 7));
        assert_eq!(revoke.original_message_type, MessageType::Text as i32);
        assert_eq!(erased(&body, MessageType::Revoke as i32, 9).unwrap(), (body, false));
        // What the user had revoked themselves has its text still.
        let own = RevokeMessage { original_text_message_content: "secret".into(), ..RevokeMessage::default() };
        let own = Message { body: Some(Body::Revoke(Box::new(own))), ..Message::default() };
        let (body, is_news) = erased(&own.encode_to_vec(), MessageType::Revoke as i32, 9).unwrap();
        assert!(is_news && !body.windows(6).any(|text| text == b"secret"));
    }
}
