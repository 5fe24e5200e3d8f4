//! Rows of users.

use std::collections::HashMap;

use zim_protocol::UserFullInfo;

use crate::db::{Tx, Value, params};
use crate::error::Error;
use crate::journal::full_info;
use crate::key::{AppKey, SessionKey, UserKey};

/// The profiles of `ids`, in their order and each once, and the ids that nobody has.
pub(super) async fn users(
    tx: &mut Tx<'_>,
    app: AppKey,
    ids: Vec<String>,
) -> Result<(Vec<UserFullInfo>, Vec<String>), Error> {
    // Ten at most, each a seek: a list of texts would sort differently on the two databases, and win nothing.
    let mut found: HashMap<String, UserFullInfo> = HashMap::new();
    let mut order: Vec<String> = Vec::with_capacity(ids.len());
    for id in ids {
        if order.contains(&id) {
            continue;
        }
        let row = tx
            .fetch_one(
                "SELECT user_name, avatar_url, extended_data FROM account WHERE app = $1 AND name = $2",
                &[Value::from(app), Value::from(id.clone())],
            )
            .await?;
        if let Some(row) = row {
            found.insert(id.clone(), full_info(id.clone(), row.get(0)?, row.get(1)?, row.get(2)?));
        }
        order.push(id);
    }
    let (mut users, mut missing) = (Vec::new(), Vec::new());
    for id in order {
        match found.remove(&id) {
            Some(user) => users.push(user),
            None => missing.push(id),
        }
    }
    Ok((users, missing))
}

/// Changes a user's name; returns the feed's position and the profile.
pub(super) async fn rename(
    tx: &mut Tx<'_>,
    user: UserKey,
    name: String,
    session: SessionKey,
) -> Result<(i64, UserFullInfo), Error> {
    let row = tx
        .fetch_one("SELECT name, avatar_url, extended_data FROM account WHERE id = $1", &params![user])
        .await?
        .ok_or_else(|| Error::internal_text("a session without a user"))?;
    let info = full_info(row.get(0)?, name.clone(), row.get(1)?, row.get(2)?);
    let pos = crate::session::rename(tx, user, &name, info.clone(), session).await?;
    Ok((pos, info))
}
