//! Friends and applications: the local copy tells what of an entry is new, so a push, a pull and a sync raise the same events.

use zim_protocol::{
    ConversationType, Event, FriendApplicationEntry, FriendApplicationInfo, FriendApplicationListChangeAction,
    FriendApplicationListChangedEvent, FriendApplicationUpdatedEvent, FriendEntry, FriendInfo, FriendInfoUpdatedEvent,
    FriendListChangeAction, FriendListChangedEvent, UserFullInfo, UserInfo,
};

use super::{Transaction, full_info};
use crate::store::{conversation, friend, friend_application, user};
use crate::sync::state::{Name, Origin};

impl Transaction<'_> {
    /// A friend as he is now. His alias is the conversation's.
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
            Some(before) if before != *info => self.friend_seen(info.clone()),
            _ => {}
        }
        Ok(())
    }

    /// An application as it is now.
    pub(super) fn application(&mut self, entry: FriendApplicationEntry, origin: Origin) -> rusqlite::Result<()> {
        let Some(peer) = entry.info.as_ref().and_then(|info| info.apply_user.clone()) else { return Ok(()) };
        let before = friend_application::read(self.db, &peer.user_id)?;
        let moved = if entry.is_deleted {
            friend_application::remove(self.db, &peer.user_id)?;
            before.map(|before| (Some(FriendApplicationListChangeAction::Deleted), before))
        } else {
            self.meet(full_info(peer.clone()))?;
            friend_application::write(self.db, &peer.user_id, &entry)?;
            match before {
                None => Some((Some(FriendApplicationListChangeAction::Added), entry)),
                // A profile that changed is no news of the application.
                Some(before) if is_moved(&before, &entry) => Some((None, entry)),
                Some(_) => None,
            }
        };
        if let Some((action, entry)) = moved.filter(|_| origin != Origin::First) {
            self.application_moved(action, friend_application::shown(entry, self.viewer.now_ms));
        }
        Ok(())
    }

    /// What the server did not name since its positions began anew is gone.
    pub(super) fn sweep_friends(&mut self) -> rusqlite::Result<()> {
        for user_id in friend::doubtful(self.db)? {
            let info = FriendInfo { user_id, ..FriendInfo::default() };
            let gone = FriendEntry { info: Some(info), is_deleted: true, ..FriendEntry::default() };
            self.friend(&gone, Origin::Other)?;
        }
        for user_id in friend_application::doubtful(self.db)? {
            let apply_user = Some(UserInfo { user_id, ..UserInfo::default() });
            let info = FriendApplicationInfo { apply_user, ..FriendApplicationInfo::default() };
            let entry = FriendApplicationEntry { info: Some(info), is_deleted: true, ..Default::default() };
            self.application(entry, Origin::Other)?;
        }
        Ok(())
    }

    /// A profile as it was when something else was said. An answer that took long comes after the profile has changed and that
    /// was told, so what differs from what is known may be older: the next sync tells.
    pub(super) fn meet(&mut self, info: UserFullInfo) -> rusqlite::Result<()> {
        let user_id = info.base_info.as_ref().map(|base| base.user_id.as_str()).unwrap_or_default();
        let is_known = user::read(self.db, user_id)?.is_some();
        self.needs_audit |= self.learn(info)? && is_known;
        Ok(())
    }

    /// Somebody's profile: his conversation follows, and if he is a friend the app is told. Whether it is new.
    pub(super) fn learn(&mut self, info: UserFullInfo) -> rusqlite::Result<bool> {
        let Some(user_id) = info.base_info.as_ref().map(|base| base.user_id.clone()) else { return Ok(false) };
        self.touch_peer(&user_id)?;
        let is_new = user::write(self.db, &info)?;
        if is_new && let Some(friend) = friend::read(self.db, &user_id)? {
            self.friend_seen(friend);
        }
        Ok(is_new)
    }

    /// The conversation with somebody may look otherwise from here on.
    fn touch_peer(&mut self, user_id: &str) -> rusqlite::Result<()> {
        let name = Name::new(ConversationType::Peer as i32, user_id);
        if conversation::id(self.db, &name)?.is_some() {
            self.touch(&name)?;
        }
        Ok(())
    }

    fn friend_moved(&mut self, action: FriendListChangeAction, info: FriendInfo) {
        match self.durable.last_mut() {
            Some(Event::FriendListChanged(last)) if last.action() == action => last.friend_list.push(info),
            _ => self.durable.push(Event::FriendListChanged(FriendListChangedEvent {
                friend_list: vec![info],
                action: action as i32,
            })),
        }
    }

    fn friend_seen(&mut self, info: FriendInfo) {
        match self.durable.last_mut() {
            Some(Event::FriendInfoUpdated(last)) => last.friend_list.push(info),
            _ => self.durable.push(Event::FriendInfoUpdated(FriendInfoUpdatedEvent { friend_list: vec![info] })),
        }
    }

    /// `None`: it is still there, and another.
    fn application_moved(&mut self, action: Option<FriendApplicationListChangeAction>, info: FriendApplicationInfo) {
        match (self.durable.last_mut(), action) {
            (Some(Event::FriendApplicationListChanged(last)), Some(action)) if last.action() == action => {
                last.application_list.push(info);
            }
            (Some(Event::FriendApplicationUpdated(last)), None) => last.application_list.push(info),
            (_, Some(action)) => {
                let event = FriendApplicationListChangedEvent { application_list: vec![info], action: action as i32 };
                self.durable.push(Event::FriendApplicationListChanged(event));
            }
            (_, None) => {
                let event = FriendApplicationUpdatedEvent { application_list: vec![info] };
                self.durable.push(Event::FriendApplicationUpdated(event));
            }
        }
    }
}

/// Whether an application is another than before, whoever the other side says he is. Each that moved has a place of its own.
fn is_moved(before: &FriendApplicationEntry, after: &FriendApplicationEntry) -> bool {
    let what = |entry: &FriendApplicationEntry| {
        let info = entry.info.clone().unwrap_or_default();
        (entry.place, entry.expires_at, FriendApplicationInfo { apply_user: None, ..info })
    };
    what(before) != what(after)
}

/// A friend's profile.
fn profile(info: &FriendInfo) -> UserFullInfo {
    full_info(UserInfo {
        user_id: info.user_id.clone(),
        user_name: info.user_name.clone(),
        user_avatar_url: info.user_avatar_url.clone(),
        user_extended_data: info.user_extended_data.clone(),
    })
}
