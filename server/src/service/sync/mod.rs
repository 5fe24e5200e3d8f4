//! Brings a client up to date: what changed while it was offline, and what a dropped push carried.

mod feed;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use zim_protocol::{
    FillRequest, FillResult, Page, PullRequest, ResumeRoomsRequest, RoomsResumedResult, SyncRequest, SyncResult,
    server::SyncService,
};

use crate::app::App;
use crate::connection::Caller;
use crate::db::Tx;
use crate::error::Error;
use crate::journal::{self, Direction, Viewer};
use crate::key::{ConversationKey, Scrambler, UserKey};
use crate::presence;
use crate::service::conversation::{heads, sums};
use crate::service::rows::PAGE_BYTES;
use crate::service::user;

/// The most entries of a feed in one response.
const FEED_PAGE: usize = 500;
/// The most conversations in one response.
const HEADS_PAGE: i64 = 200;
/// The time of a change is taken at most this long before its commit.
const PROFILES_MARGIN_MS: i64 = 60_000;

impl SyncService for App {
    async fn sync(&self, caller: &Caller, request: SyncRequest) -> Result<SyncResult, Error> {
        let identity = caller.identity()?;
        let (app, user) = (identity.app, identity.user);
        let scrambler = Arc::clone(&self.tenants.of(app)?.scrambler);
        let (epoch, clock_ms) = (self.epoch, self.clock.now_ms());
        // Taken before the commit, as the time of a change is. Times of changes never decrease on one node, but they may be ahead of
        // the clock, and another node does not know that: what it changes next must not count as old.
        let now = self.ids.time_ms().min(clock_ms);
        let result = self
            .db
            .read(async move |tx| {
                let (server_sums, touched) = sums(tx, user).await?;
                let client_sums = request.sums.unwrap_or_default();
                let head = journal::feed_head(tx, user).await?;
                let has_synced = !request.epoch.is_empty();
                // The positions mean nothing in another epoch, or if the client is ahead of a restored store.
                let reset = has_synced
                    && (request.epoch != epoch[..]
                        || request.pos > head.unsigned_abs()
                        || client_sums.seq > server_sums.seq
                        || client_sums.rev > server_sums.rev);
                let pos = if reset { 0 } else { i64::try_from(request.pos).unwrap_or(i64::MAX) };
                let (feed, pos, feed_more) = feed::page(tx, user, pos, FEED_PAGE).await?;
                let mut result = SyncResult {
                    reset,
                    epoch: epoch.to_vec().into(),
                    feed,
                    pos: pos.unsigned_abs(),
                    heads: Vec::new(),
                    next_cursor: 0,
                    touched,
                    feed_more,
                    sums: Some(server_sums),
                    profiles: Vec::new(),
                    profiles_at: now - PROFILES_MARGIN_MS,
                    profiles_cursor: 0,
                    statuses: Vec::new(),
                };
                if reset || client_sums != server_sums || request.cursor > 0 || request.since == 0 {
                    let since = if reset { 0 } else { request.since };
                    // No key crosses the wire: it would tell when the conversation was made and how many IDs the
                    // deployment has used.
                    let cursor = i64::try_from(request.cursor).unwrap_or_default();
                    let after = if cursor > 0 { scrambler.stored(cursor) } else { 0 };
                    let (page, last) = heads(tx, user, &scrambler, (since, after), HEADS_PAGE).await?;
                    result.heads = page;
                    result.next_cursor = last.map_or(0, |last| scrambler.public(last).unsigned_abs());
                }
                if reset || request.profiles_since == 0 {
                    result.statuses = vec![presence::own(tx, user, clock_ms).await?];
                } else {
                    let cursor = i64::try_from(request.profiles_cursor).unwrap_or_default();
                    let after = if cursor > 0 { scrambler.stored(cursor) } else { 0 };
                    // The client's time comes from a clock that was set back since: anything may have changed.
                    let since = if request.profiles_since > now { 0 } else { request.profiles_since };
                    let since = (since, clock_ms);
                    let (profiles, statuses, last) = user::changes_since(tx, user, since, after).await?;
                    (result.profiles, result.statuses) = (profiles, statuses);
                    result.profiles_cursor = last.map_or(0, |last| scrambler.public(last).unsigned_abs());
                }
                Ok(result)
            })
            .await?;
        if let Ok(connection) = caller.connection() {
            let entries = result.feed.iter().filter_map(|entry| Some((entry.pos, entry.detail.as_ref()?)));
            connection.add_ringing(entries.map(|(pos, detail)| (i64::try_from(pos).unwrap_or(i64::MAX), detail)));
            if !result.feed_more {
                connection.set_feed_given(i64::try_from(result.pos).unwrap_or(i64::MAX));
            }
        }
        Ok(result)
    }

    async fn pull(&self, caller: &Caller, request: PullRequest) -> Result<Page, Error> {
        let identity = caller.identity()?;
        let (app, user) = (identity.app, identity.user);
        let conversation = self.resolve_conversation(app, user, request.conversation).await?;
        let scrambler = Arc::clone(&self.tenants.of(app)?.scrambler);
        let after = i64::try_from(request.after_seq).unwrap_or(i64::MAX);
        let after_rev = i64::try_from(request.after_rev).unwrap_or(i64::MAX);
        let max_bytes = match request.bytes {
            0 => PAGE_BYTES,
            bytes => (bytes as usize).min(PAGE_BYTES),
        };
        self.db
            .read(async move |tx| {
                let viewer = viewer(tx, conversation, user).await?;
                pull_page(tx, conversation, &viewer, &scrambler, (after, after_rev), max_bytes).await
            })
            .await
    }

    async fn fill(&self, caller: &Caller, request: FillRequest) -> Result<FillResult, Error> {
        let identity = caller.identity()?;
        let (app, user) = (identity.app, identity.user);
        let conversation = self.resolve_conversation(app, user, request.conversation).await?;
        let scrambler = Arc::clone(&self.tenants.of(app)?.scrambler);
        let anchor = i64::try_from(request.anchor).unwrap_or(i64::MAX);
        let direction = if request.reverse { Direction::Older } else { Direction::Newer };
        let count = request.count as usize;
        self.db
            .read(async move |tx| {
                let viewer = viewer(tx, conversation, user).await?;
                let windows = viewer.windows();
                let page = (anchor, direction);
                let messages = journal::around(tx, conversation, &scrambler, &viewer, page, count, PAGE_BYTES).await?;
                let first = messages.first().map_or(0, |message| message.seq);
                let last = messages.last().map_or(0, |message| message.seq);
                let end_seq = viewer.end_seq().unsigned_abs();
                let (low, high) =
                    (windows.first().map_or(0, |window| window.0), windows.last().map_or(0, |window| window.1));
                let (from, to, end) = match direction {
                    Direction::Older => {
                        let to = if anchor > 0 { (anchor - 1).unsigned_abs().min(end_seq) } else { end_seq };
                        let end = messages.len() < count && (messages.is_empty() || first <= low.unsigned_abs() + 1);
                        (if end { 1 } else { first }, to, end)
                    }
                    Direction::Newer => {
                        let end = messages.len() < count && (messages.is_empty() || last >= high.unsigned_abs());
                        (anchor.unsigned_abs() + 1, if end { end_seq } else { last }, end)
                    }
                };
                Ok(FillResult { messages, from, to, end, rev: viewer.end_rev().unsigned_abs() })
            })
            .await
    }

    async fn resume_rooms(&self, caller: &Caller, request: ResumeRoomsRequest) -> Result<RoomsResumedResult, Error> {
        Ok(RoomsResumedResult { lost: self.resume_rooms_of(caller, request).await? })
    }
}

/// Returns what a member may know of a conversation after a position in each of its two logs.
async fn pull_page(
    tx: &mut Tx<'_>,
    conversation: ConversationKey,
    viewer: &Viewer,
    scrambler: &Scrambler,
    (after, after_rev): (i64, i64),
    max_bytes: usize,
) -> Result<Page, Error> {
    let (end_seq, end_rev) = (viewer.end_seq(), viewer.end_rev());
    // Nothing below a floor can be pulled: the client may hold messages that the server no longer keeps, or may miss
    // changes of them. But the cursor never passes what the member may know of, even if less than that is kept.
    let reset = after < viewer.message_log.floor || after_rev < viewer.change_log.floor;
    let from_rev = after_rev.max(viewer.change_log.floor).min(end_rev);
    let changes = journal::changes(tx, conversation, scrambler, Some(viewer), (from_rev, end_rev), max_bytes).await?;
    let used: usize = changes.entries.iter().map(prost::Message::encoded_len).sum();
    let position = after.max(viewer.message_log.floor).min(end_seq);
    let remaining = max_bytes.saturating_sub(used);
    let (messages, through_seq) = if remaining > 0 {
        journal::messages(tx, conversation, scrambler, viewer, position, remaining).await?
    } else {
        (Vec::new(), position)
    };
    let history = viewer.history().unwrap_or_default();
    Ok(Page {
        messages,
        changes: changes.entries,
        through_seq: through_seq.unsigned_abs(),
        through_rev: changes.through.unsigned_abs(),
        end_seq: end_seq.unsigned_abs(),
        end_rev: end_rev.unsigned_abs(),
        reset,
        without_roster: changes.is_without_roster,
        entered_seq: history.end.unsigned_abs(),
        history_from: history.start.unsigned_abs(),
    })
}

/// Returns the caller's view of a conversation.
async fn viewer(tx: &mut Tx<'_>, conversation: ConversationKey, user: UserKey) -> Result<Viewer, Error> {
    Viewer::of(tx, conversation, user).await?.ok_or_else(Error::conversation_closed)
}

impl App {
    /// Resolves the conversation that a client names.
    async fn resolve_conversation(
        &self,
        app: crate::key::AppKey,
        user: UserKey,
        name: Option<zim_protocol::ConversationRef>,
    ) -> Result<ConversationKey, Error> {
        let name = name.unwrap_or_default();
        self.conversation_key(app, user, name.r#type, &name.id)
            .await?
            .ok_or_else(|| Error::conversation_not_found(&name.id))
    }
}
