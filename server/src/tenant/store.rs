//! Rows of apps, and the keys of users by name.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::RwLock;
use zim_protocol::{CbcTokens, Registration};

use super::access::{Access, Secret};
use super::{Cache, Tenant};
use crate::db::{OnUnique, Row, Tx, params};
use crate::error::Error;
use crate::key::{AppKey, Scrambler, UserKey};

/// A row of the table `app`.
#[derive(Clone)]
pub struct NewApp {
    id: i64,
    name: String,
    access: Access,
    created_at: i64,
}

impl std::fmt::Debug for NewApp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NewApp").field("id", &self.id).field("name", &self.name).finish_non_exhaustive()
    }
}

pub(super) fn random_hex(bytes: usize) -> Result<String, Error> {
    let mut random = vec![0; bytes];
    getrandom::fill(&mut random).map_err(Error::internal)?;
    Ok(random.iter().map(|byte| format!("{byte:02x}")).collect())
}

pub(crate) fn new_app_sign() -> Result<String, Error> {
    random_hex(32)
}

/// Makes 32 ASCII characters: the bytes themselves are the AES key of tokens.
pub(crate) fn new_server_secret() -> Result<String, Error> {
    random_hex(16)
}

impl NewApp {
    /// Makes an app with fresh secrets; with `app_id` 0, with a random nine-digit ID.
    pub fn generate(app_id: u32, name: &str, now: i64) -> Result<Self, Error> {
        let id = if app_id == 0 {
            let mut random = [0; 4];
            getrandom::fill(&mut random).map_err(Error::internal)?;
            100_000_000 + i64::from(u32::from_be_bytes(random) % 900_000_000)
        } else {
            i64::from(app_id)
        };
        Ok(Self {
            id,
            name: name.to_owned(),
            access: Access::new(new_app_sign()?, new_server_secret()?),
            created_at: now,
        })
    }

    /// Returns the key of the app.
    pub fn key(&self) -> AppKey {
        AppKey(self.id)
    }

    /// Returns what an operator may change: the name and the access settings.
    pub(crate) fn into_settings(self) -> (String, Access) {
        (self.name, self.access)
    }

    /// Builds the app in memory; `secret` is the deployment's and scrambles the IDs that clients see.
    pub fn into_tenant(self, secret: &[u8; 32]) -> Tenant {
        let key = AppKey(self.id);
        Tenant {
            key,
            created_at: self.created_at,
            name: RwLock::new(self.name),
            scrambler: Arc::new(Scrambler::new(secret, key)),
            users: Cache::new(super::CACHED_USERS),
            groups: Cache::new(super::CACHED_GROUPS),
            access: RwLock::new(Arc::new(self.access)),
            providers: RwLock::default(),
            changing: tokio::sync::Mutex::default(),
        }
    }
}

/// Stores a new app.
pub async fn insert_app(tx: &mut Tx<'_>, app: NewApp) -> Result<NewApp, Error> {
    let id = app.id;
    tx.execute(
        "INSERT INTO app (id, name, app_sign, server_secret, created_at) VALUES ($1, $2, $3, $4, $5)",
        &params![
            app.id,
            app.name.clone(),
            app.access.app_sign.value.clone(),
            app.access.server_secret.value.clone(),
            app.created_at
        ],
    )
    .await
    .on_unique(|| Error::params_invalid(format!("there is already an app with the id {id}")))?;
    Ok(app)
}

const ACCESS: &str = "app_sign, app_sign_version, old_app_sign, old_app_sign_ends_at, \
    server_secret, server_secret_version, old_server_secret, old_server_secret_ends_at, \
    app_sign_login, cbc_tokens, registration";

/// Reads the columns of [`ACCESS`], of which the first is column `first`.
fn access(row: &Row, first: usize) -> Result<Access, Error> {
    let secret = |at| {
        Ok::<_, Error>(Secret {
            value: row.get(at)?,
            version: row.get(at + 1)?,
            old: row.get(at + 2)?,
            old_ends_at: row.get(at + 3)?,
        })
    };
    let (cbc_tokens, registration): (i32, i32) = (row.get(first + 9)?, row.get(first + 10)?);
    // A value of a later version must not admit a user whom this version would refuse.
    Ok(Access {
        app_sign: secret(first)?,
        server_secret: secret(first + 4)?,
        app_sign_login: row.get(first + 8)?,
        cbc_tokens: CbcTokens::try_from(cbc_tokens).unwrap_or(CbcTokens::Off),
        registration: Registration::try_from(registration).unwrap_or(Registration::Operator),
    })
}

/// Returns all apps.
pub async fn app_rows(tx: &mut Tx<'_>) -> Result<Vec<NewApp>, Error> {
    let rows = tx.fetch(&format!("SELECT id, name, created_at, {ACCESS} FROM app"), &params![]).await?;
    rows.iter()
        .map(|row| Ok(NewApp { id: row.get(0)?, name: row.get(1)?, created_at: row.get(2)?, access: access(row, 3)? }))
        .collect()
}

/// Returns which users an app registers. The row stays locked until the transaction ends: a change of it waits.
pub async fn registration(tx: &mut Tx<'_>, app: AppKey) -> Result<Registration, Error> {
    let sql = format!("SELECT registration FROM app WHERE id = $1{}", tx.dialect().for_share());
    let row = tx.fetch_one(&sql, &params![app]).await?.ok_or_else(|| Error::app_not_found(app))?;
    Ok(Registration::try_from(row.get::<i32>(0)?).unwrap_or(Registration::Operator))
}

/// Returns the stored access settings of an app.
pub(crate) async fn stored_access(tx: &mut Tx<'_>, app: AppKey) -> Result<Access, Error> {
    let row = tx.fetch_one(&format!("SELECT {ACCESS} FROM app WHERE id = $1"), &params![app]).await?;
    access(&row.ok_or_else(|| Error::app_not_found(app))?, 0)
}

/// Changes the access settings of an app, and returns the new ones.
pub(crate) async fn change_access(
    tx: &mut Tx<'_>,
    app: AppKey,
    change: impl FnOnce(&mut Access),
) -> Result<Access, Error> {
    let sql = format!("SELECT {ACCESS} FROM app WHERE id = $1{}", tx.dialect().for_update());
    let row = tx.fetch_one(&sql, &params![app]).await?.ok_or_else(|| Error::app_not_found(app))?;
    let mut access = access(&row, 0)?;
    change(&mut access);
    let Access { app_sign, server_secret, app_sign_login, cbc_tokens, registration } = access.clone();
    tx.execute(
        "UPDATE app SET app_sign = $2, app_sign_version = $3, old_app_sign = $4, old_app_sign_ends_at = $5, \
         server_secret = $6, server_secret_version = $7, old_server_secret = $8, old_server_secret_ends_at = $9, \
         app_sign_login = $10, cbc_tokens = $11, registration = $12 WHERE id = $1",
        &params![
            app,
            app_sign.value,
            app_sign.version,
            app_sign.old,
            app_sign.old_ends_at,
            server_secret.value,
            server_secret.version,
            server_secret.old,
            server_secret.old_ends_at,
            app_sign_login,
            cbc_tokens as i32,
            registration as i32
        ],
    )
    .await?;
    Ok(access)
}

/// Stores another name of an app.
pub(crate) async fn rename_app(tx: &mut Tx<'_>, app: AppKey, name: &str) -> Result<(), Error> {
    tx.execute("UPDATE app SET name = $2 WHERE id = $1", &params![app, name]).await?;
    Ok(())
}

/// Returns the number of an app's users.
pub(crate) async fn count_users(tx: &mut Tx<'_>, app: AppKey) -> Result<i64, Error> {
    let row = tx.fetch_one("SELECT COUNT(*) FROM account WHERE app = $1", &params![app]).await?;
    Ok(row.map_or(Ok(0), |row| row.get(0))?)
}

/// Returns the deployment's epoch and secret, which are made at the first start, and the newest stored ID. Stores the server's
/// limit of members, which statements read with the limits of groups.
pub async fn open_deployment(
    tx: &mut Tx<'_>,
    fresh: ([u8; 16], [u8; 32]),
    max_group_members: i64,
) -> Result<([u8; 16], [u8; 32], i64), Error> {
    tx.execute(
        "INSERT INTO deployment (id, epoch, secret) VALUES (1, $1, $2) ON CONFLICT (id) DO NOTHING",
        &params![fresh.0.to_vec(), fresh.1.to_vec()],
    )
    .await?;
    let sql = "UPDATE deployment SET max_group_members = $1 WHERE id = 1 AND max_group_members <> $1";
    tx.execute(sql, &params![max_group_members]).await?;
    let row = tx
        .fetch_one("SELECT epoch, secret FROM deployment WHERE id = 1", &params![])
        .await?
        .ok_or_else(|| Error::internal_text("the deployment's row is missing"))?;
    let broken = |_| Error::internal_text("the deployment's row is damaged");
    let epoch: Vec<u8> = row.get(0)?;
    let secret: Vec<u8> = row.get(1)?;
    let mut newest = 0;
    for table in [
        "message",
        "account",
        "conversation",
        "session",
        "group_application",
        "chat_call",
        "push_id",
        "push_log",
        "audit",
    ] {
        let row = tx.fetch_one(&format!("SELECT MAX(id) FROM {table}"), &params![]).await?;
        let id: Option<i64> = row.map_or(Ok(None), |row| row.get(0))?;
        newest = newest.max(id.unwrap_or(0));
    }
    Ok((epoch.try_into().map_err(broken)?, secret.try_into().map_err(broken)?, newest))
}

/// Returns a user's key.
pub(crate) async fn user_key(tx: &mut Tx<'_>, app: AppKey, name: &str) -> Result<Option<UserKey>, Error> {
    let row = tx.fetch_one("SELECT id FROM account WHERE app = $1 AND name = $2", &params![app, name]).await?;
    Ok(row.map(|row| row.get(0)).transpose()?.map(UserKey))
}

/// Returns the keys of those of these users who are registered.
pub(crate) async fn user_keys(
    tx: &mut Tx<'_>,
    app: AppKey,
    names: &[String],
) -> Result<HashMap<String, UserKey>, Error> {
    let (list, mut params) = tx.dialect().in_list(names, 2);
    params.insert(0, app.into());
    let sql = format!("SELECT name, id FROM account WHERE app = $1 AND name IN {list}");
    let rows = tx.fetch(&sql, &params).await?;
    rows.iter().map(|row| Ok((row.get(0)?, UserKey(row.get(1)?)))).collect()
}
