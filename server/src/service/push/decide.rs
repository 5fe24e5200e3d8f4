//! Decides which devices of the receivers get a push, page by page of the receivers.

use std::collections::{BTreeSet, HashMap};

use zim_protocol::PushOutcome;

use super::log::{self, PUSH_LOG_END, Row as LogRow, kept_ms};
use super::newer::{FOLLOWED, Newer, newer};
use super::pushed::Pushed;
use super::receivers::{Range, candidates, devices, has_it, is_addressed, later_senders};
use super::rules::{Receiver, is_held, reason};
use crate::app::App;
use crate::db::{Scope, Tx};
use crate::error::Error;
use crate::key::UserKey;
use crate::push;
use crate::task::{self, Delivery, Next, OutboxKind};

/// Receivers on a page. Their rows are locked together.
const PAGE: i64 = 50;
/// A push that waits for a later one waits so much longer than that one takes to be decided, milliseconds.
const GRACE_MS: i64 = 1_000;
/// How much a badge rises if the push does not say it.
const BADGE_STEP: i64 = 1;

/// Decides who gets a push; the cause is the push, and the cursor the last receiver.
pub(crate) static PUSH: OutboxKind<App> = OutboxKind {
    number: push::PUSH,
    name: "push",
    has_lanes: false,
    deliver: |app, delivery| Box::pin(async move { decide(&app, delivery).await }),
};

async fn decide(app: &App, delivery: Delivery) -> Result<Next, Error> {
    let (id, cursor) = (delivery.cause, delivery.cursor);
    let interval_ms = i64::from(app.config.push.delay_ms).max(1);
    let found = app.db.read(async move |tx| {
        let Some(pushed) = Pushed::read(tx, id).await? else { return Ok(None) };
        let later = later_senders(tx, &pushed, interval_ms).await?;
        let page = Range { after: cursor, through: i64::MAX, limit: PAGE };
        let mut candidates = candidates(tx, &pushed, page, &later).await?;
        let devices = devices(tx, &mut candidates).await?;
        Ok(Some((pushed, candidates, devices)))
    });
    // What nobody gets is removed in time as well.
    let Some((pushed, candidates, devices)) = found.await? else { return clear_later(app).await };
    let Some(last) = candidates.last().map(|candidate| candidate.user.0) else { return clear_later(app).await };
    let has_it = has_it(app, &pushed, &devices).await;
    let providers = app.tenants.of(pushed.app)?.providers();
    let now = app.clock.now_ms();
    let receivers: HashMap<UserKey, &Receiver> =
        candidates.iter().map(|candidate| (candidate.user, &candidate.receiver)).collect();
    // By then the last one of the interval is decided, too.
    let held_until = pushed.interval_end(interval_ms) + i64::from(app.config.push.delay_ms) + GRACE_MS;
    let mut rows = Vec::with_capacity(devices.len());
    for device in &devices {
        let Some(receiver) = receivers.get(&device.user) else { continue };
        if !is_addressed(&pushed, device, &devices, |device| device.has_provider(&providers)) {
            continue;
        }
        let reason = reason(pushed.kind, receiver, device.standing(&has_it, &providers));
        rows.push(LogRow {
            id: app.ids.next(),
            push: id,
            push_id: device.id,
            user: device.user,
            source: device.source,
            lane: device.lane,
            state: if reason.is_none() { PushOutcome::Waiting } else { PushOutcome::Skipped },
            detail: reason.unwrap_or_default(),
            not_before: if is_held(receiver) { held_until } else { now },
        });
    }
    store(app, &pushed, rows, now).await?;
    // A full page may be followed by another one.
    Ok(if i64::try_from(candidates.len()).is_ok_and(|count| count == PAGE) { Next::After(last) } else { Next::Nothing })
}

/// Sees to it that the log is cleared.
async fn clear_later(app: &App) -> Result<Next, Error> {
    let at = app.clock.now_ms() + kept_ms(app);
    app.db.submit(Scope::none(), async move |tx| task::schedule_by(tx, &PUSH_LOG_END, 0, at).await).await?;
    Ok(Next::Nothing)
}

/// Stores what was decided about the devices of a page, and lets those be sent that are to be.
async fn store(app: &App, pushed: &Pushed, mut rows: Vec<LogRow>, now: i64) -> Result<(), Error> {
    if rows.is_empty() {
        return clear_later(app).await.map(drop);
    }
    let log_ends_at = now + kept_ms(app);
    let step = match pushed.config.enable_badge {
        true if pushed.config.badge_increment == 0 => Some(BADGE_STEP),
        true => Some(pushed.config.badge_increment),
        false => None,
    };
    // The badge is in the row of the user.
    let users: BTreeSet<UserKey> = rows.iter().map(|row| row.user).collect();
    let scope = if step.is_some() { Scope::none().and_users(users) } else { Scope::none() };
    let of = pushed.clone();
    let stored = app.db.submit(scope, async move |tx| {
        log::drop_decided(tx, &mut rows).await?;
        // The later one that these wait for may have been faster.
        for row in rows.iter_mut().filter(|row| row.state == PushOutcome::Waiting && row.not_before > now) {
            if newer(tx, &of, row.push_id, now).await? == Newer::Sent {
                (row.state, row.detail) = (PushOutcome::Skipped, FOLLOWED);
            }
        }
        let badges = match step {
            Some(step) => raise_badges(tx, &rows, step).await?,
            None => HashMap::new(),
        };
        log::insert(tx, &rows, &badges, now).await?;
        for row in rows.iter().filter(|row| row.state == PushOutcome::Waiting) {
            push::enqueue(tx, push::DELIVERY, (row.id, row.lane), row.not_before).await?;
        }
        task::schedule_by(tx, &PUSH_LOG_END, 0, log_ends_at).await
    });
    stored.await
}

/// Raises the badges of the users whom a push counts for. Returns them as they are now.
async fn raise_badges(tx: &mut Tx<'_>, rows: &[LogRow], step: i64) -> Result<HashMap<UserKey, i64>, Error> {
    let users: BTreeSet<i64> = rows.iter().filter(|row| row.counts()).map(|row| row.user.0).collect();
    let (list, mut values) = tx.dialect().in_list(users, 2);
    values.insert(0, step.into());
    tx.execute(&format!("UPDATE account SET badge = badge + $1 WHERE id IN {list}"), &values).await?;
    let (list, values) = tx.dialect().in_list(rows.iter().map(|row| row.user.0), 1);
    let found = tx.fetch(&format!("SELECT id, badge FROM account WHERE id IN {list}"), &values).await?;
    found.iter().map(|row| Ok((UserKey(row.get(0)?), row.get(1)?))).collect()
}
