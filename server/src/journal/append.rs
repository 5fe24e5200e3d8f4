//! Appends messages: the most frequent job of the write queue. The messages of a batch are stored with a handful of
//! multi-row statements, whatever their senders and conversations.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use zim_protocol::{MessageFlag, MessagePriority, MessageState, MessageType};

use super::mute::{MUTE, Mute};
use super::rules;
use crate::db::{Bulk, Row, Rows, Scope, Tx, Value, params};
use crate::effect::{Audience, Effect, MessageEffect, Receivers, TransientEffect};
use crate::error::Error;
use crate::key::{AppKey, ConversationKey, LoginKey, Scrambler, UserKey};
use crate::media;
use crate::push::NewPush;

/// One message to store.
#[derive(Debug)]
pub struct NewMessage {
    /// The app.
    pub app: AppKey,
    /// Scrambles the IDs that the app's clients see.
    pub scrambler: Arc<Scrambler>,
    /// The conversation.
    pub conversation: ConversationKey,
    /// The users who are notified.
    pub audience: Audience,
    /// The sender.
    pub sender: UserKey,
    /// The sender's name.
    pub sender_name: Arc<str>,
    /// The sender's login.
    pub login: LoginKey,
    /// Unique in the deployment.
    pub id: i64,
    /// Made by the client, at random, or from a key of the app: of the messages of a sender with one key in a conversation, the
    /// first is stored.
    pub key: [u8; 16],
    /// A hash of everything that was sent under the key.
    pub hash: i64,
    /// The key is the app's: the first message under it counts, whatever the others say.
    pub is_first_only: bool,
    /// When the server received it, Unix milliseconds.
    pub now: i64,
    /// `MessageType`.
    pub kind: i32,
    /// `MessageFlag`s.
    pub flags: u32,
    /// The sender's part, as an encoded `Message`.
    pub body: Bytes,
    /// What few messages have.
    pub extra: Option<Box<Extra>>,
}

/// What few messages have beside their content.
#[derive(Debug, Default)]
pub struct Extra {
    /// The message that it replies to, and the first message of that tree; 0: this is no reply.
    pub replied_seq: i64,
    /// See `replied_seq`.
    pub root_seq: i64,
    /// The state that is pushed to all.
    pub state: MessageState,
    /// The messages that it combines, as an encoded `CombineMessage`.
    pub combined: Option<Bytes>,
    /// The files of this server that it has.
    pub files: Vec<i64>,
    /// Who of the group sees it.
    pub receivers: Receivers,
    /// What devices that are away are told.
    pub push: Option<NewPush>,
    /// How those in a room hear of it.
    pub room: ToRoom,
}

/// How those in a room hear of a message that is stored.
#[derive(Clone, Copy, Debug, Default)]
pub struct ToRoom {
    /// What is dropped first under pressure.
    pub priority: MessagePriority,
    /// The number of the node from which all hear what is said in the room; `None`: this one.
    pub home: Option<u8>,
}

/// The place of a stored message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    /// The position in the log of messages.
    pub seq: i64,
    /// How many messages up to this one count as unread; in a room, up to where its messages have been handed to those in it.
    pub n: i64,
    /// The ID that clients see.
    pub message_id: i64,
    /// The time of the message, Unix milliseconds.
    pub ts: i64,
    /// The message was stored before, and its content is another one: it was revoked, or the app's key came with another
    /// content.
    pub is_changed: bool,
    /// It is stored by this job, not before it.
    pub is_new: bool,
}

struct Head {
    seq: i64,
    n: i64,
    rev: i64,
    last_ts: i64,
    dismissed: bool,
    blocks: i64,
    ended_rev: i64,
    is_changed: bool,
}

struct Stored {
    hash: i64,
    sent: Sent,
}

/// A conversation, a sender and the sender's key: a message with the same three is the same message.
type Identity = (i64, i64, [u8; 16]);

impl NewMessage {
    fn identity(&self) -> Identity {
        (self.conversation.0, self.sender.0, self.key)
    }

    /// Whether the other user has blocked the sender.
    fn is_refused(&self, head: &Head) -> bool {
        let Audience::Peers(peers) = &self.audience else { return false };
        peers.iter().any(|(peer, _)| *peer != self.sender && rules::is_refused(head.blocks, self.sender.0, peer.0))
    }

    fn is_counted(&self) -> bool {
        self.flags & MessageFlag::Counted as u32 != 0
    }

    /// Whether the sender is not to learn of it.
    pub fn is_kept_from_sender(&self) -> bool {
        self.flags & MessageFlag::SenderUnaware as u32 != 0
    }

    /// Returns whether a message is stored under the key. The job has locked the head of the conversation.
    ///
    /// # Errors
    /// The store fails.
    pub async fn is_stored(&self, tx: &mut Tx<'_>) -> Result<bool, Error> {
        let ops = std::slice::from_ref(self);
        let rows = tx.fetch_rows(&keys(ops), stored_sql).await?;
        Ok(stored(ops, &rows)?.contains_key(&self.identity()))
    }

    fn row(&self, sent: Sent) -> [Value; 12] {
        let (high, low) = halves(self.key);
        [
            self.id.into(),
            self.conversation.into(),
            sent.seq.into(),
            sent.n.into(),
            self.sender.into(),
            high.into(),
            low.into(),
            self.hash.into(),
            sent.ts.into(),
            i64::from(self.kind).into(),
            i64::from(self.flags).into(),
            self.body.clone().into(),
        ]
    }

    fn effect(&self, sent: Sent, head: &Head) -> MessageEffect {
        MessageEffect {
            app: self.app,
            conversation: self.conversation,
            audience: self.audience.clone(),
            seq: sent.seq,
            n: sent.n,
            message_id: sent.message_id,
            sender: Arc::clone(&self.sender_name),
            cause: self.login,
            ts: sent.ts,
            kind: self.kind,
            flags: self.flags,
            client_key: self.key,
            content: self.body.clone(),
            state: self.extra.as_ref().filter(|extra| extra.replied_seq > 0).map(|extra| Box::new(extra.state.clone())),
            receivers: self.extra.as_ref().map(|extra| extra.receivers.clone()).unwrap_or_default(),
            ended_rev: head.ended_rev,
        }
    }

    /// Hands the message to those in its room, if this node does so and nothing before it is left. Otherwise the home of the room
    /// hears of it.
    fn tell_room(&self, tx: &mut Tx<'_>, head: &mut Head, sent: Sent) {
        let ToRoom { priority, home } = self.extra.as_ref().map(|extra| extra.room).unwrap_or_default();
        let transient = Box::new(TransientEffect {
            audience: self.audience.clone(),
            message: self.effect(sent, head).entry(true),
            after_seq: 0,
            after_rev: head.rev,
            priority,
            cause: self.login,
            room: self.scrambler.public(self.conversation.0),
            ended_rev: 0,
        });
        match home {
            Some(home) => tx.emit(Effect::RoomMessage { home, transient }),
            None if head.n + 1 == head.seq => {
                head.n = head.seq;
                tx.emit(Effect::Transient(transient));
            }
            // The caller sees that it is left, and lets the home hand over all that is.
            None => {}
        }
    }

    /// Why the sender may not write here, if they may not. A tip is the server's, and its sender may have left with it. The operator's
    /// messages need nobody in the room.
    fn refusal(&self, members: &HashMap<(i64, i64), Mute>, in_rooms: &BTreeSet<(i64, i64)>) -> Option<Error> {
        let place = (self.sender.0, self.conversation.0);
        match &self.audience {
            Audience::Group { name, .. } if self.kind != MessageType::Tips as i32 => {
                match members.get(&place).map(|mute| mute.until(self.now)) {
                    None => Some(Error::not_in_group(name)),
                    Some(0) => None,
                    Some(until) => Some(Error::muted_in_group(name, until)),
                }
            }
            Audience::Room { name, .. } if self.flags & MessageFlag::Server as u32 == 0 => {
                (!in_rooms.contains(&place)).then(|| Error::not_in_room(name))
            }
            _ => None,
        }
    }
}

/// Splits a key into its two columns.
pub fn halves(key: [u8; 16]) -> (i64, i64) {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = key;
    (i64::from_be_bytes([a, b, c, d, e, f, g, h]), i64::from_be_bytes([i, j, k, l, m, n, o, p]))
}

impl Bulk for NewMessage {
    type Out = Sent;

    fn scope(&self) -> Scope {
        let combined = self.extra.as_ref().and_then(|extra| extra.combined.as_ref()).map_or(0, Bytes::len);
        Scope::conversation(self.conversation).for_app(self.app, self.body.len() + combined)
    }

    async fn run(tx: &mut Tx<'_>, ops: &[Self]) -> Result<Vec<Result<Sent, Error>>, Error> {
        let (conversations, keys) = (conversations(ops), keys(ops));
        let (heads, before) = tx.fetch_both((&conversations[..], heads_sql), (&keys[..], stored_sql)).await?;
        let (mut heads, mut stored) = (read_heads(&heads)?, stored(ops, &before)?);
        let members = members(tx, ops).await?;
        let in_rooms = in_rooms(tx, ops).await?;
        let without_files = without_files(tx, ops).await?;
        let mut results = Vec::with_capacity(ops.len());
        let mut rows: Vec<[Value; 12]> = Vec::with_capacity(ops.len());
        let mut counted: HashMap<(i64, i64), i64> = HashMap::new();
        for op in ops {
            if let Some(before) = stored.get(&op.identity()) {
                results.push(match before.hash == op.hash {
                    true => Ok(before.sent),
                    false if op.is_first_only => Ok(Sent { is_changed: true, ..before.sent }),
                    false => Err(Error::key_reused()),
                });
                continue;
            }
            let Some(head) = heads.get_mut(&op.conversation.0).filter(|head| !head.dismissed) else {
                results.push(Err(match &op.audience {
                    Audience::Group { name, .. } => Error::group_not_found(name),
                    Audience::Room { name, .. } => Error::room_not_found(name),
                    Audience::Peers(_) => Error::conversation_closed(),
                }));
                continue;
            };
            if let Some(refusal) = op.refusal(&members, &in_rooms) {
                results.push(Err(refusal));
                continue;
            }
            if op.is_refused(head) {
                results.push(Err(Error::sender_blocked()));
                continue;
            }
            if without_files.contains(&op.id) {
                results.push(Err(Error::file_not_found()));
                continue;
            }
            tx.assert_covers_conversation(op.conversation);
            head.seq += 1;
            head.n += i64::from(op.is_counted());
            head.last_ts = head.last_ts.max(op.now);
            head.is_changed = true;
            let mut sent = Sent {
                seq: head.seq,
                n: head.n,
                message_id: op.scrambler.public(op.id),
                ts: head.last_ts,
                is_changed: false,
                is_new: true,
            };
            if op.is_counted() {
                *counted.entry((op.sender.0, op.conversation.0)).or_default() += 1;
            }
            if let Audience::Room { .. } = &op.audience {
                op.tell_room(tx, head, sent);
                sent.n = head.n;
            } else {
                tx.emit(Effect::Message(Arc::new(op.effect(sent, head))));
            }
            stored.insert(op.identity(), Stored { hash: op.hash, sent: Sent { is_new: false, ..sent } });
            rows.push(op.row(sent));
            results.push(Ok(sent));
        }
        tx.execute_together(&[Rows::new(rows, insert_sql), changed_heads(heads), more_sent(counted)]).await?;
        insert_extra(tx, ops, &results).await?;
        Ok(results)
    }
}

/// Returns the conversations, whose heads the queue has locked.
fn conversations(ops: &[NewMessage]) -> Vec<[Value; 1]> {
    let ids: BTreeSet<i64> = ops.iter().map(|op| op.conversation.0).collect();
    ids.into_iter().map(|id| [id.into()]).collect()
}

/// Selects the heads of conversations. It has as many columns as [`stored_sql`].
fn heads_sql(rows: &str) -> String {
    format!(
        "SELECT c.id, c.seq, c.n, c.last_ts, c.end_seq, c.blocks, c.rev, c.ended_rev, 0, 0 FROM ({rows}) AS v \
         JOIN conversation c ON c.id = v.column1"
    )
}

fn read_heads(rows: &[Row]) -> Result<HashMap<i64, Head>, Error> {
    let mut heads = HashMap::with_capacity(rows.len());
    for row in rows {
        heads.insert(
            row.get(0)?,
            Head {
                seq: row.get(1)?,
                n: row.get(2)?,
                last_ts: row.get(3)?,
                dismissed: row.get::<Option<i64>>(4)?.is_some(),
                blocks: row.get(5)?,
                rev: row.get(6)?,
                ended_rev: row.get(7)?,
                is_changed: false,
            },
        );
    }
    Ok(heads)
}

/// Returns what the senders to groups may do there; nothing for those who are no members. Read under the locks of the groups: a
/// member who is removed or muted sends nothing afterwards.
async fn members(tx: &mut Tx<'_>, ops: &[NewMessage]) -> Result<HashMap<(i64, i64), Mute>, Error> {
    let in_groups = ops.iter().filter(|op| matches!(op.audience, Audience::Group { .. }));
    let wanted: BTreeSet<(i64, i64)> = in_groups.map(|op| (op.sender.0, op.conversation.0)).collect();
    let wanted: Vec<[Value; 2]> =
        wanted.into_iter().map(|(sender, conversation)| [sender.into(), conversation.into()]).collect();
    let sql = |rows: &str| {
        format!(
            "SELECT g.account, g.conversation, {MUTE} FROM ({rows}) AS v JOIN group_member g \
             ON g.account = v.column1 AND g.conversation = v.column2 JOIN chat_group h ON h.conversation = g.conversation"
        )
    };
    let found = tx.fetch_rows(&wanted, sql).await?;
    found.iter().map(|row| Ok(((row.get(0)?, row.get(1)?), Mute::read(row, 2)?))).collect()
}

/// Returns which senders to rooms are in these, with any device. Read under the locks of the rooms.
async fn in_rooms(tx: &mut Tx<'_>, ops: &[NewMessage]) -> Result<BTreeSet<(i64, i64)>, Error> {
    let to_rooms = ops.iter().filter(|op| matches!(op.audience, Audience::Room { .. }));
    let wanted: BTreeSet<(i64, i64)> = to_rooms.map(|op| (op.sender.0, op.conversation.0)).collect();
    let wanted: Vec<[Value; 2]> =
        wanted.into_iter().map(|(sender, conversation)| [sender.into(), conversation.into()]).collect();
    let sql = |rows: &str| {
        format!(
            "SELECT r.account, r.conversation FROM ({rows}) AS v JOIN room_member r \
             ON r.account = v.column1 AND r.conversation = v.column2"
        )
    };
    let found = tx.fetch_rows(&wanted, sql).await?;
    found.iter().map(|row| Ok((row.get(0)?, row.get(1)?))).collect()
}

/// Locks the files of messages. Returns the IDs of the messages whose files were removed meanwhile.
async fn without_files(tx: &mut Tx<'_>, ops: &[NewMessage]) -> Result<BTreeSet<i64>, Error> {
    let mut without = BTreeSet::new();
    for op in ops {
        let files = op.extra.as_ref().map_or(&[][..], |extra| &extra.files);
        if !files.is_empty() && !media::lock(tx, files).await? {
            without.insert(op.id);
        }
    }
    Ok(without)
}

/// Returns the keys of messages with their conversations.
fn keys(ops: &[NewMessage]) -> Vec<[Value; 3]> {
    let key = |op: &NewMessage| {
        let (high, low) = halves(op.key);
        [op.conversation.into(), high.into(), low.into()]
    };
    ops.iter().map(key).collect()
}

/// Selects what is stored already under keys. Read under the locks of the heads, so that no other transaction can store the same
/// key at the same time.
fn stored_sql(rows: &str) -> String {
    format!(
        // A join, not `IN (VALUES …)`: for that SQLite scans the whole index.
        "SELECT m.conversation, m.sender, m.key_hi, m.key_lo, m.hash, m.seq, m.n, m.id, m.ts, m.rev \
         FROM ({rows}) AS v JOIN message m \
         ON m.conversation = v.column1 AND m.key_hi = v.column2 AND m.key_lo = v.column3"
    )
}

/// Returns what is stored already of these messages: a key of another sender is another one.
fn stored(ops: &[NewMessage], rows: &[Row]) -> Result<HashMap<Identity, Stored>, Error> {
    let mut found = HashMap::new();
    if rows.is_empty() {
        return Ok(found);
    }
    let wanted: HashMap<Identity, &NewMessage> = ops.iter().map(|op| (op.identity(), op)).collect();
    for row in rows {
        let (high, low): (i64, i64) = (row.get(2)?, row.get(3)?);
        let mut key = [0; 16];
        key[..8].copy_from_slice(&high.to_be_bytes());
        key[8..].copy_from_slice(&low.to_be_bytes());
        let identity = (row.get(0)?, row.get(1)?, key);
        if let Some(op) = wanted.get(&identity) {
            let sent = Sent {
                seq: row.get(5)?,
                n: row.get(6)?,
                message_id: op.scrambler.public(row.get(7)?),
                ts: row.get(8)?,
                is_changed: row.get::<i64>(9)? > 0,
                is_new: false,
            };
            found.insert(identity, Stored { hash: row.get(4)?, sent });
        }
    }
    Ok(found)
}

fn insert_sql(rows: &str) -> String {
    format!(
        "INSERT INTO message (id, conversation, seq, n, sender, key_hi, key_lo, hash, ts, kind, flags, body) {rows}"
    )
}

/// Adds the rows of state of replies and of messages that ask a group for receipts, what combined messages combine, which
/// files messages have, whom they are for and who does not see them, and what is pushed.
async fn insert_extra(tx: &mut Tx<'_>, ops: &[NewMessage], results: &[Result<Sent, Error>]) -> Result<(), Error> {
    let is_asking =
        |op: &NewMessage| matches!(op.audience, Audience::Group { .. }) && op.flags & MessageFlag::Receipt as u32 != 0;
    if !ops.iter().any(|op| op.extra.is_some() || op.is_kept_from_sender() || is_asking(op)) {
        return Ok(());
    }
    for (op, sent) in ops.iter().zip(results) {
        // Of a message that was stored before, nothing is added: it may have been revoked.
        let Some(sent) = sent.as_ref().ok().filter(|sent| sent.is_new) else { continue };
        if op.is_kept_from_sender() {
            // As if they had deleted it.
            let sql = "INSERT INTO hidden (account, conversation, seq) VALUES ($1, $2, $3)";
            tx.execute(sql, &params![op.sender, op.conversation, sent.seq]).await?;
        }
        let extra = op.extra.as_deref();
        let (replied, root) = extra.map_or((0, 0), |extra| (extra.replied_seq, extra.root_seq));
        if replied > 0 || is_asking(op) {
            let sql = "INSERT INTO message_state (conversation, seq, replied_seq, root_seq, receivers) VALUES ($1, $2, $3, $4, \
                       CASE WHEN $5 = 0 THEN 0 ELSE \
                       COALESCE((SELECT members - 1 FROM chat_group WHERE conversation = $1), 0) END) \
                       ON CONFLICT (conversation, seq) DO NOTHING";
            let is_asking = i64::from(is_asking(op));
            tx.execute(sql, &params![op.conversation, sent.seq, replied, root, is_asking]).await?;
        }
        if let Some(combined) = extra.and_then(|extra| extra.combined.clone()) {
            let sql = "INSERT INTO combine (conversation, seq, body) VALUES ($1, $2, $3) \
                       ON CONFLICT (conversation, seq) DO NOTHING";
            tx.execute(sql, &params![op.conversation, sent.seq, combined]).await?;
        }
        if let Some(extra) = extra.filter(|extra| !extra.files.is_empty()) {
            media::refer(tx, op.conversation, sent.seq, &extra.files).await?;
        }
        let listed = extra.map_or(&[][..], |extra| extra.receivers.listed());
        if !listed.is_empty() {
            let rows: Vec<[Value; 3]> =
                listed.iter().map(|user| [op.conversation.into(), sent.seq.into(), (*user).into()]).collect();
            let sql = |rows: &str| format!("INSERT INTO target (conversation, seq, account) {rows}");
            tx.execute_rows(&rows, sql).await?;
        }
        if let Some(push) = extra.and_then(|extra| extra.push.as_ref()) {
            push.insert(tx, (op.conversation, sent.seq), &op.audience.others(op.sender)).await?;
        }
    }
    Ok(())
}

/// Returns the heads that have changed, with the statement that stores them.
fn changed_heads(heads: HashMap<i64, Head>) -> Rows {
    let rows: Vec<[Value; 4]> = heads
        .into_iter()
        .filter(|(_, head)| head.is_changed)
        .map(|(id, head)| [id.into(), head.seq.into(), head.n.into(), head.last_ts.into()])
        .collect();
    Rows::new(rows, |rows| {
        format!(
            "UPDATE conversation SET seq = v.column2, n = v.column3, last_ts = v.column4, \
             touched = CASE WHEN touched > v.column4 THEN touched ELSE v.column4 END \
             FROM ({rows}) AS v WHERE conversation.id = v.column1"
        )
    })
}

/// Returns how many messages that count each member has sent, with the statement that adds them.
fn more_sent(counted: HashMap<(i64, i64), i64>) -> Rows {
    let rows: Vec<[Value; 3]> = counted
        .into_iter()
        .map(|((account, conversation), more)| [account.into(), conversation.into(), more.into()])
        .collect();
    Rows::new(rows, |rows| {
        format!(
            "UPDATE member SET sent = member.sent + v.column3 FROM ({rows}) AS v \
             WHERE member.account = v.column1 AND member.conversation = v.column2"
        )
    })
}
