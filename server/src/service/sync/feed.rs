//! Pages of a feed. The rows say what changed, and each kind resolves its rows to present values.

use std::collections::HashMap;

use zim_protocol::{FeedEntry, feed_entry::Detail};

use crate::db::Tx;
use crate::error::Error;
use crate::journal::{self, FeedKind, READ};
use crate::key::UserKey;
use crate::service::blacklist::BLOCK;
use crate::service::call::CALL;
use crate::service::conversation::{ALL_DELETED, CONVERSATION, SETTING};
use crate::service::friend::{APPLICATION, FRIEND};
use crate::service::group::{ALIAS, GROUP_APPLICATION};
use crate::service::message::{ALL_CLEARED, CLEARED, CONVERSATION_RECEIPT, DELETION, RECEIPT};
use crate::service::rows::PAGE_BYTES;
use crate::service::status::SUBSCRIPTION;
use crate::service::user::{PROFILE, RULE};

/// All kinds of entries.
static KINDS: [&FeedKind; 18] = [
    &READ,
    &CONVERSATION,
    &SETTING,
    &ALL_DELETED,
    &PROFILE,
    &RULE,
    &FRIEND,
    &APPLICATION,
    &BLOCK,
    &SUBSCRIPTION,
    &RECEIPT,
    &CONVERSATION_RECEIPT,
    &DELETION,
    &CLEARED,
    &ALL_CLEARED,
    &ALIAS,
    &GROUP_APPLICATION,
    &CALL,
];

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
        if bytes > PAGE_BYTES {
            // This may have been the last entry; then the next page is empty.
            return Ok((entries, row.pos, true));
        }
    }
    Ok((entries, through, more))
}

/// Resolves the entries of one kind. An entry without a present value, or of a kind that a later version wrote, is
/// blank.
async fn details(tx: &mut Tx<'_>, user: UserKey, kind: i64, keys: &[i64]) -> Result<HashMap<i64, Detail>, Error> {
    match KINDS.iter().find(|known| known.number == kind) {
        Some(known) => (known.resolve)(tx, user, keys).await,
        None => Ok(HashMap::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_kinds_have_the_same_number() {
        let numbers: std::collections::HashSet<i64> = KINDS.iter().map(|kind| kind.number).collect();
        assert_eq!(numbers.len(), KINDS.len());
    }
}
