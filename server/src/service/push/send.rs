//! Sends a push to a device, and notes the answer.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;
use zim_protocol::{ConversationType, PushOutcome};

use super::newer::{FOLLOWED, Newer, end_older, newer};
use super::pushed::Pushed;
use super::receivers::{Registered, has_it, of_device};
use super::rules::{OVER, Receiver, reason};
use super::store::{self, DEVICE};
use crate::app::App;
use crate::db::{Scope, Tx, params};
use crate::error::Error;
use crate::key::{Scrambler, UserKey};
use crate::provider::{self, Answer, Data, Device, Meaning, Notification, Providers};
use crate::push::{self, PushKind};
use crate::task::{Delivery, Next, OutboxKind};

/// How long nobody else sends a push that a server is about to send.
const TAKEN_MS: i64 = 30_000;
/// The longest time that an attempt takes, with the token that it may need first. Shorter than the one above.
const ATTEMPT: Duration = Duration::from_secs(25);
/// The wait after the first failure; each later one is four times as long as the one before.
const FIRST_BACK_OFF_MS: i64 = 5_000;
const MAX_BACK_OFF_MS: i64 = 3_600_000;
/// After so many attempts a push has failed.
const MAX_ATTEMPTS: i64 = 8;
/// How long an invitation to a call is worth delivering if the call does not say it.
const CALL_MS: i64 = 60_000;

/// Sends a push to a device; the cause is the row of the log.
pub(crate) static PUSH_DELIVERY: OutboxKind<App> = OutboxKind {
    number: push::DELIVERY,
    name: "push-delivery",
    has_lanes: true,
    deliver: |app, delivery| Box::pin(async move { deliver(&app, delivery).await }),
};

/// A device is asked once more whether it has a message if that was decided so long ago, milliseconds.
const FRESH_MS: i64 = 1_000;
/// A push that waits for a later one looks again so long after that is tried, milliseconds.
const AFTER_NEWER_MS: i64 = 1_000;
/// How long a push waits for later ones of its conversation, besides the intervals in which they are decided.
const HOLD_MS: i64 = 10_000;

/// A push that this server has taken.
struct Taken {
    pushed: Pushed,
    receiver: Receiver,
    registered: Registered,
    /// It has waited since it was decided, or tried.
    has_waited: bool,
    user_id: String,
    push_id: i64,
    device: Device,
    badge: Option<i64>,
    attempts: i64,
    expires_at: i64,
}

/// What is to be done about a row of the log.
enum Turn {
    Send(Box<Taken>),
    /// Somebody else has taken it, or it is not yet time.
    Wait(i64),
    Done,
}

async fn deliver(app: &App, delivery: Delivery) -> Result<Next, Error> {
    let (id, now) = (delivery.cause, app.clock.now_ms());
    let valid_ms = i64::from(app.config.push.valid_s) * 1_000;
    let hold_ms = HOLD_MS + 3 * i64::from(app.config.push.delay_ms);
    let turn = app.db.submit(Scope::none(), async move |tx| take(tx, id, now, (valid_ms, hold_ms)).await).await?;
    let taken = match turn {
        Turn::Send(taken) => taken,
        Turn::Wait(at) => return Ok(Next::At(at)),
        Turn::Done => return Ok(Next::Nothing),
    };
    let tenant = app.tenants.of(taken.pushed.app)?;
    let providers = tenant.providers();
    if let Some(reason) = reason_now(app, &taken, &providers).await {
        let attempts = taken.attempts;
        let skipped = app.db.submit(Scope::none(), async move |tx| skip(tx, (id, attempts), reason, now).await);
        return skipped.await.map(|turn| match turn {
            Turn::Wait(at) => Next::At(at),
            Turn::Send(_) | Turn::Done => Next::Nothing,
        });
    }
    let notification = notification(&tenant.scrambler, &taken, id);
    let answer = match providers.find(taken.device.source, taken.device.app_type) {
        Some(provider) => match timeout(ATTEMPT, provider.send(&notification, &taken.device, now)).await {
            Ok(answer) => answer,
            Err(_) => Answer::later("the push service took too long"),
        },
        None => Answer::refused("the app has no credentials for this push service"),
    };
    let (attempts, tried_at, now) = (taken.attempts, now, app.clock.now_ms());
    let retry_at = retry_at(&answer, attempts, now).filter(|at| *at < taken.expires_at);
    let outcome = match (answer.meaning, retry_at) {
        (Meaning::Accepted, _) => PushOutcome::Sent,
        (Meaning::Later(_), Some(_)) => PushOutcome::Waiting,
        _ => PushOutcome::Failed,
    };
    let source = provider::name(taken.device.source);
    metrics::counter!("zim_pushes_total", "source" => source, "outcome" => label(outcome)).increment(1);
    let (push_id, pushed) = (taken.push_id, taken.pushed.clone());
    let noted = app.db.submit(Scope::none(), async move |tx| {
        // Unless somebody else has taken it meanwhile.
        let sql = "UPDATE push_log SET state = $2, detail = $3, not_before = $4, at = $5 \
                   WHERE id = $1 AND state = $6 AND attempts = $7";
        let (not_before, waiting) = (retry_at.unwrap_or(now), PushOutcome::Waiting as i32);
        let values = params![id, outcome as i32, answer.detail, not_before, now, waiting, attempts];
        let is_ours = tx.execute(sql, &values).await? > 0;
        if outcome == PushOutcome::Sent {
            end_older(tx, &pushed, push_id, now).await?;
        }
        if let Meaning::Gone(since) = answer.meaning {
            let known_until = since.map_or(tried_at, |since| since.min(tried_at));
            store::remove(tx, push_id, known_until).await?;
        }
        Ok(is_ours)
    });
    if !noted.await? {
        return Ok(Next::At(now + TAKEN_MS));
    }
    Ok(match (outcome, retry_at) {
        (PushOutcome::Waiting, Some(at)) => Next::At(at),
        _ => Next::Nothing,
    })
}

/// Returns why a push is not sent, as everything is now.
async fn reason_now(app: &App, taken: &Taken, providers: &Providers) -> Option<&'static str> {
    let Taken { pushed, receiver, registered, .. } = taken;
    let has_it = match taken.has_waited && registered.is_connected {
        true => has_it(app, pushed, std::slice::from_ref(registered)).await,
        false => HashSet::new(),
    };
    reason(pushed.kind, receiver, registered.standing(&has_it, providers))
}

fn label(outcome: PushOutcome) -> &'static str {
    match outcome {
        PushOutcome::Sent => "sent",
        PushOutcome::Waiting => "later",
        PushOutcome::Skipped => "skipped",
        PushOutcome::Failed => "failed",
    }
}

/// When a push is tried again after so many attempts.
fn retry_at(answer: &Answer, attempts: i64, now: i64) -> Option<i64> {
    let Meaning::Later(asked) = answer.meaning else { return None };
    if attempts >= MAX_ATTEMPTS {
        return None;
    }
    let doublings = u32::try_from(attempts.saturating_sub(1).clamp(0, 10) * 2).unwrap_or(0);
    let back_off = (FIRST_BACK_OFF_MS << doublings).min(MAX_BACK_OFF_MS);
    Some(now + asked.map_or(back_off, |asked| asked.max(FIRST_BACK_OFF_MS)))
}

/// Takes a push, unless something speaks against it by now.
async fn take(tx: &mut Tx<'_>, id: i64, now: i64, (valid_ms, hold_ms): (i64, i64)) -> Result<Turn, Error> {
    let sql = "UPDATE push_log SET not_before = $2, attempts = attempts + 1 \
               WHERE id = $1 AND state = $3 AND not_before <= $4";
    let waiting = PushOutcome::Waiting as i32;
    let taken = tx.execute(sql, &params![id, now + TAKEN_MS, waiting, now]).await?;
    let sql = "SELECT push, push_id, account, attempts, not_before, badge, state, at FROM push_log WHERE id = $1";
    let Some(row) = tx.fetch_one(sql, &params![id]).await? else { return Ok(Turn::Done) };
    if taken == 0 {
        return Ok(if row.get::<i32>(6)? == waiting { Turn::Wait(row.get(4)?) } else { Turn::Done });
    }
    let (push_id, user, attempts): (i64, UserKey, i64) = (row.get(1)?, UserKey(row.get(2)?), row.get(3)?);
    let turn = (id, attempts);
    let Some(pushed) = Pushed::read(tx, row.get(0)?).await? else {
        return skip(tx, turn, "deleted", now).await;
    };
    let sql = format!(
        "SELECT a.name, a.badge, {DEVICE} FROM push_id p JOIN account a ON a.id = p.account \
         WHERE p.id = $1 AND p.account = $2"
    );
    let Some(found) = tx.fetch_one(&sql, &params![push_id, user]).await? else {
        return skip(tx, turn, "logged out", now).await;
    };
    let (user_id, device) = (found.get(0)?, store::device(&found, 2)?);
    let Some((receiver, registered)) = of_device(tx, &pushed, (user, push_id)).await? else {
        let reason = why_none(tx, &pushed, user).await?;
        return skip(tx, turn, reason, now).await;
    };
    let expires_at = expires_at(tx, &pushed, user, valid_ms).await?;
    if expires_at <= now {
        return skip(tx, turn, "too late", now).await;
    }
    // It does not wait for ever: a stream of messages, each before the one ahead of it is sent, would never be pushed.
    let patience = pushed.created_at + hold_ms;
    match newer(tx, &pushed, push_id, now).await? {
        Newer::Sent => return skip(tx, turn, FOLLOWED, now).await,
        Newer::Waiting(at) if now < patience => {
            return put_back(tx, turn, (at.max(now) + AFTER_NEWER_MS).min(patience)).await;
        }
        Newer::None | Newer::Waiting(_) => {}
    }
    // The number as it is now: pushes since then have raised it, and the user may have seen all of it.
    let badge = if row.get::<i64>(5)? >= 0 { Some(found.get(1)?) } else { None };
    let has_waited = attempts > 1 || now - row.get::<i64>(7)? >= FRESH_MS;
    let taken =
        Taken { pushed, receiver, registered, has_waited, user_id, push_id, device, badge, attempts, expires_at };
    Ok(Turn::Send(Box::new(taken)))
}

/// Notes that a push is not sent, unless somebody else has taken it meanwhile.
async fn skip(tx: &mut Tx<'_>, (id, attempts): (i64, i64), reason: &str, now: i64) -> Result<Turn, Error> {
    let sql = "UPDATE push_log SET state = $2, detail = $3, at = $4 WHERE id = $1 AND state = $5 AND attempts = $6";
    let (skipped, waiting) = (PushOutcome::Skipped as i32, PushOutcome::Waiting as i32);
    let is_ours = tx.execute(sql, &params![id, skipped, reason, now, waiting, attempts]).await? > 0;
    Ok(if is_ours { Turn::Done } else { Turn::Wait(now + TAKEN_MS) })
}

/// Puts a push off that was taken, as if it had not been.
async fn put_back(tx: &mut Tx<'_>, (id, attempts): (i64, i64), at: i64) -> Result<Turn, Error> {
    let sql = "UPDATE push_log SET not_before = $2, attempts = attempts - 1 WHERE id = $1 AND attempts = $3";
    tx.execute(sql, &params![id, at, attempts]).await?;
    Ok(Turn::Wait(at))
}

/// Returns why a user is no receiver any more.
async fn why_none(tx: &mut Tx<'_>, pushed: &Pushed, user: UserKey) -> Result<&'static str, Error> {
    if !pushed.kind.is_of_message() {
        return Ok(if pushed.kind.is_of_call() { "the call is gone" } else { OVER });
    }
    let sql = "SELECT to_seq FROM member WHERE account = $1 AND conversation = $2";
    let row = tx.fetch_one(sql, &params![user, pushed.about]).await?;
    let has_left = row.map(|row| row.get::<Option<i64>>(0)).transpose()?.flatten().is_some();
    Ok(if has_left { "no longer a member" } else { "deleted" })
}

/// Returns until when a push is worth sending.
async fn expires_at(tx: &mut Tx<'_>, pushed: &Pushed, user: UserKey, valid_ms: i64) -> Result<i64, Error> {
    if !pushed.kind.is_of_call() {
        return Ok(pushed.created_at + valid_ms);
    }
    let sql = "SELECT expires_at FROM call_user WHERE call = $1 AND account = $2";
    let row = tx.fetch_one(sql, &params![pushed.about, user]).await?;
    let ends_at = row.map(|row| row.get::<i64>(0)).transpose()?;
    let of_call = ends_at.filter(|at| pushed.kind == PushKind::CallInvitation && *at > 0);
    Ok(of_call.unwrap_or(pushed.created_at + CALL_MS))
}

/// Builds what a push says.
fn notification(scrambler: &Arc<Scrambler>, taken: &Taken, id: i64) -> Notification {
    let Taken { pushed, user_id, push_id, badge, expires_at, .. } = taken;
    let mut data = Data {
        id: scrambler.public(id).to_string(),
        kind: pushed.kind.name().to_owned(),
        sender_user_id: pushed.sender_id.clone(),
        payload: pushed.config.payload.clone(),
        ..Data::default()
    };
    if pushed.kind.is_of_call() {
        data.call_id = scrambler.public(pushed.about).to_string();
    } else if pushed.has_conversation() {
        let conversation = pushed.conversation();
        data.conversation_type = match pushed.conversation_type {
            ConversationType::Group => "group",
            _ => "peer",
        }
        .to_owned();
        data.conversation_id = conversation.id;
    }
    if let Some(message) = &pushed.message {
        data.message_id = scrambler.public(message.id).to_string();
        data.message_seq = pushed.seq.to_string();
    }
    Notification {
        app_id: pushed.app.0,
        user_id: user_id.clone(),
        push_id: scrambler.public(*push_id).to_string(),
        config: pushed.config.clone(),
        data,
        badge: *badge,
        expires_at: *expires_at,
        kind: pushed.kind,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn later(asked: Option<i64>) -> Answer {
        Answer { meaning: Meaning::Later(asked), ..Answer::refused("") }
    }

    #[test]
    fn waits_grow_and_end() {
        let waits: Vec<_> = (1..=MAX_ATTEMPTS).map(|attempts| retry_at(&later(None), attempts, 0)).collect();
        assert_eq!(waits[..3], [Some(5_000), Some(20_000), Some(80_000)]);
        assert_eq!(waits[6..], [Some(MAX_BACK_OFF_MS), None]);
    }

    #[test]
    fn the_push_service_says_when_it_wants_to_be_asked_again() {
        assert_eq!(retry_at(&later(Some(60_000)), 1, 7), Some(60_007));
        // Not at once, whatever it says.
        assert_eq!(retry_at(&later(Some(0)), 3, 7), Some(FIRST_BACK_OFF_MS + 7));
        assert_eq!(retry_at(&Answer::refused("400"), 1, 0), None);
    }
}
