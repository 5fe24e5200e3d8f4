//! Notifies the users who watch another user. The store is asked who they are after the commit and in pages, so that a change
//! costs the changed user the same, however many watch.

use std::time::Duration;

use zim_protocol::Snapshot;

use super::App;
use crate::db::{Tx, Value, params};
use crate::error::Error;
use crate::key::UserKey;

/// Watchers that one read finds.
const PAGE: i64 = 1_000;
/// Changes that come this soon after others are merged: of each user the newest is told. A pause of the machine's time, because
/// it only spares work.
pub(crate) const NOTIFY_PAUSE: Duration = Duration::from_millis(100);
/// And if not everybody could be told: the store may be away for a while.
pub(crate) const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// The users who watch a user: `sql` takes the user, the key that the page starts after, and the number of rows, then `extra`. Each
/// row has the key that the next page starts after, and a watcher.
#[derive(Debug)]
pub(crate) struct Watchers {
    pub(crate) sql: &'static str,
    pub(crate) extra: Vec<Value>,
}

impl App {
    /// Sends `snapshot`, which is true of `user` now, to the watchers who are online.
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

/// A page of watchers, and the key that the next page starts after, if there is one.
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
