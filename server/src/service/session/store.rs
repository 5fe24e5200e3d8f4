//! Rows of users who log in, and of their logins.

use zim_protocol::{ListBannedUsersResult, SessionEndReason, UserAccess, UserFullInfo};

use super::rules::{DevicePolicy, Login, kicked_out};
use crate::db::{Row, Tx, params};
use crate::effect::Effect;
use crate::error::Error;
use crate::journal::full_info;
use crate::key::{AppKey, LoginKey, UserKey};
use crate::service::status::{self, Change, Custom};
use crate::service::user::{self, ProfileField};
use crate::tenant::{may_register, registration};

/// States of a login.
const ACTIVE: i64 = 0;
const KICKED_OUT: i64 = 1;
const ENDED_BY_OPERATOR: i64 = 2;

/// How long a login that was pushed out is remembered, so that its device learns why: 30 days.
const ENDED_LOGIN_TTL_MS: i64 = 30 * 24 * 3_600_000;
/// How many of them, of one user: somebody who logs in again and again makes no table of it.
const MAX_ENDED_LOGINS: i64 = 32;

/// A login that passed authentication.
#[derive(Clone, Debug)]
pub(super) struct NewLogin {
    pub(super) app: AppKey,
    pub(super) user_id: String,
    pub(super) user_name: Option<String>,
    /// What others see of him from now on, unless that stays as it is.
    pub(super) custom: Option<Custom>,
    /// In case he is new.
    pub(super) account_id: i64,
    pub(super) login_id: i64,
    pub(super) ticket: [u8; 16],
    pub(super) resume: Option<[u8; 16]>,
    pub(super) platform: i32,
    pub(super) device: [u8; 16],
    pub(super) now: i64,
    /// The time of what comes with it, as profiles and presence note it.
    pub(super) changed_at: i64,
    /// When the token was made, Unix seconds; `None`: the app sign let the user in.
    pub(super) token_ctime: Option<i64>,
    /// The app's back end alone can have decided that this user exists.
    pub(super) is_vouched: bool,
    pub(super) one_shot: bool,
    pub(super) policy: DevicePolicy,
    /// The job has locked the user's head. Only somebody who is new needs no lock: nobody else sees him before the commit.
    pub(super) is_locked: bool,
}

impl NewLogin {
    /// How old what let the user in is, Unix seconds.
    fn proof_at(&self) -> i64 {
        self.token_ctime.unwrap_or_else(|| self.now.div_euclid(1_000))
    }
}

/// A login that is active now.
#[derive(Debug)]
pub(super) struct Admitted {
    pub(super) user: UserKey,
    pub(super) login: LoginKey,
    pub(super) ticket: [u8; 16],
    pub(super) login_at: i64,
    pub(super) info: UserFullInfo,
}

/// Registers the user if he is new, and stores the login; those that it pushes out are told. `None`: he is not new, and his
/// lock is needed.
pub(super) async fn admit(tx: &mut Tx<'_>, mut login: NewLogin) -> Result<Option<Admitted>, Error> {
    let Some((user, info)) = find_or_register(tx, &login).await? else { return Ok(None) };
    let (at, custom, is_device) = (login.changed_at, login.custom.take(), !login.one_shot);
    let admitted = store(tx, login, user, info).await?;
    let connections = if is_device { Some(status::connections(tx, user, false).await?) } else { None };
    if connections.is_some() || custom.is_some() {
        status::change(tx, user, Change { connections, custom }, at, admitted.login).await?;
    }
    Ok(Some(admitted))
}

/// Stores the login of a registered user.
async fn store(tx: &mut Tx<'_>, login: NewLogin, user: UserKey, info: UserFullInfo) -> Result<Admitted, Error> {
    let key = LoginKey(login.login_id);
    let fresh = Admitted { user, login: key, ticket: login.ticket, login_at: login.now, info };
    if login.one_shot {
        return Ok(fresh);
    }
    if let Some(ticket) = login.resume {
        let row = tx
            .fetch_one(
                "SELECT id, state, login_at FROM session WHERE ticket = $1 AND account = $2",
                &params![ticket.to_vec(), user],
            )
            .await?;
        if let Some(row) = row {
            match row.get::<i64>(1)? {
                ACTIVE => {}
                ENDED_BY_OPERATOR => return Err(Error::session_ended("endedByOperator")),
                _ => return Err(Error::session_ended("kickedOut")),
            }
            // Under a new id: what the connection before is still doing is not this one's own, and ends nothing of this one.
            let before = LoginKey(row.get(0)?);
            let again = "UPDATE session SET id = $2, connected = 1, proof_at = $3 WHERE id = $1";
            tx.execute(again, &params![before, key, login.proof_at()]).await?;
            tx.emit(Effect::LoginEnded { user, login: before, reason: SessionEndReason::Unspecified });
            return Ok(Admitted { ticket, login_at: row.get(2)?, ..fresh });
        }
    }
    let rows = tx
        .fetch(
            "SELECT id, platform, device, login_at FROM session WHERE account = $1 AND state = $2",
            &params![user, ACTIVE],
        )
        .await?;
    let mut active = Vec::with_capacity(rows.len());
    for row in &rows {
        active.push(Login {
            key: LoginKey(row.get(0)?),
            platform: row.get(1)?,
            device: row.get::<Vec<u8>>(2)?.try_into().unwrap_or_default(),
            login_at: row.get(3)?,
        });
    }
    for out in kicked_out(login.policy, &active, login.platform, login.device) {
        let end = "UPDATE session SET state = $2, connected = 0 WHERE id = $1";
        tx.execute(end, &params![out, KICKED_OUT]).await?;
        tx.emit(Effect::LoginEnded { user, login: out, reason: SessionEndReason::KickedOut });
    }
    delete_old_ended(tx, user, login.now - ENDED_LOGIN_TTL_MS).await?;
    tx.execute(
        "INSERT INTO session (id, ticket, account, platform, device, login_at, state, connected, proof_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, 1, $8)",
        &params![
            key,
            login.ticket.to_vec(),
            user,
            login.platform,
            login.device.to_vec(),
            login.now,
            ACTIVE,
            login.proof_at()
        ],
    )
    .await?;
    Ok(fresh)
}

/// Forgets the logins of a user that were pushed out before `since`, and all but the newest of the others.
async fn delete_old_ended(tx: &mut Tx<'_>, user: UserKey, since: i64) -> Result<(), Error> {
    tx.execute(
        "DELETE FROM session WHERE account = $1 AND state <> $3 AND (login_at < $2 OR login_at <= \
         (SELECT s.login_at FROM session s WHERE s.account = $1 AND s.state <> $3 ORDER BY s.login_at DESC LIMIT 1 OFFSET $4))",
        &params![user, since, ACTIVE, MAX_ENDED_LOGINS],
    )
    .await?;
    Ok(())
}

/// A user who is to be registered.
#[derive(Clone, Debug)]
pub(super) struct NewAccount {
    pub(super) app: AppKey,
    pub(super) user_id: String,
    pub(super) user_name: String,
    pub(super) id: i64,
    pub(super) now: i64,
    /// The time of the profile.
    pub(super) changed_at: i64,
}

/// Registers a user. False: somebody has the name already.
pub(super) async fn register(tx: &mut Tx<'_>, new: NewAccount) -> Result<bool, Error> {
    let made = tx
        .execute(
            "INSERT INTO account (id, app, name, pos, user_name, avatar_url, extended_data, info_at, created_at) \
             VALUES ($1, $2, $3, 0, $4, '', '', $6, $5) ON CONFLICT (app, name) DO NOTHING",
            &params![new.id, new.app, new.user_id, new.user_name, new.now, new.changed_at],
        )
        .await?;
    Ok(made > 0)
}

/// The user's account: found, or registered by this first login. `None`: found without the lock that is needed.
///
/// # Errors
/// The user is banned, or the token is revoked.
async fn find_or_register(tx: &mut Tx<'_>, login: &NewLogin) -> Result<Option<(UserKey, UserFullInfo)>, Error> {
    let find = "SELECT id, user_name, avatar_url, extended_data, banned_at, ban_ends_at, tokens_revoked_at \
                FROM account WHERE app = $1 AND name = $2";
    let mut row = tx.fetch_one(find, &params![login.app, login.user_id.clone()]).await?;
    if row.is_none() {
        // Under a lock: an operator who has closed the registration gets no more users.
        may_register(registration(tx, login.app).await?, login.is_vouched, &login.user_id)?;
        let new = NewAccount {
            app: login.app,
            user_id: login.user_id.clone(),
            user_name: login.user_name.clone().unwrap_or_default(),
            id: login.account_id,
            now: login.now,
            changed_at: login.changed_at,
        };
        if !register(tx, new).await? && !login.is_locked {
            return Ok(None);
        }
        row = tx.fetch_one(find, &params![login.app, login.user_id.clone()]).await?;
    } else if !login.is_locked {
        return Ok(None);
    }
    let row = row.ok_or_else(|| Error::internal_text("an account that is and is not there"))?;
    Restrictions::read(&row, 4)?.check(login.token_ctime, login.now)?;
    let user = UserKey(row.get(0)?);
    let info = full_info(login.user_id.clone(), row.get(1)?, row.get(2)?, row.get(3)?);
    let current = info.base_info.as_ref().map(|base| base.user_name.as_str());
    match &login.user_name {
        Some(name) if current != Some(name) => {
            let named = ProfileField::Name(name.clone());
            let (_, info) = user::change(tx, user, named, login.changed_at, LoginKey(0)).await?;
            Ok(Some((user, info)))
        }
        _ => Ok(Some((user, info))),
    }
}

/// The login is over: its device logged out.
pub(super) async fn log_out(tx: &mut Tx<'_>, user: UserKey, login: LoginKey, at: i64) -> Result<(), Error> {
    if tx.execute("DELETE FROM session WHERE id = $1", &params![login]).await? > 0 {
        let connections = Some(status::connections(tx, user, true).await?);
        status::change(tx, user, Change { connections, custom: None }, at, login).await?;
    }
    Ok(())
}

/// What the operator has decided about a user.
#[derive(Clone, Copy, Debug)]
struct Restrictions {
    banned_at: i64,
    ban_ends_at: i64,
    tokens_revoked_at: i64,
}

impl Restrictions {
    /// From three columns: `banned_at, ban_ends_at, tokens_revoked_at`.
    fn read(row: &Row, first: usize) -> Result<Self, Error> {
        Ok(Self {
            banned_at: row.get(first)?,
            ban_ends_at: row.get(first + 1)?,
            tokens_revoked_at: row.get(first + 2)?,
        })
    }

    fn is_banned(self, now: i64) -> bool {
        self.banned_at > 0 && (self.ban_ends_at == 0 || now < self.ban_ends_at)
    }

    /// Whether a login with a token of this second, or with an app sign (`None`), may go on.
    fn check(self, token_ctime: Option<i64>, now: i64) -> Result<(), Error> {
        if self.is_banned(now) {
            return Err(Error::user_banned(self.ban_ends_at));
        }
        if token_ctime.is_some_and(|ctime| ctime <= self.tokens_revoked_at) {
            return Err(Error::token_revoked());
        }
        Ok(())
    }
}

/// The login goes on with a token of this second.
pub(super) async fn renew(
    tx: &mut Tx<'_>,
    user: UserKey,
    login: LoginKey,
    token_ctime: i64,
    now: i64,
) -> Result<(), Error> {
    let sql = "SELECT banned_at, ban_ends_at, tokens_revoked_at FROM account WHERE id = $1";
    let row = tx.fetch_one(sql, &params![user]).await?.ok_or_else(Error::not_logged_in)?;
    Restrictions::read(&row, 0)?.check(Some(token_ctime), now)?;
    tx.execute("UPDATE session SET proof_at = $2 WHERE id = $1", &params![login, token_ctime]).await?;
    Ok(())
}

/// Bans a user from now on.
pub(super) async fn set_ban(tx: &mut Tx<'_>, user: UserKey, now: i64, ends_at: i64) -> Result<(), Error> {
    let sql = "UPDATE account SET banned_at = $2, ban_ends_at = $3 WHERE id = $1";
    tx.execute(sql, &params![user, now, ends_at]).await?;
    Ok(())
}

/// Lifts a ban. False: there was none.
pub(super) async fn lift_ban(tx: &mut Tx<'_>, user: UserKey, now: i64) -> Result<bool, Error> {
    let was_banned = user_access(tx, user, now).await?.is_some_and(|access| access.is_banned);
    tx.execute("UPDATE account SET banned_at = 0, ban_ends_at = 0 WHERE id = $1", &params![user]).await?;
    Ok(was_banned)
}

/// What a revocation reaches.
#[derive(Clone, Copy, Debug)]
pub(super) enum Until {
    /// Whatever the user has now, Unix seconds. A back end's clock may be ahead of this one.
    Now(i64),
    /// What was made in this second or before, Unix seconds.
    Made(i64),
}

/// Refuses tokens as far as `until` says, and ends the logins that they opened, those by app sign of that time, and one-shot
/// ones, which are stored nowhere. Returns how many connected ones ended, without one-shot ones, and the second up to which
/// tokens are refused now, and whether the revocation reached further than those before.
pub(super) async fn revoke_tokens(
    tx: &mut Tx<'_>,
    user: UserKey,
    until: Until,
    at: i64,
) -> Result<(u32, i64, bool), Error> {
    let sql = "SELECT tokens_revoked_at, (SELECT COALESCE(MAX(s.proof_at), 0) FROM session s WHERE s.account = $1) \
               FROM account WHERE id = $1";
    let row = tx.fetch_one(sql, &params![user]).await?.ok_or_else(|| Error::internal_text("an account is gone"))?;
    let (before, newest): (i64, i64) = (row.get(0)?, row.get(1)?);
    let wanted = match until {
        // One second more than the last time: the operator may have made a token in the second of that revocation.
        Until::Now(now_s) if before >= now_s => newest.max(before + 1),
        Until::Now(now_s) => newest.max(now_s),
        Until::Made(second) => second,
    };
    let in_force = wanted.max(before);
    let reaches_further = in_force > before;
    if reaches_further {
        let sql = "UPDATE account SET tokens_revoked_at = $2 WHERE id = $1";
        tx.execute(sql, &params![user, in_force]).await?;
        end_one_shots(tx, user);
    }
    Ok((end_logins(tx, user, in_force, at).await?, in_force, reaches_further))
}

/// Ends all logins of a user; returns how many of them were connected, without one-shot ones.
pub(super) async fn end_all(tx: &mut Tx<'_>, user: UserKey, at: i64) -> Result<u32, Error> {
    end_one_shots(tx, user);
    end_logins(tx, user, i64::MAX, at).await
}

fn end_one_shots(tx: &mut Tx<'_>, user: UserKey) {
    tx.emit(Effect::OneShotsEnded { user, reason: SessionEndReason::EndedByOperator });
}

/// Ends the logins of a user by what was made in the second `made_until` or before, as the operator wants it.
async fn end_logins(tx: &mut Tx<'_>, user: UserKey, made_until: i64, at: i64) -> Result<u32, Error> {
    let find = "SELECT id, connected FROM session WHERE account = $1 AND state = $2 AND proof_at <= $3";
    let mut connected = 0;
    for row in tx.fetch(find, &params![user, ACTIVE, made_until]).await? {
        let login = LoginKey(row.get(0)?);
        let end = "UPDATE session SET state = $2, connected = 0 WHERE id = $1";
        tx.execute(end, &params![login, ENDED_BY_OPERATOR]).await?;
        tx.emit(Effect::LoginEnded { user, login, reason: SessionEndReason::EndedByOperator });
        connected += u32::from(row.get::<bool>(1)?);
    }
    let connections = Some(status::connections(tx, user, false).await?);
    status::change(tx, user, Change { connections, custom: None }, at, LoginKey(0)).await?;
    Ok(connected)
}

const ACCESS: &str = "name, user_name, created_at, banned_at, ban_ends_at, tokens_revoked_at";

fn access(row: &Row, first: usize, now: i64) -> Result<UserAccess, Error> {
    let restrictions = Restrictions::read(row, first + 3)?;
    let is_banned = restrictions.is_banned(now);
    Ok(UserAccess {
        user_id: row.get(first)?,
        user_name: row.get(first + 1)?,
        registered_at: row.get(first + 2)?,
        is_banned,
        banned_at: if is_banned { restrictions.banned_at } else { 0 },
        ban_ends_at: if is_banned { restrictions.ban_ends_at } else { 0 },
        tokens_revoked_at: restrictions.tokens_revoked_at,
    })
}

/// What is decided about a user.
pub(super) async fn user_access(tx: &mut Tx<'_>, user: UserKey, now: i64) -> Result<Option<UserAccess>, Error> {
    let row = tx.fetch_one(&format!("SELECT {ACCESS} FROM account WHERE id = $1"), &params![user]).await?;
    row.map(|row| access(&row, 0, now)).transpose()
}

/// Users of an app who are banned now: up to `count` behind `after`.
pub(super) async fn banned_users(
    tx: &mut Tx<'_>,
    app: AppKey,
    after: UserKey,
    count: u32,
    now: i64,
) -> Result<ListBannedUsersResult, Error> {
    let sql = format!(
        "SELECT id, {ACCESS} FROM account WHERE app = $1 AND id > $2 AND banned_at > 0 \
         AND (ban_ends_at = 0 OR ban_ends_at > $3) ORDER BY id LIMIT $4"
    );
    let rows = tx.fetch(&sql, &params![app, after, now, i64::from(count) + 1]).await?;
    let mut page = ListBannedUsersResult::default();
    for row in rows.iter().take(count as usize) {
        page.users.push(access(row, 1, now)?);
        page.next_flag = row.get::<i64>(0)?.unsigned_abs();
    }
    if rows.len() <= count as usize {
        page.next_flag = 0;
    }
    Ok(page)
}
