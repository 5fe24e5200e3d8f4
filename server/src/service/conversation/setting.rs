//! What a user has set for their conversations, and which ones they deleted from their list. There is a row for each
//! conversation that was ever set, and each change is an entry of the user's feed. A row does not depend on being a member:
//! it outlives a stay in a group. The conversations themselves do not change, so no job here needs their locks.

use std::collections::HashMap;

use zim_protocol::{
    AllConversationsDeleted, ConversationNotificationStatus, ConversationRef, ConversationSetting, ConversationType,
    feed_entry::Detail,
};

use super::head::{END_N, END_SEQ};
use crate::db::{Tx, Value, params};
use crate::error::Error;
use crate::journal::{FeedKind, LogWriter, deducted};
use crate::key::{ConversationKey, UserKey};

/// The settings of a conversation changed; the key is the conversation.
pub(crate) static SETTING: FeedKind =
    FeedKind { number: 12, resolve: |tx, user, keys| Box::pin(settings(tx, user, keys)) };

/// The user deleted all conversations from the list; the key is 0.
pub(crate) static ALL_DELETED: FeedKind =
    FeedKind { number: 13, resolve: |tx, user, keys| Box::pin(all_deleted(tx, user, keys)) };

const COLUMNS: &str =
    "account, conversation, pinned_at, notification, marks, marked_pos, deleted_below, is_deleted_with_all";

/// A column with one setting.
#[derive(Clone, Copy, Debug)]
enum Column {
    PinnedAt,
    Notification,
    DeletedBelow,
}

impl Column {
    fn name(self) -> &'static str {
        match self {
            Self::PinnedAt => "pinned_at",
            Self::Notification => "notification",
            Self::DeletedBelow => "deleted_below",
        }
    }
}

/// Returns the last position that a user may know of in a conversation of theirs. An empty conversation is in nobody's list.
async fn end(tx: &mut Tx<'_>, user: UserKey, (conversation, id): (ConversationKey, &str)) -> Result<i64, Error> {
    let sql = format!(
        "SELECT {END_SEQ} FROM member m JOIN conversation c ON c.id = m.conversation \
         WHERE m.account = $1 AND m.conversation = $2 AND c.seq + c.rev > 0"
    );
    let row = tx.fetch_one(&sql, &params![user, conversation]).await?;
    Ok(row.ok_or_else(|| Error::conversation_not_found(id))?.get(0)?)
}

/// Returns the present value of a setting.
async fn get(
    tx: &mut Tx<'_>,
    user: UserKey,
    conversation: ConversationKey,
    column: Column,
) -> Result<Option<i64>, Error> {
    let sql = format!("SELECT {} FROM conversation_setting WHERE account = $1 AND conversation = $2", column.name());
    Ok(tx.fetch_one(&sql, &params![user, conversation]).await?.map(|row| row.get(0)).transpose()?)
}

/// Changes a setting, and tells the user's devices.
async fn set(
    tx: &mut Tx<'_>,
    log: &mut LogWriter,
    user: UserKey,
    conversation: ConversationKey,
    (column, value): (Column, i64),
) -> Result<(), Error> {
    let sql = format!(
        "INSERT INTO conversation_setting ({COLUMNS}) VALUES ($1, $2, 0, {}, 0, 0, 0, 0) \
         ON CONFLICT (account, conversation) DO NOTHING",
        ConversationNotificationStatus::Notify as i32
    );
    tx.execute(&sql, &params![user, conversation]).await?;
    let single = if matches!(column, Column::DeletedBelow) { ", is_deleted_with_all = 0" } else { "" };
    let sql = format!(
        "UPDATE conversation_setting SET {} = $3{single} WHERE account = $1 AND conversation = $2",
        column.name()
    );
    tx.execute(&sql, &params![user, conversation, value]).await?;
    log.feed(tx, user, &SETTING, conversation).await?;
    Ok(())
}

/// Pins a conversation at a time, or unpins it. One that is pinned already keeps its time.
pub(super) async fn pin(
    tx: &mut Tx<'_>,
    log: &mut LogWriter,
    user: UserKey,
    conversation: (ConversationKey, &str),
    (at, limit): (Option<i64>, i64),
) -> Result<(), Error> {
    end(tx, user, conversation).await?;
    let pinned_at = get(tx, user, conversation.0, Column::PinnedAt).await?.unwrap_or(0);
    if (pinned_at > 0) == at.is_some() {
        return Ok(());
    }
    if at.is_some() {
        let sql = "SELECT COUNT(*) FROM conversation_setting WHERE account = $1 AND pinned_at > 0";
        let row = tx.fetch_one(sql, &params![user]).await?;
        if row.map_or(Ok(0), |row| row.get::<i64>(0))? >= limit {
            return Err(Error::pinned_full(limit));
        }
    }
    set(tx, log, user, conversation.0, (Column::PinnedAt, at.unwrap_or(0))).await
}

/// Sets whether a conversation disturbs.
pub(super) async fn notify(
    tx: &mut Tx<'_>,
    log: &mut LogWriter,
    user: UserKey,
    conversation: (ConversationKey, &str),
    status: i32,
) -> Result<(), Error> {
    end(tx, user, conversation).await?;
    let before = get(tx, user, conversation.0, Column::Notification).await?;
    if before.unwrap_or_else(|| (ConversationNotificationStatus::Notify as i32).into()) == i64::from(status) {
        return Ok(());
    }
    set(tx, log, user, conversation.0, (Column::Notification, status.into())).await
}

/// Deletes a conversation from the list: as far as the position `through`, or all of it.
pub(super) async fn delete(
    tx: &mut Tx<'_>,
    log: &mut LogWriter,
    user: UserKey,
    conversation: (ConversationKey, &str),
    through: Option<i64>,
) -> Result<(), Error> {
    let end = end(tx, user, conversation).await?;
    let below = through.map_or(end, |through| through.min(end)) + 1;
    if get(tx, user, conversation.0, Column::DeletedBelow).await?.unwrap_or(0) >= below {
        return Ok(());
    }
    set(tx, log, user, conversation.0, (Column::DeletedBelow, below)).await
}

/// A message at a position, which a user is not to learn of, does not bring a conversation into their list.
pub(crate) async fn keep_out_of_list(
    tx: &mut Tx<'_>,
    log: &mut LogWriter,
    user: UserKey,
    conversation: ConversationKey,
    seq: i64,
) -> Result<(), Error> {
    let row = tx.fetch_one("SELECT rev FROM conversation WHERE id = $1", &params![conversation]).await?;
    let is_new = seq == 1 && row.map_or(Ok(0), |row| row.get::<i64>(0))? == 0;
    let is_deleted = get(tx, user, conversation, Column::DeletedBelow).await?.unwrap_or(0) >= seq;
    if is_new || is_deleted {
        set(tx, log, user, conversation, (Column::DeletedBelow, seq + 1)).await?;
    }
    Ok(())
}

/// A group begins anew for these users: it is in their lists, even if they had deleted it.
pub(crate) async fn undelete(
    tx: &mut Tx<'_>,
    log: &mut LogWriter,
    conversation: ConversationKey,
    users: impl IntoIterator<Item = UserKey>,
) -> Result<(), Error> {
    let (list, mut params) = tx.dialect().in_list(users, 2);
    params.insert(0, conversation.into());
    let sql = format!(
        "UPDATE conversation_setting SET deleted_below = 0, is_deleted_with_all = 0 \
         WHERE conversation = $1 AND account IN {list} AND deleted_below > 0 RETURNING account"
    );
    for row in tx.fetch(&sql, &params).await? {
        log.feed(tx, UserKey(row.get(0)?), &SETTING, conversation).await?;
    }
    Ok(())
}

/// Sets or removes a mark of these conversations. Returns those that the user does not have.
pub(super) async fn mark(
    tx: &mut Tx<'_>,
    log: &mut LogWriter,
    user: UserKey,
    conversations: &[ConversationKey],
    (mark, is_set, limit): (i64, bool, i64),
) -> Result<Vec<ConversationKey>, Error> {
    let (list, mut params) = tx.dialect().in_list(conversations.iter().copied(), 2);
    params.insert(0, user.into());
    let sql = format!(
        "SELECT m.conversation, COALESCE(s.marks, 0), COALESCE(s.marked_pos, 0) \
         FROM member m JOIN conversation c ON c.id = m.conversation \
         LEFT JOIN conversation_setting s ON s.account = m.account AND s.conversation = m.conversation \
         WHERE m.account = $1 AND m.conversation IN {list} AND c.seq + c.rev > 0"
    );
    let mut known: HashMap<i64, (i64, i64)> = HashMap::new();
    for row in tx.fetch(&sql, &params).await? {
        known.insert(row.get(0)?, (row.get(1)?, row.get(2)?));
    }
    let bit = 1_i64 << mark;
    let mut changed: Vec<(i64, i64, i64)> = Vec::new();
    let mut missing = Vec::new();
    for conversation in conversations {
        match known.get(&conversation.0) {
            None => missing.push(*conversation),
            Some((marks, pos)) if (marks & bit != 0) != is_set => changed.push((conversation.0, marks ^ bit, *pos)),
            Some(_) => {}
        }
    }
    if changed.is_empty() {
        return Ok(missing);
    }
    let keys: Vec<i64> = changed.iter().map(|(key, ..)| *key).collect();
    let first = log.feed_all(tx, user, &SETTING, &keys).await?;
    let rows: Vec<[Value; 4]> = (first..)
        .zip(&changed)
        .map(|(now, (key, marks, before))| {
            let pos = match (*marks, *before) {
                (0, _) => 0,
                (_, 0) => now,
                (_, before) => before,
            };
            params![user, *key, *marks, pos]
        })
        .collect();
    let sql = |rows: &str| {
        format!(
            "INSERT INTO conversation_setting ({COLUMNS}) SELECT v.column1, v.column2, 0, {}, v.column3, v.column4, 0, 0 \
             FROM ({rows}) AS v WHERE 1 = 1 ON CONFLICT (account, conversation) DO UPDATE SET marks = excluded.marks, \
             marked_pos = excluded.marked_pos",
            ConversationNotificationStatus::Notify as i32
        )
    };
    tx.execute_rows(&rows, sql).await?;
    if is_set {
        // Also those of the request that had the mark already.
        let named: Vec<i64> = known.into_keys().collect();
        evict(tx, log, user, &named, limit).await?;
    }
    Ok(missing)
}

/// Takes the marks of the conversations that got theirs first, if there are more than `limit` with marks. Those in `named` keep
/// theirs: a request has no more than the least limit.
async fn evict(tx: &mut Tx<'_>, log: &mut LogWriter, user: UserKey, named: &[i64], limit: i64) -> Result<(), Error> {
    let sql = "SELECT COUNT(*) FROM conversation_setting WHERE account = $1 AND marks <> 0";
    let row = tx.fetch_one(sql, &params![user]).await?;
    let over = row.map_or(Ok(0), |row| row.get::<i64>(0))? - limit;
    if over <= 0 {
        return Ok(());
    }
    let (list, mut params) = tx.dialect().in_list(named.iter().copied(), 3);
    params.splice(0..0, params![user, over]);
    let sql = format!(
        "SELECT conversation FROM conversation_setting WHERE account = $1 AND marks <> 0 AND conversation NOT IN {list} \
         ORDER BY marked_pos LIMIT $2"
    );
    let rows = tx.fetch(&sql, &params).await?;
    let evicted: Vec<i64> = rows.iter().map(|row| row.get(0)).collect::<Result<_, _>>()?;
    let (list, mut params) = tx.dialect().in_list(evicted.iter().copied(), 2);
    params.insert(0, user.into());
    let sql = format!(
        "UPDATE conversation_setting SET marks = 0, marked_pos = 0 WHERE account = $1 AND conversation IN {list}"
    );
    tx.execute(&sql, &params).await?;
    log.feed_all(tx, user, &SETTING, &evicted).await?;
    Ok(())
}

/// The most conversations that one job deletes.
pub(super) const DELETED_AT_ONCE: i64 = 500;

/// Deletes the next conversations from the list, after the conversation `after`. Returns the last one; `None`: there are no more.
/// The event counts those of all jobs.
pub(super) async fn delete_all(
    tx: &mut Tx<'_>,
    log: &mut LogWriter,
    user: UserKey,
    after: Option<i64>,
) -> Result<Option<i64>, Error> {
    let sql = format!(
        "SELECT m.conversation, {END_SEQ} + 1 FROM member m JOIN conversation c ON c.id = m.conversation \
         LEFT JOIN conversation_setting s ON s.account = m.account AND s.conversation = m.conversation \
         WHERE m.account = $1 AND m.conversation > $2 AND c.seq + c.rev > 0 \
         AND COALESCE(s.deleted_below, 0) < {END_SEQ} + 1 ORDER BY m.conversation LIMIT $3"
    );
    let found = tx.fetch(&sql, &params![user, after.unwrap_or(i64::MIN), DELETED_AT_ONCE]).await?;
    let mut rows: Vec<[Value; 3]> = Vec::with_capacity(found.len());
    let mut keys: Vec<i64> = Vec::with_capacity(found.len());
    for row in &found {
        keys.push(row.get(0)?);
        rows.push(params![user, row.get::<i64>(0)?, row.get::<i64>(1)?]);
    }
    let sql = |rows: &str| {
        format!(
            "INSERT INTO conversation_setting ({COLUMNS}) SELECT v.column1, v.column2, 0, {}, 0, 0, v.column3, 1 \
             FROM ({rows}) AS v WHERE 1 = 1 ON CONFLICT (account, conversation) DO UPDATE \
             SET deleted_below = excluded.deleted_below, is_deleted_with_all = 1",
            ConversationNotificationStatus::Notify as i32
        )
    };
    tx.execute_rows(&rows, sql).await?;
    if !keys.is_empty() {
        log.feed_all(tx, user, &SETTING, &keys).await?;
        tx.execute(
            "INSERT INTO all_deleted (account, number, count, begun) VALUES ($1, 0, 0, $2) \
             ON CONFLICT (account) DO UPDATE SET begun = all_deleted.begun + excluded.begun",
            &params![user, i64::try_from(keys.len()).map_err(Error::internal)?],
        )
        .await?;
    }
    let last = keys.last().copied().filter(|_| i64::try_from(keys.len()).is_ok_and(|len| len == DELETED_AT_ONCE));
    if last.is_none() {
        let sql = "UPDATE all_deleted SET number = number + 1, count = begun, begun = 0 \
                   WHERE account = $1 AND begun > 0";
        if tx.execute(sql, &params![user]).await? > 0 {
            log.feed(tx, user, &ALL_DELETED, 0).await?;
        }
    }
    Ok(last)
}

/// Returns up to `limit` conversations with unread messages after the conversation `after`.
pub(super) async fn unread(
    tx: &mut Tx<'_>,
    user: UserKey,
    after: i64,
    limit: i64,
) -> Result<Vec<ConversationKey>, Error> {
    let sql = format!(
        "SELECT m.conversation FROM member m JOIN conversation c ON c.id = m.conversation \
         WHERE m.account = $1 AND m.conversation > $2 AND m.read_seq < {END_SEQ} \
         AND ({END_N}) - m.base_n - (m.sent - m.base_sent) - {} > 0 ORDER BY m.conversation LIMIT $3",
        deducted()
    );
    let rows = tx.fetch(&sql, &params![user, after, limit]).await?;
    rows.iter().map(|row| Ok(ConversationKey(row.get(0)?))).collect()
}

/// Returns the settings of these conversations.
async fn settings(tx: &mut Tx<'_>, user: UserKey, keys: &[i64]) -> Result<HashMap<i64, Detail>, Error> {
    let (list, mut params) = tx.dialect().in_list(keys.iter().copied(), 2);
    params.insert(0, user.into());
    let sql = format!(
        "SELECT c.id, c.type, c.name, p.name, s.pinned_at, s.notification, s.marks, s.deleted_below, \
         s.is_deleted_with_all FROM conversation_setting s JOIN conversation c ON c.id = s.conversation \
         LEFT JOIN member m ON m.account = s.account AND m.conversation = s.conversation \
         LEFT JOIN account p ON p.id = m.peer WHERE s.account = $1 AND s.conversation IN {list}"
    );
    let mut found = HashMap::with_capacity(keys.len());
    for row in tx.fetch(&sql, &params).await? {
        let kind: i32 = row.get(1)?;
        let id: Option<String> = if kind == ConversationType::Peer as i32 { row.get(3)? } else { row.get(2)? };
        let Some(id) = id else { continue };
        let marks: i64 = row.get(6)?;
        let setting = ConversationSetting {
            conversation: Some(ConversationRef { r#type: kind, id }),
            pinned_time: row.get(4)?,
            notification_status: row.get(5)?,
            marks: (0..i64::from(i64::BITS)).filter(|mark| (marks >> mark) & 1 == 1).collect(),
            deleted_below: row.get::<i64>(7)?.unsigned_abs(),
            is_deleted_with_all: row.get::<i64>(8)? != 0,
        };
        found.insert(row.get(0)?, Detail::Setting(setting));
    }
    Ok(found)
}

async fn all_deleted(tx: &mut Tx<'_>, user: UserKey, keys: &[i64]) -> Result<HashMap<i64, Detail>, Error> {
    let row = tx.fetch_one("SELECT number, count FROM all_deleted WHERE account = $1", &params![user]).await?;
    let Some(row) = row else { return Ok(HashMap::new()) };
    let detail = Detail::AllDeleted(AllConversationsDeleted { number: row.get(0)?, count: row.get(1)? });
    Ok(keys.iter().map(|key| (*key, detail.clone())).collect())
}
