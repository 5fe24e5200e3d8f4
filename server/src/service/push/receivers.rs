//! Who gets a push, and how they and their devices stand to it: when it is decided, and once more before it is sent.

use std::collections::{BTreeSet, HashSet};

use prost::Message as _;
use zim_protocol::{
    CallState, CallUserState, ConversationType, GroupApplicationState, MessageFlag, MessageType, PushSource,
    UserOfflinePushRule,
};

use super::pushed::Pushed;
use super::rules::{Receiver, Standing};
use super::store::{platform, source};
use crate::app::App;
use crate::bus::StoredQuestion;
use crate::connection::Happened;
use crate::db::{Row, Tx, params};
use crate::error::Error;
use crate::journal::{is_shown, rules};
use crate::key::{AppKey, LoginKey, UserKey};
use crate::provider::{Providers, receiver};
use crate::push::PushKind;
use crate::task;

/// A receiver who has push IDs.
#[derive(Clone, Debug)]
pub(super) struct Candidate {
    pub(super) user: UserKey,
    pub(super) receiver: Receiver,
}

/// A push ID, and the login on its device.
#[derive(Clone, Debug)]
pub(super) struct Registered {
    pub(super) id: i64,
    pub(super) user: UserKey,
    slot: i64,
    platform: i32,
    pub(super) source: PushSource,
    app_type: i64,
    /// That of the outbox.
    pub(super) lane: i64,
    login: Option<LoginKey>,
    pub(super) is_connected: bool,
}

impl Registered {
    /// Returns how it stands to what is pushed, of which these logins say that they have it.
    pub(super) fn standing(&self, has_it: &HashSet<LoginKey>, providers: &Providers) -> Standing {
        Standing {
            platform: platform(self.platform),
            is_logged_in: self.login.is_some(),
            has_it: self.is_connected && self.login.is_some_and(|login| has_it.contains(&login)),
            has_provider: self.has_provider(providers),
        }
    }

    pub(super) fn has_provider(&self, providers: &Providers) -> bool {
        providers.find(self.source, self.app_type).is_some()
    }
}

/// A page of the receivers: those after one, up to another one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Range {
    pub(super) after: i64,
    pub(super) through: i64,
    pub(super) limit: i64,
}

/// Returns how a user and one of their push IDs stand to what is pushed; `None` if they are no receiver of it any more.
pub(super) async fn of_device(
    tx: &mut Tx<'_>,
    pushed: &Pushed,
    (user, push_id): (UserKey, i64),
) -> Result<Option<(Receiver, Registered)>, Error> {
    let only = Range { after: user.0 - 1, through: user.0, limit: 1 };
    let mut found = candidates(tx, pushed, only, &[]).await?;
    let devices = devices(tx, &mut found).await?;
    let device = devices.into_iter().find(|device| device.id == push_id);
    Ok(found.pop().map(|candidate| candidate.receiver).zip(device))
}

/// Whether a push goes to this one of the registrations of its device. A call rings where it can; everything else is a notification.
pub(super) fn is_addressed(
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
pub(super) async fn later_senders(tx: &mut Tx<'_>, pushed: &Pushed, interval_ms: i64) -> Result<Vec<i64>, Error> {
    if pushed.kind != PushKind::Message {
        return Ok(Vec::new());
    }
    let end = pushed.interval_end(interval_ms);
    let targeted = MessageFlag::TargetOnly as i64 | MessageFlag::TargetExcept as i64;
    let sql = "SELECT DISTINCT p.account FROM push p JOIN message x ON x.conversation = p.conversation AND x.seq = p.seq \
               WHERE p.conversation = $1 AND p.created_at >= $2 AND (p.created_at > $2 OR p.seq > $3) AND p.kind = $4 \
               AND p.created_at < $5 AND x.kind <> $6 AND (x.flags & $7) = 0 LIMIT 2";
    let (kind, revoked) = (PushKind::Message as i64, MessageType::Revoke as i32);
    let values = params![pushed.about, pushed.created_at, pushed.seq, kind, end, revoked, targeted];
    tx.fetch(sql, &values).await?.iter().map(|row| Ok(row.get(0)?)).collect()
}

/// Returns a page of the receivers who have push IDs, ascending.
pub(super) async fn candidates(
    tx: &mut Tx<'_>,
    pushed: &Pushed,
    page: Range,
    later: &[i64],
) -> Result<Vec<Candidate>, Error> {
    if pushed.kind.is_of_call() {
        return users_of_call(tx, pushed, page).await;
    }
    if !pushed.kind.is_of_message() {
        return users(tx, pushed, page).await;
    }
    // The members of a group in the order of its index; a conversation of two users has two.
    let from = match pushed.conversation_type {
        ConversationType::Group => {
            "group_member g JOIN member m ON m.account = g.account AND m.conversation = g.conversation"
        }
        ConversationType::Peer => "member m JOIN member g ON g.account = m.account AND g.conversation = m.conversation",
        _ => return Ok(Vec::new()),
    };
    // Nobody is told of their own message, but of its revocation by somebody else.
    let others = if pushed.kind == PushKind::Revoke { "" } else { "AND x.sender <> g.account" };
    let sql = format!(
        "SELECT g.account, a.name, a.push_rule, m.read_seq, COALESCE(cs.notification, 0), x.sender FROM {from} \
         JOIN account a ON a.id = g.account JOIN message x ON x.conversation = g.conversation AND x.seq = $4 \
         LEFT JOIN conversation_setting cs ON cs.account = g.account AND cs.conversation = g.conversation \
         WHERE g.conversation = $1 AND g.account > $2 AND g.account <= $6 AND g.account <> $3 {others} \
         AND x.seq >= m.from_seq AND x.seq > m.cleared_seq AND {} \
         AND EXISTS (SELECT 1 FROM push_id p WHERE p.account = g.account) ORDER BY g.account LIMIT $5",
        is_shown("x", "g.account")
    );
    let values = params![pushed.about, page.after, pushed.sender, pushed.seq, page.limit, page.through];
    let rows = tx.fetch(&sql, &values).await?;
    let is_peer = pushed.conversation_type == ConversationType::Peer;
    let candidate = |row: &Row| {
        let (user, name) = (UserKey(row.get(0)?), row.get::<String>(1)?);
        let receiver = Receiver {
            // Who wrote it has nothing to read.
            has_read: row.get::<i64>(3)? >= pushed.seq && row.get::<i64>(5)? != user.0,
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
async fn users_of_call(tx: &mut Tx<'_>, pushed: &Pushed, range: Range) -> Result<Vec<Candidate>, Error> {
    let page = pushed.receivers.iter().copied().filter(|user| (range.after + 1..=range.through).contains(user));
    let (list, mut values) = tx.dialect().in_list(page, 3);
    values.splice(0..0, params![pushed.about, range.limit]);
    let sql = format!(
        "SELECT u.account, a.push_rule, u.state, c.state FROM call_user u JOIN account a ON a.id = u.account \
         JOIN chat_call c ON c.id = u.call WHERE u.call = $1 AND u.account IN {list} \
         AND EXISTS (SELECT 1 FROM push_id p WHERE p.account = u.account) ORDER BY u.account LIMIT $2"
    );
    let rows = tx.fetch(&sql, &values).await?;
    let candidate = |row: &Row| {
        let state = CallUserState::try_from(row.get::<i32>(2)?).unwrap_or(CallUserState::Unknown);
        let has_ended = row.get::<i32>(3)? == CallState::Ended as i32;
        let is_over = !waits(pushed.kind, state, has_ended);
        let receiver = Receiver { is_over, rule: push_rule(row, 1)?, ..Receiver::default() };
        Ok(Candidate { user: UserKey(row.get(0)?), receiver })
    };
    rows.iter().map(candidate).collect()
}

/// Returns a page of the users who are told of an application, or of the answer to one.
async fn users(tx: &mut Tx<'_>, pushed: &Pushed, range: Range) -> Result<Vec<Candidate>, Error> {
    let page = pushed.receivers.iter().copied().filter(|user| (range.after + 1..=range.through).contains(user));
    let (list, mut values) = tx.dialect().in_list(page, 5);
    let waiting = GroupApplicationState::Waiting as i32;
    values.splice(0..0, params![range.limit, pushed.about, pushed.sender, waiting]);
    // An application that was answered is over, and one to join is for those who decide.
    let waits = match pushed.kind {
        PushKind::FriendApplication => {
            "SELECT 1 FROM friend_application f WHERE $2 = 0 AND f.account = a.id AND f.peer = $3 AND f.state = $4"
        }
        PushKind::GroupJoinApplication => {
            "SELECT 1 FROM group_application g JOIN group_member m ON m.conversation = g.conversation AND m.account = a.id \
             AND m.role <= 2 WHERE g.conversation = $2 AND g.account = $3 AND g.inviter = 0 AND g.state = $4"
        }
        PushKind::GroupInviteApplication => {
            "SELECT 1 FROM group_application g WHERE g.conversation = $2 AND g.account = a.id AND g.inviter = $3 \
             AND g.state = $4"
        }
        // An answer waits for nothing. All parameters have a type.
        _ => "SELECT 1 WHERE $2 >= 0 AND $3 > 0 AND $4 >= 0",
    };
    let sql = format!(
        "SELECT a.id, a.push_rule, CASE WHEN EXISTS ({waits}) THEN 1 ELSE 0 END FROM account a WHERE a.id IN {list} \
         AND EXISTS (SELECT 1 FROM push_id p WHERE p.account = a.id) ORDER BY a.id LIMIT $1"
    );
    let rows = tx.fetch(&sql, &values).await?;
    let candidate = |row: &Row| {
        let is_over = row.get::<i64>(2)? == 0;
        let receiver = Receiver { is_over, rule: push_rule(row, 1)?, ..Receiver::default() };
        Ok(Candidate { user: UserKey(row.get(0)?), receiver })
    };
    rows.iter().map(candidate).collect()
}

/// Whether a user in this state still waits for what is pushed. Who is asked into a call stays so when it ends, and is rung no more.
pub(super) fn waits(kind: PushKind, state: CallUserState, has_ended: bool) -> bool {
    match kind {
        PushKind::CallInvitation => is_asked(state) && !has_ended,
        // Who is in the call, or was asked, stays so when others leave or end it.
        PushKind::CallQuit | PushKind::CallEnd => is_asked(state) || state == CallUserState::Accepted,
        _ => matches!(state, CallUserState::BeCancelled | CallUserState::Cancelled),
    }
}

fn is_asked(state: CallUserState) -> bool {
    matches!(state, CallUserState::Inviting | CallUserState::NotYetReceived | CallUserState::Received)
}

fn push_rule(row: &Row, column: usize) -> Result<UserOfflinePushRule, Error> {
    match row.get::<Option<Vec<u8>>>(column)? {
        Some(bytes) => UserOfflinePushRule::decode(&*bytes).map_err(Error::internal),
        None => Ok(UserOfflinePushRule::default()),
    }
}

/// Returns the push IDs of the receivers, and notes on which platforms they are online.
pub(super) async fn devices(tx: &mut Tx<'_>, candidates: &mut [Candidate]) -> Result<Vec<Registered>, Error> {
    let (list, values) = tx.dialect().in_list(candidates.iter().map(|candidate| candidate.user.0), 1);
    let sql = format!("SELECT account, platform FROM session WHERE account IN {list} AND state = 0 AND connected = 1");
    for row in tx.fetch(&sql, &values).await? {
        let (user, platform) = (UserKey(row.get(0)?), row.get(1)?);
        if let Ok(index) = candidates.binary_search_by_key(&user, |candidate| candidate.user) {
            candidates[index].receiver.online.push(platform);
        }
    }
    let sql = format!(
        "SELECT p.id, p.account, p.slot, p.platform, p.source, p.app_type, s.id, COALESCE(s.connected, 0), p.app, p.token FROM push_id p \
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
        let (source, app_type, token) = (source(row.get(4)?), row.get(5)?, row.get::<String>(9)?);
        devices.push(Registered {
            id,
            user: UserKey(row.get(1)?),
            slot: row.get(2)?,
            platform: row.get(3)?,
            source,
            app_type,
            lane: task::lane(AppKey(row.get(8)?), receiver(source, app_type, &token)),
            login: row.get::<Option<i64>>(6)?.map(LoginKey),
            is_connected: row.get::<i64>(7)? == 1,
        });
    }
    Ok(devices)
}

/// Returns which of the logins say, on any node, that they have stored the message, or that they have handled the events since what else is
/// pushed. A connection that is dead says neither.
pub(super) async fn has_it(app: &App, pushed: &Pushed, devices: &[Registered]) -> HashSet<LoginKey> {
    let connected: BTreeSet<UserKey> =
        devices.iter().filter(|device| device.is_connected).map(|device| device.user).collect();
    if connected.is_empty() {
        return HashSet::new();
    }
    if pushed.kind != PushKind::Message {
        // The event leaves the server a moment after what is pushed was made.
        let (at, is_in_feed) = (pushed.created_at, pushed.kind != PushKind::Revoke);
        let handled_at = at + i64::from(app.config.push.delay_ms) / 2;
        let here = app.fanout.handled_by(Happened { at, handled_at, is_in_feed }, connected.iter().copied());
        let users = connected.into_iter().map(|user| user.0).collect();
        let question = StoredQuestion { users, handled_at, happened_at: at, is_in_feed, ..StoredQuestion::default() };
        let elsewhere = app.bus().stored(question).await;
        return here.into_iter().chain(elsewhere).collect();
    }
    let conversation = pushed.conversation();
    let seq = pushed.seq.unsigned_abs();
    let here = app.fanout.stored_by(&conversation, seq, connected.iter().copied());
    let question = StoredQuestion {
        kind: conversation.r#type,
        conversation_id: conversation.id,
        seq,
        users: connected.into_iter().map(|user| user.0).collect(),
        ..StoredQuestion::default()
    };
    let elsewhere = app.bus().stored(question).await;
    here.into_iter().chain(elsewhere).collect()
}
