//! What is kept of what is said in a room, if the settings say so: the newest messages, until the room ends.
//!
//! A message is stored by the node of its sender, which gives it its position. Everybody hears the messages in the order of their
//! positions: the home of the room hands them over, and `n` of the conversation says up to where it has. A message that arrives there
//! before an earlier one takes that along, so a message is left only until the next one.

use std::collections::HashMap;
use std::sync::Arc;

use zim_protocol::MessageFlag;

use super::store;
use crate::app::App;
use crate::db::{Scope, Tx, Value, params};
use crate::effect::{Audience, Effect, TransientEffect};
use crate::error::Error;
use crate::journal::rules::{Base, Extent, Stay};
use crate::journal::{self, Viewer, Visit};
use crate::key::{AppKey, ConversationKey, LoginKey, Scrambler, UserKey};
use crate::service::media::drop_refs;
use crate::task::{self, Due, TaskKind};

/// What is kept of a room is removed: the oldest messages if there are too many, or all if the room has ended; the subject is the
/// room.
pub(crate) static ROOM_HISTORY: TaskKind<App> = TaskKind {
    number: 24,
    name: "room-history",
    scope: |subject| Scope::conversation(ConversationKey(subject)),
    run: |app, tx, _, due| Box::pin(remove(app, tx, due)),
};

/// Messages that one transaction removes.
const PAGE: i64 = 500;
/// The most earlier messages that are handed over with one: those before them are only in the history. More than most rooms have
/// while the death of a home is not noticed.
const MAX_LEFT: i64 = 1_000;
/// After so many messages it is looked whether there are too many.
const LOOK_EVERY: i64 = 256;

/// Returns how a member sees the messages of a room: all that are kept, also those of before they entered. `None`: they are not in it.
pub(crate) async fn viewer(
    tx: &mut Tx<'_>,
    room: ConversationKey,
    user: UserKey,
    most: u32,
) -> Result<Option<Viewer>, Error> {
    let sql = "SELECT c.seq, c.rev, c.floor_seq FROM room_member m JOIN conversation c ON c.id = m.conversation \
               WHERE m.conversation = $1 AND m.account = $2";
    let Some(row) = tx.fetch_one(sql, &params![room, user]).await? else { return Ok(None) };
    let (seq, rev, floor): (i64, i64, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
    let stay = Stay { from: 1, to: None };
    Ok(Some(Viewer {
        user,
        peer: UserKey(0),
        visits: vec![Visit { seq: stay, rev: stay, entered_seq: 1, shown_rev: 1 }],
        message_log: Extent { head: seq, floor: floor.max(seq - i64::from(most)), end: None },
        change_log: Extent { head: rev, floor: 0, end: None },
        cleared: 0,
        entered_seq: 0,
        read_seq: 0,
        base: Base::default(),
        sent: 0,
        deducted: 0,
        n: 0,
    }))
}

/// Hands the messages of a room up to a position, or all that there are, to those who are in it, as far as that has not been done.
/// `known` is the last of them, and the others are read. The job holds the room.
pub(crate) async fn hand_over(
    tx: &mut Tx<'_>,
    (room, room_id): (ConversationKey, &Arc<str>),
    scrambler: impl FnOnce(AppKey) -> Result<Arc<Scrambler>, Error>,
    (through, known): (i64, Option<TransientEffect>),
) -> Result<(), Error> {
    let sql = "SELECT n, rev, app, seq FROM conversation WHERE id = $1 AND type = 1";
    let Some(row) = tx.fetch_one(sql, &params![room]).await? else { return Ok(()) };
    let (done, after_rev): (i64, i64) = (row.get(0)?, row.get(1)?);
    let through = through.min(row.get(3)?);
    if through <= done {
        return Ok(());
    }
    let priority = known.as_ref().map(|known| known.priority).unwrap_or_default();
    let left = if known.is_some() { through - 1 } else { through };
    if left > done {
        let scrambler = scrambler(AppKey(row.get(2)?))?;
        let messages = journal::newest(tx, room, &scrambler, (done, left), MAX_LEFT).await?;
        let logins = logins(tx, room, messages.iter().map(|message| message.sender.as_str())).await?;
        for message in messages {
            // A message of the operator is for the device of its sender, too.
            let own = logins.get(&message.sender).filter(|_| !message.has(MessageFlag::Server));
            let cause = own.copied().unwrap_or(LoginKey(0));
            let audience = Audience::Room { conversation: room, name: Arc::clone(room_id) };
            let number = scrambler.public(room.0);
            let effect = TransientEffect {
                audience,
                message,
                after_seq: 0,
                after_rev,
                priority,
                cause,
                room: number,
                ended_rev: 0,
            };
            tx.emit(Effect::Transient(Box::new(effect)));
        }
    }
    if let Some(known) = known {
        tx.emit(Effect::Transient(Box::new(TransientEffect { after_rev, ..known })));
    }
    tx.assert_covers_conversation(room);
    tx.execute("UPDATE conversation SET n = $2 WHERE id = $1", &params![room, through]).await?;
    Ok(())
}

/// Returns the logins of the devices with which these users are in a room: who sends gets no copy.
async fn logins(
    tx: &mut Tx<'_>,
    room: ConversationKey,
    senders: impl Iterator<Item = &str>,
) -> Result<HashMap<String, LoginKey>, Error> {
    let (list, mut values) = tx.dialect().in_list(senders, 2);
    values.insert(0, room.into());
    let sql = format!(
        "SELECT a.name, s.id FROM room_member m JOIN account a ON a.id = m.account \
         JOIN session s ON s.account = m.account AND s.device = m.device AND s.state = 0 \
         WHERE m.conversation = $1 AND a.name IN {list} ORDER BY s.id"
    );
    let rows = tx.fetch(&sql, &values).await?;
    rows.iter().map(|row| Ok((row.get(0)?, LoginKey(row.get(1)?)))).collect()
}

/// Ends a room. What is kept of it is removed soon.
pub(super) async fn end(tx: &mut Tx<'_>, room: ConversationKey, now: i64) -> Result<(), Error> {
    let sql = "SELECT 1 FROM conversation WHERE id = $1 AND seq > floor_seq";
    let has_messages = tx.fetch_one(sql, &params![room]).await?.is_some();
    store::delete(tx, room).await?;
    if has_messages {
        task::schedule(tx, &ROOM_HISTORY, room, now).await?;
    }
    Ok(())
}

impl App {
    /// Looks now and then, by the position of a new message, whether too many messages of a room are kept.
    pub(crate) fn bound_room_history(&self, room: ConversationKey, seq: i64) {
        if seq <= i64::from(self.config.limits.max_room_history) || seq % LOOK_EVERY != 0 {
            return;
        }
        let now = self.clock.now_ms();
        // If the job fails, the next look is soon enough.
        drop(
            self.db.submit(Scope::conversation(room), async move |tx| {
                task::schedule_by(tx, &ROOM_HISTORY, room, now).await
            }),
        );
    }
}

async fn remove(app: &App, tx: &mut Tx<'_>, due: Due) -> Result<(), Error> {
    let room = ConversationKey(due.subject);
    let row = tx.fetch_one("SELECT seq FROM conversation WHERE id = $1", &params![room]).await?;
    let through = match row {
        Some(row) => row.get::<i64>(0)? - i64::from(app.config.limits.max_room_history),
        None => i64::MAX,
    };
    let sql = "SELECT seq FROM message WHERE conversation = $1 AND seq <= $2 ORDER BY seq LIMIT $3";
    let rows = tx.fetch(sql, &params![room, through, PAGE]).await?;
    let Some(last) = rows.last() else { return Ok(()) };
    let last: i64 = last.get(0)?;
    let range: [Value; 2] = [room.into(), last.into()];
    let files = tx.fetch("SELECT DISTINCT seq FROM media_ref WHERE conversation = $1 AND seq <= $2", &range).await?;
    for row in files {
        drop_refs(tx, room, row.get(0)?, (due.now, &app.config.media)).await?;
    }
    let unaware = format!(
        "DELETE FROM hidden WHERE (account, conversation, seq) IN \
         (SELECT sender, conversation, seq FROM message WHERE conversation = $1 AND seq <= $2 AND (flags & {}) <> 0)",
        MessageFlag::SenderUnaware as u32
    );
    tx.execute(&unaware, &range).await?;
    for table in ["combine", "media_ref", "message"] {
        tx.execute(&format!("DELETE FROM {table} WHERE conversation = $1 AND seq <= $2"), &range).await?;
    }
    tx.execute("UPDATE conversation SET floor_seq = $2 WHERE id = $1", &range).await?;
    if i64::try_from(rows.len()).is_ok_and(|count| count == PAGE) {
        task::schedule(tx, &ROOM_HISTORY, room, due.now).await?;
    }
    Ok(())
}
