//! Which devices a user may have (the reference's multi-device login), without a store.

use crate::config::{self, MultiDevice};
use crate::key::LoginKey;

/// Web and mini program; every other platform is native.
const WEB: [i32; 2] = [6, 7];

/// Which logins of one user may be active at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DevicePolicy {
    /// One device.
    Single,
    /// One native device and one browser.
    Dual,
    /// Any combination up to these numbers.
    Multi {
        /// The most native devices.
        native: usize,
        /// The most browsers.
        web: usize,
    },
}

impl DevicePolicy {
    /// Returns the configured policy.
    pub fn of(login: &config::Login) -> Self {
        match login.multi_device {
            MultiDevice::Single => Self::Single,
            MultiDevice::Dual => Self::Dual,
            MultiDevice::Multi => Self::Multi { native: login.max_native as usize, web: login.max_web as usize },
        }
    }
}

/// An active login.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Login {
    /// The key.
    pub key: LoginKey,
    /// `PlatformType`.
    pub platform: i32,
    /// The ID of the installation.
    pub device: [u8; 16],
    /// When it began, Unix milliseconds.
    pub login_at: i64,
}

/// Returns the logins that a new one on `platform` and `device` kicks out: those of the same installation, and beyond
/// the limit the earliest.
pub fn kicked_out(policy: DevicePolicy, active: &[Login], platform: i32, device: [u8; 16]) -> Vec<LoginKey> {
    let is_web = |platform: i32| WEB.contains(&platform);
    // A client that does not name its installation counts as a separate one.
    let is_same = |login: &Login| device != [0; 16] && login.device == device;
    let mut out: Vec<LoginKey> = active.iter().filter(|login| is_same(login)).map(|login| login.key).collect();
    let mut competing: Vec<&Login> = active
        .iter()
        .filter(|login| !is_same(login))
        .filter(|login| policy == DevicePolicy::Single || is_web(login.platform) == is_web(platform))
        .collect();
    competing.sort_by_key(|login| (login.login_at, login.key));
    let cap = match policy {
        DevicePolicy::Single | DevicePolicy::Dual => 1,
        DevicePolicy::Multi { native, web } => if is_web(platform) { web } else { native }.max(1),
    };
    let surplus = (competing.len() + 1).saturating_sub(cap);
    out.extend(competing[..surplus].iter().map(|login| login.key));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn login(id: i64, platform: i32, at: i64) -> Login {
        let mut device = [0; 16];
        device[0] = u8::try_from(id).unwrap();
        Login { key: LoginKey(id), platform, device, login_at: at }
    }

    #[test]
    fn single_keeps_only_the_newest() {
        let active = [login(1, 5, 10), login(2, 6, 20)];
        assert_eq!(kicked_out(DevicePolicy::Single, &active, 3, [9; 16]), [LoginKey(1), LoginKey(2)]);
    }

    #[test]
    fn dual_keeps_one_native_and_one_browser() {
        let active = [login(1, 5, 10), login(2, 6, 20)];
        assert_eq!(kicked_out(DevicePolicy::Dual, &active, 3, [9; 16]), [LoginKey(1)]);
        assert_eq!(kicked_out(DevicePolicy::Dual, &active, 6, [9; 16]), [LoginKey(2)]);
    }

    #[test]
    fn multi_kicks_out_the_earliest_beyond_the_cap_only() {
        let policy = DevicePolicy::Multi { native: 3, web: 1 };
        let active = [login(1, 5, 30), login(2, 3, 10)];
        assert!(kicked_out(policy, &active, 3, [9; 16]).is_empty());
        let active = [login(1, 5, 30), login(2, 3, 10), login(3, 4, 20)];
        assert_eq!(kicked_out(policy, &active, 3, [9; 16]), [LoginKey(2)]);
        assert!(kicked_out(policy, &active, 6, [9; 16]).is_empty());
    }

    #[test]
    fn a_login_of_the_same_installation_is_replaced() {
        let policy = DevicePolicy::Multi { native: 2, web: 1 };
        let active = [login(1, 5, 30), login(2, 3, 10)];
        assert_eq!(kicked_out(policy, &active, 5, active[0].device), [LoginKey(1)]);
    }
}
