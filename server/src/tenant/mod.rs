//! The apps of a server: their secrets, their settings, and the cache of their users' keys.

mod access;
mod cache;
mod deletion;
mod name;
mod store;

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::RwLock;

pub use self::access::{Access, LoginCredentials, Proof, Refusal, Secret, may_register};
pub use self::cache::Cache;
pub(crate) use self::deletion::{Deleted, delete_page};
pub use self::name::check_app_name;
pub use self::store::{NewApp, app_rows, insert_app, open_deployment, registration};
pub(crate) use self::store::{
    change_access, count_users, new_app_sign, new_server_secret, rename_app, stored_access, user_key, user_keys,
};
use crate::error::Error;
use crate::key::{AppKey, ConversationKey, Scrambler, UserKey};
use crate::provider::Providers;

/// Names in one generation of an app's cache; a full cache takes some 10 MB.
const CACHED_USERS: usize = 50_000;
/// Groups in one generation of an app's cache.
const CACHED_GROUPS: usize = 20_000;

/// An app of this server.
pub struct Tenant {
    /// The appID.
    pub key: AppKey,
    /// When the app was created, Unix milliseconds.
    pub created_at: i64,
    /// The name that operators see.
    pub(crate) name: RwLock<String>,
    /// Scrambles the IDs that its clients see.
    pub scrambler: Arc<Scrambler>,
    /// Its users by name. Each app has a cache of its own, so that no app can reach a name of another.
    pub(crate) users: Cache<Arc<str>, UserKey>,
    /// Its groups by ID, which is never used again.
    pub(crate) groups: Cache<Arc<str>, ConversationKey>,
    pub(crate) access: RwLock<Arc<Access>>,
    /// The push services that the app has credentials for.
    pub(crate) providers: RwLock<Arc<Providers>>,
    /// Held while the row and then `access` change, so that both see changes in the same order.
    pub(crate) changing: tokio::sync::Mutex<()>,
}

impl Tenant {
    /// Returns the name that operators see.
    pub fn name(&self) -> String {
        self.name.read().clone()
    }

    /// Returns the access settings.
    pub fn access(&self) -> Arc<Access> {
        Arc::clone(&self.access.read())
    }

    /// Returns the push services that the app has credentials for.
    pub(crate) fn providers(&self) -> Arc<Providers> {
        Arc::clone(&self.providers.read())
    }

    /// Forgets old secrets whose overlap has ended: they are no longer accepted, even if the clock is set back.
    pub(crate) fn forget_ended_secrets(&self, now_ms: i64) {
        let mut access = self.access.write();
        let mut kept = Access::clone(&access);
        kept.forget_ended(now_ms);
        *access = Arc::new(kept);
    }
}

impl std::fmt::Debug for Tenant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Secrets stay out of logs.
        f.debug_struct("Tenant").field("key", &self.key).field("name", &self.name).finish_non_exhaustive()
    }
}

/// The apps. All are in memory: they are few, and every login needs one.
#[derive(Debug)]
pub struct Tenants {
    apps: RwLock<HashMap<AppKey, Arc<Tenant>>>,
    /// Stands in for apps that do not exist: a client that guesses app IDs is refused after the same work and with the
    /// same error.
    decoy: Arc<Access>,
    /// Counts the changes of the settings of all apps.
    pub(crate) changes: tokio::sync::watch::Sender<u64>,
    /// Held while an app is deleted, so that one app always remains.
    pub(crate) deleting: tokio::sync::Mutex<()>,
}

impl Tenants {
    /// Creates an empty set of apps.
    ///
    /// # Errors
    /// The system provides no random bytes.
    pub fn empty() -> Result<Self, Error> {
        let decoy = Access::new(store::random_hex(32)?, store::random_hex(16)?);
        Ok(Self {
            apps: RwLock::default(),
            decoy: Arc::new(decoy),
            changes: tokio::sync::watch::Sender::new(0),
            deleting: tokio::sync::Mutex::default(),
        })
    }

    /// Returns the access settings of an app, or those of the decoy if there is no such app.
    pub(crate) fn access(&self, app_id: u32) -> Arc<Access> {
        self.get(app_id).map_or_else(|| Arc::clone(&self.decoy), |tenant| tenant.access())
    }

    /// Returns the app with this appID.
    pub fn get(&self, app_id: u32) -> Option<Arc<Tenant>> {
        self.apps.read().get(&AppKey(i64::from(app_id))).cloned()
    }

    /// Returns the app of a logged-in caller.
    ///
    /// # Errors
    /// There is no such app.
    pub fn of(&self, app: AppKey) -> Result<Arc<Tenant>, Error> {
        self.apps.read().get(&app).cloned().ok_or_else(|| Error::app_not_found(app))
    }

    /// Returns all apps by ascending appID.
    pub fn list(&self) -> Vec<Arc<Tenant>> {
        let mut apps: Vec<_> = self.apps.read().values().cloned().collect();
        apps.sort_by_key(|app| app.key);
        apps
    }

    pub(crate) fn remove(&self, app: AppKey) {
        self.apps.write().remove(&app);
        self.changes.send_modify(|count| *count += 1);
    }

    /// Adds an app, unless it is there: what is done to an app is done to one value. Returns the one that is there.
    pub(crate) fn add(&self, tenant: Tenant) -> Arc<Tenant> {
        Arc::clone(self.apps.write().entry(tenant.key).or_insert_with(|| Arc::new(tenant)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_app_is_added_once() {
        let tenants = Tenants::empty().unwrap();
        let app = |name: &str| Tenant {
            key: AppKey(7),
            created_at: 0,
            name: RwLock::new(name.to_owned()),
            scrambler: Arc::new(Scrambler::new(b"secret", AppKey(7))),
            users: Cache::new(1),
            groups: Cache::new(1),
            access: RwLock::new(tenants.access(7)),
            providers: RwLock::default(),
            changing: tokio::sync::Mutex::default(),
        };
        let one = tenants.add(app("one"));
        assert_eq!(one.name(), "one");
        assert!(Arc::ptr_eq(&tenants.add(app("two")), &one));
        assert!(Arc::ptr_eq(&tenants.get(7).unwrap(), &one));
        tenants.remove(AppKey(7));
        assert_eq!(tenants.add(app("two")).name(), "two");
    }
}
