//! Each node of a deployment looks for those of its own logins that lost their connection unnoticed: no other node knows its
//! connections.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::store;
use super::tasks::LOST_LOGINS;
use crate::app::App;
use crate::db::Scope;
use crate::error::Error;
use crate::key::LoginKey;
use crate::task;

/// Logins on a page.
const PAGE: i64 = 1_000;

/// Looks for own lost logins again and again, and lets the logins of a dead node end as soon as its death is known. Ends with the
/// server; at once if it does not share its database.
pub(crate) async fn watch_logins(app: Arc<App>, stopped: CancellationToken) {
    let Some(lease) = app.db.lease().cloned() else { return };
    let mut deaths = lease.deaths();
    let own = async {
        loop {
            if let Err(error) = look(&app, lease.number()).await {
                tracing::warn!(%error, cause = ?error.cause(), "lost logins were not looked for; retrying later");
            }
            app.clock.sleep(i64::from(app.config.limits.offline_after_ms)).await;
        }
    };
    let others = async {
        while deaths.changed().await.is_ok() {
            let now = app.clock.now_ms();
            let begun = app.db.submit(Scope::none(), async move |tx| task::schedule_by(tx, &LOST_LOGINS, 0, now).await);
            // The next look finds them otherwise.
            drop(begun.await);
            // What the dead node would have done is due here.
            app.timers.look();
        }
    };
    tokio::select! {
        () = stopped.cancelled() => {}
        () = own => {}
        () = others => {}
    }
}

async fn look(app: &App, node: u8) -> Result<(), Error> {
    let mut after = LoginKey(0);
    loop {
        let page = app.db.read(async move |tx| store::connected_to(tx, &[i64::from(node)], after, PAGE).await).await?;
        for (login, user) in &page {
            if !app.fanout.is_online_or_stored(*user, *login) {
                app.mark_disconnected(*user, *login).await?;
            }
        }
        match page.last() {
            Some((last, _)) if i64::try_from(page.len()).is_ok_and(|length| length == PAGE) => after = *last,
            _ => return Ok(()),
        }
    }
}
