//! Profiles.

use zim_protocol::{Event, Snapshot, UserFullInfo, UserInfo, UserInfoUpdatedEvent};

use super::Transaction;
use crate::store::user;

impl Transaction<'_> {
    /// Applies the profile of a login. A device that was away learns what other devices changed; a change by the login
    /// itself is not news.
    pub(super) fn logged_in(&mut self, info: UserFullInfo, is_named: bool) -> rusqlite::Result<()> {
        let mut before = user::read(self.db, &self.viewer.user_id)?;
        if let (true, Some(before), Some(now)) =
            (is_named, before.as_mut().and_then(|before| before.base_info.as_mut()), &info.base_info)
        {
            before.user_name.clone_from(&now.user_name);
        }
        self.store_profile(&info)?;
        if before.is_some_and(|before| before != info) {
            self.raise(Event::UserInfoUpdated(UserInfoUpdatedEvent { info: Some(info) }));
        }
        Ok(())
    }

    /// Applies a snapshot of other users. Their conversations are updated too.
    pub(super) fn snapshot(&mut self, snapshot: Snapshot) -> rusqlite::Result<()> {
        self.profiles(&snapshot.profiles)?;
        snapshot.statuses.into_iter().try_for_each(|status| self.user_status(status).map(drop))
    }

    pub(super) fn profiles(&mut self, profiles: &[UserFullInfo]) -> rusqlite::Result<()> {
        profiles.iter().try_for_each(|info| self.store_profile(info).map(drop))
    }
}

/// Builds a profile with the deprecated duplicate fields of the reference.
pub(super) fn full_info(info: UserInfo) -> UserFullInfo {
    let (user_avatar_url, extended_data) = (info.user_avatar_url.clone(), info.user_extended_data.clone());
    UserFullInfo { base_info: Some(info), user_avatar_url, extended_data }
}
