//! The rules of presence, without a store.

use zim_protocol::{PlatformType, UserOnlineStatus, UserStatus};

/// The default duration of a custom status, milliseconds: a day, as in the reference.
const CUSTOM_MS: i64 = 86_400_000;

/// A user's stored status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Presence {
    pub(crate) online: UserOnlineStatus,
    /// A bit for each `PlatformType`.
    pub(crate) platforms: i64,
    pub(crate) online_at: i64,
    pub(crate) custom: String,
    pub(crate) custom_at: i64,
    /// When the custom status expires, Unix milliseconds; 0 if it does not.
    pub(crate) custom_ends_at: i64,
}

impl Default for Presence {
    /// The status of a user who was never online.
    fn default() -> Self {
        Self {
            online: UserOnlineStatus::Offline,
            platforms: 0,
            online_at: 0,
            custom: String::new(),
            custom_at: 0,
            custom_ends_at: 0,
        }
    }
}

/// The platforms on which a user is connected now.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Connections {
    /// A bit for each `PlatformType`.
    pub(crate) platforms: i64,
    /// Whether the last connection ended by a logout.
    pub(crate) has_logged_out: bool,
}

/// The text that a user sets as their status.
#[derive(Clone, Debug)]
pub(crate) struct Custom {
    text: String,
    ends_at: i64,
}

impl Custom {
    /// `duration_s` is as in the reference: 0 is a day, and -1 lasts until the status is changed.
    pub(crate) fn new(text: String, duration_s: i64, now: i64) -> Self {
        let ends_at = match duration_s {
            _ if text.is_empty() => 0,
            ..0 => 0,
            0 => now.saturating_add(CUSTOM_MS),
            seconds => now.saturating_add(seconds.saturating_mul(1_000)),
        };
        Self { text, ends_at }
    }
}

/// An event that may change a status.
#[derive(Clone, Debug, Default)]
pub(crate) struct Change {
    pub(crate) connections: Option<Connections>,
    pub(crate) custom: Option<Custom>,
}

impl Presence {
    /// Returns the status after a change at `now`, or `None` if it is the same. The times of one user never fall or
    /// repeat, whatever the clock does, so that the newer of two statuses can be identified.
    pub(crate) fn after(&self, change: Change, now: i64) -> Option<Self> {
        let mut next = self.clone();
        if let Some(connections) = change.connections {
            next.platforms = connections.platforms;
            next.online = match (connections.platforms, self.online) {
                (0, _) if connections.has_logged_out => UserOnlineStatus::Logout,
                (0, UserOnlineStatus::Online) => UserOnlineStatus::Offline,
                // The user was not online before, so the state stays as it is.
                (0, before) => before,
                _ => UserOnlineStatus::Online,
            };
            if (next.online, next.platforms) != (self.online, self.platforms) {
                next.online_at = now.max(self.online_at.saturating_add(1));
            }
        }
        if let Some(Custom { text, ends_at }) = change.custom
            && (&text, ends_at) != (&self.custom, self.custom_ends_at)
        {
            next.custom_at = now.max(self.custom_at.saturating_add(1));
            (next.custom, next.custom_ends_at) = (text, ends_at);
        }
        (next != *self).then_some(next)
    }

    /// Encodes the status.
    pub(crate) fn into_status(self, user_id: String) -> UserStatus {
        UserStatus {
            user_id,
            online_status: self.online as i32,
            online_platforms: platforms(self.platforms),
            custom_status: self.custom,
            custom_status_expired_time: self.custom_ends_at,
            last_update_time: self.online_at.max(self.custom_at),
            last_online_status_update_time: self.online_at,
            last_custom_status_update_time: self.custom_at,
        }
    }
}

/// The bit of a `PlatformType`.
pub(crate) fn bit(platform: i32) -> i64 {
    1_i64.checked_shl(platform.unsigned_abs()).unwrap_or(0)
}

/// The `PlatformType`s of these bits, ascending.
fn platforms(bits: i64) -> Vec<i32> {
    (0..i64::BITS.cast_signed())
        .filter(|platform| bits & bit(*platform) != 0 && PlatformType::try_from(*platform).is_ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connected(platforms: i64, has_logged_out: bool) -> Change {
        Change { connections: Some(Connections { platforms, has_logged_out }), custom: None }
    }

    fn custom(text: &str, duration_s: i64, now: i64) -> Change {
        Change { connections: None, custom: Some(Custom::new(text.to_owned(), duration_s, now)) }
    }

    #[test]
    fn offline_and_logout_are_different() {
        let never = Presence::default();
        assert_eq!(never.after(connected(0, false), 10), None);
        let online = never.after(connected(bit(5), false), 10).unwrap();
        assert_eq!((online.online, online.online_at), (UserOnlineStatus::Online, 10));
        assert_eq!(online.after(connected(bit(5), false), 20), None);
        let lost = online.after(connected(0, false), 20).unwrap();
        assert_eq!((lost.online, lost.online_at), (UserOnlineStatus::Offline, 20));
        let left = online.after(connected(0, true), 20).unwrap();
        assert_eq!(left.online, UserOnlineStatus::Logout);
        assert_eq!(left.after(connected(0, false), 30), None, "a connection that ends after the logout is no loss");
        assert_eq!(lost.after(connected(0, true), 30).unwrap().online, UserOnlineStatus::Logout);
    }

    #[test]
    fn a_user_who_logs_out_on_one_of_two_devices_is_online() {
        let both = Presence::default().after(connected(bit(3) | bit(6), false), 10).unwrap();
        assert_eq!(both.clone().into_status("ann".to_owned()).online_platforms, [3, 6]);
        let one = both.after(connected(bit(6), true), 20).unwrap();
        assert_eq!((one.online, one.online_at), (UserOnlineStatus::Online, 20));
        assert_eq!(one.into_status("ann".to_owned()).online_platforms, [6]);
    }

    #[test]
    fn times_never_fall_or_repeat() {
        let first = Presence::default().after(connected(bit(1), false), 1_000).unwrap();
        assert_eq!(first.after(connected(0, false), 1_000).unwrap().online_at, 1_001);
        assert_eq!(first.after(connected(0, false), 5).unwrap().online_at, 1_001);
        let busy = first.after(custom("busy", -1, 1_000), 1_000).unwrap();
        assert_eq!(busy.after(custom("free", -1, 5), 5).unwrap().custom_at, 1_001);
    }

    #[test]
    fn a_custom_status_lasts_a_day_by_default() {
        let ends = |text, duration_s| Custom::new(String::from(text), duration_s, 1_000).ends_at;
        assert_eq!((ends("busy", 0), ends("busy", -1), ends("busy", 7)), (1_000 + CUSTOM_MS, 0, 8_000));
        assert_eq!((ends("", 7), ends("busy", i64::MAX)), (0, i64::MAX));
        let busy = Presence::default().after(custom("busy", 7, 1_000), 1_000).unwrap();
        assert_eq!(busy.after(custom("busy", 7, 1_000), 2_000), None);
        assert_eq!(busy.after(custom("busy", 7, 2_000), 2_000).unwrap().custom_ends_at, 9_000);
        let status = busy.into_status("ann".to_owned());
        assert_eq!((status.last_update_time, status.last_online_status_update_time), (1_000, 0));
    }

    #[test]
    fn every_platform_has_a_bit() {
        let all = [0, 1, 2, 3, 4, 5, 6, 7, 9, 10, 32];
        let bits = all.iter().fold(0, |bits, platform| bits | bit(*platform));
        assert_eq!(bits.count_ones(), 11);
        assert_eq!(platforms(bits), all);
        assert_eq!(platforms(-1), all);
        assert_eq!(bit(64), 0);
    }
}
