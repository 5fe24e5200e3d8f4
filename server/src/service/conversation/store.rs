//! Rows of conversations and of their members.

use std::collections::HashMap;

use crate::db::{Tx, params};
use crate::error::Error;
use crate::key::{AppKey, ConversationKey, UserKey};

fn pair_name(pair: (UserKey, UserKey)) -> String {
    format!("{}:{}", pair.0.0, pair.1.0)
}

/// Returns the conversation of two users, given in ascending order.
pub(super) async fn peer_conversation(
    tx: &mut Tx<'_>,
    app: AppKey,
    pair: (UserKey, UserKey),
) -> Result<Option<ConversationKey>, Error> {
    let row = tx
        .fetch_one(
            "SELECT id FROM conversation WHERE app = $1 AND type = 0 AND name = $2",
            &params![app, pair_name(pair)],
        )
        .await?;
    Ok(row.map(|row| row.get(0)).transpose()?.map(ConversationKey))
}

/// Returns the existing conversations between `user` and these users, each with the other user.
pub(crate) async fn peer_conversations(
    tx: &mut Tx<'_>,
    app: AppKey,
    user: UserKey,
    peers: &[UserKey],
) -> Result<Vec<(ConversationKey, UserKey)>, Error> {
    let names: HashMap<String, UserKey> =
        peers.iter().map(|peer| (pair_name((user.min(*peer), user.max(*peer))), *peer)).collect();
    let (list, mut params) = tx.dialect().in_list(names.keys(), 2);
    params.insert(0, app.into());
    let sql = format!("SELECT id, name FROM conversation WHERE app = $1 AND type = 0 AND name IN {list}");
    let mut found = Vec::with_capacity(peers.len());
    for row in tx.fetch(&sql, &params).await? {
        let name: String = row.get(1)?;
        if let Some(peer) = names.get(&name) {
            found.push((ConversationKey(row.get(0)?), *peer));
        }
    }
    Ok(found)
}

/// Makes the conversation of two users, unless another job has made it. Blocks are read under the locks of both users:
/// a block that is stored later finds the conversation.
pub(super) async fn open_peer_conversation(
    tx: &mut Tx<'_>,
    app: AppKey,
    pair: (UserKey, UserKey),
    id: i64,
    now: i64,
) -> Result<ConversationKey, Error> {
    let inserted = tx
        .execute(
            "INSERT INTO conversation (id, app, type, name, seq, n, rev, last_ts, touched, floor_seq, floor_n, floor_rev, \
             blocks) VALUES ($1, $2, 0, $3, 0, 0, 0, $4, $4, 0, 0, 0, \
             (SELECT COALESCE(SUM(CASE WHEN account = $5 THEN 1 ELSE 2 END), 0) FROM block \
             WHERE (account = $5 AND blocked = $6) OR (account = $6 AND blocked = $5))) \
             ON CONFLICT (app, type, name) DO NOTHING",
            &params![id, app, pair_name(pair), now, pair.0, pair.1],
        )
        .await?;
    if inserted == 0 {
        return peer_conversation(tx, app, pair)
            .await?
            .ok_or_else(|| Error::internal_text("a conversation exists and is not found"));
    }
    tx.made_conversation(ConversationKey(id));
    for (user, peer) in [pair, (pair.1, pair.0)] {
        tx.execute(
            "INSERT INTO member (conversation, account, peer, from_seq, from_rev, cleared_seq, read_seq, base_seq, base_n, \
             base_sent, sent, deducted) VALUES ($1, $2, $3, 1, 1, 0, 0, 0, 0, 0, 0, 0)",
            &params![id, user, peer],
        )
        .await?;
    }
    Ok(ConversationKey(id))
}
