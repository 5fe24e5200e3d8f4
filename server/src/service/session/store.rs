//! Rows of accounts at login, and of logins.

use zim_protocol::{ListBannedUsersResult, LoggedOut, SessionEndReason, UserAccess, UserFullInfo};

use super::rules::{DevicePolicy, Login, kicked_out};
use crate::db::{Row, Tx, params};
use crate::effect::Effect;
use crate::error::Error;
use crate::journal::LogWriter;
use crate::key::{AppKey, LoginKey, UserKey};
use crate::presence::{self, Change, Custom};
use crate::push;
use crate::service::rows::{USER, full_info};
use crate::service::user::{self, ProfileField};
use crate::tenant::{may_register, registration};

/// States of a login.
const ACTIVE: i64 = 0;
const KICKED_OUT: i64 = 1;
const ENDED_BY_OPERATOR: i64 = 2;

/// How long a login that has ended is kept, counted from its beginning, so that its device can learn why: 30 days.
const ENDED_LOGIN_TTL_MS: i64 = 30 * 24 * 3_600_000;
/// The most ended logins of one user that are kept, so that repeated logins do not fill the table.
const MAX_ENDED_LOGINS: i64 = 32;

/// A login that passed authentication.
#[derive(Clone, Debug)]
pub(super) struct NewLogin {
    pub(super) app: AppKey,
    pub(super) user_id: String,
    pub(super) user_name: Option<String>,
    /// The custom status to set; `None` leaves it as it is.
    pub(super) custom: Option<Custom>,
    /// The key of the account if it is new.
    pub(super) account_id: i64,
    pub(super) login_id: i64,
    pub(super) ticket: [u8; 16],
    pub(super) resume: Option<[u8; 16]>,
    pub(super) platform: i32,
    pub(super) device: [u8; 16],
    pub(super) now: i64,
    /// The time that changed profiles and presence get.
    pub(super) changed_at: i64,
    /// When the token was made, Unix seconds; `None` with an app sign.
    pub(super) token_ctime: Option<i64>,
    /// Only the app's back end can have decided that this user exists.
    pub(super) is_vouched: bool,
    pub(super) one_shot: bool,
    /// The user and others who were logged out on the device without a connection.
    pub(super) logged_out: Vec<LoggedOut>,
    pub(super) policy: DevicePolicy,
    /// The job has locked the user's head. Only a new user needs no lock: no other job sees the account before the
    /// commit.
    pub(super) is_locked: bool,
}

impl NewLogin {
    /// The age of the proof: when it was made, Unix seconds.
    fn proof_at(&self) -> i64 {
        self.token_ctime.unwrap_or_else(|| self.now.div_euclid(1_000))
    }
}

/// An active login.
#[derive(Debug)]
pub(super) struct Admitted {
    pub(super) user: UserKey,
    pub(super) login: LoginKey,
    pub(super) ticket: [u8; 16],
    pub(super) login_at: i64,
    pub(super) info: UserFullInfo,
}

/// Stores a login, after registering the user if the user is new; the clients of logins that it kicks out are notified.
/// `None` if the user exists and has to be locked first.
pub(super) async fn admit(
    tx: &mut Tx<'_>,
    log: &mut LogWriter,
    mut login: NewLogin,
) -> Result<Option<Admitted>, Error> {
    let Some((user, info)) = find_or_register(tx, log, &login).await? else { return Ok(None) };
    let (at, custom, is_device) = (login.changed_at, login.custom.take(), !login.one_shot);
    let admitted = store(tx, login, user, info).await?;
    let connections = if is_device { Some(presence::connections(tx, user, false).await?) } else { None };
    if connections.is_some() || custom.is_some() {
        presence::change(tx, user, Change { connections, custom }, at, admitted.login).await?;
    }
    Ok(Some(admitted))
}

/// Stores the login of a registered user.
async fn store(tx: &mut Tx<'_>, login: NewLogin, user: UserKey, info: UserFullInfo) -> Result<Admitted, Error> {
    let key = LoginKey(login.login_id);
    let admitted = Admitted { user, login: key, ticket: login.ticket, login_at: login.now, info };
    if login.one_shot {
        return Ok(admitted);
    }
    push::unbind_logged_out(tx, login.app, login.device, &login.logged_out).await?;
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
            // Resuming gives the login a new key: what still runs on the connection before is not taken for this one's
            // own, and its end does not end this login.
            let before = LoginKey(row.get(0)?);
            let sql = "UPDATE session SET id = $2, connected = 1, proof_at = $3 WHERE id = $1";
            tx.execute(sql, &params![before, key, login.proof_at()]).await?;
            tx.emit(Effect::LoginEnded { user, login: before, reason: SessionEndReason::Unspecified });
            return Ok(Admitted { ticket, login_at: row.get(2)?, ..admitted });
        }
    }
    // Not for a login that goes on: several clients of one program may share a device, each with a user of its own.
    push::unbind_others(tx, login.app, login.device, user).await?;
    push::bind_to_login(tx, login.device, user, &login.ticket).await?;
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
    for kicked in kicked_out(login.policy, &active, login.platform, login.device) {
        // The same device stays with its user.
        if active.iter().all(|other| other.key != kicked || other.device != login.device) {
            push::unbind_login(tx, kicked).await?;
        }
        let end = "UPDATE session SET state = $2, connected = 0 WHERE id = $1";
        tx.execute(end, &params![kicked, KICKED_OUT]).await?;
        tx.emit(Effect::LoginEnded { user, login: kicked, reason: SessionEndReason::KickedOut });
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
    Ok(admitted)
}

/// Deletes the ended logins of a user that began before `since`, and all but the newest of the others.
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

/// Registers a user. Returns false if the name is taken.
pub(super) async fn register(tx: &mut Tx<'_>, new: NewAccount) -> Result<bool, Error> {
    let inserted = tx
        .execute(
            "INSERT INTO account (id, app, name, pos, user_name, avatar_url, extended_data, info_at, created_at) \
             VALUES ($1, $2, $3, 0, $4, '', '', $6, $5) ON CONFLICT (app, name) DO NOTHING",
            &params![new.id, new.app, new.user_id, new.user_name, new.now, new.changed_at],
        )
        .await?;
    if inserted > 0 {
        tx.made_user(UserKey(new.id));
    }
    Ok(inserted > 0)
}

/// Returns the user's account, which the first login registers. `None` if the account exists and is not locked.
///
/// # Errors
/// The user is banned, the token is revoked, or the app does not register the user.
async fn find_or_register(
    tx: &mut Tx<'_>,
    log: &mut LogWriter,
    login: &NewLogin,
) -> Result<Option<(UserKey, UserFullInfo)>, Error> {
    let find = format!(
        "SELECT id, {USER}, banned_at, ban_ends_at, tokens_revoked_at FROM account a WHERE app = $1 AND name = $2"
    );
    let mut row = tx.fetch_one(&find, &params![login.app, login.user_id.clone()]).await?;
    if row.is_none() {
        // Reads the setting under a lock: once an operator has closed the registration, no user is registered.
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
        row = tx.fetch_one(&find, &params![login.app, login.user_id.clone()]).await?;
    } else if !login.is_locked {
        return Ok(None);
    }
    let row = row.ok_or_else(|| Error::internal_text("an account exists and is not found"))?;
    Restrictions::read(&row, 5)?.check(login.token_ctime, login.now)?;
    let user = UserKey(row.get(0)?);
    let info = full_info(&row, 1)?;
    let current = info.base_info.as_ref().map(|base| base.user_name.as_str());
    match &login.user_name {
        Some(name) if current != Some(name) => {
            let field = ProfileField::Name(name.clone());
            user::change(tx, log, user, field, login.changed_at).await?;
            Ok(Some((user, user::profile(tx, user).await?)))
        }
        _ => Ok(Some((user, info))),
    }
}

/// Deletes a login whose device logged out.
pub(super) async fn log_out(tx: &mut Tx<'_>, user: UserKey, login: LoginKey, at: i64) -> Result<(), Error> {
    push::unbind_login(tx, login).await?;
    if tx.execute("DELETE FROM session WHERE id = $1", &params![login]).await? > 0 {
        let connections = Some(presence::connections(tx, user, true).await?);
        presence::change(tx, user, Change { connections, custom: None }, at, login).await?;
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
    /// Reads the columns `banned_at, ban_ends_at, tokens_revoked_at`.
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

    /// Checks a login with a token made in this second, or with an app sign (`None`).
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

/// Continues a login with a token made in this second.
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

/// Bans a user from now on. One who was erased is banned for ever.
pub(super) async fn set_ban(tx: &mut Tx<'_>, user: UserKey, now: i64, ends_at: i64) -> Result<(), Error> {
    let sql = "UPDATE account SET banned_at = $2, ban_ends_at = $3 WHERE id = $1 AND erased_at = 0";
    tx.execute(sql, &params![user, now, ends_at]).await?;
    Ok(())
}

/// Lifts a ban. Returns false if there was none, or if the user was erased.
pub(super) async fn lift_ban(tx: &mut Tx<'_>, user: UserKey, now: i64) -> Result<bool, Error> {
    let was_banned = user_access(tx, user, now).await?.is_some_and(|access| access.is_banned && access.erased_at == 0);
    let sql = "UPDATE account SET banned_at = 0, ban_ends_at = 0 WHERE id = $1 AND erased_at = 0";
    tx.execute(sql, &params![user]).await?;
    Ok(was_banned)
}

/// How far a revocation reaches.
#[derive(Clone, Copy, Debug)]
pub(super) enum Until {
    /// All tokens that the user has now, Unix seconds. The clock of a back end may be ahead of this one.
    Now(i64),
    /// Tokens that were made up to this second, Unix seconds.
    Made(i64),
}

/// Revokes tokens up to `until`. Ends the logins that they opened, logins by app sign of that time, and one-shot
/// logins, of which nothing is stored. Returns how many connected logins ended, without one-shot ones; the second up to
/// which tokens are refused now; and whether the revocation reaches further than earlier ones.
pub(super) async fn revoke_tokens(
    tx: &mut Tx<'_>,
    user: UserKey,
    until: Until,
    at: i64,
) -> Result<(u32, i64, bool), Error> {
    let sql = "SELECT tokens_revoked_at, (SELECT COALESCE(MAX(s.proof_at), 0) FROM session s WHERE s.account = $1) \
               FROM account WHERE id = $1";
    let row = tx.fetch_one(sql, &params![user]).await?.ok_or_else(|| Error::internal_text("an account is missing"))?;
    let (before, newest): (i64, i64) = (row.get(0)?, row.get(1)?);
    let wanted = match until {
        // One second later than the last time: the operator may have made a token in the second of that revocation.
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

/// Ends all logins of a user. Returns how many of them were connected, without one-shot ones.
///
/// # Errors
/// The store fails.
pub(crate) async fn end_all(tx: &mut Tx<'_>, user: UserKey, at: i64) -> Result<u32, Error> {
    end_one_shots(tx, user);
    end_logins(tx, user, i64::MAX, at).await
}

fn end_one_shots(tx: &mut Tx<'_>, user: UserKey) {
    tx.emit(Effect::OneShotsEnded { user, reason: SessionEndReason::EndedByOperator });
}

/// Ends a user's logins whose proof was made up to the second `made_until`, as the operator decided.
async fn end_logins(tx: &mut Tx<'_>, user: UserKey, made_until: i64, at: i64) -> Result<u32, Error> {
    let find = "SELECT id, connected FROM session WHERE account = $1 AND state = $2 AND proof_at <= $3";
    let mut connected = 0;
    for row in tx.fetch(find, &params![user, ACTIVE, made_until]).await? {
        let login = LoginKey(row.get(0)?);
        push::unbind_login(tx, login).await?;
        let end = "UPDATE session SET state = $2, connected = 0 WHERE id = $1";
        tx.execute(end, &params![login, ENDED_BY_OPERATOR]).await?;
        tx.emit(Effect::LoginEnded { user, login, reason: SessionEndReason::EndedByOperator });
        connected += u32::from(row.get::<bool>(1)?);
    }
    let connections = Some(presence::connections(tx, user, false).await?);
    presence::change(tx, user, Change { connections, custom: None }, at, LoginKey(0)).await?;
    Ok(connected)
}

const ACCESS: &str = "name, user_name, created_at, banned_at, ban_ends_at, tokens_revoked_at, erased_at";

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
        erased_at: row.get(first + 6)?,
    })
}

/// Returns the operator's decisions about a user.
pub(super) async fn user_access(tx: &mut Tx<'_>, user: UserKey, now: i64) -> Result<Option<UserAccess>, Error> {
    let row = tx.fetch_one(&format!("SELECT {ACCESS} FROM account WHERE id = $1"), &params![user]).await?;
    row.map(|row| access(&row, 0, now)).transpose()
}

/// Returns up to `count` users of an app who are banned now, after the key `after`.
pub(super) async fn banned_users(
    tx: &mut Tx<'_>,
    app: AppKey,
    after: UserKey,
    count: u32,
    now: i64,
) -> Result<ListBannedUsersResult, Error> {
    let sql = format!(
        "SELECT id, {ACCESS} FROM account WHERE app = $1 AND id > $2 AND banned_at > 0 AND erased_at = 0 \
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
