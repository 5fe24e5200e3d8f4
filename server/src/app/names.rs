//! Resolves names to keys. A name is resolved within its app; there is no other way to get a key.

use std::collections::HashSet;
use std::sync::Arc;

use super::App;
use crate::error::Error;
use crate::key::{AppKey, UserKey};
use crate::tenant;

impl App {
    /// Returns the key of a user of `app`, or `None` if the user is not registered.
    ///
    /// # Errors
    /// The store fails.
    pub async fn user_key(&self, app: AppKey, user_id: &str) -> Result<Option<UserKey>, Error> {
        let tenant = self.tenants.of(app)?;
        if let Some(key) = tenant.users.get(user_id) {
            return Ok(Some(key));
        }
        let name = user_id.to_owned();
        let found = self.db.read(async move |tx| tenant::user_key(tx, app, &name).await).await?;
        if let Some(key) = found {
            tenant.users.insert(Arc::from(user_id), key);
        }
        Ok(found)
    }

    /// Returns the keys of these users of `app`, `None` for those who are not registered. Each user occurs once, in the
    /// order of `user_ids`.
    ///
    /// # Errors
    /// The store fails.
    pub async fn user_keys(&self, app: AppKey, user_ids: Vec<String>) -> Result<Vec<(String, Option<UserKey>)>, Error> {
        let tenant = self.tenants.of(app)?;
        let mut seen = HashSet::with_capacity(user_ids.len());
        let mut keys: Vec<(String, Option<UserKey>)> = Vec::with_capacity(user_ids.len());
        for user_id in user_ids {
            if seen.insert(user_id.clone()) {
                let key = tenant.users.get(&*user_id);
                keys.push((user_id, key));
            }
        }
        if keys.iter().all(|(_, key)| key.is_some()) {
            return Ok(keys);
        }
        let unknown: Vec<String> =
            keys.iter().filter(|(_, key)| key.is_none()).map(|(user_id, _)| user_id.clone()).collect();
        let found = self.db.read(async move |tx| tenant::user_keys(tx, app, &unknown).await).await?;
        for (user_id, key) in keys.iter_mut().filter(|(_, key)| key.is_none()) {
            *key = found.get(user_id).copied();
            if let Some(key) = key {
                tenant.users.insert(Arc::from(&**user_id), *key);
            }
        }
        Ok(keys)
    }
}
