//! Read receipts of messages that ask for them.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use zim_protocol::{
    ConversationMessageReceiptReadSentResult, ConversationReceiptEntry, ConversationRef, ConversationType,
    GroupMessageReceiptMemberListQueriedResult, GroupMessageReceiptMemberQueryConfig, Message, MessageFlag,
    MessageReceiptInfo, MessageReceiptStatus, MessageReceiptsInfoQueriedResult, MessageReceiptsReadSentResult,
    MessageType, QueryGroupMessageReceiptReadMemberListRequest, QueryGroupMessageReceiptUnreadMemberListRequest,
    QueryMessageReceiptsInfoRequest, ReceiptEntry, SendConversationMessageReceiptReadRequest,
    SendMessageReceiptsReadRequest, feed_entry::Detail, server::MessageReceiptService,
};

use super::MAX_PAGE;
use super::target::{Found, find_all};
use crate::app::App;
use crate::connection::Caller;
use crate::db::{DbError, Row, Scope, Tx, params};
use crate::error::Error;
use crate::journal::state::{self, READERS};
use crate::journal::{FeedKind, MEMBER, Viewer, member_info};
use crate::key::{ConversationKey, Scrambler, UserKey};
use crate::service::group::member_at;
use crate::service::rows::PAGE_BYTES;

/// A receipt of a message that the user sent or read; the key is the message.
pub(crate) static RECEIPT: FeedKind =
    FeedKind { number: 20, resolve: |tx, user, keys| Box::pin(receipts(tx, user, keys)) };

/// One of the two users of a peer conversation has read everything up to a position; the key is the conversation.
pub(crate) static CONVERSATION_RECEIPT: FeedKind =
    FeedKind { number: 21, resolve: |tx, user, keys| Box::pin(conversation_receipts(tx, user, keys)) };

const ASKS: u32 = MessageFlag::Receipt as u32;

/// Whether `user` can send a receipt for a message: they were counted when it was sent. Whoever came later was not.
fn is_asked(message: &Found, user: UserKey, entered_seq: i64) -> bool {
    message.flags & ASKS != 0
        && message.sender != user
        && message.kind != MessageType::Revoke as i32
        && (message.seq >= entered_seq || message.is_of_earlier_stay)
}

impl MessageReceiptService for App {
    async fn send_message_receipts_read(
        &self,
        caller: &Caller,
        request: SendMessageReceiptsReadRequest,
    ) -> Result<MessageReceiptsReadSentResult, Error> {
        let identity = caller.identity()?;
        let (user, now) = (identity.user, self.clock.now_ms());
        let name = ConversationRef { r#type: request.conversation_type, id: request.conversation_id };
        let (conversation, _) = self.existing_conversation(identity, &name).await?;
        let scrambler = Arc::clone(&self.tenants.of(identity.app)?.scrambler);
        let messages = Arc::new(request.message_list);
        // Before anything is read: those who read what nobody has read yet take turns, too.
        let _turn = self.readers.wait(conversation).await;
        let senders = match self.known_to_ask((conversation, user), &scrambler, &messages) {
            Some(senders) => senders,
            None => self.find_who_asks((conversation, user), &scrambler, &messages).await?,
        };
        let scope = Scope::conversation(conversation).and_user(user).and_users(senders.iter().copied());
        let errors = caller
            .write(&self.db, scope, async move |tx, log| {
                // Under the locks: a message may have been revoked or deleted meanwhile, or the reader removed.
                let viewer = Viewer::of(tx, conversation, user).await?.ok_or_else(Error::conversation_closed)?;
                if viewer.has_left() || viewer.message_log.end.is_some() {
                    return Err(Error::no_receipt());
                }
                let (found, mut errors) = find_all(tx, conversation, &scrambler, &viewer, &messages).await?;
                // Only the feeds of these senders are locked.
                let may_read =
                    |message: &Found| is_asked(message, user, viewer.entered_seq) && senders.contains(&message.sender);
                let (asked, others): (Vec<Found>, Vec<Found>) = found.into_iter().partition(may_read);
                if asked.is_empty() {
                    return Err(Error::no_receipt());
                }
                errors.extend(others.iter().map(|message| scrambler.public(message.id).to_string()));
                let mut read: BTreeMap<UserKey, Vec<i64>> = BTreeMap::new();
                let rev = viewer.change_log.head;
                for message in &asked {
                    if add(tx, conversation, message, user, (now, rev)).await? {
                        read.entry(message.sender).or_default().push(message.id);
                    }
                }
                let own: Vec<i64> = read.values().flatten().copied().collect();
                if own.is_empty() {
                    // They have sent these receipts before.
                    return Ok(errors);
                }
                log.feed_all(tx, user, &RECEIPT, &own).await?;
                let present = present(tx, conversation, read.keys().copied().collect()).await?;
                for (sender, ids) in read.into_iter().filter(|(sender, _)| present.contains(sender)) {
                    log.feed_all(tx, sender, &RECEIPT, &ids).await?;
                }
                Ok(errors)
            })
            .await?;
        Ok(MessageReceiptsReadSentResult {
            conversation_id: name.id,
            conversation_type: name.r#type,
            error_message_ids: errors,
        })
    }

    async fn send_conversation_message_receipt_read(
        &self,
        caller: &Caller,
        request: SendConversationMessageReceiptReadRequest,
    ) -> Result<ConversationMessageReceiptReadSentResult, Error> {
        let identity = caller.identity()?;
        if request.conversation_type() != ConversationType::Peer {
            return Err(Error::params_invalid("conversationType must be 0: only a peer conversation has this receipt"));
        }
        let name = ConversationRef { r#type: request.conversation_type, id: request.conversation_id };
        let (conversation, _) = self.existing_conversation(identity, &name).await?;
        let peer = self.resolve_peer(identity, &name.id).await?;
        let (user, now) = (identity.user, self.clock.now_ms());
        let through = request.through_seq.unwrap_or(i64::MAX);
        let scope = Scope::conversation(conversation).and_user(user).and_user(peer);
        let _turn = self.readers.wait(conversation).await;
        caller
            .write(&self.db, scope, async move |tx, log| {
                let sql = "UPDATE member SET receipt_seq = CASE WHEN c.seq < $4 THEN c.seq ELSE $4 END, receipt_at = $3 \
                           FROM conversation c WHERE c.id = member.conversation AND member.account = $1 \
                           AND member.conversation = $2 AND member.receipt_seq < c.seq AND member.receipt_seq < $4";
                if tx.execute(sql, &params![user, conversation, now, through]).await? > 0 {
                    log.feed(tx, user, &CONVERSATION_RECEIPT, conversation).await?;
                    log.feed(tx, peer, &CONVERSATION_RECEIPT, conversation).await?;
                }
                Ok(())
            })
            .await?;
        Ok(ConversationMessageReceiptReadSentResult { conversation_id: name.id, conversation_type: name.r#type })
    }

    async fn query_message_receipts_info(
        &self,
        caller: &Caller,
        request: QueryMessageReceiptsInfoRequest,
    ) -> Result<MessageReceiptsInfoQueriedResult, Error> {
        let identity = caller.identity()?;
        let user = identity.user;
        let name = ConversationRef { r#type: request.conversation_type, id: request.conversation_id };
        let (conversation, _) = self.existing_conversation(identity, &name).await?;
        let scrambler = Arc::clone(&self.tenants.of(identity.app)?.scrambler);
        let messages = request.message_list;
        let public = Arc::clone(&scrambler);
        let (found, mut errors, infos) = self
            .db
            .read(async move |tx| {
                let viewer = Viewer::of(tx, conversation, user).await?.ok_or_else(Error::conversation_closed)?;
                let (found, errors) = find_all(tx, conversation, &scrambler, &viewer, &messages).await?;
                let seqs: Vec<i64> = found.iter().map(|message| message.seq).collect();
                let infos = state::receipts(tx, conversation, &viewer, &seqs).await?;
                Ok((found, errors, infos))
            })
            .await?;
        let mut answer = Vec::with_capacity(found.len());
        for message in found {
            let message_id = public.public(message.id).to_string();
            let Some(info) = infos.get(&message.seq).filter(|_| message.kind != MessageType::Revoke as i32) else {
                errors.push(message_id);
                continue;
            };
            answer.push(MessageReceiptInfo {
                status: info.status as i32,
                message_id,
                conversation_id: name.id.clone(),
                conversation_type: name.r#type,
                read_member_count: info.read,
                unread_member_count: info.unread,
                is_self_operated: message.sender != user && info.status == MessageReceiptStatus::Done,
                read_time: info.read_at,
            });
        }
        Ok(MessageReceiptsInfoQueriedResult { infos: answer, error_message_ids: errors })
    }

    async fn query_group_message_receipt_read_member_list(
        &self,
        caller: &Caller,
        request: QueryGroupMessageReceiptReadMemberListRequest,
    ) -> Result<GroupMessageReceiptMemberListQueriedResult, Error> {
        let QueryGroupMessageReceiptReadMemberListRequest { message, group_id, config } = request;
        self.receipt_members(caller, (message, group_id, config), true).await
    }

    async fn query_group_message_receipt_unread_member_list(
        &self,
        caller: &Caller,
        request: QueryGroupMessageReceiptUnreadMemberListRequest,
    ) -> Result<GroupMessageReceiptMemberListQueriedResult, Error> {
        let QueryGroupMessageReceiptUnreadMemberListRequest { message, group_id, config } = request;
        self.receipt_members(caller, (message, group_id, config), false).await
    }
}

/// The member `g` has sent a receipt for the message $4.
const HAS_READ: &str = "EXISTS (SELECT 1 FROM receipt r WHERE r.conversation = g.conversation AND r.seq = $4 \
     AND r.account = g.account)";

/// The member `g`, whose present stay is `m`, was counted when the message $4 was sent: they were in the group, in this stay or in an
/// earlier one. Without an `entered_seq`, they entered where the stay begins.
const WAS_THERE: &str = "((m.from_seq <= $4 AND m.entered_seq <= $4) OR EXISTS (SELECT 1 FROM span sp \
     WHERE sp.account = g.account AND sp.conversation = g.conversation AND sp.from_seq <= $4 AND sp.entered_seq <= $4 \
     AND sp.to_seq >= $4))";

impl App {
    /// Returns the senders of messages that ask for receipts, without a read, if all of them are known to ask: when all members
    /// of a group open it at once, the first of them has read the message. The write checks what the reader may do.
    fn known_to_ask(
        &self,
        (conversation, user): (ConversationKey, UserKey),
        scrambler: &Scrambler,
        messages: &[Message],
    ) -> Option<Vec<UserKey>> {
        let sender = |message: &Message| {
            let id = message.message_id.parse().ok()?;
            self.asking.get(&(conversation, scrambler.stored(id)))
        };
        let senders: Vec<UserKey> = messages.iter().map(sender).collect::<Option<_>>()?;
        // Nobody is asked for a receipt of their own message: a read refuses it, which costs less than a write.
        (!senders.is_empty() && !senders.contains(&user)).then_some(senders)
    }

    /// Reads which messages ask the user for receipts, and returns their senders.
    async fn find_who_asks(
        &self,
        (conversation, user): (ConversationKey, UserKey),
        scrambler: &Arc<Scrambler>,
        messages: &Arc<Vec<Message>>,
    ) -> Result<Vec<UserKey>, Error> {
        let (scrambler, messages) = (Arc::clone(scrambler), Arc::clone(messages));
        let asked = self.db.read(async move |tx| {
            let viewer = Viewer::of(tx, conversation, user).await?.ok_or_else(Error::conversation_closed)?;
            let (found, _) = find_all(tx, conversation, &scrambler, &viewer, &messages).await?;
            let asked = found.into_iter().filter(|message| is_asked(message, user, viewer.entered_seq));
            Ok(asked.collect::<Vec<Found>>())
        });
        let asked = asked.await?;
        if asked.is_empty() {
            return Err(Error::no_receipt());
        }
        for message in &asked {
            self.asking.insert((conversation, message.id), message.sender);
        }
        Ok(asked.iter().map(|message| message.sender).collect())
    }

    /// Returns the present members who have sent a receipt for an own message, or who have not and should.
    async fn receipt_members(
        &self,
        caller: &Caller,
        (message, group_id, config): (Option<Message>, String, Option<GroupMessageReceiptMemberQueryConfig>),
        has_read: bool,
    ) -> Result<GroupMessageReceiptMemberListQueriedResult, Error> {
        let message = Message {
            conversation_id: group_id.clone(),
            conversation_type: ConversationType::Group as i32,
            ..message.unwrap_or_default()
        };
        let reference = self.reference(caller, &message).await?;
        let config = config.unwrap_or_default();
        let count = i64::try_from(MAX_PAGE).unwrap_or(i64::MAX);
        let count = if config.count > 0 { config.count.min(count) } else { count };
        let page = self.db.read(async move |tx| {
            let (target, _) = reference.find_to_change(tx).await?;
            if target.sender != reference.user || target.flags & ASKS == 0 {
                return Err(Error::no_receipt());
            }
            let wanted = if has_read { HAS_READ.to_owned() } else { format!("NOT {HAS_READ} AND {WAS_THERE}") };
            let sql = format!(
                "SELECT g.place, {MEMBER} FROM group_member g JOIN account a ON a.id = g.account \
                 JOIN member m ON m.account = g.account AND m.conversation = g.conversation \
                 LEFT JOIN account o ON o.id = g.operator \
                 WHERE g.conversation = $1 AND g.place > $2 AND g.account <> $3 AND {wanted} ORDER BY g.place LIMIT $5"
            );
            let conversation = reference.conversation.key;
            let params = params![conversation, config.next_flag, reference.user, target.seq, count + 1];
            let rows = tx.fetch(&sql, &params).await?;
            members_page(&rows, usize::try_from(count).unwrap_or(MAX_PAGE), reference.now)
        });
        let (user_list, next_flag) = page.await?;
        Ok(GroupMessageReceiptMemberListQueriedResult { group_id, user_list, next_flag })
    }
}

/// Returns up to `most` members, or fewer if their profiles are long, and the place to go on from; 0: there are no more.
fn members_page(rows: &[Row], most: usize, now: i64) -> Result<(Vec<zim_protocol::GroupMemberInfo>, i64), Error> {
    let (mut members, mut bytes, mut last) = (Vec::with_capacity(rows.len().min(most)), 0, 0);
    for row in rows.iter().take(most) {
        let member = member_at(member_info(row, 1)?.1, now);
        bytes += prost::Message::encoded_len(&member);
        if bytes > PAGE_BYTES && !members.is_empty() {
            break;
        }
        members.push(member);
        last = row.get(0)?;
    }
    let is_last = members.len() == rows.len();
    Ok((members, if is_last { 0 } else { last }))
}

/// Returns those of these users who are members. Who has left is not told of later readers.
async fn present(tx: &mut Tx<'_>, conversation: ConversationKey, users: Vec<UserKey>) -> Result<Vec<UserKey>, Error> {
    let (list, mut params) = tx.dialect().in_list(users, 2);
    params.insert(0, conversation.into());
    let sql = format!("SELECT account FROM member WHERE conversation = $1 AND account IN {list} AND to_rev IS NULL");
    let rows = tx.fetch(&sql, &params).await?;
    Ok(rows.iter().map(|row| Ok(UserKey(row.get(0)?))).collect::<Result<_, DbError>>()?)
}

/// Stores a receipt of a message, at a time and after a change of the conversation; returns false if there is one already.
async fn add(
    tx: &mut Tx<'_>,
    conversation: ConversationKey,
    message: &Found,
    user: UserKey,
    (now, rev): (i64, i64),
) -> Result<bool, Error> {
    let seq = message.seq;
    let sql = "INSERT INTO receipt (conversation, seq, account, at, rev) VALUES ($1, $2, $3, $4, $5) \
               ON CONFLICT (conversation, seq, account) DO NOTHING";
    if tx.execute(sql, &params![conversation, seq, user, now, rev]).await? == 0 {
        return Ok(false);
    }
    // Only the first receipt finds a message without it.
    if message.flags & MessageFlag::State as u32 == 0 {
        state::open(tx, conversation, seq).await?;
    }
    let sql = "UPDATE message_state SET readers = readers + 1, \
               read_at = CASE WHEN readers + 1 >= receivers THEN $3 ELSE read_at END \
               WHERE conversation = $1 AND seq = $2";
    tx.execute(sql, &params![conversation, seq, now]).await?;
    Ok(true)
}

/// The columns of a conversation `c` as the member `me` names it, from which [`conversation_ref`] reads.
pub(super) const NAME: &str = "c.type, c.name, p.name";

pub(super) fn conversation_ref(row: &Row, first: usize) -> Result<ConversationRef, DbError> {
    let kind: i32 = row.get(first)?;
    let column = if kind == ConversationType::Peer as i32 { first + 2 } else { first + 1 };
    Ok(ConversationRef { r#type: kind, id: row.get(column)? })
}

async fn receipts(tx: &mut Tx<'_>, user: UserKey, keys: &[i64]) -> Result<HashMap<i64, Detail>, Error> {
    let (list, mut params) = tx.dialect().in_list(keys.iter().copied(), 2);
    params.insert(0, user.into());
    let sql = format!(
        "SELECT m.id, m.seq, m.sender, s.receivers, {READERS}, s.read_at, r.at, {NAME} FROM message m \
         JOIN conversation c ON c.id = m.conversation \
         JOIN member me ON me.account = $1 AND me.conversation = m.conversation LEFT JOIN account p ON p.id = me.peer \
         JOIN message_state s ON s.conversation = m.conversation AND s.seq = m.seq \
         LEFT JOIN receipt r ON r.conversation = m.conversation AND r.seq = m.seq AND r.account = $1 \
         WHERE m.id IN {list}"
    );
    let mut found = HashMap::with_capacity(keys.len());
    for row in tx.fetch(&sql, &params).await? {
        let conversation = conversation_ref(&row, 7)?;
        let is_own = row.get::<i64>(2)? == user.0;
        // In a peer conversation nobody is counted when the message is sent: there is one receiver.
        let receivers = row.get::<i64>(3)?.max(1);
        let readers: i64 = row.get(4)?;
        let unread = (receivers - readers).max(0);
        let entry = match is_own {
            true => ReceiptEntry {
                read_member_count: readers,
                unread_member_count: unread,
                read_time: if unread == 0 { row.get(5)? } else { 0 },
                ..ReceiptEntry::default()
            },
            false => ReceiptEntry {
                is_self_operated: true,
                read_time: row.get::<Option<i64>>(6)?.unwrap_or(0),
                ..ReceiptEntry::default()
            },
        };
        let seq = row.get::<i64>(1)?.unsigned_abs();
        let entry = ReceiptEntry { conversation: Some(conversation), seq, ..entry };
        found.insert(row.get(0)?, Detail::Receipt(entry));
    }
    Ok(found)
}

async fn conversation_receipts(tx: &mut Tx<'_>, user: UserKey, keys: &[i64]) -> Result<HashMap<i64, Detail>, Error> {
    let (list, mut params) = tx.dialect().in_list(keys.iter().copied(), 2);
    params.insert(0, user.into());
    let sql = format!(
        "SELECT c.id, me.receipt_seq, me.receipt_at, o.receipt_seq, o.receipt_at, {NAME} FROM member me \
         JOIN conversation c ON c.id = me.conversation JOIN account p ON p.id = me.peer \
         JOIN member o ON o.account = me.peer AND o.conversation = me.conversation \
         WHERE me.account = $1 AND me.conversation IN {list}"
    );
    let mut found = HashMap::with_capacity(keys.len());
    for row in tx.fetch(&sql, &params).await? {
        let entry = ConversationReceiptEntry {
            conversation: Some(conversation_ref(&row, 5)?),
            own_seq: row.get::<i64>(1)?.unsigned_abs(),
            own_time: row.get(2)?,
            peer_seq: row.get::<i64>(3)?.unsigned_abs(),
            peer_time: row.get(4)?,
        };
        found.insert(row.get(0)?, Detail::ConversationReceipt(entry));
    }
    Ok(found)
}
