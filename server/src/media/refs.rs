//! Which messages have which files.

use crate::db::{Tx, Value, params};
use crate::error::Error;
use crate::key::ConversationKey;

/// Keeps files from being removed until the transaction ends. Returns whether all of them are there and complete.
///
/// # Errors
/// The store fails.
pub(crate) async fn lock(tx: &mut Tx<'_>, ids: &[i64]) -> Result<bool, Error> {
    let mut sorted = ids.to_vec();
    sorted.sort_unstable();
    sorted.dedup();
    let sql = format!("SELECT id FROM media WHERE id = $1 AND state = 1{}", tx.dialect().for_share());
    for id in sorted {
        if tx.fetch_one(&sql, &params![id]).await?.is_none() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Notes that a message has files, which the transaction has locked.
///
/// # Errors
/// The store fails.
pub(crate) async fn refer(tx: &mut Tx<'_>, conversation: ConversationKey, seq: i64, ids: &[i64]) -> Result<(), Error> {
    let rows: Vec<[Value; 3]> = ids.iter().map(|id| [conversation.into(), seq.into(), (*id).into()]).collect();
    let sql = |rows: &str| {
        format!(
            "INSERT INTO media_ref (conversation, seq, media) SELECT v.column1, v.column2, v.column3 FROM ({rows}) AS v \
             WHERE true ON CONFLICT (conversation, seq, media) DO NOTHING"
        )
    };
    tx.execute_rows(&rows, sql).await?;
    Ok(())
}
