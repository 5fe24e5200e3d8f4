//! Apps, and the one place where names become keys: a name is resolved within its app, and nobody gets a key otherwise.

mod access;
mod cache;
mod change;
mod name;
mod store;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use parking_lot::RwLock;
use zim_protocol::ConversationType;

pub use self::access::{Access, Proof, Refusal, Secret, Shown, may_register};
pub use self::cache::Cache;
pub(crate) use self::change::Rotated;
pub use self::name::check_app_name;
pub use self::store::{NewApp, app_rows, insert_app, open_deployment, peer_conversations, registration};
use crate::app::App;
use crate::effect::Audience;
use crate::error::Error;
use crate::key::{AppKey, ConversationKey, Scrambler, UserKey};

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
    users: Cache<Arc<str>, UserKey>,
    access: RwLock<Arc<Access>>,
    /// Held while the row and then `access` change, so that both change in one order.
    changing: tokio::sync::Mutex<()>,
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
    nobody: Arc<Access>,
    /// Counts the changes of any app.
    pub(crate) changes: tokio::sync::watch::Sender<u64>,
}

impl Tenants {
    /// No app yet.
    ///
    /// # Errors
    /// The system gives no random bytes.
    pub fn empty() -> Result<Self, Error> {
        let nobody = Access::new(store::random_hex(32)?, store::random_hex(16)?);
        Ok(Self { apps: RwLock::default(), nobody: Arc::new(nobody), changes: tokio::sync::watch::Sender::new(0) })
    }

    /// What an app lets in that may not exist.
    pub(crate) fn access(&self, app_id: u32) -> Arc<Access> {
        self.get(app_id).map_or_else(|| Arc::clone(&self.nobody), |tenant| tenant.access())
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

/// A peer conversation with its two sides.
#[derive(Clone, Debug)]
pub struct Peers {
    /// The conversation.
    pub conversation: ConversationKey,
    /// Both sides, for those who are told.
    pub audience: Audience,
}

impl App {
    /// Makes an app. `app_id` 0 lets the server choose.
    ///
    /// # Errors
    /// The id is taken, or the store fails.
    pub async fn create_app(&self, app_id: u32, name: &str) -> Result<Arc<Tenant>, Error> {
        let new = NewApp::generate(app_id, name, self.clock.now_ms())?;
        let secret = self.secret;
        let row = self.db.submit(0, crate::db::Locks::none(), async move |tx| insert_app(tx, new).await).await?;
        Ok(self.tenants.add(row.into_tenant(&secret)))
    }

    /// The key of a user of `app`, if he is registered.
    ///
    /// # Errors
    /// The store fails.
    pub async fn user_key(&self, app: AppKey, user_id: &str) -> Result<Option<UserKey>, Error> {
        let tenant = self.tenants.of(app)?;
        if let Some(key) = tenant.users.get(user_id) {
            return Ok(Some(key));
        }
        let name = user_id.to_owned();
        let found = self.db.read(async move |tx| store::user_key(tx, app, &name).await).await?;
        if let Some(key) = found {
            tenant.users.insert(Arc::from(user_id), key);
        }
        Ok(found)
    }

    /// The keys of these users of `app`, as far as they are registered; each user once, in this order.
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
        let found = self.db.read(async move |tx| store::user_keys(tx, app, &unknown).await).await?;
        for (user_id, key) in keys.iter_mut().filter(|(_, key)| key.is_none()) {
            *key = found.get(user_id).copied();
            if let Some(key) = key {
                tenant.users.insert(Arc::from(&**user_id), *key);
            }
        }
        Ok(keys)
    }

    /// The conversation of `caller` with the user named `peer_id`, if it exists.
    ///
    /// # Errors
    /// The store fails.
    pub async fn peers(&self, app: AppKey, caller: UserKey, peer: UserKey) -> Result<Option<ConversationKey>, Error> {
        let pair = (caller.min(peer), caller.max(peer));
        if let Some(key) = self.conversations.get(&pair) {
            return Ok(Some(key));
        }
        let found = self.db.read(async move |tx| store::peer_conversation(tx, app, pair).await).await?;
        if let Some(key) = found {
            self.conversations.insert(pair, key);
        }
        Ok(found)
    }

    /// The conversation of two users, made if it is new. An empty conversation is in nobody's list.
    ///
    /// # Errors
    /// The store fails.
    pub async fn open_peers(&self, app: AppKey, caller: UserKey, peer: UserKey) -> Result<ConversationKey, Error> {
        if let Some(key) = self.peers(app, caller, peer).await? {
            return Ok(key);
        }
        let pair = (caller.min(peer), caller.max(peer));
        let (id, now) = (self.ids.next(), self.clock.now_ms());
        let key = self
            .db
            .submit(pair.0.0.unsigned_abs(), crate::db::Locks::users([pair.0.0, pair.1.0]), async move |tx| {
                store::open_peer_conversation(tx, app, pair, id, now).await
            })
            .await?;
        self.conversations.insert(pair, key);
        Ok(key)
    }

    /// Names a conversation of the caller by key; `None` if it does not exist.
    ///
    /// # Errors
    /// A kind of conversation that has no log, or the store fails.
    pub async fn conversation_key(
        &self,
        app: AppKey,
        caller: UserKey,
        kind: i32,
        id: &str,
    ) -> Result<Option<ConversationKey>, Error> {
        match ConversationType::try_from(kind) {
            Ok(ConversationType::Peer) => match self.user_key(app, id).await? {
                Some(peer) => self.peers(app, caller, peer).await,
                None => Ok(None),
            },
            _ => Err(Error::params_invalid("conversationType must be 0, a conversation with one other user")),
        }
    }
}
