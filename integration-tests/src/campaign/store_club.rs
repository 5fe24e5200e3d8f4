//! What the server and the devices have about the second group, beside what they have about every group.

use std::collections::BTreeMap;
use std::path::Path;

use prost::Message as _;
use zim_protocol::{GroupApplicationEntry, GroupFullInfo};

use super::plan::CLUB;
use super::rows;
use super::store::Store;

/// Who joins, who invites, and whether who is invited must agree.
pub(super) type Modes = [i64; 3];

/// An application as the server stores it.
#[derive(Clone, Debug)]
pub(super) struct StoredApplication {
    /// Who would enter.
    pub(super) user: String,
    /// The member who asks them to; empty: they apply.
    pub(super) inviter: String,
    /// `GroupApplicationState`.
    pub(super) state: i64,
}

/// What a device has about the group.
#[derive(Clone, Debug, Default)]
pub(super) struct ClubRows {
    /// How the group is entered; `None`: its user is no member.
    pub(super) modes: Option<Modes>,
    /// The states of applications, `GroupApplicationState`, by their IDs.
    pub(super) applications: BTreeMap<i64, i64>,
}

impl Store {
    /// Reads the applications of a group by their IDs.
    ///
    /// # Errors
    /// The database cannot be read.
    pub(super) fn applications(&self, group: &str) -> anyhow::Result<BTreeMap<i64, StoredApplication>> {
        let sql = format!(
            "SELECT CAST(p.id AS TEXT), a.name, COALESCE(i.name, ''), CAST(p.state AS TEXT) FROM group_application p \
             JOIN account a ON a.id = p.account LEFT JOIN account i ON i.id = p.inviter WHERE p.conversation = {group}"
        );
        let one = |row: Vec<String>| {
            let (user, inviter) = (row[1].clone(), row[2].clone());
            Ok((row[0].parse()?, StoredApplication { user, inviter, state: row[3].parse()? }))
        };
        self.rows(&sql)?.into_iter().map(one).collect()
    }
}

/// Reads what the device in `folder` has.
///
/// # Errors
/// There is no database.
pub(super) fn held(folder: &Path) -> anyhow::Result<ClubRows> {
    let db = rows::open(folder)?;
    let mut all = ClubRows::default();
    let mut statement = db.prepare("SELECT info FROM chat_group WHERE group_id = ?1 AND role > 0")?;
    for info in statement.query_map([CLUB], |row| row.get::<_, Vec<u8>>(0))? {
        let verify = GroupFullInfo::decode(&*info?)?.verify_info.unwrap_or_default();
        all.modes = Some([verify.join_mode, verify.invite_mode, verify.be_invite_mode].map(i64::from));
    }
    let mut statement = db.prepare("SELECT entry FROM group_application")?;
    for entry in statement.query_map([], |row| row.get::<_, Vec<u8>>(0))? {
        let entry = GroupApplicationEntry::decode(&*entry?)?;
        let state = entry.info.map_or(0, |info| info.state);
        all.applications.insert(entry.id, i64::from(state));
    }
    Ok(all)
}
