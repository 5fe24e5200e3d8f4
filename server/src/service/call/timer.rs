//! What happens to a call by itself: invitations end or are not received in time, the caller goes offline, nobody ends the call.

use super::rules::Happening;
use super::store::{self, Stored};
use crate::app::App;
use crate::db::{Scope, Tx};
use crate::error::Error;
use crate::journal::LogWriter;
use crate::key::CallKey;
use crate::presence;
use crate::task::{Due, TaskKind};

/// The next time of a call has come; the subject is the call. A call has one such task, at the earliest of the times of its
/// invitations, and each change of the call sets it anew.
pub(crate) static TIMER: TaskKind<App> = TaskKind {
    number: 50,
    name: "call-timer",
    scope: of_call,
    run: |_, tx, log, due| Box::pin(pass_time(tx, log, due)),
};

/// The caller of a call went offline; the subject is the call.
pub(crate) static CALLER_LEFT: TaskKind<App> = TaskKind {
    number: presence::CALLER_LEFT,
    name: "caller-left",
    scope: of_call,
    run: |_, tx, log, due| Box::pin(caller_left(tx, log, due)),
};

fn of_call(subject: i64) -> Scope {
    Scope::call(CallKey(subject))
}

async fn pass_time(tx: &mut Tx<'_>, log: &mut LogWriter, due: Due) -> Result<(), Error> {
    let Some(mut stored) = store::load(tx, CallKey(due.subject)).await? else { return Ok(()) };
    // The task that runs is gone.
    stored.timer_at = 0;
    let outcome = stored.call.happen(Happening::Time(due.now)).unwrap_or_default();
    stored.save(tx, log, &outcome, due.now).await
}

async fn caller_left(tx: &mut Tx<'_>, log: &mut LogWriter, due: Due) -> Result<(), Error> {
    let Some(mut stored) = store::load(tx, CallKey(due.subject)).await? else { return Ok(()) };
    let caller = stored.call.caller;
    // They may have come back.
    if store::is_offline(tx, caller).await? {
        happen(tx, log, &mut stored, Happening::CallerLeft, due.now).await?;
    }
    Ok(())
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
    }
    stored.save(tx, log, &outcome, now).await
}
