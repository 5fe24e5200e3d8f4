//! Rows of users.

use std::collections::HashMap;

use prost::Message as _;
use zim_protocol::{UserFullInfo, UserOfflinePushRule, UserRule, feed_entry::Detail};

use crate::db::{Tx, Value, params};
use crate::effect::Effect;
use crate::error::Error;
use crate::journal::{FeedKind, LogWriter};
use crate::key::{AppKey, UserKey};
use crate::service::rows::{USER, full_info};

/// The user's own profile changed; the key is 0.
pub(crate) static PROFILE: FeedKind = FeedKind {
    number: 2,
    resolve: |tx, user, _| Box::pin(async move { Ok(HashMap::from([(0, Detail::Profile(own(tx, user).await?.0))])) }),
};

/// The user's own rules changed; the key is 0.
pub(crate) static RULE: FeedKind = FeedKind {
    number: 3,
    resolve: |tx, user, _| Box::pin(async move { Ok(HashMap::from([(0, Detail::Rule(own(tx, user).await?.1))])) }),
};

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
                &format!("SELECT {USER} FROM account a WHERE app = $1 AND name = $2"),
                &[Value::from(app), Value::from(id.clone())],
            )
            .await?;
        if let Some(row) = row {
            found.insert(id.clone(), full_info(&row, 0)?);
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

/// Changes a field of a user's profile. The user's other devices and the users who know this user are notified.
pub(crate) async fn change(
    tx: &mut Tx<'_>,
    log: &mut LogWriter,
    user: UserKey,
    field: ProfileField,
    at: i64,
) -> Result<(), Error> {
    let (column, value) = match field {
        ProfileField::Name(value) => ("user_name", value),
        ProfileField::Avatar(value) => ("avatar_url", value),
        ProfileField::ExtendedData(value) => ("extended_data", value),
    };
    tx.execute(&format!("UPDATE account SET {column} = $2, info_at = $3 WHERE id = $1"), &params![user, value, at])
        .await?;
    log.feed(tx, user, &PROFILE, 0).await?;
    let (info, _) = own(tx, user).await?;
    tx.emit(Effect::Profile { user, info: Box::new(info) });
    Ok(())
}

/// Replaces a user's offline push rule and notifies the user's other devices.
pub(super) async fn set_push_rule(
    tx: &mut Tx<'_>,
    log: &mut LogWriter,
    user: UserKey,
    rule: UserOfflinePushRule,
) -> Result<(), Error> {
    tx.execute("UPDATE account SET push_rule = $2 WHERE id = $1", &params![user, rule.encode_to_vec()]).await?;
    log.feed(tx, user, &RULE, 0).await?;
    Ok(())
}

/// Returns a user's profile.
pub(crate) async fn profile(tx: &mut Tx<'_>, user: UserKey) -> Result<UserFullInfo, Error> {
    Ok(own(tx, user).await?.0)
}

/// Returns a user's profile and rules.
pub(super) async fn own(tx: &mut Tx<'_>, user: UserKey) -> Result<(UserFullInfo, UserRule), Error> {
    let sql = format!("SELECT {USER}, push_rule FROM account a WHERE id = $1");
    let row = tx.fetch_one(&sql, &params![user]).await?;
    let row = row.ok_or_else(|| Error::internal_text("a login without a user"))?;
    let rule = match row.get::<Option<Vec<u8>>>(4)? {
        Some(rule) => UserOfflinePushRule::decode(&rule[..]).map_err(Error::internal)?,
        None => UserOfflinePushRule::default(),
    };
    Ok((full_info(&row, 0)?, UserRule { offline_push_rule: Some(rule) }))
}

/// Sets the number on the icon of the user's devices.
pub(super) async fn set_badge(tx: &mut Tx<'_>, user: UserKey, badge: i64) -> Result<(), Error> {
    tx.execute("UPDATE account SET badge = $2 WHERE id = $1", &params![user, badge]).await?;
    Ok(())
}
