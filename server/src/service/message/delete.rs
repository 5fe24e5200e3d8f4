//! Messages that a user deletes for themselves. Others keep them.

use std::collections::HashMap;
use std::sync::Arc;

use zim_protocol::{
    AllCleared, Base, ConversationCleared, ConversationRef, DeleteAllConversationMessagesRequest,
    DeleteAllMessageRequest, DeleteMessagesRequest, MessageDeletion, MessageFlag, MessageType, feed_entry::Detail,
};

use super::receipt::{NAME, conversation_ref};
use super::target::find_all;
use crate::app::App;
use crate::connection::Caller;
use crate::db::{Scope, Tx, Value, params};
use crate::error::Error;
use crate::journal::{FeedKind, Viewer, clear_messages};
use crate::key::{ConversationKey, Scrambler, UserKey};

/// A message that the user deleted for themselves; the key is the message.
pub(crate) static DELETION: FeedKind =
    FeedKind { number: 22, resolve: |tx, user, keys| Box::pin(deletions(tx, user, keys)) };

/// A conversation whose messages the user deleted for themselves; the key is the conversation.
pub(crate) static CLEARED: FeedKind =
    FeedKind { number: 23, resolve: |tx, user, keys| Box::pin(cleared(tx, user, keys)) };

/// The user deleted all messages of all conversations for themselves; the key is the number of the request, which its client chose.
/// There is one entry, that of the last deletion.
pub(crate) static ALL_CLEARED: FeedKind = FeedKind {
    number: 24,
    resolve: |_, _, keys| {
        let detail = |key: &i64| (*key, Detail::AllCleared(AllCleared { deletion_number: *key }));
        let found = keys.iter().map(detail).collect();
        Box::pin(std::future::ready(Ok(found)))
    },
};

/// The conversations that one job clears.
const CLEARED_AT_ONCE: i64 = 100;

impl App {
    /// Deletes messages for the caller.
    pub(super) async fn delete_for_caller(
        &self,
        caller: &Caller,
        name: &ConversationRef,
        request: DeleteMessagesRequest,
    ) -> Result<(), Error> {
        let identity = caller.identity()?;
        let user = identity.user;
        let (conversation, _) = self.existing_conversation(identity, name).await?;
        if !request.config.unwrap_or_default().is_also_delete_server_message() {
            return Ok(());
        }
        let scrambler = Arc::clone(&self.tenants.of(identity.app)?.scrambler);
        let messages = request.message_list;
        caller
            .write(&self.db, Scope::user(user), async move |tx, log| {
                let viewer = Viewer::of(tx, conversation, user).await?.ok_or_else(Error::conversation_closed)?;
                let (found, missing) = find_all(tx, conversation, &scrambler, &viewer, &messages).await?;
                if found.is_empty() && !missing.is_empty() {
                    // Sent again: they are deleted already.
                    return match is_any_hidden(tx, conversation, user, &scrambler, &missing).await? {
                        true => Ok(()),
                        false => Err(Error::message_not_found()),
                    };
                }
                if found.iter().any(|message| message.kind == MessageType::Tips as i32) {
                    return Err(Error::message_type_unsupported("deleted by itself"));
                }
                let rows: Vec<[Value; 3]> =
                    found.iter().map(|message| params![user, conversation, message.seq]).collect();
                let insert = |rows: &str| format!("INSERT INTO hidden (account, conversation, seq) {rows}");
                tx.execute_rows(&rows, insert).await?;
                let ids: Vec<i64> = found.iter().map(|message| message.id).collect();
                log.feed_all(tx, user, &DELETION, &ids).await?;
                Ok(())
            })
            .await
    }

    /// Deletes all messages of a conversation for the caller, or those that their device has seen.
    pub(super) async fn clear_for_caller(
        &self,
        caller: &Caller,
        name: &ConversationRef,
        request: DeleteAllMessageRequest,
    ) -> Result<(), Error> {
        let identity = caller.identity()?;
        let user = identity.user;
        let (conversation, _) = self.existing_conversation(identity, name).await?;
        if !request.config.unwrap_or_default().is_also_delete_server_message() {
            return Ok(());
        }
        let scope = Scope::conversation(conversation).and_user(user);
        let through = request.through_seq;
        caller
            .write(&self.db, scope, async move |tx, log| {
                Viewer::of(tx, conversation, user).await?.ok_or_else(Error::conversation_closed)?;
                if clear_messages(tx, conversation, user, through).await? {
                    log.feed(tx, user, &CLEARED, conversation).await?;
                }
                Ok(())
            })
            .await
    }

    /// Deletes all messages of all conversations for the caller, as they are when the request comes.
    pub(super) async fn clear_all_for_caller(
        &self,
        caller: &Caller,
        request: DeleteAllConversationMessagesRequest,
    ) -> Result<(), Error> {
        let (user, number) = (caller.identity()?.user, request.deletion_number);
        if !request.config.unwrap_or_default().is_also_delete_server_message() {
            return Ok(());
        }
        let mut after = 0;
        loop {
            // By parts, so that a user with many conversations does not hold up the others.
            let part = self.db.read(async move |tx| conversations(tx, user, after).await).await?;
            let Some(last) = part.last().copied() else { break };
            let scope = Scope::user(user).and_conversations(part.iter().copied().map(ConversationKey));
            after = last;
            caller
                .write(&self.db, scope, async move |tx, log| {
                    let mut moved = Vec::with_capacity(part.len());
                    for key in part {
                        if clear_messages(tx, ConversationKey(key), user, None).await? {
                            moved.push(key);
                        }
                    }
                    if !moved.is_empty() {
                        log.feed_all(tx, user, &CLEARED, &moved).await?;
                    }
                    Ok(())
                })
                .await?;
        }
        let done = caller.write(&self.db, Scope::user(user), async move |tx, log| {
            // The entry of the deletion before has another key, so the new one does not replace it. Entries would pile up.
            let sql = "DELETE FROM feed WHERE account = $1 AND kind = $2";
            tx.execute(sql, &params![user, ALL_CLEARED.number]).await?;
            log.feed(tx, user, &ALL_CLEARED, number).await?;
            Ok(())
        });
        done.await
    }
}

/// Returns conversations of a user that have messages which were not deleted yet.
async fn conversations(tx: &mut Tx<'_>, user: UserKey, after: i64) -> Result<Vec<i64>, Error> {
    let sql = "SELECT m.conversation FROM member m JOIN conversation c ON c.id = m.conversation \
               WHERE m.account = $1 AND m.conversation > $2 AND c.seq > m.cleared_seq ORDER BY m.conversation LIMIT $3";
    let rows = tx.fetch(sql, &params![user, after, CLEARED_AT_ONCE]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect::<Result<_, _>>()?)
}

/// Returns whether the user has deleted any of these messages.
async fn is_any_hidden(
    tx: &mut Tx<'_>,
    conversation: ConversationKey,
    user: UserKey,
    scrambler: &Scrambler,
    message_ids: &[String],
) -> Result<bool, Error> {
    let ids = message_ids.iter().filter_map(|id| id.parse().ok()).map(|id| scrambler.stored(id));
    let (list, mut params) = tx.dialect().in_list(ids, 3);
    params.splice(0..0, params![user, conversation]);
    let sql = format!(
        "SELECT 1 FROM hidden h JOIN message m ON m.conversation = h.conversation AND m.seq = h.seq \
         WHERE h.account = $1 AND h.conversation = $2 AND m.id IN {list} LIMIT 1"
    );
    Ok(tx.fetch_one(&sql, &params).await?.is_some())
}

async fn deletions(tx: &mut Tx<'_>, user: UserKey, keys: &[i64]) -> Result<HashMap<i64, Detail>, Error> {
    let (list, mut params) = tx.dialect().in_list(keys.iter().copied(), 2);
    params.insert(0, user.into());
    let sql = format!(
        "SELECT m.id, m.seq, m.sender, m.flags, {NAME} FROM message m JOIN conversation c ON c.id = m.conversation \
         JOIN member me ON me.account = $1 AND me.conversation = m.conversation LEFT JOIN account p ON p.id = me.peer \
         JOIN hidden h ON h.account = $1 AND h.conversation = m.conversation AND h.seq = m.seq WHERE m.id IN {list}"
    );
    let mut found = HashMap::with_capacity(keys.len());
    for row in tx.fetch(&sql, &params).await? {
        // Also if it was revoked before: the change that says so is not shown to this user any more.
        let is_counted = row.get::<i64>(2)? != user.0 && row.get::<u32>(3)? & MessageFlag::Counted as u32 != 0;
        let (conversation, seq) = (Some(conversation_ref(&row, 4)?), row.get::<i64>(1)?.unsigned_abs());
        let entry = MessageDeletion { conversation, seq, is_counted };
        found.insert(row.get(0)?, Detail::MessageDeletion(entry));
    }
    Ok(found)
}

async fn cleared(tx: &mut Tx<'_>, user: UserKey, keys: &[i64]) -> Result<HashMap<i64, Detail>, Error> {
    let (list, mut params) = tx.dialect().in_list(keys.iter().copied(), 2);
    params.insert(0, user.into());
    let sql = format!(
        "SELECT me.conversation, me.cleared_seq, me.read_seq, me.base_seq, me.base_n, me.base_sent, {NAME} FROM member me \
         JOIN conversation c ON c.id = me.conversation LEFT JOIN account p ON p.id = me.peer \
         WHERE me.account = $1 AND me.conversation IN {list}"
    );
    let mut found = HashMap::with_capacity(keys.len());
    for row in tx.fetch(&sql, &params).await? {
        let number = |index| -> Result<u64, Error> { Ok(row.get::<i64>(index)?.unsigned_abs()) };
        let entry = ConversationCleared {
            conversation: Some(conversation_ref(&row, 6)?),
            cleared_seq: number(1)?,
            read_seq: number(2)?,
            base: Some(Base { seq: number(3)?, n: number(4)?, sent: number(5)? }),
        };
        found.insert(row.get(0)?, Detail::Cleared(entry));
    }
    Ok(found)
}
