//! Decides which devices of the receivers get a push, page by page of the receivers.

use std::collections::{BTreeSet, HashMap, HashSet};

use prost::Message as _;
use zim_protocol::{
    CallUserState, ConversationRef, ConversationType, Message, MessageFlag, MessageType, PushConfig, PushOutcome,
    PushSource, UserOfflinePushRule,
};

use super::log::{self, PUSH_LOG_END, Row as LogRow};
use super::rules::{Receiver, Standing, counts, reason};
use super::store::{platform, source};
use crate::app::App;
use crate::bus::StoredQuestion;
use crate::db::{Row, Scope, Tx, params};
use crate::error::Error;
use crate::journal::{is_shown, rules};
use crate::key::{AppKey, LoginKey, UserKey};
use crate::push::{self, PushKind};
use crate::task::{self, Delivery, Next, OutboxKind};

/// Receivers on a page. Their rows are locked together.
const PAGE: i64 = 50;
/// How much a badge rises if the push does not say it.
const BADGE_STEP: i64 = 1;
/// A conversation that nobody can be in: its kind is of a later version.
const NOWHERE: ConversationType = ConversationType::Room;

/// Decides who gets a push; the cause is the push, and the cursor the last receiver.
pub(crate) static PUSH: OutboxKind<App> = OutboxKind {
    number: push::PUSH,
    name: "push",
    deliver: |app, delivery| Box::pin(async move { decide(&app, delivery).await }),
};

/// What is pushed, and where it is from.
#[derive(Clone, Debug)]
pub(super) struct Pushed {
    pub(super) app: AppKey,
    pub(super) sender: UserKey,
    pub(super) sender_id: String,
    pub(super) kind: PushKind,
    /// The conversation, or the call.
    pub(super) about: i64,
    pub(super) seq: i64,
    pub(super) config: PushConfig,
    /// Those of a call, ascending.
    pub(super) receivers: Vec<i64>,
    pub(super) created_at: i64,
    pub(super) conversation_type: ConversationType,
    /// The ID of the group.
    pub(super) group_id: String,
    pub(super) blocks: i64,
    pub(super) message: Option<Stored>,
}

/// The message as it is stored now.
#[derive(Clone, Debug)]
pub(super) struct Stored {
    pub(super) id: i64,
    is_revoked: bool,
    mentioned: HashSet<String>,
    mentions_all: bool,
}

impl Pushed {
    /// Reads what is pushed; `None` if it is gone.
    pub(super) async fn read(tx: &mut Tx<'_>, id: i64) -> Result<Option<Self>, Error> {
        let sql = "SELECT p.app, p.account, p.kind, p.conversation, p.seq, p.config, p.receivers, p.created_at, a.name, \
                   c.type, c.name, c.blocks FROM push p JOIN account a ON a.id = p.account \
                   LEFT JOIN conversation c ON c.id = p.conversation WHERE p.id = $1";
        let Some(row) = tx.fetch_one(sql, &params![id]).await? else { return Ok(None) };
        let Some(kind) = PushKind::of(row.get(2)?) else { return Ok(None) };
        let (about, seq): (i64, i64) = (row.get(3)?, row.get(4)?);
        let message = if kind.is_of_message() { Stored::read(tx, about, seq).await? } else { None };
        if kind.is_of_message() && message.is_none() {
            return Ok(None);
        }
        let bytes: Vec<u8> = row.get(6)?;
        let mut receivers: Vec<i64> = bytes.as_chunks::<8>().0.iter().map(|user| i64::from_be_bytes(*user)).collect();
        receivers.sort_unstable();
        let conversation_type = row.get::<Option<i32>>(9)?.and_then(|kind| ConversationType::try_from(kind).ok());
        Ok(Some(Self {
            app: AppKey(row.get(0)?),
            sender: UserKey(row.get(1)?),
            sender_id: row.get(8)?,
            kind,
            about,
            seq,
            config: PushConfig::decode(&*row.get::<Vec<u8>>(5)?).map_err(Error::internal)?,
            receivers,
            created_at: row.get(7)?,
            conversation_type: conversation_type.unwrap_or(NOWHERE),
            group_id: row.get::<Option<String>>(10)?.unwrap_or_default(),
            blocks: row.get::<Option<i64>>(11)?.unwrap_or_default(),
            message,
        }))
    }

    /// Returns the conversation as its receivers call it.
    pub(super) fn conversation(&self) -> ConversationRef {
        let id = match self.conversation_type {
            ConversationType::Group => self.group_id.clone(),
            _ => self.sender_id.clone(),
        };
        ConversationRef { r#type: self.conversation_type as i32, id }
    }

    fn mentions(&self, user_id: &str) -> bool {
        self.message.as_ref().is_some_and(|message| message.mentions_all || message.mentioned.contains(user_id))
    }

    fn is_revoked(&self) -> bool {
        self.kind == PushKind::Message && self.message.as_ref().is_none_or(|message| message.is_revoked)
    }
}

impl Stored {
    async fn read(tx: &mut Tx<'_>, conversation: i64, seq: i64) -> Result<Option<Self>, Error> {
        let sql = "SELECT id, kind, flags, body FROM message WHERE conversation = $1 AND seq = $2";
        let Some(row) = tx.fetch_one(sql, &params![conversation, seq]).await? else { return Ok(None) };
        let flags: i64 = row.get(2)?;
        let notifies = flags & i64::from(MessageFlag::NotifyMentioned as u32) != 0;
        let body = Message::decode(&*row.get::<Vec<u8>>(3)?).map_err(Error::internal)?;
        Ok(Some(Self {
            id: row.get(0)?,
            is_revoked: row.get::<i32>(1)? == MessageType::Revoke as i32,
            mentioned: if notifies { body.mentioned_user_ids.into_iter().collect() } else { HashSet::new() },
            mentions_all: notifies && body.is_mention_all,
        }))
    }
}

/// A receiver who has push IDs.
#[derive(Clone, Debug)]
struct Candidate {
    user: UserKey,
    receiver: Receiver,
}

/// A push ID, and the login on its device.
#[derive(Clone, Debug)]
struct Registered {
    id: i64,
    user: UserKey,
    slot: i64,
    platform: i32,
    source: PushSource,
    app_type: i64,
    login: Option<LoginKey>,
    is_connected: bool,
}

async fn decide(app: &App, delivery: Delivery) -> Result<Next, Error> {
    let (id, cursor) = (delivery.cause, delivery.cursor);
    let interval_ms = i64::from(app.config.push.delay_ms).max(1);
    let found = app.db.read(async move |tx| {
        let Some(pushed) = Pushed::read(tx, id).await? else { return Ok(None) };
        let later = later_senders(tx, &pushed, interval_ms).await?;
        let mut candidates = candidates(tx, &pushed, cursor, &later).await?;
        let devices = devices(tx, &mut candidates).await?;
        Ok(Some((pushed, candidates, devices)))
    });
    let Some((pushed, candidates, devices)) = found.await? else { return Ok(Next::Nothing) };
    let Some(last) = candidates.last().map(|candidate| candidate.user.0) else { return Ok(Next::Nothing) };
    let stored = stored_by(app, &pushed, &devices).await;
    let providers = app.tenants.of(pushed.app)?.providers();
    let now = app.clock.now_ms();
    let receivers: HashMap<UserKey, &Receiver> =
        candidates.iter().map(|candidate| (candidate.user, &candidate.receiver)).collect();
    let mut rows = Vec::with_capacity(devices.len());
    for device in &devices {
        let Some(receiver) = receivers.get(&device.user) else { continue };
        let has_provider = |device: &Registered| providers.find(device.source, device.app_type).is_some();
        if !is_addressed(&pushed, device, &devices, has_provider) {
            continue;
        }
        let standing = Standing {
            platform: platform(device.platform),
            is_logged_in: device.login.is_some(),
            is_connected: device.is_connected,
            has_stored: device.is_connected && device.login.is_some_and(|login| stored.contains(&login)),
            has_provider: has_provider(device),
        };
        let reason = reason(pushed.kind, receiver, standing);
        rows.push(LogRow {
            id: app.ids.next(),
            push: id,
            push_id: device.id,
            user: device.user,
            source: device.source,
            state: if reason.is_none() { PushOutcome::Waiting } else { PushOutcome::Skipped },
            detail: reason.unwrap_or_default(),
            counts: counts(reason),
        });
    }
    store(app, &pushed, rows, now).await?;
    // A full page may be followed by another one.
    Ok(if i64::try_from(candidates.len()).is_ok_and(|count| count == PAGE) { Next::After(last) } else { Next::Nothing })
}

/// Whether a push goes to this one of the registrations of its device. A call rings where it can; everything else is a notification.
fn is_addressed(
    pushed: &Pushed,
    device: &Registered,
    devices: &[Registered],
    has_provider: impl Fn(&Registered) -> bool,
) -> bool {
    let rings = pushed.kind == PushKind::CallInvitation && pushed.config.vo_ip_config.is_some();
    if device.slot == 1 {
        return rings;
    }
    let is_bell = |other: &Registered| (other.user, other.login, other.slot) == (device.user, device.login, 1);
    // One that cannot be rung is none.
    let has_bell = devices.iter().any(|other| is_bell(other) && has_provider(other));
    !(rings && has_bell)
}

/// Returns those who sent a later message with a push to the conversation within the same interval; two of them are enough to know
/// for each receiver whether somebody else did.
async fn later_senders(tx: &mut Tx<'_>, pushed: &Pushed, interval_ms: i64) -> Result<Vec<i64>, Error> {
    if pushed.kind != PushKind::Message {
        return Ok(Vec::new());
    }
    let end = (pushed.created_at.div_euclid(interval_ms) + 1) * interval_ms;
    let targeted = MessageFlag::TargetOnly as i64 | MessageFlag::TargetExcept as i64;
    let sql = "SELECT DISTINCT p.account FROM push p JOIN message x ON x.conversation = p.conversation AND x.seq = p.seq \
               WHERE p.conversation = $1 AND p.seq > $2 AND p.kind = $3 AND p.created_at < $4 AND x.kind <> $5 \
               AND (x.flags & $6) = 0 LIMIT 2";
    let values = params![pushed.about, pushed.seq, PushKind::Message as i64, end, MessageType::Revoke as i32, targeted];
    tx.fetch(sql, &values).await?.iter().map(|row| Ok(row.get(0)?)).collect()
}

/// Returns a page of the receivers who have push IDs, ascending.
async fn candidates(tx: &mut Tx<'_>, pushed: &Pushed, cursor: i64, later: &[i64]) -> Result<Vec<Candidate>, Error> {
    if !pushed.kind.is_of_message() {
        return users_of_call(tx, pushed, cursor).await;
    }
    // The members of a group in the order of its index; a conversation of two users has two.
    let from = match pushed.conversation_type {
        ConversationType::Group => {
            "group_member g JOIN member m ON m.account = g.account AND m.conversation = g.conversation"
        }
        ConversationType::Peer => "member m JOIN member g ON g.account = m.account AND g.conversation = m.conversation",
        _ => return Ok(Vec::new()),
    };
    let sql = format!(
        "SELECT g.account, a.name, a.push_rule, m.read_seq, COALESCE(cs.notification, 0) FROM {from} \
         JOIN account a ON a.id = g.account JOIN message x ON x.conversation = g.conversation AND x.seq = $4 \
         LEFT JOIN conversation_setting cs ON cs.account = g.account AND cs.conversation = g.conversation \
         WHERE g.conversation = $1 AND g.account > $2 AND g.account <> $3 AND x.sender <> g.account \
         AND x.seq >= m.from_seq AND x.seq > m.cleared_seq AND {} \
         AND EXISTS (SELECT 1 FROM push_id p WHERE p.account = g.account) ORDER BY g.account LIMIT $5",
        is_shown("x", "g.account")
    );
    let rows = tx.fetch(&sql, &params![pushed.about, cursor, pushed.sender, pushed.seq, PAGE]).await?;
    let is_peer = pushed.conversation_type == ConversationType::Peer;
    let candidate = |row: &Row| {
        let (user, name) = (UserKey(row.get(0)?), row.get::<String>(1)?);
        let receiver = Receiver {
            has_read: row.get::<i64>(3)? >= pushed.seq,
            blocks: is_peer && rules::is_refused(pushed.blocks, pushed.sender.0, user.0),
            notification: row.get(4)?,
            is_mentioned: pushed.mentions(&name),
            is_over: pushed.is_revoked(),
            is_followed: later.iter().any(|sender| *sender != user.0),
            rule: push_rule(row, 2)?,
            ..Receiver::default()
        };
        Ok(Candidate { user, receiver })
    };
    rows.iter().map(candidate).collect()
}

/// Returns a page of the users who are asked into a call, or no longer asked.
async fn users_of_call(tx: &mut Tx<'_>, pushed: &Pushed, cursor: i64) -> Result<Vec<Candidate>, Error> {
    let page = pushed.receivers.iter().copied().filter(|user| *user > cursor);
    let (list, mut values) = tx.dialect().in_list(page, 3);
    values.splice(0..0, params![pushed.about, PAGE]);
    let sql = format!(
        "SELECT u.account, a.push_rule, u.state FROM call_user u JOIN account a ON a.id = u.account \
         WHERE u.call = $1 AND u.account IN {list} \
         AND EXISTS (SELECT 1 FROM push_id p WHERE p.account = u.account) ORDER BY u.account LIMIT $2"
    );
    let rows = tx.fetch(&sql, &values).await?;
    let candidate = |row: &Row| {
        let state = CallUserState::try_from(row.get::<i32>(2)?).unwrap_or(CallUserState::Unknown);
        let receiver = Receiver {
            is_over: !waits(pushed.kind, state),
            rule: push_rule(row, 1)?,
            has_received: state == CallUserState::Received,
            ..Receiver::default()
        };
        Ok(Candidate { user: UserKey(row.get(0)?), receiver })
    };
    rows.iter().map(candidate).collect()
}

/// Whether a user in this state still waits for what is pushed.
pub(super) fn waits(kind: PushKind, state: CallUserState) -> bool {
    match kind {
        PushKind::CallInvitation => {
            matches!(state, CallUserState::Inviting | CallUserState::NotYetReceived | CallUserState::Received)
        }
        _ => matches!(state, CallUserState::BeCancelled | CallUserState::Cancelled),
    }
}

fn push_rule(row: &Row, column: usize) -> Result<UserOfflinePushRule, Error> {
    match row.get::<Option<Vec<u8>>>(column)? {
        Some(bytes) => UserOfflinePushRule::decode(&*bytes).map_err(Error::internal),
        None => Ok(UserOfflinePushRule::default()),
    }
}

/// Returns the push IDs of the receivers, and notes on which platforms they are online.
async fn devices(tx: &mut Tx<'_>, candidates: &mut [Candidate]) -> Result<Vec<Registered>, Error> {
    let (list, values) = tx.dialect().in_list(candidates.iter().map(|candidate| candidate.user.0), 1);
    let sql = format!("SELECT account, platform FROM session WHERE account IN {list} AND state = 0 AND connected = 1");
    for row in tx.fetch(&sql, &values).await? {
        let (user, platform) = (UserKey(row.get(0)?), row.get(1)?);
        if let Ok(index) = candidates.binary_search_by_key(&user, |candidate| candidate.user) {
            candidates[index].receiver.online.push(platform);
        }
    }
    let sql = format!(
        "SELECT p.id, p.account, p.slot, p.platform, p.source, p.app_type, s.id, COALESCE(s.connected, 0) FROM push_id p \
         LEFT JOIN session s ON s.account = p.account AND s.device = p.device AND s.state = 0 \
         WHERE p.account IN {list} ORDER BY p.id, s.connected DESC"
    );
    let mut devices: Vec<Registered> = Vec::new();
    for row in tx.fetch(&sql, &values).await? {
        let id = row.get(0)?;
        // Of several logins on the device the one with a connection counts.
        if devices.last().is_some_and(|last| last.id == id) {
            continue;
        }
        devices.push(Registered {
            id,
            user: UserKey(row.get(1)?),
            slot: row.get(2)?,
            platform: row.get(3)?,
            source: source(row.get(4)?),
            app_type: row.get(5)?,
            login: row.get::<Option<i64>>(6)?.map(LoginKey),
            is_connected: row.get::<i64>(7)? == 1,
        });
    }
    Ok(devices)
}

/// Returns which of the logins have stored the message, on any node.
async fn stored_by(app: &App, pushed: &Pushed, devices: &[Registered]) -> HashSet<LoginKey> {
    let connected: BTreeSet<UserKey> =
        devices.iter().filter(|device| device.is_connected).map(|device| device.user).collect();
    if connected.is_empty() || !pushed.kind.is_of_message() {
        return HashSet::new();
    }
    let conversation = pushed.conversation();
    let seq = pushed.seq.unsigned_abs();
    let here = app.fanout.stored_by(&conversation, seq, connected.iter().copied());
    let question = StoredQuestion {
        kind: conversation.r#type,
        conversation_id: conversation.id,
        seq,
        users: connected.into_iter().map(|user| user.0).collect(),
    };
    let elsewhere = app.bus().stored(question).await;
    here.into_iter().chain(elsewhere).collect()
}

/// Stores what was decided about the devices of a page, and lets those be sent that are to be.
async fn store(app: &App, pushed: &Pushed, mut rows: Vec<LogRow>, now: i64) -> Result<(), Error> {
    let log_ends_at = now + i64::from(app.config.push.log_days) * 86_400_000;
    if rows.is_empty() {
        // What was to be pushed is removed in time although nobody got it.
        let stored = app
            .db
            .submit(Scope::none(), async move |tx| task::schedule_by(tx, &PUSH_LOG_END, 0, log_ends_at).await);
        return stored.await;
    }
    let step = match pushed.config.enable_badge {
        true if pushed.config.badge_increment == 0 => Some(BADGE_STEP),
        true => Some(pushed.config.badge_increment),
        false => None,
    };
    // The badge is in the row of the user.
    let users: BTreeSet<UserKey> = rows.iter().map(|row| row.user).collect();
    let scope = if step.is_some() { Scope::none().and_users(users) } else { Scope::none() };
    let stored = app.db.submit(scope, async move |tx| {
        log::drop_decided(tx, &mut rows).await?;
        let badges = match step {
            Some(step) => raise_badges(tx, &rows, step).await?,
            None => HashMap::new(),
        };
        log::insert(tx, &rows, &badges, now).await?;
        for row in rows.iter().filter(|row| row.state == PushOutcome::Waiting) {
            push::enqueue(tx, push::DELIVERY, row.id, now).await?;
        }
        task::schedule_by(tx, &PUSH_LOG_END, 0, log_ends_at).await
    });
    stored.await
}

/// Raises the badges of the users whom a push counts for. Returns them as they are now.
async fn raise_badges(tx: &mut Tx<'_>, rows: &[LogRow], step: i64) -> Result<HashMap<UserKey, i64>, Error> {
    let users: BTreeSet<i64> = rows.iter().filter(|row| row.counts).map(|row| row.user.0).collect();
    let (list, mut values) = tx.dialect().in_list(users, 2);
    values.insert(0, step.into());
    tx.execute(&format!("UPDATE account SET badge = badge + $1 WHERE id IN {list}"), &values).await?;
    let (list, values) = tx.dialect().in_list(rows.iter().map(|row| row.user.0), 1);
    let found = tx.fetch(&format!("SELECT id, badge FROM account WHERE id IN {list}"), &values).await?;
    found.iter().map(|row| Ok((UserKey(row.get(0)?), row.get(1)?))).collect()
}
