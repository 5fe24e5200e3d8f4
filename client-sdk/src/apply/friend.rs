//! Friends and friend applications. The local copy tells whether an entry is news, so a push, a pull and a sync raise
//! the same events.

use rusqlite::Connection;
use zim_protocol::{
    ConversationType, Event, FriendApplicationEntry, FriendApplicationInfo, FriendApplicationListChangeAction,
    FriendApplicationListChangedEvent, FriendApplicationUpdatedEvent, FriendEntry, FriendInfo, FriendInfoUpdatedEvent,
    FriendListChangeAction, FriendListChangedEvent, UserFullInfo, UserInfo,
};

use super::Transaction;
use super::user::full_info;
use crate::engine::Origin;
use crate::store::user::Gap;
use crate::store::{conversation, friend, friend_application, user};
use crate::types::Name;

/// Writes a profile; returns whether it is new.
type Write = fn(&Connection, &UserFullInfo) -> rusqlite::Result<bool>;

impl Transaction<'_> {
    /// Applies an entry of the list of friends. The alias of a friend is the alias of the conversation.
    pub(super) fn friend(&mut self, entry: &FriendEntry, origin: Origin) -> rusqlite::Result<()> {
        let Some(info) = &entry.info else { return Ok(()) };
        let before = friend::read(self.db, &info.user_id)?;
        self.touch_peer(&info.user_id)?;
        if entry.is_deleted {
            friend::remove(self.db, &info.user_id)?;
        } else {
            let is_known = user::read(self.db, &info.user_id)?.is_some();
            self.needs_audit |= user::write(self.db, &profile(info))? && is_known;
            friend::write(self.db, entry)?;
        }
        match before {
            _ if origin == Origin::First => {}
            Some(before) if entry.is_deleted => self.friend_moved(FriendListChangeAction::Deleted, before),
            None if !entry.is_deleted => self.friend_moved(FriendListChangeAction::Added, info.clone()),
            Some(before) if before != *info => self.friend_updated(info.clone()),
            _ => {}
        }
        Ok(())
    }

    /// Applies an entry of the list of friend applications.
    pub(super) fn application(&mut self, entry: FriendApplicationEntry, origin: Origin) -> rusqlite::Result<()> {
        let Some(peer) = entry.info.as_ref().and_then(|info| info.apply_user.clone()) else { return Ok(()) };
        let before = friend_application::read(self.db, &peer.user_id)?;
        let moved = if entry.is_deleted {
            friend_application::remove(self.db, &peer.user_id)?;
            before.map(|before| (Some(FriendApplicationListChangeAction::Deleted), before))
        } else {
            self.store_incidental_profile(&full_info(peer.clone()))?;
            friend_application::write(self.db, &peer.user_id, &entry)?;
            match before {
                None => Some((Some(FriendApplicationListChangeAction::Added), entry)),
                // A changed profile is not news about the application.
                Some(before) if is_moved(&before, &entry) => Some((None, entry)),
                Some(_) => None,
            }
        };
        if let Some((action, entry)) = moved.filter(|_| origin != Origin::First) {
            self.application_moved(action, friend_application::shown(entry, self.viewer.now_ms));
        }
        Ok(())
    }

    /// Removes what the server did not name since its positions were reset.
    pub(super) fn sweep_friends(&mut self) -> rusqlite::Result<()> {
        for user_id in friend::stale(self.db)? {
            let info = FriendInfo { user_id, ..FriendInfo::default() };
            let gone = FriendEntry { info: Some(info), is_deleted: true, ..FriendEntry::default() };
            self.friend(&gone, Origin::Other)?;
        }
        for user_id in friend_application::stale(self.db)? {
            let apply_user = Some(UserInfo { user_id, ..UserInfo::default() });
            let info = FriendApplicationInfo { apply_user, ..FriendApplicationInfo::default() };
            let entry = FriendApplicationEntry { info: Some(info), is_deleted: true, ..Default::default() };
            self.application(entry, Origin::Other)?;
        }
        Ok(())
    }

    /// Applies a profile that came with something else. A slow answer may arrive after a newer profile was pushed, so a
    /// difference from the known profile may be older; the next sync resolves it. It has no profile of the user, whose own comes with
    /// the login and with the feed only.
    pub(super) fn store_incidental_profile(&mut self, info: &UserFullInfo) -> rusqlite::Result<()> {
        self.store_incidentally(info, user::write)
    }

    /// The same for a profile that came without extended data.
    pub(super) fn store_profile_without_data(&mut self, info: &UserFullInfo) -> rusqlite::Result<()> {
        self.store_incidentally(info, user::write_without_data)
    }

    fn store_incidentally(&mut self, info: &UserFullInfo, write: Write) -> rusqlite::Result<()> {
        let user_id = info.base_info.as_ref().map(|base| base.user_id.as_str()).unwrap_or_default();
        if *user_id == *self.viewer.user_id {
            return Ok(());
        }
        let is_known = user::read_within(self.db, user_id, Gap::Older)?.is_some();
        self.needs_audit |= self.store_by(info, write)? && is_known;
        Ok(())
    }

    /// Stores a profile and updates the conversation; if the user is a friend, the app gets an event. Returns whether
    /// the profile is new.
    pub(super) fn store_profile(&mut self, info: &UserFullInfo) -> rusqlite::Result<bool> {
        self.store_by(info, user::write)
    }

    fn store_by(&mut self, info: &UserFullInfo, write: Write) -> rusqlite::Result<bool> {
        let Some(user_id) = info.base_info.as_ref().map(|base| base.user_id.clone()) else { return Ok(false) };
        self.touch_peer(&user_id)?;
        let is_new = write(self.db, info)?;
        if is_new && let Some(friend) = friend::read(self.db, &user_id)? {
            self.friend_updated(friend);
        }
        Ok(is_new)
    }

    /// Marks the conversation with a user as possibly changed.
    fn touch_peer(&mut self, user_id: &str) -> rusqlite::Result<()> {
        let name = Name::new(ConversationType::Peer as i32, user_id);
        if conversation::id(self.db, &name)?.is_some() {
            self.touch(&name)?;
        }
        Ok(())
    }

    fn friend_moved(&mut self, action: FriendListChangeAction, info: FriendInfo) {
        match self.last_event() {
            Some(Event::FriendListChanged(last)) if last.action() == action => last.friend_list.push(info),
            _ => self.raise(Event::FriendListChanged(FriendListChangedEvent {
                friend_list: vec![info],
                action: action as i32,
            })),
        }
    }

    fn friend_updated(&mut self, info: FriendInfo) {
        match self.last_event() {
            Some(Event::FriendInfoUpdated(last)) => last.friend_list.push(info),
            _ => self.raise(Event::FriendInfoUpdated(FriendInfoUpdatedEvent { friend_list: vec![info] })),
        }
    }

    /// `None`: the application stays in the list and has changed.
    fn application_moved(&mut self, action: Option<FriendApplicationListChangeAction>, info: FriendApplicationInfo) {
        match (self.last_event(), action) {
            (Some(Event::FriendApplicationListChanged(last)), Some(action)) if last.action() == action => {
                last.application_list.push(info);
            }
            (Some(Event::FriendApplicationUpdated(last)), None) => last.application_list.push(info),
            (_, Some(action)) => {
                let event = FriendApplicationListChangedEvent { application_list: vec![info], action: action as i32 };
                self.raise(Event::FriendApplicationListChanged(event));
            }
            (_, None) => {
                let event = FriendApplicationUpdatedEvent { application_list: vec![info] };
                self.raise(Event::FriendApplicationUpdated(event));
            }
        }
    }
}

/// Returns whether an application changed, apart from the profile of the other user. Each change gives it a new place.
fn is_moved(before: &FriendApplicationEntry, after: &FriendApplicationEntry) -> bool {
    let what = |entry: &FriendApplicationEntry| {
        let info = entry.info.clone().unwrap_or_default();
        (entry.place, entry.expires_at, FriendApplicationInfo { apply_user: None, ..info })
    };
    what(before) != what(after)
}

/// Returns the profile of a friend.
fn profile(info: &FriendInfo) -> UserFullInfo {
    full_info(UserInfo {
        user_id: info.user_id.clone(),
        user_name: info.user_name.clone(),
        user_avatar_url: info.user_avatar_url.clone(),
        user_extended_data: info.user_extended_data.clone(),
    })
}

#[cfg(test)]
mod tests {
    use zim_protocol::feed_entry::Detail;

    use super::*;
    use crate::apply::{Job, Recent, Viewer, apply};
    use crate::engine::{Batch, Change};
    use crate::store::memory;

    /// Nothing else may have told this device of them.
    #[test]
    fn a_friend_has_the_profile_that_came_with_them() {
        let info = FriendInfo {
            user_id: "bob".to_owned(),
            user_name: "Bob".to_owned(),
            user_avatar_url: "https://example.com/bob.png".to_owned(),
            user_extended_data: "chess".to_owned(),
            ..FriendInfo::default()
        };
        let entry = FriendEntry { info: Some(info.clone()), ..FriendEntry::default() };
        let change = Change::Own { detail: Box::new(Detail::Friend(entry)), origin: Origin::Other };
        let job = Job { batch: Batch { changes: vec![change], ..Batch::default() }, ..Job::default() };
        let db = memory().unwrap();
        apply(&db, &Viewer::in_test("ann", 10), &mut Recent::default(), job).unwrap();
        assert_eq!(friend::read(&db, "bob").unwrap(), Some(info));
    }
}
