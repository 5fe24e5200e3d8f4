//! Rows of users who log in, and of their logins.

use zim_protocol::{SessionEndReason, UserFullInfo};

use super::rules::{DevicePolicy, Login, pushed_out};
use crate::db::{Tx, params};
use crate::effect::Effect;
use crate::error::Error;
use crate::journal::full_info;
use crate::key::{AppKey, SessionKey, UserKey};
use crate::status::{self, Change, Custom};
use crate::user::{self, Part};

/// States of a login.
const GOOD: i64 = 0;
const PUSHED_OUT: i64 = 1;

/// How long a login that was pushed out is remembered, so that its device learns why: 30 days.
const REMEMBER_MS: i64 = 30 * 24 * 3_600_000;
/// How many of them, of one user: somebody who logs in again and again makes no table of it.
const REMEMBERED: i64 = 32;

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
    pub(super) session_id: i64,
    pub(super) ticket: [u8; 16],
    pub(super) resume: Option<[u8; 16]>,
    pub(super) platform: i32,
    pub(super) device: [u8; 16],
    pub(super) now: i64,
    /// The time of what comes with it, as profiles and presence note it.
    pub(super) noted_at: i64,
    pub(super) one_shot: bool,
    pub(super) policy: DevicePolicy,
    /// The job has locked the user's head. Only somebody who is new needs no lock: nobody else sees him before the commit.
    pub(super) is_locked: bool,
}

/// A login that is good now.
#[derive(Debug)]
pub(super) struct Admitted {
    pub(super) user: UserKey,
    pub(super) session: SessionKey,
    pub(super) ticket: [u8; 16],
    pub(super) login_at: i64,
    pub(super) info: UserFullInfo,
}

/// Registers the user if he is new, and stores the login; those that it pushes out are told. `None`: he is not new, and his
/// lock is needed.
pub(super) async fn admit(tx: &mut Tx<'_>, mut login: NewLogin) -> Result<Option<Admitted>, Error> {
    let Some((user, info)) = account(tx, &login).await? else { return Ok(None) };
    let (at, custom, is_device) = (login.noted_at, login.custom.take(), !login.one_shot);
    let admitted = store(tx, login, user, info).await?;
    let seen = if is_device { Some(status::seen(tx, user, false).await?) } else { None };
    if seen.is_some() || custom.is_some() {
        status::change(tx, user, Change { seen, custom }, at, admitted.session).await?;
    }
    Ok(Some(admitted))
}

/// Stores the login of a registered user.
async fn store(tx: &mut Tx<'_>, login: NewLogin, user: UserKey, info: UserFullInfo) -> Result<Admitted, Error> {
    let session = SessionKey(login.session_id);
    let fresh = Admitted { user, session, ticket: login.ticket, login_at: login.now, info };
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
            if row.get::<i64>(1)? != GOOD {
                return Err(Error::session_ended("kickedOut"));
            }
            // Under a new id: what the connection before is still doing is not this one's own, and ends nothing of this one.
            let before = SessionKey(row.get(0)?);
            let again = "UPDATE session SET id = $2, connected = 1 WHERE id = $1";
            tx.execute(again, &params![before, session]).await?;
            tx.emit(Effect::Ended { user, session: before, reason: SessionEndReason::Unspecified });
            return Ok(Admitted { ticket, login_at: row.get(2)?, ..fresh });
        }
    }
    let rows = tx
        .fetch(
            "SELECT id, platform, device, login_at FROM session WHERE account = $1 AND state = $2",
            &params![user, GOOD],
        )
        .await?;
    let mut good = Vec::with_capacity(rows.len());
    for row in &rows {
        good.push(Login {
            session: SessionKey(row.get(0)?),
            platform: row.get(1)?,
            device: row.get::<Vec<u8>>(2)?.try_into().unwrap_or_default(),
            login_at: row.get(3)?,
        });
    }
    for out in pushed_out(login.policy, &good, login.platform, login.device) {
        let end = "UPDATE session SET state = $2, connected = 0 WHERE id = $1";
        tx.execute(end, &params![out, PUSHED_OUT]).await?;
        tx.emit(Effect::Ended { user, session: out, reason: SessionEndReason::KickedOut });
    }
    forget_old(tx, user, login.now - REMEMBER_MS).await?;
    tx.execute(
        "INSERT INTO session (id, ticket, account, platform, device, login_at, state, connected) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, 1)",
        &params![session, login.ticket.to_vec(), user, login.platform, login.device.to_vec(), login.now, GOOD],
    )
    .await?;
    Ok(fresh)
}

/// Forgets the logins of a user that were pushed out before `since`, and all but the newest of the others.
async fn forget_old(tx: &mut Tx<'_>, user: UserKey, since: i64) -> Result<(), Error> {
    tx.execute(
        "DELETE FROM session WHERE account = $1 AND state <> $3 AND (login_at < $2 OR login_at <= \
         (SELECT s.login_at FROM session s WHERE s.account = $1 AND s.state <> $3 ORDER BY s.login_at DESC LIMIT 1 OFFSET $4))",
        &params![user, since, GOOD, REMEMBERED],
    )
    .await?;
    Ok(())
}

/// The user's account: found, or registered by this first login. `None`: found without the lock that is needed.
async fn account(tx: &mut Tx<'_>, login: &NewLogin) -> Result<Option<(UserKey, UserFullInfo)>, Error> {
    let find = "SELECT id, user_name, avatar_url, extended_data FROM account WHERE app = $1 AND name = $2";
    let mut row = tx.fetch_one(find, &params![login.app, login.user_id.clone()]).await?;
    if row.is_none() {
        let made = tx
            .execute(
                "INSERT INTO account (id, app, name, pos, user_name, avatar_url, extended_data, info_at, created_at) \
             VALUES ($1, $2, $3, 0, $4, '', '', $6, $5) ON CONFLICT (app, name) DO NOTHING",
                &params![
                    login.account_id,
                    login.app,
                    login.user_id.clone(),
                    login.user_name.clone().unwrap_or_default(),
                    login.now,
                    login.noted_at
                ],
            )
            .await?;
        if made == 0 && !login.is_locked {
            return Ok(None);
        }
        row = tx.fetch_one(find, &params![login.app, login.user_id.clone()]).await?;
    } else if !login.is_locked {
        return Ok(None);
    }
    let row = row.ok_or_else(|| Error::internal_text("an account that is and is not there"))?;
    let user = UserKey(row.get(0)?);
    let info = full_info(login.user_id.clone(), row.get(1)?, row.get(2)?, row.get(3)?);
    let held = info.base_info.as_ref().map(|base| base.user_name.as_str());
    match &login.user_name {
        Some(name) if held != Some(name) => {
            let named = Part::Name(name.clone());
            let (_, info) = user::change(tx, user, named, login.noted_at, SessionKey(0)).await?;
            Ok(Some((user, info)))
        }
        _ => Ok(Some((user, info))),
    }
}

/// The login is over: its device logged out.
pub(super) async fn forget(tx: &mut Tx<'_>, user: UserKey, session: SessionKey, at: i64) -> Result<(), Error> {
    if tx.execute("DELETE FROM session WHERE id = $1", &params![session]).await? > 0 {
        let seen = Some(status::seen(tx, user, true).await?);
        status::change(tx, user, Change { seen, custom: None }, at, session).await?;
    }
    Ok(())
}

/// Ends all logins of a user; returns how many there were.
pub(super) async fn end_all(tx: &mut Tx<'_>, user: UserKey, at: i64) -> Result<u32, Error> {
    let rows = tx
        .fetch(
            "UPDATE session SET state = $2, connected = 0 WHERE account = $1 AND state = $3 RETURNING id",
            &params![user, PUSHED_OUT, GOOD],
        )
        .await?;
    for row in &rows {
        tx.emit(Effect::Ended { user, session: SessionKey(row.get(0)?), reason: SessionEndReason::KickedOut });
    }
    let seen = Some(status::seen(tx, user, false).await?);
    status::change(tx, user, Change { seen, custom: None }, at, SessionKey(0)).await?;
    Ok(u32::try_from(rows.len()).unwrap_or(u32::MAX))
}
