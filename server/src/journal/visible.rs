//! What a member sees of a conversation. Every read of its logs goes through a [`Viewer`], and the same rule stands here as
//! SQL for statements about many conversations.

use std::ops::Range;

use zim_protocol::MessageFlag;

use super::rules::{Base, Extent, Stay, end_of_stay, is_visible, visible};
use crate::db::{Tx, params};
use crate::error::Error;
use crate::key::{ConversationKey, UserKey};

const ONLY: u32 = MessageFlag::TargetOnly as u32;
const EXCEPT: u32 = MessageFlag::TargetExcept as u32;

/// The condition that `viewer` may see `message` within their stays: they did not delete it for themselves, and if it is
/// targeted, it is meant for them. Both are names of SQL: an alias of a message, and an expression for an account.
pub fn is_shown(message: &str, viewer: &str) -> String {
    format!(
        "NOT EXISTS (SELECT 1 FROM hidden hid WHERE hid.account = {viewer} AND hid.conversation = {message}.conversation \
         AND hid.seq = {message}.seq) AND {}",
        is_meant_for(message, viewer)
    )
}

/// The condition that `message` is for everybody, or that `viewer` is among those it is for.
fn is_meant_for(message: &str, viewer: &str) -> String {
    format!(
        "(({message}.flags & {}) = 0 OR {message}.sender = {viewer} OR \
         (({message}.flags & {ONLY}) <> 0) = EXISTS (SELECT 1 FROM target tgt WHERE tgt.conversation = {message}.conversation \
         AND tgt.seq = {message}.seq AND tgt.account = {viewer}))",
        ONLY | EXCEPT
    )
}

/// The condition that position `message` lies in a stay of the member `m`, above what the member cleared and above the floor of
/// the conversation `c`.
fn is_in_stay(message: &str) -> String {
    format!("{message}.seq > m.cleared_seq AND {message}.seq > c.floor_seq AND {}", is_in_any_stay(message))
}

/// The same with what the member has cleared, and with what is no longer kept.
fn is_in_any_stay(message: &str) -> String {
    format!(
        "(({message}.seq >= m.from_seq AND (m.to_seq IS NULL OR {message}.seq <= m.to_seq)) OR \
         EXISTS (SELECT 1 FROM span sp WHERE sp.account = m.account AND sp.conversation = m.conversation \
         AND {message}.seq >= sp.from_seq AND {message}.seq <= sp.to_seq))"
    )
}

/// How far back the last message of a conversation is looked for. If there is none, the client finds it by a page of history.
pub const LAST_MESSAGE_DEPTH: i64 = 200;

/// The position of the newest message that the member `m` of the conversation `c` sees. `end` is the SQL of the last position that
/// the member may know of.
pub fn last_message(end: &str) -> String {
    format!(
        "(SELECT y.seq FROM message y WHERE y.conversation = c.id AND y.seq <= {end} AND y.seq > {end} - {LAST_MESSAGE_DEPTH} \
         AND {} AND {} ORDER BY y.seq DESC LIMIT 1)",
        is_in_stay("y"),
        is_shown("y", "m.account")
    )
}

/// The time of the newest message that was for the member `m` of the conversation `c`, although they may have deleted it, or it is no
/// longer kept: on their devices it stays the time of the conversation.
pub fn last_time(end: &str) -> String {
    format!(
        "(SELECT y.ts FROM message y WHERE y.conversation = c.id AND y.seq <= {end} AND y.seq > {end} - {LAST_MESSAGE_DEPTH} \
         AND {} AND {} ORDER BY y.seq DESC LIMIT 1)",
        is_in_any_stay("y"),
        is_meant_for("y", "m.account")
    )
}

/// Selects the messages of the group `$1` after `$2` and up to `$3` that may be those of [`last_time`]: of the whole log, and of each
/// stay, the last one, and before it as many as are not for all.
pub fn dating_messages() -> String {
    let near = |message: &str| {
        format!(
            "{message}.conversation = $1 AND {message}.seq <= e.seq AND {message}.seq > e.seq - {LAST_MESSAGE_DEPTH}"
        )
    };
    format!(
        "SELECT x.seq FROM (SELECT COALESCE(c.end_seq, c.seq) AS seq FROM conversation c WHERE c.id = $1 AND c.type = 2 \
         UNION SELECT m.to_seq FROM member m WHERE m.conversation = $1 AND m.to_seq > $2 \
         UNION SELECT sp.to_seq FROM member m JOIN span sp ON sp.account = m.account AND sp.conversation = m.conversation \
         WHERE m.conversation = $1 AND m.from_seq > $2 AND sp.to_seq > $2) AS e \
         JOIN message x ON {} AND x.seq >= COALESCE((SELECT y.seq FROM message y WHERE {} AND (y.flags & {}) = 0 \
         ORDER BY y.seq DESC LIMIT 1), 0) WHERE x.seq > $2 AND x.seq <= $3",
        near("x"),
        near("y"),
        ONLY | EXCEPT
    )
}

/// 1 if the message `x` changed after the stay of the member `m` that it belongs to, and in no stay of theirs: it is served without
/// content. A `shown_rev` of before the latest span is left of an earlier stay, see [`Visit`].
pub const IS_LATER: &str = "CASE WHEN x.rev > COALESCE(CASE WHEN x.seq >= m.from_seq THEN m.to_rev ELSE \
     (SELECT sp.to_rev FROM span sp WHERE sp.account = m.account AND sp.conversation = m.conversation \
     AND x.seq >= sp.from_seq AND x.seq <= sp.to_seq) END, x.rev) \
     AND NOT (x.rev >= CASE WHEN m.shown_rev > COALESCE((SELECT MAX(sp.to_rev) FROM span sp WHERE sp.account = m.account \
     AND sp.conversation = m.conversation), 0) THEN m.shown_rev ELSE m.from_rev END AND (m.to_rev IS NULL OR x.rev <= m.to_rev)) \
     AND NOT EXISTS (SELECT 1 FROM span sp WHERE sp.account = m.account AND sp.conversation = m.conversation \
     AND x.rev >= COALESCE(NULLIF(sp.shown_rev, 0), sp.from_rev) AND x.rev <= sp.to_rev) THEN 1 ELSE 0 END";

/// The messages `x` of others that the member `m` would count as unread, but which were revoked.
const REVOKED: &str = "x.conversation = m.conversation AND x.kind = 31 AND x.seq > m.base_seq \
     AND (m.to_seq IS NULL OR x.seq <= m.to_seq) AND x.sender <> m.account AND (x.flags & 1) = 1";
/// The same for those that the member deleted for themselves.
const HIDDEN: &str = "x.conversation = h.conversation AND x.seq = h.seq AND h.account = m.account AND h.conversation = m.conversation AND h.seq > m.base_seq \
     AND (m.to_seq IS NULL OR h.seq <= m.to_seq) AND x.kind <> 31 AND x.sender <> m.account AND (x.flags & 1) = 1";
const HIDDEN_FROM: &str = "hidden h CROSS JOIN message x";

/// Of a member `m`: the number of messages that would otherwise count as unread, but were revoked or deleted. Found by index.
pub fn deducted() -> String {
    format!("((SELECT COUNT(*) FROM message x WHERE {REVOKED}) + (SELECT COUNT(*) FROM {HIDDEN_FROM} WHERE {HIDDEN}))")
}

/// The most positions that a client is told of.
const MAX_POSITIONS: i64 = 1_000;

/// Returns the positions of the messages that [`deducted`] counts, ascending.
///
/// # Errors
/// The store fails.
pub async fn deducted_positions(
    tx: &mut Tx<'_>,
    conversation: ConversationKey,
    user: UserKey,
) -> Result<Vec<u64>, Error> {
    let sql = format!(
        "SELECT x.seq FROM member m JOIN message x ON {REVOKED} WHERE m.account = $1 AND m.conversation = $2 \
         UNION SELECT h.seq FROM member m CROSS JOIN {HIDDEN_FROM} WHERE {HIDDEN} AND m.account = $1 AND m.conversation = $2 \
         ORDER BY 1 LIMIT $3"
    );
    let rows = tx.fetch(&sql, &params![user, conversation, MAX_POSITIONS]).await?;
    rows.iter().map(|row| Ok(row.get::<i64>(0)?.unsigned_abs())).collect()
}

/// A stay in both logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Visit {
    /// In the log of messages.
    pub seq: Stay,
    /// In the log of changes.
    pub rev: Stay,
    /// The first message after the user entered. What the stay shows of before is history.
    pub entered_seq: i64,
    /// The first change whose outcome the stay shows. With the history, it comes before the stay.
    pub shown_rev: i64,
}

impl Visit {
    /// Creates a stay from what is stored of it and of the one before it. `shown_rev` may be 0. If it comes before the end of the stay
    /// before, a node of an earlier build has let the user in again, and it is left of that stay.
    fn new(before: Option<&Self>, seq: Stay, rev: Stay, (entered_seq, shown_rev): (i64, i64)) -> Self {
        let end = before.and_then(|before| before.rev.to).unwrap_or(0);
        Self { seq, rev, entered_seq, shown_rev: if shown_rev > end { shown_rev } else { rev.from } }
    }

    /// Whether the user sees the outcome of a change.
    fn shows(&self, rev: i64) -> bool {
        Stay { from: self.shown_rev, ..self.rev }.has(rev)
    }
}

/// How a user sees a conversation.
#[derive(Clone, Debug)]
pub struct Viewer {
    /// The user.
    pub user: UserKey,
    /// The other user of a peer conversation, otherwise 0.
    pub peer: UserKey,
    /// The stays, ascending. The last one lasts, unless the user has left.
    pub visits: Vec<Visit>,
    /// The extent of the log of messages.
    pub message_log: Extent,
    /// The extent of the log of changes.
    pub change_log: Extent,
    /// The position up to which the member deleted messages for themselves.
    pub cleared: i64,
    /// The first position after the member entered. What they see of before is history: it is not asked of them to read it.
    pub entered_seq: i64,
    /// The member's read mark.
    pub read_seq: i64,
    /// Where counting unread messages begins.
    pub base: Base,
    /// The counted messages that the member sent.
    pub sent: i64,
    /// See [`super::rules::unread`].
    pub deducted: i64,
    /// The conversation's count of counted messages.
    pub n: i64,
}

impl Viewer {
    /// Returns a user's view of a conversation, or `None` if the user never was a member.
    ///
    /// # Errors
    /// The store fails.
    pub async fn of(tx: &mut Tx<'_>, conversation: ConversationKey, user: UserKey) -> Result<Option<Self>, Error> {
        let sql = format!(
            "SELECT c.seq, c.n, c.rev, c.floor_seq, c.floor_rev, c.end_seq, c.end_rev, m.peer, m.from_seq, m.from_rev, \
             m.to_seq, m.to_rev, m.cleared_seq, m.read_seq, m.base_seq, m.base_n, m.base_sent, m.sent, {}, c.type, m.entered_seq, \
             m.shown_rev \
             FROM member m JOIN conversation c ON c.id = m.conversation WHERE m.account = $1 AND m.conversation = $2",
            deducted()
        );
        let Some(row) = tx.fetch_one(&sql, &params![user, conversation]).await? else { return Ok(None) };
        let mut visits: Vec<Visit> = Vec::with_capacity(1);
        // The two users of a peer conversation never leave it.
        if row.get::<i64>(19)? != 0 {
            let sql = "SELECT from_seq, from_rev, to_seq, to_rev, entered_seq, shown_rev FROM span \
                       WHERE account = $1 AND conversation = $2 ORDER BY from_rev";
            for row in tx.fetch(sql, &params![user, conversation]).await? {
                visits.push(Visit::new(
                    visits.last(),
                    Stay { from: row.get(0)?, to: row.get(2)? },
                    Stay { from: row.get(1)?, to: row.get(3)? },
                    (row.get(4)?, row.get(5)?),
                ));
            }
        }
        visits.push(Visit::new(
            visits.last(),
            Stay { from: row.get(8)?, to: row.get(10)? },
            Stay { from: row.get(9)?, to: row.get(11)? },
            (row.get(20)?, row.get(21)?),
        ));
        Ok(Some(Self {
            user,
            peer: UserKey(row.get(7)?),
            visits,
            message_log: Extent { head: row.get(0)?, floor: row.get(3)?, end: row.get(5)? },
            change_log: Extent { head: row.get(2)?, floor: row.get(4)?, end: row.get(6)? },
            cleared: row.get(12)?,
            entered_seq: row.get(20)?,
            read_seq: row.get(13)?,
            base: Base { seq: row.get(14)?, n: row.get(15)?, sent: row.get(16)? },
            sent: row.get(17)?,
            deducted: row.get(18)?,
            n: row.get(1)?,
        }))
    }

    /// Whether the user is no longer a member.
    pub fn has_left(&self) -> bool {
        self.visits.last().is_some_and(|visit| visit.rev.to.is_some())
    }

    /// The last message that the member may know of.
    pub fn end_seq(&self) -> i64 {
        self.visits.last().map_or(0, |visit| end_of_stay(visit.seq, self.message_log))
    }

    /// The last change that the member may know of.
    pub fn end_rev(&self) -> i64 {
        self.visits.last().map_or(0, |visit| end_of_stay(visit.rev, self.change_log))
    }

    /// The positions of messages that the member may see, as `(after, through)` pairs. Single ones of them may be hidden.
    pub fn windows(&self) -> Vec<(i64, i64)> {
        let stays: Vec<Stay> = self.visits.iter().map(|visit| visit.seq).collect();
        visible(&stays, self.message_log, self.cleared)
    }

    /// The positions of changes that the member may see, as `(after, through)` pairs.
    pub fn change_windows(&self) -> Vec<(i64, i64)> {
        let stays: Vec<Stay> = self.visits.iter().map(|visit| visit.rev).collect();
        visible(&stays, self.change_log, 0)
    }

    /// Whether a message lies in a stay, above what was cleared.
    pub fn is_in_stay(&self, seq: i64) -> bool {
        is_visible(&self.windows(), seq)
    }

    /// Whether a message that last changed at `rev` is served without content: the change came after the stay that the message
    /// belongs to, and in no stay of the user.
    pub fn is_later(&self, seq: i64, rev: i64) -> bool {
        let visit = self.visits.iter().find(|visit| visit.seq.has(seq));
        visit.and_then(|visit| visit.rev.to).is_some_and(|to| rev > to)
            && !self.visits.iter().any(|visit| visit.shows(rev))
    }

    /// The positions of what the stay shows of before the user entered, if there are any.
    pub fn history(&self) -> Option<Range<i64>> {
        let from = self.visits.last()?.seq.from;
        (from < self.entered_seq).then_some(from..self.entered_seq)
    }

    /// Whether the user was a member when a message was sent, in an earlier stay.
    pub fn was_there_before(&self, seq: i64) -> bool {
        let earlier = self.visits.split_last().map_or(&[][..], |(_, earlier)| earlier);
        earlier.iter().any(|visit| visit.seq.has(seq) && seq >= visit.entered_seq)
    }
}
