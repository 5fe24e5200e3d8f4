//! What happens to a call by itself: invitations end or are not received in time, the caller goes offline, nobody ends the call.

use zim_protocol::{UserOnlineStatus, UserStatus};

use super::rules::Happening;
use super::store::{self, Stored};
use crate::app::App;
use crate::db::{Scope, Tx};
use crate::error::Error;
use crate::journal::LogWriter;
use crate::key::{CallKey, UserKey};
use crate::presence;
use crate::task::{self, Due, TaskKind};

/// The next time of a call has come; the subject is the call. A call has one such task, at the earliest of the times of its
/// invitations, and each change of the call sets it anew. Of a call that has ended, it looks whether the call is to be removed.
pub(crate) static TIMER: TaskKind<App> = TaskKind {
    number: 50,
    name: "call-timer",
    scope: of_call,
    run: |app, tx, log, due| Box::pin(pass_time(app, tx, log, due)),
};

/// The caller of a call went offline; the subject is the call.
pub(crate) static CALLER_LEFT: TaskKind<App> = TaskKind {
    number: presence::CALLER_LEFT,
    name: "caller-left",
    scope: of_call,
    run: |app, tx, log, due| Box::pin(caller_left(app, tx, log, due)),
};

fn of_call(subject: i64) -> Scope {
    Scope::call(CallKey(subject))
}

async fn pass_time(app: &App, tx: &mut Tx<'_>, log: &mut LogWriter, due: Due) -> Result<(), Error> {
    let Some(mut stored) = store::load(tx, CallKey(due.subject)).await? else { return Ok(()) };
    if stored.call.has_ended {
        let kept_ms = i64::from(app.config.limits.ended_calls_kept_days) * store::DAY_MS;
        return match stored.ended_at + kept_ms {
            _ if kept_ms == 0 => Ok(()),
            at if at <= due.now => store::remove(tx, stored.key).await,
            at => task::schedule(tx, &TIMER, due.subject, at).await,
        };
    }
    // The task that runs is gone.
    stored.timer_at = 0;
    let outcome = stored.call.happen(Happening::Time(due.now)).unwrap_or_default();
    if stored.call.has_ended {
        // Nobody ended it.
        stored.note_operator(UserKey(0), "");
    }
    stored.save(tx, log, &outcome, due.now).await
}

async fn caller_left(app: &App, tx: &mut Tx<'_>, log: &mut LogWriter, due: Due) -> Result<(), Error> {
    let Some(mut stored) = store::load(tx, CallKey(due.subject)).await? else { return Ok(()) };
    let statuses = presence::statuses(tx, &[stored.call.caller], due.now).await?;
    let lost_at = statuses.first().map_or(0, |status| status.last_online_status_update_time);
    match statuses.first().map(UserStatus::online_status) {
        // They came back.
        Some(UserOnlineStatus::Online) => return Ok(()),
        Some(UserOnlineStatus::Offline) => {
            // Nobody could come back while the server was down.
            let mut earliest = app.started_at + i64::from(app.config.limits.offline_after_ms);
            if !(app.started_at..earliest).contains(&due.now) {
                earliest = 0;
            }
            // The task may be of an earlier loss, after which they came back.
            let earliest = earliest.max(lost_at + presence::CALLER_GRACE_MS);
            if due.now < earliest {
                return task::schedule(tx, &CALLER_LEFT, due.subject, earliest).await;
            }
        }
        _ => {}
    }
    happen(tx, log, &mut stored, Happening::CallerLeft, due.now).await
}

/// Changes a call, which the job has locked, if something follows from what happens.
pub(super) async fn happen(
    tx: &mut Tx<'_>,
    log: &mut LogWriter,
    stored: &mut Stored,
    happening: Happening,
    now: i64,
) -> Result<(), Error> {
    let Some(outcome) = stored.call.happen(happening) else { return Ok(()) };
    if matches!(happening, Happening::CallerLeft) {
        stored.note_operator(stored.call.caller, "");
        stored.say(stored.call.caller, "", "");
    }
    stored.save(tx, log, &outcome, now).await
}
