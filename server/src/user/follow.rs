//! Those who know a user see his profile change: at once if they are online, else when they sync. Who knows whom is asked of
//! the store, after the commit and in pages, so that a change costs the same however many they are.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use zim_protocol::{Snapshot, UserFullInfo};

use crate::app::App;
use crate::db::{Tx, params};
use crate::error::Error;
use crate::journal::full_info;
use crate::key::UserKey;

/// People that one read finds.
const PAGE: i64 = 1_000;
/// Bytes of profiles in one answer, about.
const PAGE_BYTES: usize = 128 * 1024;

/// Tells those who know a user, whenever a profile changed. Ends with the server.
pub(crate) async fn tell_of_profiles(app: Arc<App>, stopped: CancellationToken) {
    loop {
        let changed = tokio::select! {
            () = stopped.cancelled() => return,
            changed = app.fanout.profiles.take() => changed,
        };
        for (user, info) in changed {
            if let Err(error) = tell(&app, user, info).await {
                // Whoever was not told finds out when he syncs.
                tracing::warn!(%error, cause = ?error.cause(), "a profile changed, and not everybody was told");
            }
        }
    }
}

async fn tell(app: &App, user: UserKey, info: UserFullInfo) -> Result<(), Error> {
    // Who is both is told twice, which changes nothing.
    for pages in [PEERS, FRIENDS] {
        let mut after = 0;
        loop {
            let (found, last) = app.db.read(async move |tx| page(tx, pages, user, after).await).await?;
            app.fanout.snapshot(found, Snapshot { profiles: vec![info.clone()], statuses: Vec::new() }, None);
            let Some(last) = last else { break };
            after = last;
        }
    }
    Ok(())
}

/// The other sides of a user's conversations.
const PEERS: &str =
    "SELECT conversation, peer FROM member WHERE account = $1 AND conversation > $2 ORDER BY conversation LIMIT $3";

/// Those on whose list of friends a user is.
const FRIENDS: &str =
    "SELECT account, account FROM friend WHERE friend = $1 AND account > $2 ORDER BY account LIMIT $3";

/// A page of those who know the user, and where the next one begins, if there is one.
async fn page(tx: &mut Tx<'_>, pages: &str, user: UserKey, after: i64) -> Result<(Vec<UserKey>, Option<i64>), Error> {
    let rows = tx.fetch(pages, &params![user, after, PAGE]).await?;
    let mut found = Vec::with_capacity(rows.len());
    let mut last = after;
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

/// The profiles that changed at or after `since` of those whom the user knows, ascending behind the account `after`; and the
/// last account, if there may be more.
pub(crate) async fn profiles_since(
    tx: &mut Tx<'_>,
    user: UserKey,
    since: i64,
    after: i64,
) -> Result<(Vec<UserFullInfo>, Option<i64>), Error> {
    let rows = tx
        .fetch(
            // The join goes from those whom he knows to their accounts, never the other way.
            "SELECT p.id, p.name, p.user_name, p.avatar_url, p.extended_data \
             FROM (SELECT peer AS id FROM member WHERE account = $1 AND peer > $3 \
             UNION SELECT friend FROM friend WHERE account = $1 AND friend > $3) AS known \
             CROSS JOIN account p WHERE p.id = known.id AND p.info_at >= $2 ORDER BY known.id LIMIT $4",
            &params![user, since, after, PAGE],
        )
        .await?;
    let mut profiles = Vec::with_capacity(rows.len());
    let mut bytes = 0;
    for row in &rows {
        let info = full_info(row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?);
        bytes += prost::Message::encoded_len(&info);
        profiles.push(info);
        if bytes > PAGE_BYTES {
            return Ok((profiles, Some(row.get(0)?)));
        }
    }
    let is_full = i64::try_from(rows.len()).is_ok_and(|count| count == PAGE);
    let last = rows.last().filter(|_| is_full).map(|row| row.get(0)).transpose()?;
    Ok((profiles, last))
}
