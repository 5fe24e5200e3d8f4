//! What the operator has changed. A row is stored beside the first write of each of their calls: see [`crate::connection::Audit`].

use zim_protocol::{AuditRow, ListAuditRequest, ListAuditResult};

use super::rows::{operators_count, operators_place};
use crate::app::App;
use crate::db::{Scope, Tx, params};
use crate::error::Error;
use crate::task::{self, Due, TaskKind};

/// How long rows are kept: two years.
const KEPT_MS: i64 = 730 * DAY_MS;
const DAY_MS: i64 = 86_400_000;
/// Rows that one run of the task deletes.
const DELETED_AT_ONCE: i64 = 1_000;

/// Deletes old rows. One task for all; each run schedules the next.
pub(crate) static AUDIT_END: TaskKind<App> =
    TaskKind { number: 90, name: "audit-end", scope: |_| Scope::none(), run: |_, tx, _, due| Box::pin(clear(tx, due)) };

impl App {
    /// Begins to look for rows of the audit log that are old.
    pub(crate) async fn begin_to_clear_audit(&self) -> Result<(), Error> {
        let now = self.clock.now_ms();
        self.db.submit(Scope::none(), async move |tx| task::schedule_by(tx, &AUDIT_END, 0, now).await).await
    }

    /// Stores the row of a call that changes nothing, and which others must nevertheless be able to see.
    ///
    /// # Errors
    /// The store fails.
    pub(super) async fn note_call(&self) -> Result<(), Error> {
        self.db.submit(Scope::none(), async |_: &mut Tx<'_>| Ok(())).await
    }

    /// Returns a page of the audit log, the newest first.
    ///
    /// # Errors
    /// `after` is not that of a page, a user is named without an app, or the store fails.
    pub(super) async fn audit_rows(&self, request: ListAuditRequest) -> Result<ListAuditResult, Error> {
        let ListAuditRequest { app_id, user_id, after, count } = request;
        if app_id == 0 && !user_id.is_empty() {
            return Err(Error::params_invalid("a user is one of an app: name it, too"));
        }
        let (before, count) = (operators_place(&after, i64::MAX)?, operators_count(count));
        self.db.read(async move |tx| rows(tx, (i64::from(app_id), &user_id), (before, count)).await).await
    }
}

async fn rows(
    tx: &mut Tx<'_>,
    (app, user_id): (i64, &str),
    (before, count): (i64, usize),
) -> Result<ListAuditResult, Error> {
    let limit = i64::try_from(count).map_err(Error::internal)? + 1;
    let of = match (app, user_id) {
        (0, _) => "",
        (_, "") => " AND app = $3",
        _ => " AND app = $3 AND target = $4",
    };
    let sql = format!(
        "SELECT id, app, at, actor, action, target, detail FROM audit WHERE id < $1{of} ORDER BY id DESC LIMIT $2"
    );
    let mut values = params![before, limit].to_vec();
    if app != 0 {
        values.push(app.into());
    }
    if app != 0 && !user_id.is_empty() {
        values.push(user_id.into());
    }
    let rows = tx.fetch(&sql, &values).await?;
    let mut result = ListAuditResult::default();
    for row in rows.iter().take(count) {
        result.next = row.get::<i64>(0)?.to_string();
        result.rows.push(AuditRow {
            app_id: row.get(1)?,
            at: row.get(2)?,
            actor: row.get(3)?,
            action: row.get(4)?,
            user_id: row.get(5)?,
            detail: row.get(6)?,
        });
    }
    if rows.len() <= count {
        result.next.clear();
    }
    Ok(result)
}

async fn clear(tx: &mut Tx<'_>, due: Due) -> Result<(), Error> {
    let sql = "DELETE FROM audit WHERE id IN (SELECT id FROM audit WHERE at <= $1 ORDER BY at LIMIT $2)";
    let deleted = tx.execute(sql, &params![due.now - KEPT_MS, DELETED_AT_ONCE]).await?;
    let is_page = i64::try_from(deleted).is_ok_and(|deleted| deleted >= DELETED_AT_ONCE);
    let next = if is_page { due.now } else { due.now + DAY_MS };
    task::schedule(tx, &AUDIT_END, 0, next).await
}
