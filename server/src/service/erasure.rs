//! Erases a user. The call itself ends the sessions for ever and removes the profile. The rest is an entry of the outbox: it needs
//! the scopes of many users and conversations, one after the other, and each step has an effect of its own. A server that is killed
//! repeats a step, which then finds less to do.
//!
//! A write of the user may be under way during the call, or reach a node that has not heard of it. So all steps are done twice: at
//! once, and when no such write can come any more.

use std::collections::BTreeSet;

use zim_protocol::server::{BlacklistService, FriendService, GroupService};
use zim_protocol::{
    DeleteFriendsRequest, EraseUserRequest, EraseUserResult, FriendDeleteConfig, FriendDeleteType, LeaveGroupRequest,
    RemoveUsersFromBlacklistRequest,
};

use super::friend::APPLICATION;
use super::group::{GROUP_APPLICATION, deciders};
use super::media::erase_files;
use super::session::end_all;
use super::user::{self, ProfileField};
use crate::app::App;
use crate::connection::Caller;
use crate::db::{Scope, Tx, params};
use crate::error::Error;
use crate::journal::LogWriter;
use crate::key::{AppKey, ConversationKey, LoginKey, UserKey};
use crate::presence::{self, Change, Custom};
use crate::task::{self, Delivery, Next, OutboxKind};
use crate::tenant::Tenant;

/// Users, groups and rows of one step.
const USERS: i64 = 20;
const GROUPS: i64 = 10;
const ROWS: i64 = 500;

/// The steps of each of the two rounds.
const STEPS: i64 = 8;
/// The time from the call to the second round. A write waits less for its turn, and a node learns sooner that a login has ended.
const LATE_MS: i64 = 60_000;

/// Erases a user; the cause is the user. The cursor is the step; after the first round it is `STEPS`, and the steps of the second
/// round follow.
pub(crate) static ERASURE: OutboxKind<App> = OutboxKind {
    number: 93,
    name: "erasure",
    has_lanes: false,
    deliver: |app, delivery| Box::pin(async move { step(&app, delivery).await }),
};

/// Tables with rows that are the user's alone, and the columns that tell the rows of one user apart.
const OWN: [(&str, &str); 9] = [
    ("session", "id"),
    ("feed", "pos"),
    ("push_id", "id"),
    ("push_log", "id"),
    ("push", "id"),
    ("conversation_setting", "conversation"),
    ("all_deleted", "account"),
    ("hidden", "conversation, seq"),
    ("subscription", "target"),
];

impl App {
    /// Erases a user. Returns how many sessions ended.
    ///
    /// # Errors
    /// There is no such user, the ID is not confirmed, or the store fails.
    pub(super) async fn erase_user(
        &self,
        operator: &Caller,
        tenant: &Tenant,
        request: EraseUserRequest,
    ) -> Result<EraseUserResult, Error> {
        let EraseUserRequest { app_id: _, user_id, confirm } = request;
        let user = self.user_key(tenant.key, &user_id).await?.ok_or_else(|| Error::user_not_found(&user_id))?;
        if confirm != user_id {
            return Err(Error::params_invalid(
                "confirm must be the ID of the user again: what is erased cannot be restored",
            ));
        }
        let (entry, now, at) = (self.ids.next(), self.clock.now_ms(), self.ids.time_ms());
        let erased = operator.write(&self.db, Scope::user(user), async move |tx, log| {
            let sessions = end(tx, log, user, at).await?;
            let sql = "UPDATE account SET erased_at = CASE WHEN erased_at > 0 THEN erased_at ELSE $2 END, banned_at = $2, \
                       ban_ends_at = 0 WHERE id = $1";
            tx.execute(sql, &params![user, now]).await?;
            task::enqueue(tx, &ERASURE, (entry, user.0), now).await?;
            Ok(sessions)
        });
        Ok(EraseUserResult { sessions: erased.await? })
    }

    /// Returns the erased user as the caller, and the time of the last call; `None`: they are gone with their app.
    async fn erased(&self, user: UserKey) -> Result<Option<(Caller, i64)>, Error> {
        let sql = "SELECT app, name, banned_at FROM account WHERE id = $1 AND erased_at > 0";
        let found = self.db.read(async move |tx| {
            let row = tx.fetch_one(sql, &params![user]).await?;
            row.map(|row| Ok::<_, Error>((row.get::<i64>(0)?, row.get::<String>(1)?, row.get::<i64>(2)?))).transpose()
        });
        let Some((app, user_id, called_at)) = found.await? else { return Ok(None) };
        let Ok(tenant) = self.tenants.of(AppKey(app)) else { return Ok(None) };
        Ok(Some((self.standing_for(&Caller::server(), &tenant, &user_id).await?, called_at)))
    }
}

/// Empties the profile of a user, and ends their sessions. Returns how many were connected.
async fn end(tx: &mut Tx<'_>, log: &mut LogWriter, user: UserKey, at: i64) -> Result<u32, Error> {
    let fields: [fn(String) -> ProfileField; 3] =
        [ProfileField::Name, ProfileField::Avatar, ProfileField::ExtendedData];
    for field in fields {
        user::change(tx, log, user, field(String::new()), at).await?;
    }
    let custom = Some(Custom::new(String::new(), 0, 0));
    presence::change(tx, user, Change { connections: None, custom }, at, LoginKey(0)).await?;
    let sessions = end_all(tx, user, at).await?;
    tx.execute("UPDATE account SET push_rule = NULL, badge = 0 WHERE id = $1", &params![user]).await?;
    Ok(sessions)
}

/// Begins the second round, once its time has come.
async fn begin_again(app: &App, caller: &Caller, called_at: i64) -> Result<Next, Error> {
    let begins_at = called_at.saturating_add(LATE_MS);
    if app.clock.now_ms() < begins_at {
        return Ok(Next::At(begins_at));
    }
    let (user, at) = (caller.identity()?.user, app.ids.time_ms());
    caller.write(&app.db, Scope::user(user), async move |tx, log| end(tx, log, user, at).await).await?;
    Ok(Next::After(STEPS + 1))
}

/// Does a part of a step. Returns the same step if there may be more of it.
async fn step(app: &App, delivery: Delivery) -> Result<Next, Error> {
    let Some((caller, called_at)) = app.erased(UserKey(delivery.cause)).await? else { return Ok(Next::Nothing) };
    let user = caller.identity()?.user;
    let step = match delivery.cursor {
        STEPS => return begin_again(app, &caller, called_at).await,
        first @ ..STEPS => first,
        second => second - STEPS - 1,
    };
    let has_more = match step {
        0 => delete_friends(app, &caller).await?,
        1 => leave_lists_of_friends(app, &caller).await?,
        2 => delete_applications(app, &caller).await?,
        3 => clear_blacklist(app, &caller).await?,
        4 => leave_groups(app, &caller).await?,
        5 => app.erase_messages(caller.identity()?).await?,
        6 => {
            let now = app.clock.now_ms();
            app.db.submit(Scope::user(user), async move |tx| erase_files(tx, user, now).await).await?
        }
        7 => app.db.submit(Scope::user(user), async move |tx| delete_rows(tx, user).await).await?,
        _ => return Ok(Next::Nothing),
    };
    Ok(Next::After(if has_more { delivery.cursor } else { delivery.cursor + 1 }))
}

/// Reads a column of names or keys of up to `limit` rows about a user.
async fn column<T: crate::db::FromValue + Send + 'static>(
    app: &App,
    sql: &'static str,
    user: UserKey,
    limit: i64,
) -> Result<Vec<T>, Error> {
    let found = app.db.read(async move |tx| {
        let rows = tx.fetch(sql, &params![user, limit]).await?;
        Ok(rows.iter().map(|row| row.get(0)).collect::<Result<Vec<T>, _>>()?)
    });
    found.await
}

/// The users on the list of the user, and the user on theirs.
async fn delete_friends(app: &App, caller: &Caller) -> Result<bool, Error> {
    let sql = "SELECT a.name FROM friend f JOIN account a ON a.id = f.friend WHERE f.account = $1 LIMIT $2";
    let user_ids: Vec<String> = column(app, sql, caller.identity()?.user, USERS).await?;
    if user_ids.is_empty() {
        return Ok(false);
    }
    let config = Some(FriendDeleteConfig { r#type: FriendDeleteType::Both as i32 });
    app.delete_friends(caller, DeleteFriendsRequest { user_ids, config }).await?;
    Ok(true)
}

/// The user on the lists of users who are not on theirs.
async fn leave_lists_of_friends(app: &App, caller: &Caller) -> Result<bool, Error> {
    let identity = caller.identity()?;
    let sql = "SELECT a.name FROM friend f JOIN account a ON a.id = f.account WHERE f.friend = $1 LIMIT $2";
    let others: Vec<String> = column(app, sql, identity.user, USERS).await?;
    let tenant = app.tenants.of(identity.app)?;
    for other in &others {
        let other = app.standing_for(&Caller::server(), &tenant, other).await?;
        let config = Some(FriendDeleteConfig { r#type: FriendDeleteType::Single as i32 });
        let user_ids = vec![identity.user_id.to_string()];
        app.delete_friends(&other, DeleteFriendsRequest { user_ids, config }).await?;
    }
    Ok(!others.is_empty())
}

/// Applications of the user and to them, to be friends and to be in a group. The devices of others drop them.
async fn delete_applications(app: &App, caller: &Caller) -> Result<bool, Error> {
    Ok(delete_friend_applications(app, caller).await? || delete_group_application(app, caller).await?)
}

async fn delete_friend_applications(app: &App, caller: &Caller) -> Result<bool, Error> {
    let user = caller.identity()?.user;
    let sql = "SELECT peer FROM friend_application WHERE account = $1 LIMIT $2";
    let peers: Vec<i64> = column(app, sql, user, USERS).await?;
    if peers.is_empty() {
        return Ok(false);
    }
    let scope = Scope::user(user).and_users(peers.iter().copied().map(UserKey));
    let deleted = caller.write(&app.db, scope, async move |tx, log| {
        for peer in peers {
            let sql =
                "DELETE FROM friend_application WHERE (account = $1 AND peer = $2) OR (account = $2 AND peer = $1)";
            tx.execute(sql, &params![user, peer]).await?;
            log.feed(tx, UserKey(peer), &APPLICATION, user).await?;
        }
        Ok(true)
    });
    deleted.await
}

async fn delete_group_application(app: &App, caller: &Caller) -> Result<bool, Error> {
    let user = caller.identity()?.user;
    let Some((id, told)) = app.db.read(async move |tx| next_group_application(tx, user).await).await? else {
        return Ok(false);
    };
    let scope = Scope::user(user).and_users(told.iter().copied());
    let deleted = caller.write(&app.db, scope, async move |tx, log| {
        tx.execute("DELETE FROM group_application WHERE id = $1", &params![id]).await?;
        for other in told {
            log.feed(tx, other, &GROUP_APPLICATION, id).await?;
        }
        Ok(true)
    });
    deleted.await
}

/// Returns an application of the user or to them, and the others whose devices may have it: who invited or was invited, and those who
/// decide in the group.
async fn next_group_application(tx: &mut Tx<'_>, user: UserKey) -> Result<Option<(i64, BTreeSet<UserKey>)>, Error> {
    for column in ["account", "inviter"] {
        let sql =
            format!("SELECT id, conversation, account, inviter FROM group_application WHERE {column} = $1 LIMIT 1");
        let Some(row) = tx.fetch_one(&sql, &params![user]).await? else { continue };
        let mut told: BTreeSet<UserKey> = deciders(tx, ConversationKey(row.get(1)?)).await?.into_iter().collect();
        told.extend([UserKey(row.get(2)?), UserKey(row.get(3)?)]);
        told.retain(|other| *other != user && other.0 != 0);
        return Ok(Some((row.get(0)?, told)));
    }
    Ok(None)
}

async fn clear_blacklist(app: &App, caller: &Caller) -> Result<bool, Error> {
    let sql = "SELECT a.name FROM block b JOIN account a ON a.id = b.blocked WHERE b.account = $1 LIMIT $2";
    let user_ids: Vec<String> = column(app, sql, caller.identity()?.user, USERS).await?;
    if user_ids.is_empty() {
        return Ok(false);
    }
    app.remove_users_from_blacklist(caller, RemoveUsersFromBlacklistRequest { user_ids }).await?;
    Ok(true)
}

/// A group of the user belongs to the member who has been there longest, or ends.
async fn leave_groups(app: &App, caller: &Caller) -> Result<bool, Error> {
    let sql = "SELECT c.name FROM group_member g JOIN conversation c ON c.id = g.conversation \
               WHERE g.account = $1 AND c.end_seq IS NULL LIMIT $2";
    let groups: Vec<String> = column(app, sql, caller.identity()?.user, GROUPS).await?;
    let has_any = !groups.is_empty();
    for group_id in groups {
        app.leave_group(caller, LeaveGroupRequest { group_id }).await?;
    }
    Ok(has_any)
}

/// Deletes some rows that are the user's alone, and empties what the user said in calls, their names in groups and for groups.
async fn delete_rows(tx: &mut Tx<'_>, user: UserKey) -> Result<bool, Error> {
    let mut rows = 0;
    for (table, key) in OWN {
        let some = format!("SELECT {key} FROM {table} WHERE account = $1 LIMIT $2");
        let sql = format!("DELETE FROM {table} WHERE account = $1 AND ({key}) IN ({some})");
        rows += tx.execute(&sql, &params![user, ROWS]).await?;
    }
    let sql = "UPDATE account SET subscription_count = (SELECT COUNT(*) FROM subscription s WHERE s.account = $1) WHERE id = $1";
    tx.execute(sql, &params![user]).await?;
    let sql = "UPDATE call_user SET extended_data = '' WHERE account = $1 AND call IN \
               (SELECT u.call FROM call_user u WHERE u.account = $1 AND u.extended_data <> '' LIMIT $2)";
    rows += tx.execute(sql, &params![user, ROWS]).await?;
    let sql = "UPDATE chat_call SET extended_data = '' WHERE id IN (SELECT o.id FROM chat_call o \
               WHERE o.account = $1 AND o.extended_data <> '' LIMIT $2)";
    rows += tx.execute(sql, &params![user, ROWS]).await?;
    // Whoever cancelled or ended a call need not be its caller.
    let sql = "UPDATE chat_call SET operated_data = '' WHERE id IN (SELECT o.id FROM call_user u JOIN chat_call o ON o.id = u.call \
               WHERE u.account = $1 AND o.operator = $1 AND o.operated_data <> '' LIMIT $2)";
    rows += tx.execute(sql, &params![user, ROWS]).await?;
    // The groups of others are left. A group that was dismissed keeps its last members.
    let sql = "UPDATE group_member SET nickname = '' WHERE account = $1 AND conversation IN (SELECT g.conversation \
               FROM group_member g WHERE g.account = $1 AND g.nickname <> '' LIMIT $2)";
    rows += tx.execute(sql, &params![user, ROWS]).await?;
    let sql = "UPDATE member SET alias = '' WHERE account = $1 AND conversation IN (SELECT m.conversation \
               FROM member m WHERE m.account = $1 AND m.alias <> '' LIMIT $2)";
    rows += tx.execute(sql, &params![user, ROWS]).await?;
    Ok(rows > 0)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::db::MIGRATIONS;

    /// Tables whose rows of the user, or the texts in them, the other steps remove.
    const IN_STEPS: [&str; 10] = [
        "block",
        "call_user",
        "chat_call",
        "friend",
        "friend_application",
        "group_application",
        "group_member",
        "media",
        "member",
        "presence",
    ];
    /// Tables that only say that the user was there, and those that end with their room.
    const STAYS: [&str; 7] =
        ["media_usage", "reaction", "receipt", "room_member", "room_member_attribute", "span", "target"];

    /// The tables that have rows of one user.
    fn of_a_user() -> BTreeSet<&'static str> {
        let (mut found, mut table) = (BTreeSet::new(), "");
        for line in MIGRATIONS.iter().flat_map(|migration| migration.sql.lines()) {
            if let Some((name, _)) = line.strip_prefix("CREATE TABLE ").and_then(|rest| rest.split_once(' ')) {
                table = name;
            } else if line.starts_with(')') {
                table = "";
            } else if !table.is_empty() && line.trim_start().starts_with("account ") {
                found.insert(table);
            }
            let added = line.strip_prefix("ALTER TABLE ").and_then(|rest| rest.split_once(" ADD COLUMN account "));
            found.extend(added.map(|(name, _)| name));
        }
        found
    }

    #[test]
    fn what_becomes_of_every_table_with_rows_of_a_user_is_known() {
        let known: Vec<&str> = OWN.iter().map(|(table, _)| *table).chain(IN_STEPS).chain(STAYS).collect();
        let distinct: BTreeSet<&str> = known.iter().copied().collect();
        assert_eq!(known.len(), distinct.len(), "one of the lists has it");
        assert_eq!(of_a_user(), distinct, "decide what becomes of it when its user is erased, and add it to the page");
    }
}
