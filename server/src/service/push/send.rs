//! Sends a push to a device, and notes the answer.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;
use zim_protocol::{CallUserState, ConversationType, MessageType, PushOutcome};

use super::decide::{Pushed, waits};
use super::store::{self, DEVICE};
use crate::app::App;
use crate::db::{Scope, Tx, params};
use crate::error::Error;
use crate::key::{Scrambler, UserKey};
use crate::provider::{self, Answer, Data, Device, Meaning, Notification};
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
    deliver: |app, delivery| Box::pin(async move { deliver(&app, delivery).await }),
};

/// A push that this server has taken.
struct Taken {
    pushed: Pushed,
    user_id: String,
    push_id: i64,
    device: Device,
    badge: i64,
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
    let turn = app.db.submit(Scope::none(), async move |tx| take(tx, id, (now, valid_ms)).await).await?;
    let taken = match turn {
        Turn::Send(taken) => taken,
        Turn::Wait(at) => return Ok(Next::At(at)),
        Turn::Done => return Ok(Next::Nothing),
    };
    let tenant = app.tenants.of(taken.pushed.app)?;
    let notification = notification(&tenant.scrambler, &taken, id);
    let providers = tenant.providers();
    let answer = match providers.find(taken.device.source, taken.device.app_type) {
        Some(provider) => match timeout(ATTEMPT, provider.send(&notification, &taken.device, now)).await {
            Ok(answer) => answer,
            Err(_) => Answer::later("the push service took too long"),
        },
        None => Answer::refused("the app has no credentials for this push service"),
    };
    let (attempts, now) = (taken.attempts, app.clock.now_ms());
    let retry_at = retry_at(&answer, attempts, now).filter(|at| *at < taken.expires_at);
    let outcome = match (answer.meaning, retry_at) {
        (Meaning::Accepted, _) => PushOutcome::Sent,
        (Meaning::Later(_), Some(_)) => PushOutcome::Waiting,
        _ => PushOutcome::Failed,
    };
    let source = provider::name(taken.device.source);
    metrics::counter!("zim_pushes_total", "source" => source, "outcome" => label(outcome)).increment(1);
    let push_id = taken.push_id;
    let noted = app.db.submit(Scope::none(), async move |tx| {
        // Unless somebody else has taken it meanwhile.
        let sql = "UPDATE push_log SET state = $2, detail = $3, not_before = $4, at = $5 \
                   WHERE id = $1 AND state = $6 AND attempts = $7";
        let (not_before, waiting) = (retry_at.unwrap_or(now), PushOutcome::Waiting as i32);
        let values = params![id, outcome as i32, answer.detail, not_before, now, waiting, attempts];
        let is_ours = tx.execute(sql, &values).await? > 0;
        if answer.meaning == Meaning::Gone {
            store::remove(tx, push_id).await?;
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
async fn take(tx: &mut Tx<'_>, id: i64, (now, valid_ms): (i64, i64)) -> Result<Turn, Error> {
    let sql = "UPDATE push_log SET not_before = $2, attempts = attempts + 1 \
               WHERE id = $1 AND state = $3 AND not_before <= $4";
    let waiting = PushOutcome::Waiting as i32;
    let taken = tx.execute(sql, &params![id, now + TAKEN_MS, waiting, now]).await?;
    let sql = "SELECT push, push_id, account, attempts, not_before, badge, state FROM push_log WHERE id = $1";
    let Some(row) = tx.fetch_one(sql, &params![id]).await? else { return Ok(Turn::Done) };
    if taken == 0 {
        return Ok(if row.get::<i32>(6)? == waiting { Turn::Wait(row.get(4)?) } else { Turn::Done });
    }
    let (push_id, user, attempts): (i64, UserKey, i64) = (row.get(1)?, UserKey(row.get(2)?), row.get(3)?);
    let Some(pushed) = Pushed::read(tx, row.get(0)?).await? else {
        return skip(tx, id, "deleted", now).await;
    };
    let sql = format!(
        "SELECT a.name, {DEVICE} FROM push_id p JOIN account a ON a.id = p.account WHERE p.id = $1 AND p.account = $2"
    );
    let Some(found) = tx.fetch_one(&sql, &params![push_id, user]).await? else {
        return skip(tx, id, "logged out", now).await;
    };
    let (user_id, device) = (found.get(0)?, store::device(&found, 1)?);
    let expires_at = match outcome_meanwhile(tx, &pushed, user).await? {
        Ok(expires_at) => expires_at.unwrap_or(pushed.created_at + valid_ms),
        Err(reason) => return skip(tx, id, reason, now).await,
    };
    if expires_at <= now {
        return skip(tx, id, "too late", now).await;
    }
    let badge = row.get(5)?;
    Ok(Turn::Send(Box::new(Taken { pushed, user_id, push_id, device, badge, attempts, expires_at })))
}

async fn skip(tx: &mut Tx<'_>, id: i64, reason: &str, now: i64) -> Result<Turn, Error> {
    let sql = "UPDATE push_log SET state = $2, detail = $3, at = $4 WHERE id = $1";
    tx.execute(sql, &params![id, PushOutcome::Skipped as i32, reason, now]).await?;
    Ok(Turn::Done)
}

/// Returns why a push is not necessary any more, or until when it is.
async fn outcome_meanwhile(
    tx: &mut Tx<'_>,
    pushed: &Pushed,
    user: UserKey,
) -> Result<Result<Option<i64>, &'static str>, Error> {
    if pushed.kind.is_of_message() {
        let sql = "SELECT m.read_seq, x.kind, m.to_seq FROM member m JOIN message x ON x.conversation = m.conversation \
                   AND x.seq = $3 WHERE m.account = $1 AND m.conversation = $2";
        let row = tx.fetch_one(sql, &params![user, pushed.about, pushed.seq]).await?;
        let Some(row) = row else { return Ok(Err("deleted")) };
        let is_revoked = pushed.kind == PushKind::Message && row.get::<i32>(1)? == MessageType::Revoke as i32;
        return Ok(match (is_revoked, row.get::<i64>(0)? >= pushed.seq, row.get::<Option<i64>>(2)?) {
            (true, ..) => Err("revoked"),
            (_, true, _) => Err("read"),
            (.., Some(_)) => Err("no longer a member"),
            _ => Ok(None),
        });
    }
    let sql = "SELECT state, expires_at FROM call_user WHERE call = $1 AND account = $2";
    let row = tx.fetch_one(sql, &params![pushed.about, user]).await?;
    let Some(row) = row else { return Ok(Err("the call is gone")) };
    let state = CallUserState::try_from(row.get::<i32>(0)?).unwrap_or(CallUserState::Unknown);
    if !waits(pushed.kind, state) {
        return Ok(Err("the call does not wait any more"));
    }
    let ends_at = match (pushed.kind, row.get::<i64>(1)?) {
        (PushKind::CallInvitation, at) if at > 0 => at,
        _ => pushed.created_at + CALL_MS,
    };
    Ok(Ok(Some(ends_at)))
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
    if let Some(message) = &pushed.message {
        let conversation = pushed.conversation();
        data.conversation_type = match pushed.conversation_type {
            ConversationType::Group => "group",
            _ => "peer",
        }
        .to_owned();
        data.conversation_id = conversation.id;
        data.message_id = scrambler.public(message.id).to_string();
        data.message_seq = pushed.seq.to_string();
    } else {
        data.call_id = scrambler.public(pushed.about).to_string();
    }
    Notification {
        app_id: pushed.app.0,
        user_id: user_id.clone(),
        push_id: scrambler.public(*push_id).to_string(),
        config: pushed.config.clone(),
        data,
        badge: (*badge >= 0).then_some(*badge),
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
