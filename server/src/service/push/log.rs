//! What became of each push to a device.

use std::collections::HashMap;

use prost::Message as _;
use zim_protocol::{ListPushLogResult, PushConfig, PushLogRow, PushOutcome, PushSource};

use super::newer::FOLLOWED;
use crate::app::App;
use crate::db::{Scope, Tx, Value, params};
use crate::error::Error;
use crate::key::UserKey;
use crate::push::PushKind;
use crate::task::{self, Due, TaskKind};
use crate::tenant::Tenant;

/// The most rows on a page.
const MAX_PAGE: u32 = 100;
/// Rows that one run of the task deletes.
const DELETED_AT_ONCE: i64 = 1_000;

/// Deletes what became of pushes long ago. One task for all; each schedules the next.
pub(crate) static PUSH_LOG_END: TaskKind<App> = TaskKind {
    number: 80,
    name: "push-log-end",
    scope: |_| Scope::none(),
    run: |app, tx, _, due| Box::pin(clear(app, tx, due)),
};

/// What is decided about a push to a device.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) id: i64,
    pub(super) push: i64,
    pub(super) push_id: i64,
    pub(super) user: UserKey,
    pub(super) source: PushSource,
    /// That of the outbox.
    pub(super) lane: i64,
    pub(super) state: PushOutcome,
    pub(super) detail: &'static str,
    /// Nobody sends it before.
    pub(super) not_before: i64,
}

impl Row {
    /// Whether it counts for the badge: also if a later one takes its place.
    pub(super) fn counts(&self) -> bool {
        self.state == PushOutcome::Waiting || self.detail == FOLLOWED
    }
}

/// Leaves out what was decided before: by another node, or before a kill.
pub(super) async fn drop_decided(tx: &mut Tx<'_>, rows: &mut Vec<Row>) -> Result<(), Error> {
    let Some(push) = rows.first().map(|row| row.push) else { return Ok(()) };
    let (list, mut values) = tx.dialect().in_list(rows.iter().map(|row| row.push_id), 2);
    values.insert(0, push.into());
    let sql = format!("SELECT push_id FROM push_log WHERE push = $1 AND push_id IN {list}");
    let decided =
        tx.fetch(&sql, &values).await?.iter().map(|row| Ok(row.get(0)?)).collect::<Result<Vec<i64>, Error>>()?;
    rows.retain(|row| !decided.contains(&row.push_id));
    Ok(())
}

/// Stores what is decided.
pub(super) async fn insert(
    tx: &mut Tx<'_>,
    rows: &[Row],
    badges: &HashMap<UserKey, i64>,
    now: i64,
) -> Result<(), Error> {
    let values: Vec<[Value; 11]> = rows
        .iter()
        .map(|row| {
            params![
                row.id,
                row.push,
                row.push_id,
                row.user,
                row.source as i32,
                row.state as i32,
                row.detail,
                0,
                row.not_before,
                badges.get(&row.user).copied().unwrap_or(-1),
                now
            ]
        })
        .collect();
    let sql = |rows: &str| {
        format!(
            "INSERT INTO push_log (id, push, push_id, account, source, state, detail, attempts, not_before, badge, at) \
             SELECT v.column1, v.column2, v.column3, v.column4, v.column5, v.column6, v.column7, v.column8, v.column9, \
             v.column10, v.column11 FROM ({rows}) AS v WHERE true ON CONFLICT (push, push_id) DO NOTHING"
        )
    };
    tx.execute_rows(&values, sql).await?;
    Ok(())
}

async fn clear(app: &App, tx: &mut Tx<'_>, due: Due) -> Result<(), Error> {
    let kept_ms = kept_ms(app);
    let before = due.now - kept_ms;
    // What waits is tried again at most a day later, and not beyond its end. Then nobody tries it any more.
    let given_up = before - i64::from(app.config.push.valid_s) * 1_000;
    let waiting = PushOutcome::Waiting as i32;
    let sql = "DELETE FROM push_log WHERE id IN (SELECT id FROM push_log WHERE at <= $1 AND (state <> $2 OR at <= $3) \
               ORDER BY at LIMIT $4)";
    let rows = tx.execute(sql, &params![before, waiting, given_up, DELETED_AT_ONCE]).await?;
    // What is pushed stays as long as anything became of it.
    let sql = "DELETE FROM push WHERE id IN (SELECT p.id FROM push p WHERE p.created_at <= $1 \
               AND NOT EXISTS (SELECT 1 FROM push_log l WHERE l.push = p.id) ORDER BY p.created_at LIMIT $2)";
    let pushes = tx.execute(sql, &params![before, DELETED_AT_ONCE]).await?;
    if i64::try_from(rows.max(pushes)).unwrap_or(i64::MAX) >= DELETED_AT_ONCE {
        return task::schedule(tx, &PUSH_LOG_END, 0, due.now).await;
    }
    let row = tx.fetch_one("SELECT (SELECT MIN(created_at) FROM push), (SELECT MIN(at) FROM push_log)", &[]).await?;
    let oldest = match row {
        Some(row) => [row.get::<Option<i64>>(0)?, row.get::<Option<i64>>(1)?].into_iter().flatten().min(),
        None => None,
    };
    match oldest {
        // Not for each of them: an hour more does no harm.
        Some(oldest) => task::schedule(tx, &PUSH_LOG_END, 0, (oldest + kept_ms).max(due.now + 3_600_000)).await,
        None => Ok(()),
    }
}

/// Returns how long what became of a push is kept.
pub(super) fn kept_ms(app: &App) -> i64 {
    i64::from(app.config.push.log_days) * 86_400_000
}

impl App {
    /// Returns a page of what became of the pushes to a user, the newest first.
    pub(crate) async fn push_log(
        &self,
        tenant: &Tenant,
        user_id: &str,
        (after, count): (&str, u32),
    ) -> Result<ListPushLogResult, Error> {
        let user = self.user_key(tenant.key, user_id).await?.ok_or_else(|| Error::user_not_found(user_id))?;
        let before = match after {
            "" => i64::MAX,
            after => after.parse().map_err(|_| Error::params_invalid("after must be `next` of the page before"))?,
        };
        let count = if count == 0 { MAX_PAGE } else { count.min(MAX_PAGE) };
        let scrambler = std::sync::Arc::clone(&tenant.scrambler);
        let found = self.db.read(async move |tx| {
            let sql = "SELECT l.id, a.name, p.kind, l.source, i.id, l.state, l.detail, l.attempts, p.created_at, l.at, \
                       l.not_before, p.config FROM push_log l JOIN push p ON p.id = l.push \
                       JOIN account a ON a.id = p.account LEFT JOIN push_id i ON i.id = l.push_id \
                       WHERE l.account = $1 AND l.id < $2 ORDER BY l.id DESC LIMIT $3";
            let rows = tx.fetch(sql, &params![user, before, i64::from(count) + 1]).await?;
            let mut result = ListPushLogResult::default();
            for row in rows.iter().take(count as usize) {
                let state = PushOutcome::try_from(row.get::<i32>(5)?).unwrap_or(PushOutcome::Failed);
                let config = PushConfig::decode(&*row.get::<Vec<u8>>(11)?).map_err(Error::internal)?;
                let push_id = row.get::<Option<i64>>(4)?;
                result.rows.push(PushLogRow {
                    sender_user_id: row.get(1)?,
                    kind: PushKind::of(row.get(2)?).map_or("", PushKind::name).to_owned(),
                    source: row.get(3)?,
                    push_id: push_id.map_or_else(String::new, |id| scrambler.public(id).to_string()),
                    outcome: state as i32,
                    detail: row.get(6)?,
                    attempts: row.get::<i64>(7)?.try_into().unwrap_or(u32::MAX),
                    created_at: row.get(8)?,
                    at: row.get(9)?,
                    next_at: if state == PushOutcome::Waiting { row.get(10)? } else { 0 },
                    title: config.title,
                });
                result.next = row.get::<i64>(0)?.to_string();
            }
            if rows.len() <= count as usize {
                result.next.clear();
            }
            Ok(result)
        });
        found.await
    }
}
