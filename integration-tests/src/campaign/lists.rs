//! Friends, applications, blacklists and profiles: as the server stores them, as a device holds them, and as the events
//! of a device describe them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use prost::Message as _;
use rusqlite::Connection;
use serde_json::Value;
use zim_protocol::UserStatus;

use super::record::RaisedEvent;
use super::rows;
use super::store::Store;

/// A friend, as a friend list shows them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Friend {
    /// The alias.
    pub(super) alias: String,
    /// The profile.
    pub(super) profile: Profile,
}

/// The public profile of a user.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Profile {
    /// The user's name.
    pub(super) name: String,
    /// The URL of the avatar.
    pub(super) avatar: String,
}

/// A friend application, as one of the two users sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Application {
    /// `FriendApplicationType`.
    pub(super) kind: i64,
    /// `FriendApplicationState`.
    pub(super) state: i64,
    /// The wording.
    pub(super) wording: String,
}

/// The lists of a user, by the id of the other user.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Lists {
    /// The friends.
    pub(super) friends: BTreeMap<String, Friend>,
    /// The friend applications.
    pub(super) applications: BTreeMap<String, Application>,
    /// The blacklist.
    pub(super) blocked: BTreeSet<String>,
}

/// The users whose status a user subscribes to, with their custom statuses.
pub(super) type Subscriptions = BTreeMap<String, String>;

/// The lists, profiles and subscriptions that a device holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct DeviceLists {
    /// The lists.
    pub(super) lists: Lists,
    /// The profiles, by user id.
    pub(super) profiles: BTreeMap<String, Profile>,
    /// The subscriptions.
    pub(super) subscriptions: Subscriptions,
}

fn number(text: &str) -> i64 {
    text.parse().unwrap_or(i64::MIN)
}

/// Reads the lists and profiles of all users from the server's database.
///
/// # Errors
/// The database cannot be read.
pub(super) fn kept(store: &Store) -> anyhow::Result<(BTreeMap<String, Lists>, BTreeMap<String, Profile>)> {
    let mut all: BTreeMap<String, Lists> = BTreeMap::new();
    let mut profiles = BTreeMap::new();
    for row in store.rows("SELECT name, user_name, avatar_url FROM account")? {
        let [user, name, avatar] = row.as_slice() else { continue };
        all.entry(user.clone()).or_default();
        profiles.insert(user.clone(), Profile { name: name.clone(), avatar: avatar.clone() });
    }
    let both = |table: &str, other: &str, columns: &str| {
        format!(
            "SELECT a.name, b.name{columns} FROM {table} t JOIN account a ON a.id = t.account \
             JOIN account b ON b.id = t.{other}"
        )
    };
    for row in store.rows(&both("friend", "friend", ", t.alias, b.user_name, b.avatar_url"))? {
        let [user, peer, alias, name, avatar] = row.as_slice() else { continue };
        let profile = Profile { name: name.clone(), avatar: avatar.clone() };
        all.entry(user.clone()).or_default().friends.insert(peer.clone(), Friend { alias: alias.clone(), profile });
    }
    let columns = ", CAST(t.type AS TEXT), CAST(t.state AS TEXT), t.wording";
    for row in store.rows(&both("friend_application", "peer", columns))? {
        let [user, peer, kind, state, wording] = row.as_slice() else { continue };
        let application = Application { kind: number(kind), state: number(state), wording: wording.clone() };
        all.entry(user.clone()).or_default().applications.insert(peer.clone(), application);
    }
    for row in store.rows(&both("block", "blocked", ""))? {
        let [user, peer] = row.as_slice() else { continue };
        all.entry(user.clone()).or_default().blocked.insert(peer.clone());
    }
    Ok((all, profiles))
}

/// Reads the subscriptions and custom statuses of all users from the server's database.
///
/// # Errors
/// The database cannot be read.
pub(super) fn presence(store: &Store) -> anyhow::Result<(BTreeMap<String, Subscriptions>, BTreeMap<String, String>)> {
    let custom_statuses =
        store.rows("SELECT a.name, COALESCE(p.custom, '') FROM account a LEFT JOIN presence p ON p.account = a.id")?;
    let custom_statuses: BTreeMap<String, String> = custom_statuses
        .into_iter()
        .filter_map(|row| match row.as_slice() {
            [user, custom] => Some((user.clone(), custom.clone())),
            _ => None,
        })
        .collect();
    let mut subscriptions: BTreeMap<String, Subscriptions> = BTreeMap::new();
    let sql = "SELECT a.name, b.name FROM subscription s JOIN account a ON a.id = s.account JOIN account b ON b.id = s.target";
    for row in store.rows(sql)? {
        let [user, peer] = row.as_slice() else { continue };
        let status = custom_statuses.get(peer).cloned().unwrap_or_default();
        subscriptions.entry(user.clone()).or_default().insert(peer.clone(), status);
    }
    Ok((subscriptions, custom_statuses))
}

/// Reads what a device holds in the database in `folder`.
///
/// # Errors
/// There is no database.
pub(super) fn held(folder: &Path) -> anyhow::Result<DeviceLists> {
    known(&rows::open(folder)?)
}

pub(super) fn known(db: &Connection) -> anyhow::Result<DeviceLists> {
    let mut known = DeviceLists::default();
    let mut statement = db.prepare("SELECT user_id, user_name, avatar_url FROM user")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        known.profiles.insert(row.get(0)?, Profile { name: row.get(1)?, avatar: row.get(2)? });
    }
    let mut statement = db.prepare("SELECT user_id, alias FROM friend")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let user: String = row.get(0)?;
        let profile = known.profiles.get(&user).cloned().unwrap_or_default();
        known.lists.friends.insert(user, Friend { alias: row.get(1)?, profile });
    }
    let mut statement = db.prepare("SELECT user_id, type, state, wording FROM friend_application")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let application = Application { kind: row.get(1)?, state: row.get(2)?, wording: row.get(3)? };
        known.lists.applications.insert(row.get(0)?, application);
    }
    let mut statement = db.prepare("SELECT user_id FROM block")?;
    known.lists.blocked = statement.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
    let mut statement =
        db.prepare("SELECT s.user_id, t.status FROM subscription s LEFT JOIN status t ON t.user_id = s.user_id")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let status = UserStatus::decode(&row.get::<_, Option<Vec<u8>>>(1)?.unwrap_or_default()[..])?;
        known.subscriptions.insert(row.get(0)?, status.custom_status);
    }
    Ok(known)
}

impl Lists {
    /// Applies events in order, as an app does.
    pub(super) fn apply_events<'e>(&mut self, raised: impl Iterator<Item = &'e RaisedEvent>) {
        for one in raised {
            self.apply_event(&one.event);
        }
    }

    fn apply_event(&mut self, event: &Value) {
        let list = |name: &str| event[name].as_array().into_iter().flatten();
        let word = |value: &Value, name: &str| value[name].as_str().unwrap_or_default().to_owned();
        let is_gone = event["action"] == 1;
        match event["name"].as_str().unwrap_or_default() {
            "friendListChanged" if is_gone => {
                list("friendList").for_each(|info| drop(self.friends.remove(&word(info, "userID"))));
            }
            "friendListChanged" | "friendInfoUpdated" => {
                for info in list("friendList") {
                    let profile = Profile { name: word(info, "userName"), avatar: word(info, "userAvatarUrl") };
                    let friend = Friend { alias: word(info, "friendAlias"), profile };
                    self.friends.insert(word(info, "userID"), friend);
                }
            }
            "friendApplicationListChanged" if is_gone => {
                let ids = list("applicationList").map(|info| word(&info["applyUser"], "userID"));
                ids.for_each(|id| drop(self.applications.remove(&id)));
            }
            "friendApplicationListChanged" | "friendApplicationUpdated" => {
                for info in list("applicationList") {
                    let [kind, state] = ["type", "state"].map(|name| info[name].as_i64().unwrap_or(i64::MIN));
                    let application = Application { kind, state, wording: word(info, "wording") };
                    self.applications.insert(word(&info["applyUser"], "userID"), application);
                }
            }
            "blacklistChanged" => {
                for user in list("userList").map(|user| word(user, "userID")) {
                    if is_gone {
                        self.blocked.remove(&user);
                    } else {
                        self.blocked.insert(user);
                    }
                }
            }
            _ => {}
        }
    }
}
