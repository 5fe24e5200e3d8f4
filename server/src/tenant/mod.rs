//! Apps, and the one place where names become keys: a name is resolved within its app, and nobody gets a key otherwise.

mod access;
mod cache;
mod name;
mod store;

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::RwLock;

pub use self::access::{Access, LoginCredentials, Proof, Refusal, Secret, may_register};
pub use self::cache::Cache;
pub use self::name::check_app_name;
pub use self::store::{NewApp, app_rows, insert_app, open_deployment, registration};
pub(crate) use self::store::{change_access, new_app_sign, new_server_secret, stored_access, user_key, user_keys};
use crate::error::Error;
use crate::key::{AppKey, Scrambler, UserKey};

/// Names remembered per app: some 10 MB when full.
const CACHED_USERS: usize = 50_000;

/// An app of this server.
pub struct Tenant {
    /// The appID.
    pub key: AppKey,
    /// For the operator.
    pub name: String,
    /// How its clients see ids.
    pub scrambler: Arc<Scrambler>,
    /// Its users by name: names of one app are not even in reach of another.
    pub(crate) users: Cache<Arc<str>, UserKey>,
    pub(crate) access: RwLock<Arc<Access>>,
    /// Held while the row and then `access` change, so that both change in one order.
    pub(crate) changing: tokio::sync::Mutex<()>,
}

impl Tenant {
    /// What it lets in.
    pub fn access(&self) -> Arc<Access> {
        Arc::clone(&self.access.read())
    }
}

impl std::fmt::Debug for Tenant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The secrets stay out of logs.
        f.debug_struct("Tenant").field("key", &self.key).field("name", &self.name).finish_non_exhaustive()
    }
}

/// The apps, all in memory: they are few and every login needs one.
#[derive(Debug)]
pub struct Tenants {
    apps: RwLock<HashMap<AppKey, Arc<Tenant>>>,
    /// Stands in for apps that do not exist: a client that guesses is refused after the same work and with the same words.
    decoy: Arc<Access>,
    /// Counts the changes of any app.
    pub(crate) changes: tokio::sync::watch::Sender<u64>,
}

impl Tenants {
    /// No app yet.
    ///
    /// # Errors
    /// The system gives no random bytes.
    pub fn empty() -> Result<Self, Error> {
        let decoy = Access::new(store::random_hex(32)?, store::random_hex(16)?);
        Ok(Self { apps: RwLock::default(), decoy: Arc::new(decoy), changes: tokio::sync::watch::Sender::new(0) })
    }

    /// What an app lets in that may not exist.
    pub(crate) fn access(&self, app_id: u32) -> Arc<Access> {
        self.get(app_id).map_or_else(|| Arc::clone(&self.decoy), |tenant| tenant.access())
    }

    /// The app with this appID.
    pub fn get(&self, app_id: u32) -> Option<Arc<Tenant>> {
        self.apps.read().get(&AppKey(i64::from(app_id))).cloned()
    }

    /// The app that a logged-in caller belongs to.
    ///
    /// # Errors
    /// The app was removed.
    pub fn of(&self, app: AppKey) -> Result<Arc<Tenant>, Error> {
        self.apps.read().get(&app).cloned().ok_or_else(|| Error::app_not_found(app))
    }

    /// All apps, by appID.
    pub fn list(&self) -> Vec<Arc<Tenant>> {
        let mut apps: Vec<_> = self.apps.read().values().cloned().collect();
        apps.sort_by_key(|app| app.key);
        apps
    }

    pub(crate) fn add(&self, tenant: Tenant) -> Arc<Tenant> {
        let tenant = Arc::new(tenant);
        self.apps.write().insert(tenant.key, Arc::clone(&tenant));
        tenant
    }
}
