//! The blacklist. The local copy tells whether an entry is news.

use zim_protocol::{BlacklistChangeAction, BlacklistChangedEvent, BlockEntry, Event, UserInfo};

use super::Transaction;
use super::user::full_info;
use crate::engine::Origin;
use crate::store::block;

impl Transaction<'_> {
    /// Applies an entry of the blacklist. The device that made the change gets the event as well.
    pub(super) fn block(&mut self, entry: BlockEntry, origin: Origin) -> rusqlite::Result<()> {
        let Some(user) = entry.user.filter(|user| !user.user_id.is_empty()) else { return Ok(()) };
        self.store_incidental_profile(&full_info(user.clone()))?;
        let (is_news, action) = if entry.is_deleted {
            (block::remove(self.db, &user.user_id)?, BlacklistChangeAction::Removed)
        } else {
            (block::add(self.db, &user.user_id, entry.place)?, BlacklistChangeAction::Added)
        };
        if is_news && origin != Origin::First {
            self.blacklist_changed(user, action);
        }
        Ok(())
    }

    /// Adds a user to the event before it if the action is the same.
    pub(super) fn blacklist_changed(&mut self, user: UserInfo, action: BlacklistChangeAction) {
        match self.last_event() {
            Some(Event::BlacklistChanged(event)) if event.action == action as i32 => event.user_list.push(user),
            _ => self
                .raise(Event::BlacklistChanged(BlacklistChangedEvent { user_list: vec![user], action: action as i32 })),
        }
    }
}
