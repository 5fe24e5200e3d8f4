//! Presence: each statement of the server is as new as its times, so a push, an answer and a sync may overtake each other.

use zim_protocol::{Event, SubscriptionEntry, UserOnlineStatus, UserStatus, UserStatusUpdatedEvent};

use super::Transaction;
use crate::store::status::{self, News};

impl Transaction<'_> {
    /// A subscription as it is now, with what its user is seen as. Whoever is followed from now on is news.
    pub(super) fn subscription(&mut self, entry: SubscriptionEntry) -> rusqlite::Result<()> {
        let Some(told) = entry.status.clone() else { return Ok(()) };
        if entry.is_deleted {
            return status::unsubscribe(self.db, &told.user_id);
        }
        let now_ms = self.viewer.now_ms;
        let was_followed = status::expires_at(self.db, &told.user_id)?.is_some_and(|expires_at| expires_at > now_ms);
        status::subscribe(self.db, &told.user_id, &entry)?;
        let user_id = told.user_id.clone();
        let is_told = self.status_told(told)?;
        if !is_told
            && !was_followed
            && let Some(held) = status::read(self.db, &user_id)?
        {
            self.see(held);
        }
        Ok(())
    }

    /// What somebody is seen as; whether that was news.
    pub(super) fn status_told(&mut self, told: UserStatus) -> rusqlite::Result<bool> {
        let is_own = *told.user_id == *self.viewer.user_id;
        if !is_own && status::expires_at(self.db, &told.user_id)?.is_none() {
            // It overtook the subscription, or its end.
            self.needs_audit = true;
            return Ok(false);
        }
        let Some((now, news)) = status::write(self.db, told)? else { return Ok(false) };
        if !is_own {
            self.see(now);
        } else if news.custom || news.platforms {
            self.see(own(now, news));
        }
        Ok(true)
    }

    fn see(&mut self, status: UserStatus) {
        if self.viewer.is_caught_up {
            self.seen.push(status::shown(status, self.viewer.now_ms));
        }
    }

    /// Those who were seen, in one event. It is what is true now, so it is not raised again after a crash.
    pub(super) fn seen_event(seen: Vec<UserStatus>) -> Option<Event> {
        (!seen.is_empty()).then_some(Event::UserStatusUpdated(UserStatusUpdatedEvent { user_status_list: seen }))
    }
}

/// That one is online, one's device knows better; as in the reference it is told the platforms.
fn own(status: UserStatus, news: News) -> UserStatus {
    if news.custom {
        return status;
    }
    UserStatus { online_status: UserOnlineStatus::Unknown as i32, last_update_time: 0, ..status }
}
