//! Pages of a feed. The rows say what changed, and each kind resolves its rows to present values.

use std::collections::HashMap;

use zim_protocol::{FeedEntry, feed_entry::Detail};

use crate::db::Tx;
use crate::error::Error;
use crate::journal::{self, FeedKind};
use crate::key::UserKey;
use crate::service::blacklist;
use crate::service::friend;
use crate::service::status;
use crate::service::user;

/// Returns the feed after `after`, resolved to present values, the position up to which it is complete, and whether
/// there is more. Takes one statement for each kind, whatever the number of entries.
pub(super) async fn page(
    tx: &mut Tx<'_>,
    user: UserKey,
    after: i64,
    limit: usize,
) -> Result<(Vec<FeedEntry>, i64, bool), Error> {
    let (rows, through, more) = journal::feed_rows(tx, user, after, limit).await?;
    let mut keys: HashMap<i64, Vec<i64>> = HashMap::new();
    for row in &rows {
        keys.entry(row.kind).or_default().push(row.key);
    }
    let mut found: HashMap<(i64, i64), Detail> = HashMap::with_capacity(rows.len());
    for (kind, keys) in keys {
        let details = details(tx, user, kind, &keys).await?;
        found.extend(details.into_iter().map(|(key, detail)| ((kind, key), detail)));
    }
    let mut entries = Vec::with_capacity(rows.len());
    let mut bytes = 0;
    for row in &rows {
        let entry = FeedEntry { pos: row.pos.unsigned_abs(), detail: found.remove(&(row.kind, row.key)) };
        bytes += prost::Message::encoded_len(&entry);
        entries.push(entry);
        if bytes > super::PAGE_BYTES {
            // This may have been the last entry; then the next page is empty.
            return Ok((entries, row.pos, true));
        }
    }
    Ok((entries, through, more))
}

/// Resolves the entries of one kind. An entry without a present value, or of a kind that a later version wrote, is
/// blank.
async fn details(tx: &mut Tx<'_>, user: UserKey, kind: i64, keys: &[i64]) -> Result<HashMap<i64, Detail>, Error> {
    const READ: i64 = FeedKind::Read as i64;
    const PROFILE: i64 = FeedKind::Profile as i64;
    const RULE: i64 = FeedKind::Rule as i64;
    const FRIEND: i64 = FeedKind::Friend as i64;
    const APPLICATION: i64 = FeedKind::Application as i64;
    const BLOCK: i64 = FeedKind::Block as i64;
    const SUBSCRIPTION: i64 = FeedKind::Subscription as i64;
    match kind {
        READ => journal::read_marks(tx, user, keys).await,
        PROFILE => user::profile_entry(tx, user).await,
        RULE => user::rule_entry(tx, user).await,
        FRIEND => friend::feed_entries(tx, user, keys).await,
        APPLICATION => friend::application_feed_entries(tx, user, keys).await,
        BLOCK => blacklist::feed_entries(tx, user, keys).await,
        SUBSCRIPTION => status::feed_entries(tx, user, keys).await,
        _ => Ok(HashMap::new()),
    }
}
