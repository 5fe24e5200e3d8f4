//! The credentials of an app at the push services.

use std::sync::Arc;
use std::time::Duration;

use zim_protocol::{PushProvider, PushSource};

use super::App;
use crate::db::{Row, Scope, Tx, params};
use crate::effect::Effect;
use crate::error::Error;
use crate::key::AppKey;
use crate::provider::{Provider, Providers, Rules, StoredProvider, deliverer, name};
use crate::tenant::Tenant;

/// Refuses a push service whose devices are reached by the credentials of another one: these are those of other services, too.
fn check_own(source: PushSource) -> Result<(), Error> {
    let by = deliverer(source);
    if by == source {
        return Ok(());
    }
    let named = if source == PushSource::ApnsVoip { "apns-voip" } else { name(source) };
    Err(Error::params_invalid(format!("{named} has no credentials of its own: it uses those of {}", name(by))))
}

async fn rows(tx: &mut Tx<'_>, app: AppKey) -> Result<Vec<StoredProvider>, Error> {
    let sql =
        "SELECT source, app_type, settings, changed_at FROM push_provider WHERE app = $1 ORDER BY source, app_type";
    let provider = |row: &Row| {
        Ok(StoredProvider {
            source: PushSource::try_from(row.get::<i32>(0)?).unwrap_or_default(),
            app_type: row.get(1)?,
            settings: row.get(2)?,
            changed_at: row.get(3)?,
        })
    };
    tx.fetch(sql, &params![app]).await?.iter().map(provider).collect()
}

impl App {
    /// Whether this node knows credentials of an app for the devices of a source.
    pub fn pushes_by(&self, app_id: u32, source: PushSource) -> bool {
        self.tenants.get(app_id).is_some_and(|tenant| tenant.providers().find(source, 0).is_some())
    }

    fn push_rules(&self) -> Rules {
        let push = &self.config.push;
        let timeout = Duration::from_millis(push.timeout_ms.into());
        Rules { timeout, allows_private: push.allow_private_addresses }
    }

    /// Reads the push services of an app. The caller holds `changing` of the app, or nobody else knows it yet.
    ///
    /// # Errors
    /// The store fails.
    pub(crate) async fn read_push_providers(&self, tenant: &Tenant) -> Result<(), Error> {
        let app = tenant.key;
        let stored = self.db.read(async move |tx| rows(tx, app).await).await?;
        let providers = Providers::update(&tenant.providers(), &stored, self.push_rules());
        *tenant.providers.write() = Arc::new(providers);
        Ok(())
    }

    /// Stores the credentials of an app at a push service. They are used from now on.
    ///
    /// # Errors
    /// They are not valid, or the store fails.
    pub async fn set_push_provider(
        &self,
        tenant: &Tenant,
        (source, app_type): (PushSource, i64),
        settings: String,
    ) -> Result<PushProvider, Error> {
        check_own(source)?;
        let _turn = tenant.changing.lock().await;
        let (shown, changed_at) = loop {
            // Another node may store credentials at the same time: those that are completed by a key must keep its key.
            if let Some(stored) = self.try_push_provider(tenant.key, (source, app_type), &settings).await? {
                break stored;
            }
        };
        self.read_push_providers(tenant).await?;
        Ok(PushProvider { source: source as i32, app_type, settings: shown, changed_at })
    }

    /// Stores credentials in place of those that they are completed by. Returns them without secrets, and their time; `None` if there are
    /// others by now.
    async fn try_push_provider(
        &self,
        app: AppKey,
        (source, app_type): (PushSource, i64),
        settings: &str,
    ) -> Result<Option<(String, i64)>, Error> {
        let stored = self.db.read(async move |tx| rows(tx, app).await).await?;
        let before = stored.into_iter().find(|row| (row.source, row.app_type) == (source, app_type));
        let invalid = |problem| Error::params_invalid(format!("settings are not valid: {problem}"));
        let settings =
            Provider::completed(source, settings, before.as_ref().map(|row| &*row.settings)).map_err(invalid)?;
        let shown = Provider::shown(&settings);
        // Two changes within a millisecond are two, also of two nodes.
        let changed_at = self.ids.time_ms().max(before.as_ref().map_or(0, |row| row.changed_at + 1));
        Provider::parse((source, app_type), &settings, changed_at, self.push_rules()).map_err(invalid)?;
        let stored = self.db.submit(Scope::none(), async move |tx| {
            let mut values = params![app, source as i32, app_type, settings, changed_at].to_vec();
            let sql = match before {
                None => {
                    "INSERT INTO push_provider (app, source, app_type, settings, changed_at) VALUES ($1, $2, $3, $4, $5) \
                     ON CONFLICT (app, source, app_type) DO NOTHING"
                }
                Some(before) => {
                    values.extend(params![before.changed_at]);
                    "UPDATE push_provider SET settings = $4, changed_at = $5 \
                     WHERE app = $1 AND source = $2 AND app_type = $3 AND changed_at = $6"
                }
            };
            let is_stored = tx.execute(sql, &values).await? > 0;
            if is_stored {
                tx.emit(Effect::AppChanged { app });
            }
            Ok(is_stored)
        });
        Ok(stored.await?.then_some((shown, changed_at)))
    }

    /// Removes the credentials of an app at a push service. Returns false if there were none.
    ///
    /// # Errors
    /// The store fails.
    pub(crate) async fn remove_push_provider(
        &self,
        tenant: &Tenant,
        (source, app_type): (PushSource, i64),
    ) -> Result<bool, Error> {
        check_own(source)?;
        let _turn = tenant.changing.lock().await;
        let app = tenant.key;
        let removed = self.db.submit(Scope::none(), async move |tx| {
            let sql = "DELETE FROM push_provider WHERE app = $1 AND source = $2 AND app_type = $3";
            let removed = tx.execute(sql, &params![app, source as i32, app_type]).await?;
            tx.emit(Effect::AppChanged { app });
            Ok(removed > 0)
        });
        let removed = removed.await?;
        self.read_push_providers(tenant).await?;
        Ok(removed)
    }

    /// Returns the push services of an app, without secrets.
    ///
    /// # Errors
    /// The store fails.
    pub(crate) async fn push_providers(&self, tenant: &Tenant) -> Result<Vec<PushProvider>, Error> {
        let app = tenant.key;
        let found = self.db.read(async move |tx| rows(tx, app).await).await?;
        let shown = |row: StoredProvider| PushProvider {
            source: row.source as i32,
            app_type: row.app_type,
            settings: Provider::shown(&row.settings),
            changed_at: row.changed_at,
        };
        Ok(found.into_iter().map(shown).collect())
    }
}
