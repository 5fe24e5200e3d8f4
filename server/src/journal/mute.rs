//! Who may not write to a group, and until when. Nothing happens when a mute ends: it is compared with the time when it is read.

use zim_protocol::GroupMuteMode;

use crate::db::Row;
use crate::error::Error;

/// The role that [`GroupMuteMode::Normal`] mutes.
const MEMBER: i64 = 3;

/// The columns of [`Mute`], of a member `g` of a group `h`.
pub const MUTE: &str = "g.role, g.mute_until, h.mute_mode, h.mute_until, h.mute_roles";

/// The mutes that concern one member.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mute {
    role: i64,
    member_until: i64,
    mode: i32,
    group_until: i64,
    roles: Vec<i64>,
}

impl Mute {
    /// Reads the columns of [`MUTE`], of which the first is column `first`.
    ///
    /// # Errors
    /// A column has another type.
    pub fn read(row: &Row, first: usize) -> Result<Self, Error> {
        Ok(Self {
            role: row.get(first)?,
            member_until: row.get(first + 1)?,
            mode: row.get(first + 2)?,
            group_until: row.get(first + 3)?,
            roles: roles(row, first + 4)?,
        })
    }

    /// Until when the member may not write, Unix milliseconds; 0: they may, -1: never again.
    pub fn until(&self, now: i64) -> i64 {
        let is_meant = match GroupMuteMode::try_from(self.mode) {
            Ok(GroupMuteMode::All) => true,
            Ok(GroupMuteMode::Normal) => self.role == MEMBER,
            Ok(GroupMuteMode::Custom) => self.roles.contains(&self.role),
            Ok(GroupMuteMode::None) | Err(_) => false,
        };
        later(at(self.member_until, now), if is_meant { at(self.group_until, now) } else { 0 })
    }
}

/// Reads a column with roles.
///
/// # Errors
/// The column has another type.
pub fn roles(row: &Row, column: usize) -> Result<Vec<i64>, Error> {
    serde_json::from_str(&row.get::<String>(column)?).map_err(Error::internal)
}

/// Returns the end of a mute at a time; 0 if it is over.
pub fn at(until: i64, now: i64) -> i64 {
    if until == -1 || until > now { until } else { 0 }
}

/// Returns the later end of two.
fn later(one: i64, other: i64) -> i64 {
    if one == -1 || other == -1 { -1 } else { one.max(other) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_later_of_two_mutes_counts_and_ends_by_itself() {
        let mute = |role, member_until, mode: GroupMuteMode, group_until, roles: &[i64]| {
            Mute { role, member_until, mode: mode as i32, group_until, roles: roles.to_vec() }.until(100)
        };
        for (member, group, expected) in
            [(0, 0, 0), (100, 100, 0), (101, 0, 101), (0, 101, 101), (150, 120, 150), (-1, 120, -1), (120, -1, -1)]
        {
            assert_eq!(mute(3, member, GroupMuteMode::All, group, &[]), expected, "{member} {group}");
        }
    }

    #[test]
    fn a_mode_mutes_its_roles_alone() {
        let muted = |mode: GroupMuteMode, roles: &[i64]| {
            let of = |role| Mute { role, mode: mode as i32, group_until: -1, roles: roles.to_vec(), member_until: 0 };
            [1, 2, 3, 77].into_iter().filter(|role| of(*role).until(100) == -1).collect::<Vec<_>>()
        };
        assert_eq!(muted(GroupMuteMode::None, &[1, 2, 3]), [0; 0]);
        assert_eq!(muted(GroupMuteMode::Normal, &[]), [3]);
        assert_eq!(muted(GroupMuteMode::All, &[]), [1, 2, 3, 77]);
        assert_eq!(muted(GroupMuteMode::Custom, &[2, 77]), [2, 77]);
    }
}
