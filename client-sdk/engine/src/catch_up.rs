//! Syncs: at each login, after each hint that cannot be placed, and every ten minutes as an audit, so that a lost last
//! push of a quiet conversation is found.

use std::collections::HashSet;

use bytes::Bytes;
use zim_protocol::{SyncRequest, SyncResult, UserFullInfo};

use super::name::Name;
use super::positions::MAX_POSITION;
use super::state::{Change, Origin, Progress, Request, State};
use super::sync_engine::SyncEngine;

/// The overlap of two syncs: the server takes the time of a change before it commits it.
const SINCE_MARGIN_MS: i64 = 60_000;
/// The most comparisons of sums within one sync. If they still differ because of a burst of pushes, the next audit
/// continues.
const MAX_ROUNDS: u32 = 4;

/// A sync in flight.
#[derive(Debug)]
pub(super) struct Syncing {
    ticket: u64,
    /// It is the first of this login.
    pub(super) is_login: bool,
    /// It asks for all heads, not only for those that moved.
    is_full: bool,
    rounds: u32,
    since: i64,
    /// The request for profiles: changed since when, and from which page.
    profiles: (i64, u64),
    /// The next `profiles_at`, from the first page.
    profiles_at: Option<i64>,
    /// The conversations whose heads were moved by pushes meanwhile.
    pub(super) moved: HashSet<Name>,
    /// The users whose profiles were pushed meanwhile: an answer may have older ones.
    pub(super) pushed_users: HashSet<String>,
    seen: HashSet<Name>,
}

impl Syncing {
    /// Returns whether a profile in an answer may be older than a pushed one.
    fn was_pushed(&self, info: &UserFullInfo) -> bool {
        info.base_info.as_ref().is_some_and(|base| self.pushed_users.contains(&base.user_id))
    }
}

impl SyncEngine {
    /// Starts to catch up over a new connection to a server of this epoch. Everything from now on belongs to that
    /// epoch: judged by positions of another one, a message would count as old, or be raised and then dropped with
    /// them.
    pub fn online(&mut self, epoch: &Bytes) {
        self.is_online = true;
        if !self.position.epoch.is_empty() && self.position.epoch != *epoch {
            self.drop_all(epoch.clone());
        }
        self.set_epoch(epoch.clone());
        self.sync_wanted = false;
        self.output.progress.push(Progress::Started);
        self.start(true, self.position.touched == 0, 0);
    }

    /// Takes over the profile of the login, before anything else arrives.
    pub fn logged_in(&mut self, info: UserFullInfo, is_named: bool) {
        self.output.batch.changes.push(Change::LoggedIn { info: Box::new(info), is_named });
    }

    /// Compares the sums with the server's.
    pub fn audit(&mut self) {
        self.await_no_pushes();
        self.want_sync();
    }

    pub(super) fn want_sync(&mut self) {
        if !self.is_online {
            // The next login syncs.
            return;
        }
        if self.syncing.is_some() {
            self.sync_wanted = true;
        } else {
            self.start(false, self.position.touched == 0, 0);
        }
    }

    fn start(&mut self, is_login: bool, is_full: bool, rounds: u32) {
        let since = if is_full { 0 } else { self.position.touched.saturating_sub(SINCE_MARGIN_MS).max(1) };
        let profiles = (self.position.profiles_at, 0);
        self.syncing = Some(Syncing {
            ticket: 0,
            is_login,
            is_full,
            rounds,
            since,
            profiles,
            profiles_at: None,
            moved: HashSet::new(),
            pushed_users: HashSet::new(),
            seen: HashSet::new(),
        });
        self.ask(0);
    }

    fn ask(&mut self, cursor: u64) {
        // With equal sums the server sends no heads, so a conversation that was never described needs a sync without
        // sums.
        let is_undescribed = self.undescribed().next().is_some();
        let sums = (!is_undescribed).then(|| self.sums());
        let Some(syncing) = &mut self.syncing else { return };
        self.ticket += 1;
        syncing.ticket = self.ticket;
        let request = SyncRequest {
            pos: self.position.pos,
            sums,
            since: syncing.since,
            epoch: self.position.epoch.clone(),
            cursor,
            profiles_since: syncing.profiles.0,
            profiles_cursor: syncing.profiles.1,
        };
        self.output.requests.push(Request::Sync { ticket: self.ticket, request });
    }

    /// Handles the answer to a sync.
    pub fn synced(&mut self, ticket: u64, mut result: SyncResult) {
        if self.syncing.as_ref().is_none_or(|syncing| syncing.ticket != ticket) {
            return;
        }
        if result.pos > MAX_POSITION {
            self.sync_failed(ticket);
            return;
        }
        if result.reset {
            self.drop_all(result.epoch.clone());
            // Earlier pushes were judged by the old positions and may have been ignored as old.
            self.sync_wanted = true;
            if let Some(syncing) = &mut self.syncing {
                syncing.is_full = true;
                syncing.since = 0;
                syncing.profiles = (0, 0);
                syncing.moved.clear();
                syncing.pushed_users.clear();
                syncing.seen.clear();
            }
        }
        self.set_epoch(result.epoch);
        let origin = if self.position.is_settled { Origin::Other } else { Origin::First };
        self.apply_feed(result.feed, result.pos, origin);
        for mut head in result.heads {
            let name = head.conversation.as_ref().map(Name::from);
            if let (Some(syncing), Some(name)) = (&mut self.syncing, name) {
                syncing.seen.insert(name);
                head.peer = head.peer.filter(|peer| !syncing.was_pushed(peer));
            }
            self.apply_head(head);
        }
        if let Some(syncing) = &self.syncing {
            result.profiles.retain(|info| !syncing.was_pushed(info));
        }
        if !result.profiles.is_empty() {
            self.output.batch.changes.push(Change::Profiles(result.profiles));
        }
        if !result.statuses.is_empty() {
            self.output.batch.changes.push(Change::Statuses(result.statuses));
        }
        let is_more = result.next_cursor > 0 || result.feed_more || result.profiles_cursor > 0;
        if let Some(syncing) = &mut self.syncing {
            let profiles_at = *syncing.profiles_at.get_or_insert(result.profiles_at);
            if is_more && result.next_cursor == 0 {
                // The heads are complete; only feed or profiles continue.
                syncing.since = result.touched.saturating_sub(SINCE_MARGIN_MS).max(1);
            }
            syncing.profiles = match result.profiles_cursor {
                0 => (profiles_at, 0),
                cursor => (syncing.profiles.0, cursor),
            };
            if !is_more && profiles_at != self.position.profiles_at {
                self.position.profiles_at = profiles_at;
                self.position_moved = true;
            }
        }
        if is_more {
            self.ask(result.next_cursor);
            return;
        }
        if result.touched > self.position.touched {
            self.position.touched = result.touched;
            self.position_moved = true;
        }
        if !self.position.is_settled {
            self.position.is_settled = true;
            self.position_moved = true;
        }
        self.complete(result.sums.unwrap_or_default());
    }

    /// Ends a sync after its last page, or starts another round if the sums differ.
    fn complete(&mut self, theirs: zim_protocol::Sums) {
        let Some(syncing) = self.syncing.take() else { return };
        if syncing.is_full {
            let known: HashSet<Name> = syncing.seen.union(&syncing.moved).cloned().collect();
            for name in self.unseen(&known) {
                self.drop_one(&name);
            }
            self.output.batch.changes.push(Change::Sweep);
        }
        // A conversation that was never described and did not move just now may have moved long ago. Only a full sync
        // is sure to contain its head.
        let is_old = self.undescribed().any(|name| !syncing.moved.contains(name));
        let is_undescribed = self.undescribed().next().is_some();
        if (self.sums() != theirs || is_undescribed) && syncing.rounds < MAX_ROUNDS {
            // Pushes during the sync explain a difference. Without them something was lost, and a full sync follows.
            let is_full = (syncing.moved.is_empty() || is_old) && !syncing.is_full;
            self.start(syncing.is_login, is_full, syncing.rounds + 1);
            return;
        }
        if syncing.is_login {
            self.output.progress.push(Progress::Finished);
        }
        self.want_pulls();
        if std::mem::take(&mut self.sync_wanted) {
            self.start(false, false, 0);
        }
    }

    /// Returns whether the first sync of a login is in flight.
    pub(super) fn is_logging_in(&self) -> bool {
        self.syncing.as_ref().is_some_and(|syncing| syncing.is_login)
    }

    /// Returns conversations with positions that the server never described, or not as they are.
    fn undescribed(&self) -> impl Iterator<Item = &Name> {
        let lacks = |state: &State| !state.known || state.lacks_group;
        self.conversations.iter().filter(move |(_, state)| lacks(state) && state.is_counted()).map(|(name, _)| name)
    }

    /// Handles a sync that failed. The next audit retries it.
    pub fn sync_failed(&mut self, ticket: u64) {
        if self.syncing.as_ref().is_none_or(|syncing| syncing.ticket != ticket) {
            return;
        }
        if self.syncing.take().is_some_and(|syncing| syncing.is_login) {
            self.output.progress.push(Progress::Failed);
        }
        self.sync_wanted = false;
    }
}
