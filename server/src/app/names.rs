//! Resolves names to keys. A name is resolved within its app; there is no other way to get a key.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use zim_protocol::{ErrorCode, ErrorUserInfo};

use super::App;
use crate::connection::Caller;
use crate::error::{Error, LeftOut};
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

    /// Resolves the users that a request names. `missing` is the failure for a user who is not registered.
    ///
    /// # Errors
    /// The store fails.
    pub(crate) async fn resolve_users(
        &self,
        caller: &Caller,
        user_ids: Vec<String>,
        missing: fn(&str) -> Error,
    ) -> Result<Named, Error> {
        self.resolve_users_of(caller.identity()?.app, user_ids, missing).await
    }

    /// Resolves the users of an app that the operator names.
    ///
    /// # Errors
    /// The store fails.
    pub(crate) async fn resolve_users_of(
        &self,
        app: AppKey,
        user_ids: Vec<String>,
        missing: fn(&str) -> Error,
    ) -> Result<Named, Error> {
        let mut named = Named::default();
        for (user_id, key) in self.user_keys(app, user_ids).await? {
            match key {
                Some(key) => named.found.push((key, user_id)),
                None => {
                    let error = missing(&user_id);
                    named.left_out.add(user_id, error);
                }
            }
        }
        Ok(named)
    }
}

/// The users that a request names.
#[derive(Debug, Default)]
pub(crate) struct Named {
    /// Those who exist, each once, in the order of the request.
    pub(crate) found: Vec<(UserKey, String)>,
    /// The others, with the reason.
    pub(crate) left_out: LeftOut,
}

impl Named {
    /// Returns the keys of those who exist.
    pub(crate) fn keys(&self) -> Vec<UserKey> {
        self.found.iter().map(|(key, _)| *key).collect()
    }

    /// Leaves out a user whom the request must not name.
    #[must_use]
    pub(crate) fn without(mut self, user: UserKey, reason: impl FnOnce() -> Error) -> Self {
        if let Some(index) = self.found.iter().position(|(key, _)| *key == user) {
            self.left_out.add(self.found.remove(index).1, reason());
        }
        self
    }

    /// Leaves out the users for whom `refused` has a reason.
    pub(crate) fn leave_out(&mut self, mut refused: impl FnMut(UserKey, &str) -> Option<Error>) {
        let left_out = &mut self.left_out;
        self.found.retain(|(key, user_id)| {
            let reason = refused(*key, user_id);
            reason.is_none_or(|reason| {
                left_out.add(user_id.clone(), reason);
                false
            })
        });
    }

    /// Returns the list of failures for the response.
    ///
    /// # Errors
    /// The request failed for all users.
    pub(crate) fn finish(self) -> Result<Vec<ErrorUserInfo>, Error> {
        self.left_out.finish(self.found.len())
    }

    /// Returns the list of failures for the response, with `refused` among them. If the request failed for all users, it
    /// fails with the reason that they share, or with the code `various`.
    ///
    /// # Errors
    /// The request failed for all users.
    pub(crate) fn finish_without(
        mut self,
        refused: Vec<(UserKey, Error)>,
        various: ErrorCode,
    ) -> Result<Vec<ErrorUserInfo>, Error> {
        let mut refused: HashMap<UserKey, Error> = refused.into_iter().collect();
        self.leave_out(|user, _| refused.remove(&user));
        self.left_out.finish_or(self.found.len(), various)
    }
}
