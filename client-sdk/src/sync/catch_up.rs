//! Catching up: at each login, at each hint that cannot be placed, and every ten minutes, so that the last push of a quiet
//! conversation cannot stay lost.

use std::collections::HashSet;

use bytes::Bytes;
use zim_protocol::{SyncRequest, SyncResult, UserFullInfo};

use super::engine::SyncEngine;
use super::positions::MAX_POSITION;
use super::state::{Change, Name, Origin, Progress, Request};

/// Heads that moved this long before the newest change are asked for again: the server notes the time before it commits.
const SINCE_MARGIN_MS: i64 = 60_000;
/// How often sums are compared within one catching up; what differs after that, in a hurry of pushes, the next audit finds.
const MAX_ROUNDS: u32 = 4;

/// A catching up under way.
#[derive(Debug)]
pub(super) struct Syncing {
    ticket: u64,
    /// The first of this login.
    pub(super) is_login: bool,
    /// All heads, not only those that moved.
    is_full: bool,
    rounds: u32,
    since: i64,
    /// What is asked for of profiles: since when, and from which page on.
    profiles: (i64, u64),
    /// The next `profiles_at`: what the first page said.
    profiles_at: Option<i64>,
    /// Conversations whose heads moved by pushes meanwhile.
    pub(super) moved: HashSet<Name>,
    /// Users whose profiles were pushed meanwhile: what an answer says of them may be older.
    pub(super) told: HashSet<String>,
    seen: HashSet<Name>,
}

impl Syncing {
    /// Whether a profile in an answer may be older than the one that was pushed.
    fn is_told(&self, info: &UserFullInfo) -> bool {
        info.base_info.as_ref().is_some_and(|base| self.told.contains(&base.user_id))
    }
}

impl SyncEngine {
    /// The link is up and logged in, to a server of this epoch. What is learned from now on belongs to it: judged by positions of
    /// another, a message would be taken for an old one, or raised and then forgotten with them.
    pub fn online(&mut self, epoch: &Bytes) {
        self.is_online = true;
        if !self.position.epoch.is_empty() && self.position.epoch != *epoch {
            self.drop_all();
        }
        self.set_epoch(epoch.clone());
        self.sync_wanted = false;
        self.output.progress.push(Progress::Started);
        self.start(true, self.position.touched == 0, 0);
    }

    /// The login says who this is, before anything else comes.
    pub fn logged_in(&mut self, info: UserFullInfo, is_named: bool) {
        self.output.batch.changes.push(Change::LoggedIn { info: Box::new(info), is_named });
    }

    /// Compares the sums with the server's.
    pub fn audit(&mut self) {
        self.want_sync();
    }

    pub(super) fn want_sync(&mut self) {
        if !self.is_online {
            // The next login asks.
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
            told: HashSet::new(),
            seen: HashSet::new(),
        });
        self.ask(0);
    }

    fn ask(&mut self, cursor: u64) {
        // Equal sums bring no heads, so one that was never described is asked for without sums.
        let is_nameless = self.nameless().next().is_some();
        let sums = (!is_nameless).then(|| self.sums());
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

    /// The answer to a sync.
    pub fn synced(&mut self, ticket: u64, mut result: SyncResult) {
        if self.syncing.as_ref().is_none_or(|syncing| syncing.ticket != ticket) {
            return;
        }
        if result.pos > MAX_POSITION {
            self.sync_failed(ticket);
            return;
        }
        if result.reset {
            self.drop_all();
            // What was pushed before this was judged by positions of another life, and may have been taken for old.
            self.sync_wanted = true;
            if let Some(syncing) = &mut self.syncing {
                syncing.is_full = true;
                syncing.since = 0;
                syncing.profiles = (0, 0);
                syncing.moved.clear();
                syncing.told.clear();
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
                head.peer = head.peer.filter(|peer| !syncing.is_told(peer));
            }
            self.apply_head(head);
        }
        if let Some(syncing) = &self.syncing {
            result.profiles.retain(|info| !syncing.is_told(info));
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
                // The heads are complete; only the feed or the profiles go on.
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

    /// All pages are here: do the sums agree?
    fn complete(&mut self, theirs: zim_protocol::Sums) {
        let Some(syncing) = self.syncing.take() else { return };
        if syncing.is_full {
            let known: HashSet<Name> = syncing.seen.union(&syncing.moved).cloned().collect();
            for name in self.unseen(&known) {
                self.drop_one(&name);
            }
            self.output.batch.changes.push(Change::Sweep);
        }
        // One that was never described and did not move just now may have moved long ago: only all heads are sure to hold
        // its own.
        let is_old = self.nameless().any(|name| !syncing.moved.contains(name));
        let is_nameless = self.nameless().next().is_some();
        if (self.sums() != theirs || is_nameless) && syncing.rounds < MAX_ROUNDS {
            // Pushes that came meanwhile explain a difference; without them something was lost, and everything is asked for.
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

    /// Whether this is the first catching up of a login.
    pub(super) fn is_logging_in(&self) -> bool {
        self.syncing.as_ref().is_some_and(|syncing| syncing.is_login)
    }

    /// Conversations that hold something and that the server never described.
    fn nameless(&self) -> impl Iterator<Item = &Name> {
        self.conversations.iter().filter(|(_, state)| !state.known && state.is_counted()).map(|(name, _)| name)
    }

    /// A sync that was refused. The next audit tries again.
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
