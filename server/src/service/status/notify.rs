//! Notifies the subscribers of a user when the user's status changes. They are read from the store after the commit and
//! in pages, so that a change costs the user who makes it the same, however many subscribe.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use zim_protocol::Snapshot;

use crate::app::{App, NOTIFY_PAUSE, RETRY_PAUSE, Watchers};
use crate::db::params;

/// Users whose subscription has not expired.
const SUBSCRIBERS: &str = "SELECT account, account FROM subscription \
                           WHERE target = $1 AND account > $2 AND expires_at > $4 ORDER BY account LIMIT $3";

/// Notifies the subscribers of users whose status changed. Ends with the server.
pub(crate) async fn notify_of_statuses(app: Arc<App>, stopped: CancellationToken) {
    loop {
        let changed = tokio::select! {
            () = stopped.cancelled() => return,
            changed = app.fanout.statuses.take() => changed,
        };
        let now = app.clock.now_ms();
        let mut pause = NOTIFY_PAUSE;
        for (user, status) in changed {
            let snapshot = Snapshot { profiles: Vec::new(), statuses: vec![status.clone()] };
            let subscribers = Watchers { sql: SUBSCRIBERS, extra: params![now].to_vec() };
            if let Err(error) = app.notify_watchers(user, subscribers, &snapshot).await {
                tracing::warn!(%error, cause = ?error.cause(), "a change of a status did not reach all subscribers; retrying");
                app.fanout.statuses.add(user, status, |_, _| false);
                pause = RETRY_PAUSE;
            }
        }
        tokio::select! {
            () = stopped.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}
