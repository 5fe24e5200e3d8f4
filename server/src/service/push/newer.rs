//! The order of the pushes of a conversation to a device: a later one replaces the earlier on it, so none is sent after a later one.
//! While a later one waits, the earlier wait for what becomes of it: it may be revoked, or refused.

use zim_protocol::PushOutcome;

use super::pushed::Pushed;
use crate::db::{Tx, params};
use crate::error::Error;
use crate::push::PushKind;

/// How far the clocks of two nodes may be apart.
const CLOCK_MS: i64 = 1_000;
/// Why a push is not sent after a later one.
pub(super) const FOLLOWED: &str = "followed by a later one";

/// What became of the later pushes of the conversation to a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Newer {
    /// There are none that were sent or will be.
    None,
    /// One of them waits until this time, Unix milliseconds.
    Waiting(i64),
    Sent,
}

/// Returns what became of the later pushes of the conversation to a device.
pub(super) async fn newer(tx: &mut Tx<'_>, pushed: &Pushed, push_id: i64, now: i64) -> Result<Newer, Error> {
    if !pushed.kind.is_of_message() {
        return Ok(Newer::None);
    }
    let sql = "SELECT l.state, MAX(l.not_before) FROM push p JOIN push_log l ON l.push = p.id AND l.push_id = $1 \
               WHERE p.conversation = $2 AND p.created_at >= $3 AND (p.created_at > $3 OR p.seq > $4) \
               AND p.kind IN ($5, $6) AND l.state IN ($7, $8) AND p.created_at <= $9 GROUP BY l.state";
    let (waiting, sent) = (PushOutcome::Waiting as i32, PushOutcome::Sent as i32);
    let (about, made, seq) = (pushed.about, pushed.created_at, pushed.seq);
    let kinds = (PushKind::Message as i64, PushKind::Revoke as i64);
    // After the clock was set back, what was made before is dated later, but it is not.
    let latest = now.max(made) + CLOCK_MS;
    let rows = tx.fetch(sql, &params![push_id, about, made, seq, kinds.0, kinds.1, waiting, sent, latest]).await?;
    let mut found = Newer::None;
    for row in &rows {
        if row.get::<i32>(0)? == sent {
            return Ok(Newer::Sent);
        }
        found = Newer::Waiting(row.get(1)?);
    }
    Ok(found)
}

/// Ends the earlier pushes of the conversation to a device that wait, because this one was sent.
pub(super) async fn end_older(tx: &mut Tx<'_>, pushed: &Pushed, push_id: i64, now: i64) -> Result<(), Error> {
    if !pushed.kind.is_of_message() {
        return Ok(());
    }
    // The state is in the text for the sake of the index.
    let sql = format!(
        "UPDATE push_log SET state = $2, detail = $3, at = $4 WHERE push_id = $1 AND state = {} \
         AND EXISTS (SELECT 1 FROM push p WHERE p.id = push_log.push AND p.conversation = $5 AND p.kind IN ($6, $7) \
         AND p.created_at <= $8 AND (p.created_at < $8 OR p.seq < $9))",
        PushOutcome::Waiting as i32
    );
    let kinds = (PushKind::Message as i64, PushKind::Revoke as i64);
    let (about, made, seq) = (pushed.about, pushed.created_at, pushed.seq);
    let skipped = PushOutcome::Skipped as i32;
    tx.execute(&sql, &params![push_id, skipped, FOLLOWED, now, about, kinds.0, kinds.1, made, seq]).await?;
    Ok(())
}
