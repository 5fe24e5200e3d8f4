//! What the operator changes about an app: settings and secrets. A change is in force, also for open connections,
//! before the operator gets the answer.

use std::sync::Arc;

use zim_protocol::{ErrorCode, Registration, SecretKind, UpdateAppRequest};

use super::App;
use crate::db::{Scope, Tx};
use crate::effect::Effect;
use crate::error::Error;
use crate::key::AppKey;
use crate::task::{self, Due, TaskKind};
use crate::tenant::{self, Access, NewApp, Tenant, insert_app};

/// The overlap of an app's old secrets ends; the subject is the app.
pub(crate) static OLD_SECRETS_END: TaskKind<App> = TaskKind {
    number: 5,
    name: "old-secrets-end",
    scope: |_| Scope::none(),
    run: |app, tx, _, due| Box::pin(forget_old_secrets(app, tx, due)),
};

/// A secret that was rotated.
pub(crate) struct Rotated {
    /// The new secret.
    pub(crate) secret: String,
    /// When the old secret stops being accepted, Unix milliseconds; 0 if it already has.
    pub(crate) old_ends_at: i64,
}

impl App {
    /// Creates an app. With `app_id` 0 the server chooses one.
    ///
    /// # Errors
    /// The ID is taken, or the store fails.
    pub async fn create_app(&self, app_id: u32, name: &str) -> Result<Arc<Tenant>, Error> {
        self.add_app(NewApp::generate(app_id, name, self.clock.now_ms())?).await
    }

    /// Stores a new app.
    ///
    /// # Errors
    /// The ID is taken, or the store fails.
    pub(crate) async fn add_app(&self, new: NewApp) -> Result<Arc<Tenant>, Error> {
        let secret = self.secret;
        let created = self.db.submit(Scope::none(), async move |tx| {
            let app = insert_app(tx, new).await?;
            tx.emit(Effect::AppChanged { app: app.key() });
            Ok(app)
        });
        let row = created.await?;
        // If it has been read meanwhile, what is there is newer.
        Ok(self.tenants.add(row.into_tenant(&secret)))
    }

    /// Ends all sessions of an app, and refuses all logins from now on.
    pub(super) async fn close_app(&self, tenant: &Tenant) -> Result<(), Error> {
        let (app_sign, server_secret, now) =
            (tenant::new_app_sign()?, tenant::new_server_secret()?, self.clock.now_ms());
        let closed = self.change_access(tenant, None, move |access| {
            access.app_sign.rotate(app_sign, now, 0);
            access.server_secret.rotate(server_secret, now, 0);
            access.app_sign_login = false;
            access.registration = Registration::Operator;
        });
        closed.await.map(drop)
    }

    /// Renames an app.
    pub(crate) async fn rename_app(&self, tenant: &Tenant, name: String) -> Result<(), Error> {
        let _turn = tenant.changing.lock().await;
        let (app, stored) = (tenant.key, name.clone());
        let renamed = self.db.submit(Scope::none(), async move |tx| {
            tx.emit(Effect::AppChanged { app });
            tenant::rename_app(tx, app, &stored).await
        });
        renamed.await?;
        *tenant.name.write() = name;
        Ok(())
    }

    /// Returns the number of an app's users.
    pub(crate) async fn count_users(&self, tenant: &Tenant) -> Result<u64, Error> {
        let app = tenant.key;
        let count = self.db.read(async move |tx| tenant::count_users(tx, app).await).await?;
        Ok(u64::try_from(count).unwrap_or_default())
    }

    /// Changes the name and the access settings that the request names.
    pub(crate) async fn update_app(&self, tenant: &Tenant, request: &UpdateAppRequest) -> Result<Arc<Access>, Error> {
        if let Some(name) = &request.name {
            self.rename_app(tenant, name.clone()).await?;
        }
        let (cbc, sign) = (request.cbc_tokens.map(|_| request.cbc_tokens()), request.app_sign_login);
        let registration = request.registration.map(|_| request.registration());
        self.change_access(tenant, None, move |access| {
            access.cbc_tokens = cbc.unwrap_or(access.cbc_tokens);
            access.app_sign_login = sign.unwrap_or(access.app_sign_login);
            access.registration = registration.unwrap_or(access.registration);
        })
        .await
    }

    /// Replaces a secret of an app. The old one is accepted for another `overlap_ms`.
    pub(crate) async fn rotate(&self, tenant: &Tenant, kind: SecretKind, overlap_ms: i64) -> Result<Rotated, Error> {
        let new = match kind {
            SecretKind::AppSign => tenant::new_app_sign()?,
            SecretKind::ServerSecret => tenant::new_server_secret()?,
            SecretKind::Unspecified => {
                return Err(Error::params_invalid("secret must be the app sign or the server secret"));
            }
        };
        let (now, value) = (self.clock.now_ms(), new.clone());
        let access = self
            .change_access(tenant, (overlap_ms > 0).then(|| now.saturating_add(overlap_ms)), move |access| {
                let secret = match kind {
                    SecretKind::AppSign => &mut access.app_sign,
                    _ => &mut access.server_secret,
                };
                secret.rotate(value, now, overlap_ms);
            })
            .await?;
        let secret = if kind == SecretKind::AppSign { &access.app_sign } else { &access.server_secret };
        Ok(Rotated { secret: new, old_ends_at: secret.old_ends_at })
    }

    /// Changes the access settings of an app. An old secret ends at `ends_at`, if one does.
    async fn change_access(
        &self,
        tenant: &Tenant,
        ends_at: Option<i64>,
        change: impl FnOnce(&mut Access) + Send + 'static,
    ) -> Result<Arc<Access>, Error> {
        let _turn = tenant.changing.lock().await;
        let app = tenant.key;
        let now = self.clock.now_ms();
        let change = move |access: &mut Access| {
            access.forget_ended(now);
            change(access);
        };
        let changed = self.db.submit(Scope::none(), async move |tx| {
            // Before the row of the app is locked: the task that deletes the secret locks them in this order as well.
            if let Some(at) = ends_at {
                task::schedule_by(tx, &OLD_SECRETS_END, app, at).await?;
            }
            tx.emit(Effect::AppChanged { app });
            tenant::change_access(tx, app, change).await
        });
        match changed.await {
            Ok(access) => Ok(self.apply_access(tenant, access)),
            Err(error) => {
                // The change may have been stored all the same, if only the answer of the commit was lost. The stored
                // settings count. If the commit still goes on, they are read again when it is decided.
                if let Ok(stored) = self.db.read(async move |tx| tenant::stored_access(tx, app).await).await {
                    self.apply_access(tenant, stored);
                }
                Err(error)
            }
        }
    }

    /// Reads an app that another node has created, changed or deleted, or this one by a commit whose answer was lost.
    pub(crate) async fn refresh_app(&self, app: AppKey) -> Result<(), Error> {
        // What somebody else has added meanwhile may be older than what was read.
        while !self.read_app(app).await? {}
        Ok(())
    }

    /// Reads an app and applies what it has read. Returns false if it was not known here: then it is, and has to be read again.
    async fn read_app(&self, app: AppKey) -> Result<bool, Error> {
        let known = self.tenants.of(app).ok();
        // As for a change on this node: the row is read and applied before the next change.
        let _turn = match &known {
            Some(tenant) => Some(tenant.changing.lock().await),
            None => None,
        };
        let rows = self.db.read(async move |tx| tenant::app_rows(tx).await).await?;
        match (known.as_ref(), rows.into_iter().find(|row| row.key() == app)) {
            (Some(tenant), Some(row)) => {
                let (name, access) = row.into_settings();
                *tenant.name.write() = name;
                if *tenant.access() != access {
                    self.apply_access(tenant, access);
                }
                self.read_push_providers(tenant).await?;
            }
            (None, Some(row)) => {
                // The rest is read in turn, as for an app that is known.
                self.tenants.add(row.into_tenant(&self.secret));
                return Ok(false);
            }
            // Its sessions ended when it was closed.
            (Some(_), None) => self.tenants.remove(app),
            (None, None) => {}
        }
        Ok(true)
    }

    fn apply_access(&self, tenant: &Tenant, access: Access) -> Arc<Access> {
        let access = Arc::new(access);
        *tenant.access.write() = Arc::clone(&access);
        // A login that was checked before this line and is registered after it is checked again
        // (`SessionService::login`).
        for connection in self.fanout.all() {
            if connection.identity().is_some_and(|identity| identity.app == tenant.key) {
                connection.enforce(&access, self.clock.now_ms());
            }
        }
        self.tenants.changes.send_modify(|count| *count += 1);
        access
    }
}

/// Deletes the old secrets of an app whose overlap has ended, so that they are not kept in the database and its backups.
async fn forget_old_secrets(app: &App, tx: &mut Tx<'_>, due: Due) -> Result<(), Error> {
    let key = AppKey(due.subject);
    let access = match tenant::change_access(tx, key, |access| access.forget_ended(due.now)).await {
        // The operator has deleted the app.
        Err(error) if error.code() == ErrorCode::CommonModuleInvalidAppId => return Ok(()),
        changed => changed?,
    };
    // The other nodes forget them, too.
    tx.emit(Effect::AppChanged { app: key });
    if let Ok(tenant) = app.tenants.of(key) {
        tenant.forget_ended_secrets(due.now);
    }
    match access.next_end() {
        Some(next) => task::schedule(tx, &OLD_SECRETS_END, key, next).await,
        None => Ok(()),
    }
}
