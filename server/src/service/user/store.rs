//! Rows of users.

use std::collections::HashMap;

use prost::Message as _;
use zim_protocol::{UserFullInfo, UserOfflinePushRule, UserRule, feed_entry::Detail};

use crate::db::{Row, Tx, Value, params};
use crate::effect::Effect;
use crate::error::Error;
use crate::journal::{FeedKind, append_feed, full_info};
use crate::key::{AppKey, LoginKey, UserKey};

/// Returns the profiles of `ids`, each once and in their order, and the IDs of users who do not exist.
pub(super) async fn users(
    tx: &mut Tx<'_>,
    app: AppKey,
    ids: Vec<String>,
) -> Result<(Vec<UserFullInfo>, Vec<String>), Error> {
    // At most ten, each a seek. A list of texts would be sorted differently by the two databases, and would not be
    // faster.
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

/// A field of a profile with its new value.
#[derive(Clone, Debug)]
pub(crate) enum ProfileField {
    /// `userName`
    Name(String),
    /// `userAvatarUrl`
    Avatar(String),
    /// `extendedData`
    ExtendedData(String),
}

/// Changes a field of a user's profile. The user's other devices and the users who know this user are notified. Returns
/// the position in the feed and the profile.
pub(crate) async fn change(
    tx: &mut Tx<'_>,
    user: UserKey,
    field: ProfileField,
    at: i64,
    cause: LoginKey,
) -> Result<(i64, UserFullInfo), Error> {
    let (column, value) = match field {
        ProfileField::Name(value) => ("user_name", value),
        ProfileField::Avatar(value) => ("avatar_url", value),
        ProfileField::ExtendedData(value) => ("extended_data", value),
    };
    let sql = format!("UPDATE account SET {column} = $2, info_at = $3 WHERE id = $1 RETURNING {PROFILE}");
    let row = tx.fetch_one(&sql, &params![user, value, at]).await?.ok_or_else(no_account)?;
    let info = profile(&row)?;
    let pos = append_feed(tx, user, FeedKind::Profile, 0).await?;
    tx.emit(Effect::Feed { user, pos, entry: Box::new(Detail::Profile(info.clone())), cause });
    tx.emit(Effect::Profile { user, info: Box::new(info.clone()) });
    Ok((pos, info))
}

/// Replaces a user's offline push rule and notifies the user's other devices. Returns the position in the feed.
pub(super) async fn set_push_rule(
    tx: &mut Tx<'_>,
    user: UserKey,
    rule: UserOfflinePushRule,
    cause: LoginKey,
) -> Result<i64, Error> {
    tx.execute("UPDATE account SET push_rule = $2 WHERE id = $1", &params![user, rule.encode_to_vec()]).await?;
    let pos = append_feed(tx, user, FeedKind::Rule, 0).await?;
    let entry = Box::new(Detail::Rule(UserRule { offline_push_rule: Some(rule) }));
    tx.emit(Effect::Feed { user, pos, entry, cause });
    Ok(pos)
}

/// Returns a user's profile and rules.
pub(super) async fn own(tx: &mut Tx<'_>, user: UserKey) -> Result<(UserFullInfo, UserRule), Error> {
    let sql = format!("SELECT {PROFILE}, push_rule FROM account WHERE id = $1");
    let row = tx.fetch_one(&sql, &params![user]).await?.ok_or_else(no_account)?;
    let rule = match row.get::<Option<Vec<u8>>>(4)? {
        Some(rule) => UserOfflinePushRule::decode(&rule[..]).map_err(Error::internal)?,
        None => UserOfflinePushRule::default(),
    };
    Ok((profile(&row)?, UserRule { offline_push_rule: Some(rule) }))
}

/// Resolves the feed entry of the user's own profile.
pub(crate) async fn profile_entry(tx: &mut Tx<'_>, user: UserKey) -> Result<HashMap<i64, Detail>, Error> {
    Ok(HashMap::from([(0, Detail::Profile(own(tx, user).await?.0))]))
}

/// Resolves the feed entry of the user's own rules.
pub(crate) async fn rule_entry(tx: &mut Tx<'_>, user: UserKey) -> Result<HashMap<i64, Detail>, Error> {
    Ok(HashMap::from([(0, Detail::Rule(own(tx, user).await?.1))]))
}

/// The columns of a profile.
const PROFILE: &str = "name, user_name, avatar_url, extended_data";

fn profile(row: &Row) -> Result<UserFullInfo, Error> {
    Ok(full_info(row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
}

fn no_account() -> Error {
    Error::internal_text("a login without a user")
}
