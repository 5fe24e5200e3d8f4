//! The conversations of groups. Their names are the IDs of the groups, which are never used again.

use std::sync::Arc;

use crate::app::App;
use crate::db::{Tx, params};
use crate::error::Error;
use crate::key::{AppKey, ConversationKey};

/// Returns the group with this ID, and whether it was dismissed.
pub(crate) async fn find_group(
    tx: &mut Tx<'_>,
    app: AppKey,
    group_id: &str,
) -> Result<Option<(ConversationKey, bool)>, Error> {
    let sql = "SELECT id, end_seq FROM conversation WHERE app = $1 AND type = 2 AND name = $2";
    let Some(row) = tx.fetch_one(sql, &params![app, group_id]).await? else { return Ok(None) };
    Ok(Some((ConversationKey(row.get(0)?), row.get::<Option<i64>>(1)?.is_some())))
}

impl App {
    /// Returns the key of a group, also of one that was dismissed.
    ///
    /// # Errors
    /// The store fails.
    pub(crate) async fn group_key(&self, app: AppKey, group_id: &str) -> Result<Option<ConversationKey>, Error> {
        let tenant = self.tenants.of(app)?;
        if let Some(key) = tenant.groups.get(group_id) {
            return Ok(Some(key));
        }
        let name = group_id.to_owned();
        let found = self.db.read(async move |tx| find_group(tx, app, &name).await).await?;
        if let Some((key, _)) = found {
            tenant.groups.insert(Arc::from(group_id), key);
        }
        Ok(found.map(|(key, _)| key))
    }
}
