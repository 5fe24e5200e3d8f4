//! Notifies the users who know a user when the profile changes: at once if they are online, otherwise when they sync.
//! They are read from the store after the commit and in pages, so that a change costs the same however many they are.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use zim_protocol::{Snapshot, UserFullInfo, UserStatus};

use crate::app::{App, NOTIFY_PAUSE, RETRY_PAUSE, Watchers};
use crate::db::{Tx, params};
use crate::error::Error;
use crate::key::UserKey;
use crate::service::rows::{USER, full_info};
use crate::service::status;

/// Users on a page.
const PAGE: i64 = 1_000;
/// The approximate bytes of profiles in one response.
const PAGE_BYTES: usize = 128 * 1024;

/// Notifies the users who know a user whose profile changed. Ends with the server.
pub(crate) async fn notify_of_profiles(app: Arc<App>, stopped: CancellationToken) {
    loop {
        let changed = tokio::select! {
            () = stopped.cancelled() => return,
            changed = app.fanout.profiles.take() => changed,
        };
        let mut pause = NOTIFY_PAUSE;
        for (user, info) in changed {
            let snapshot = Snapshot { profiles: vec![info.clone()], statuses: Vec::new() };
            // A user who is both a peer and a friend is notified twice, which does no harm.
            let mut notified = Ok(());
            for sql in [PEERS, FRIENDS] {
                notified =
                    notified.and(app.notify_watchers(user, Watchers { sql, extra: Vec::new() }, &snapshot).await);
            }
            if let Err(error) = notified {
                tracing::warn!(%error, cause = ?error.cause(), "a change of a profile did not reach all users who know the user; retrying");
                app.fanout.profiles.add(user, info, |_, _| false);
                pause = RETRY_PAUSE;
            }
        }
        // However often a user changes the profile, the others are notified no more often than of changes of a status.
        tokio::select! {
            () = stopped.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// The other users of a user's peer conversations.
const PEERS: &str =
    "SELECT conversation, peer FROM member WHERE account = $1 AND conversation > $2 ORDER BY conversation LIMIT $3";

/// The users who have a user on their list of friends.
const FRIENDS: &str =
    "SELECT account, account FROM friend WHERE friend = $1 AND account > $2 ORDER BY account LIMIT $3";

/// Returns what changed at or after `since` of the users that `user` knows: their profiles, the user's own status and
/// those that the user subscribed to, by ascending account after the account `after`; and the last account, if there
/// may be more. `now` is the present time.
pub(crate) async fn changes_since(
    tx: &mut Tx<'_>,
    user: UserKey,
    (since, now): (i64, i64),
    after: i64,
) -> Result<(Vec<UserFullInfo>, Vec<UserStatus>, Option<i64>), Error> {
    let profiles = profiles_since(tx, user, since, after).await?;
    let statuses = status::statuses_since(tx, user, (since, now), after, PAGE).await?;
    // Both lists are complete up to this account.
    let last = match (end(&profiles), end(&statuses)) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    };
    let through = last.unwrap_or(i64::MAX);
    Ok((up_to(profiles, through), up_to(statuses, through), last))
}

/// Returns where a page ends that may have been cut off.
fn end<T: prost::Message>(page: &[(i64, T)]) -> Option<i64> {
    let is_full = i64::try_from(page.len()).is_ok_and(|count| count == PAGE);
    let bytes: usize = page.iter().map(|(_, value)| value.encoded_len()).sum();
    page.last().filter(|_| is_full || bytes > PAGE_BYTES).map(|(account, _)| *account)
}

fn up_to<T>(page: Vec<(i64, T)>, through: i64) -> Vec<T> {
    page.into_iter().take_while(|(account, _)| *account <= through).map(|(_, value)| value).collect()
}

async fn profiles_since(
    tx: &mut Tx<'_>,
    user: UserKey,
    since: i64,
    after: i64,
) -> Result<Vec<(i64, UserFullInfo)>, Error> {
    let rows = tx
        .fetch(
            // The join goes from the known users to their accounts, never the other way.
            &format!(
                "SELECT a.id, {USER} \
             FROM (SELECT peer AS id FROM member WHERE account = $1 AND peer > $3 \
             UNION SELECT friend FROM friend WHERE account = $1 AND friend > $3) AS known \
             CROSS JOIN account a WHERE a.id = known.id AND a.info_at >= $2 ORDER BY known.id LIMIT $4"
            ),
            &params![user, since, after, PAGE],
        )
        .await?;
    let mut profiles = Vec::with_capacity(rows.len());
    let mut bytes = 0;
    for row in &rows {
        let info = full_info(row, 1)?;
        bytes += prost::Message::encoded_len(&info);
        profiles.push((row.get(0)?, info));
        if bytes > PAGE_BYTES {
            break;
        }
    }
    Ok(profiles)
}
