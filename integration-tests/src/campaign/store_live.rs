//! Rooms and calls as the server stores them.

use std::collections::BTreeMap;

use anyhow::Context;

use super::store::Store;

/// Attributes by key.
pub(super) type Attributes = BTreeMap<String, String>;

/// A room as the server stores it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct StoredRoom {
    /// The counted number of members.
    pub(super) count: usize,
    /// The members, each with their device.
    pub(super) members: BTreeMap<String, String>,
    /// The attributes.
    pub(super) attributes: Attributes,
    /// The attributes of members, and of users who may return.
    pub(super) of_members: BTreeMap<String, Attributes>,
}

/// A call as the server stores it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct StoredCall {
    /// Whether it is in advanced mode.
    pub(super) is_advanced: bool,
    /// `CallState`.
    pub(super) state: i64,
    /// The caller.
    pub(super) caller: String,
    /// When it ended; 0: it has not.
    pub(super) ended_at: i64,
    /// Everybody who was in it or was asked into it.
    pub(super) users: BTreeMap<String, StoredCallUser>,
}

/// A user of a call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct StoredCallUser {
    /// `CallUserState`.
    pub(super) state: i64,
    /// The main device; empty: none.
    pub(super) device: String,
    /// When the invitation ends; 0: there was none.
    pub(super) expires_at: i64,
}

impl Store {
    /// Reads all rooms, by their IDs.
    ///
    /// # Errors
    /// The database cannot be read.
    pub(super) fn rooms(&self) -> anyhow::Result<BTreeMap<String, StoredRoom>> {
        let mut all: BTreeMap<String, StoredRoom> = BTreeMap::new();
        let of = "JOIN conversation c ON c.id = r.conversation";
        for row in self.rows(&format!("SELECT c.name, CAST(r.members AS TEXT) FROM room r {of}"))? {
            all.entry(row[0].clone()).or_default().count = row[1].parse()?;
        }
        let device = self.hex("r.device");
        let account = "JOIN account a ON a.id = r.account";
        for row in self.rows(&format!("SELECT c.name, a.name, {device} FROM room_member r {of} {account}"))? {
            all.entry(row[0].clone()).or_default().members.insert(row[1].clone(), row[2].to_lowercase());
        }
        for row in self.rows(&format!("SELECT c.name, r.key, r.value FROM room_attribute r {of}"))? {
            all.entry(row[0].clone()).or_default().attributes.insert(row[1].clone(), row[2].clone());
        }
        let sql = format!("SELECT c.name, a.name, r.key, r.value FROM room_member_attribute r {of} {account}");
        for row in self.rows(&sql)? {
            let of_members = &mut all.entry(row[0].clone()).or_default().of_members;
            of_members.entry(row[1].clone()).or_default().insert(row[2].clone(), row[3].clone());
        }
        Ok(all)
    }

    /// Reads all calls, by their IDs.
    ///
    /// # Errors
    /// The database cannot be read.
    pub(super) fn calls(&self) -> anyhow::Result<BTreeMap<String, StoredCall>> {
        let mut all: BTreeMap<String, StoredCall> = BTreeMap::new();
        let sql = "SELECT CAST(c.public_id AS TEXT), CAST(c.mode AS TEXT), CAST(c.state AS TEXT), a.name, \
                   CAST(c.ended_at AS TEXT) FROM chat_call c JOIN account a ON a.id = c.account";
        for row in self.rows(sql)? {
            let call = StoredCall {
                is_advanced: row[1] == "1",
                state: row[2].parse()?,
                caller: row[3].clone(),
                ended_at: row[4].parse()?,
                users: BTreeMap::new(),
            };
            all.insert(row[0].clone(), call);
        }
        let sql = format!(
            "SELECT CAST(c.public_id AS TEXT), a.name, CAST(u.state AS TEXT), CAST(u.expires_at AS TEXT), {} \
             FROM call_user u JOIN chat_call c ON c.id = u.call JOIN account a ON a.id = u.account",
            self.hex("u.device")
        );
        for row in self.rows(&sql)? {
            let device = row.get(4).map(|device| device.to_lowercase()).unwrap_or_default();
            let user = StoredCallUser { state: row[2].parse()?, expires_at: row[3].parse()?, device };
            all.get_mut(&row[0]).context("a user of no call")?.users.insert(row[1].clone(), user);
        }
        Ok(all)
    }
}
