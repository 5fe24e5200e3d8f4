//! Notifies the users who watch another user. They are read from the store after the commit and in pages, so that a
//! change costs the user who makes it the same, however many users watch.

use std::time::Duration;

use zim_protocol::Snapshot;

use super::App;
use crate::db::{Tx, Value, params};
use crate::error::Error;
use crate::key::UserKey;

/// Watchers on a page.
const PAGE: i64 = 1_000;
/// Changes that follow others within this time are merged: only the newest of each user is sent. This is machine time,
/// not the server's clock, because it only saves work.
pub(crate) const NOTIFY_PAUSE: Duration = Duration::from_millis(100);
/// The pause after a failure: the store may be unavailable for a while.
pub(crate) const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// Selects the users who watch a user. The parameters of `sql` are the user, the key that the page starts after, the
/// number of rows, and then `extra`. Each row holds the key that the next page starts after, and a watcher.
#[derive(Debug)]
pub(crate) struct Watchers {
    pub(crate) sql: &'static str,
    pub(crate) extra: Vec<Value>,
}

impl App {
    /// Sends `snapshot`, the present state of `user`, to the watchers who are online.
    pub(crate) async fn notify_watchers(
        &self,
        user: UserKey,
        watchers: Watchers,
        snapshot: &Snapshot,
    ) -> Result<(), Error> {
        let Watchers { sql, extra } = watchers;
        let mut after = 0;
        loop {
            let mut values = params![user, after, PAGE].to_vec();
            values.extend(extra.iter().cloned());
            let (found, last) = self.db.read(async move |tx| page(tx, sql, user, &values).await).await?;
            self.fanout.push_snapshot(found, snapshot, None);
            let Some(last) = last else { return Ok(()) };
            after = last;
        }
    }
}

/// Returns a page of watchers, and the key that the next page starts after, if there is a next page.
async fn page(
    tx: &mut Tx<'_>,
    sql: &str,
    user: UserKey,
    values: &[Value],
) -> Result<(Vec<UserKey>, Option<i64>), Error> {
    let rows = tx.fetch(sql, values).await?;
    let mut found = Vec::with_capacity(rows.len());
    let mut last = 0;
    for row in &rows {
        last = row.get(0)?;
        let peer: i64 = row.get(1)?;
        if peer > 0 && peer != user.0 {
            found.push(UserKey(peer));
        }
    }
    let is_full = i64::try_from(rows.len()).is_ok_and(|count| count == PAGE);
    Ok((found, is_full.then_some(last)))
}
