//! The feed of a user: the log of what concerns this user alone. An entry says what changed; its present value is read
//! when the entry is delivered. So the newest entry of a kind and key replaces the one before it, whose position stays
//! blank.

use std::collections::HashMap;

use futures_util::future::LocalBoxFuture;
use zim_protocol::{Base, ConversationRef, ConversationType, ReadMark, feed_entry::Detail};

use super::rules::{self, Extent};
use super::visible::Viewer;
use crate::db::{Tx, Value, params};
use crate::error::Error;
use crate::key::{ConversationKey, UserKey};

/// A kind of feed entry. Each noun defines its own, and `service/feed.rs` lists all of them.
#[derive(Debug)]
pub struct FeedKind {
    /// The number in the store. It never changes.
    pub number: i64,
    /// Returns the present values of entries of one user's feed, by key. An entry without a value is blank.
    pub resolve: for<'a> fn(&'a mut Tx<'_>, UserKey, &'a [i64]) -> Resolving<'a>,
}

/// Resolves feed entries.
pub type Resolving<'a> = LocalBoxFuture<'a, Result<HashMap<i64, Detail>, Error>>;

/// A read mark moved; the key is the conversation.
pub static READ: FeedKind = FeedKind { number: 1, resolve: |tx, user, keys| Box::pin(read_marks(tx, user, keys)) };

/// Appends an entry for each of these keys, which are distinct. Returns the position of the first.
pub(super) async fn append(tx: &mut Tx<'_>, user: UserKey, kind: &FeedKind, keys: &[i64]) -> Result<i64, Error> {
    tx.assert_covers_user(user);
    let count = i64::try_from(keys.len()).map_err(Error::internal)?;
    let row = tx
        .fetch_one("UPDATE account SET pos = pos + $2 WHERE id = $1 RETURNING pos", &params![user, count])
        .await?
        .ok_or_else(|| Error::internal_text("a feed without a user"))?;
    let first = row.get::<i64>(0)? - count + 1;
    let (list, mut params) = tx.dialect().in_list(keys.iter().copied(), 3);
    params.splice(0..0, params![user, kind.number]);
    tx.execute(&format!("DELETE FROM feed WHERE account = $1 AND kind = $2 AND key IN {list}"), &params).await?;
    let rows: Vec<[Value; 4]> = (first..).zip(keys).map(|(pos, key)| params![user, pos, kind.number, *key]).collect();
    tx.execute_rows(&rows, |rows| format!("INSERT INTO feed (account, pos, kind, key) {rows}")).await?;
    Ok(first)
}

/// Appends an entry with the same kind and key to the feeds of several users, which the job has locked. Returns the users with
/// their positions. Takes three statements, whatever the number of users.
pub(super) async fn append_each(
    tx: &mut Tx<'_>,
    users: &[UserKey],
    kind: &FeedKind,
    key: i64,
) -> Result<HashMap<UserKey, i64>, Error> {
    let (list, params) = tx.dialect().in_list(users.iter().copied(), 1);
    // The rows are locked, so the order in which the statement finds them does not matter.
    let sql = format!("UPDATE account SET pos = pos + 1 WHERE id IN {list} RETURNING id, pos");
    let rows = tx.fetch(&sql, &params).await?;
    let positions = rows.iter().map(|row| Ok((UserKey(row.get(0)?), row.get(1)?)));
    let positions = positions.collect::<Result<HashMap<UserKey, i64>, Error>>()?;
    let (list, mut params) = tx.dialect().in_list(users.iter().copied(), 3);
    params.splice(0..0, params![kind.number, key]);
    tx.execute(&format!("DELETE FROM feed WHERE kind = $1 AND key = $2 AND account IN {list}"), &params).await?;
    let rows: Vec<[Value; 4]> = positions.iter().map(|(user, pos)| params![*user, *pos, kind.number, key]).collect();
    tx.execute_rows(&rows, |rows| format!("INSERT INTO feed (account, pos, kind, key) {rows}")).await?;
    Ok(positions)
}

/// Returns the head of a user's feed.
pub async fn head(tx: &mut Tx<'_>, user: UserKey) -> Result<i64, Error> {
    let row = tx.fetch_one("SELECT pos FROM account WHERE id = $1", &params![user]).await?;
    Ok(row.map_or(Ok(0), |row| row.get(0))?)
}

/// A row of a feed: it says what changed, not the present value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FeedRow {
    /// The position.
    pub pos: i64,
    /// `FeedKind`.
    pub kind: i64,
    /// The subject, by kind.
    pub key: i64,
}

/// Returns up to `limit` rows of the feed after `after`, the position up to which they are complete, and whether there
/// are more.
pub async fn rows(
    tx: &mut Tx<'_>,
    user: UserKey,
    after: i64,
    limit: usize,
) -> Result<(Vec<FeedRow>, i64, bool), Error> {
    let head = head(tx, user).await?;
    let limit_rows = i64::try_from(limit).unwrap_or(i64::MAX);
    let rows = tx
        .fetch(
            "SELECT pos, kind, key FROM feed WHERE account = $1 AND pos > $2 ORDER BY pos LIMIT $3",
            &params![user, after, limit_rows],
        )
        .await?;
    let rows: Vec<FeedRow> = rows
        .iter()
        .map(|row| Ok(FeedRow { pos: row.get(0)?, kind: row.get(1)?, key: row.get(2)? }))
        .collect::<Result<_, Error>>()?;
    let more = rows.len() == limit;
    let through = rows.last().filter(|_| more).map_or(head, |last| last.pos);
    Ok((rows, through, more))
}

/// Returns the read marks of these conversations, by conversation.
async fn read_marks(tx: &mut Tx<'_>, user: UserKey, keys: &[i64]) -> Result<HashMap<i64, Detail>, Error> {
    let (list, mut params) = tx.dialect().in_list(keys.iter().copied(), 2);
    params.insert(0, user.into());
    let sql = format!(
        "SELECT c.id, m.read_seq, m.base_seq, m.base_n, m.base_sent, c.type, c.name, p.name \
         FROM member m JOIN conversation c ON c.id = m.conversation LEFT JOIN account p ON p.id = m.peer \
         WHERE m.account = $1 AND m.conversation IN {list}"
    );
    let mut marks = HashMap::with_capacity(keys.len());
    for row in tx.fetch(&sql, &params).await? {
        let kind: i32 = row.get(5)?;
        let id: String = if kind == ConversationType::Peer as i32 { row.get(7)? } else { row.get(6)? };
        let mark = ReadMark {
            conversation: Some(ConversationRef { r#type: kind, id }),
            read_seq: row.get::<i64>(1)?.unsigned_abs(),
            base: Some(base(rules::Base { seq: row.get(2)?, n: row.get(3)?, sent: row.get(4)? })),
        };
        marks.insert(row.get(0)?, Detail::Read(mark));
    }
    Ok(marks)
}

/// Encodes a base.
fn base(base: rules::Base) -> Base {
    Base { seq: base.seq.unsigned_abs(), n: base.n.unsigned_abs(), sent: base.sent.unsigned_abs() }
}

/// Moves a user's read mark of a conversation forward to `requested`, or to the last message if that is 0. Returns false if
/// it does not move. `name` is the name that the user gave.
///
/// # Errors
/// The user is not a member, or the store fails.
pub async fn move_read_mark(
    tx: &mut Tx<'_>,
    conversation: ConversationKey,
    user: UserKey,
    name: &str,
    requested: i64,
) -> Result<bool, Error> {
    let Some(member) = Viewer::of(tx, conversation, user).await? else {
        return Err(Error::conversation_not_found(name));
    };
    let Some(through) = rules::read_through(member.read_seq, requested, member.end_seq()) else { return Ok(false) };
    // What was cleared beyond the mark stays cleared.
    let moved = if through <= member.base.seq {
        member.base
    } else if through == member.message_log.head {
        rules::Base { seq: through, n: member.n, sent: member.sent }
    } else {
        base_at(tx, conversation, user, &member, through).await?
    };
    tx.execute(
        "UPDATE member SET read_seq = $3, base_seq = $4, base_n = $5, base_sent = $6 \
         WHERE account = $1 AND conversation = $2",
        &params![user, conversation, through, moved.seq, moved.n, moved.sent],
    )
    .await?;
    Ok(true)
}

/// Deletes the messages of a conversation up to `requested` for one user, or all of them: they see nothing up to there, and nothing
/// of it is unread. Returns false if there is nothing to delete.
///
/// # Errors
/// The user is not a member, or the store fails.
pub async fn clear_messages(
    tx: &mut Tx<'_>,
    conversation: ConversationKey,
    user: UserKey,
    requested: Option<i64>,
) -> Result<bool, Error> {
    let Some(member) = Viewer::of(tx, conversation, user).await? else { return Ok(false) };
    let end = member.end_seq();
    let through = requested.map_or(end, |requested| requested.min(end));
    if through <= member.cleared {
        return Ok(false);
    }
    let base = if through <= member.base.seq {
        member.base
    } else if through == member.message_log.head {
        rules::Base { seq: through, n: member.n, sent: member.sent }
    } else {
        base_at(tx, conversation, user, &member, through).await?
    };
    tx.execute(
        "UPDATE member SET cleared_seq = $3, base_seq = $4, base_n = $5, base_sent = $6 \
         WHERE account = $1 AND conversation = $2",
        &params![user, conversation, through, base.seq, base.n, base.sent],
    )
    .await?;
    Ok(true)
}

/// Computes the base of a member at `through`, which lies between the present base and the head. Of what lies below the floor only the
/// sum is known, so the base is never lower.
async fn base_at(
    tx: &mut Tx<'_>,
    conversation: ConversationKey,
    user: UserKey,
    member: &Viewer,
    through: i64,
) -> Result<rules::Base, Error> {
    // The member's own messages are counted on the shorter side of the mark. From the base: the base then moves past
    // them for good, so that no client can make the writer count the same messages again and again. Or from the head.
    let Extent { floor, head, .. } = member.message_log;
    let through = through.max(floor);
    let is_forward = member.base.seq >= floor && through - member.base.seq <= head - through;
    let (after, to) = if is_forward { (member.base.seq, through) } else { (through, head) };
    let row = tx
        .fetch_one(
            "SELECT COALESCE((SELECT m.n FROM message m WHERE m.conversation = c.id AND m.seq <= $2 AND m.seq > c.floor_seq \
             ORDER BY m.seq DESC LIMIT 1), c.floor_n), \
             (SELECT COUNT(*) FROM message m WHERE m.conversation = c.id AND m.seq > $3 AND m.seq <= $4 AND m.sender = $5 \
             AND (m.flags & 1) = 1) FROM conversation c WHERE c.id = $1",
            &params![conversation, through, after, to, user],
        )
        .await?
        .ok_or_else(|| Error::internal_text("a member of no conversation"))?;
    let own: i64 = row.get(1)?;
    let sent = if is_forward { member.base.sent + own } else { member.sent - own };
    Ok(rules::Base { seq: through, n: row.get(0)?, sent })
}
