//! Brings a client up to date: what changed while it was offline, and what a dropped push carried.

mod feed;
mod store;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use zim_protocol::{FillRequest, FillResult, Page, PullRequest, SyncRequest, SyncResult, server::SyncService};

use crate::app::App;
use crate::connection::Caller;
use crate::db::Tx;
use crate::error::Error;
use crate::journal::{self, Direction, Member};
use crate::key::{ConversationKey, Scrambler, UserKey};
use crate::service::rows::PAGE_BYTES;
use crate::service::status;
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
        let (epoch, now, clock_ms) = (self.epoch, self.ids.time_ms(), self.clock.now_ms());
        self.db
            .read(async move |tx| {
                let (sums, touched) = store::sums(tx, user).await?;
                let client_sums = request.sums.unwrap_or_default();
                let head = journal::feed_head(tx, user).await?;
                let has_synced = !request.epoch.is_empty();
                // The positions mean nothing in another epoch, or if the client is ahead of a restored store.
                let reset = has_synced
                    && (request.epoch != epoch[..]
                        || request.pos > head.unsigned_abs()
                        || client_sums.seq > sums.seq
                        || client_sums.rev > sums.rev);
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
                    sums: Some(sums),
                    profiles: Vec::new(),
                    // Taken before the commit, as the time of a change is.
                    profiles_at: now - PROFILES_MARGIN_MS,
                    profiles_cursor: 0,
                    statuses: Vec::new(),
                };
                if reset || client_sums != sums || request.cursor > 0 || request.since == 0 {
                    let since = if reset { 0 } else { request.since };
                    // No key crosses the wire: it would tell when the conversation was made and how many IDs the
                    // deployment has used.
                    let cursor = i64::try_from(request.cursor).unwrap_or_default();
                    let after = if cursor > 0 { scrambler.stored(cursor) } else { 0 };
                    let (heads, last) = store::heads(tx, user, &scrambler, (since, after), HEADS_PAGE).await?;
                    result.heads = heads;
                    result.next_cursor = last.map_or(0, |last| scrambler.public(last).unsigned_abs());
                }
                if reset || request.profiles_since == 0 {
                    result.statuses = vec![status::own(tx, user, clock_ms).await?];
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
            .await
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
                let member = member_view(tx, conversation, user).await?;
                pull_page(tx, conversation, &member, &scrambler, (after, after_rev), max_bytes).await
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
                let member = member_view(tx, conversation, user).await?;
                let windows = member.windows();
                let page = (anchor, direction);
                let messages = journal::around(tx, conversation, &scrambler, &windows, page, count, PAGE_BYTES).await?;
                let first = messages.first().map_or(0, |message| message.seq);
                let last = messages.last().map_or(0, |message| message.seq);
                let end_seq = member.end_seq().unsigned_abs();
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
                Ok(FillResult { messages, from, to, end, rev: member.end_rev().unsigned_abs() })
            })
            .await
    }
}

/// Returns what a member may know of a conversation after a position in each of its two logs.
async fn pull_page(
    tx: &mut Tx<'_>,
    conversation: ConversationKey,
    member: &Member,
    scrambler: &Scrambler,
    (after, after_rev): (i64, i64),
    max_bytes: usize,
) -> Result<Page, Error> {
    let (end_seq, end_rev) = (member.end_seq(), member.end_rev());
    // Nothing below a floor can be pulled: the client may hold messages that the server no longer keeps, or may miss
    // changes of them. But the cursor never passes what the member may know of, even if less than that is kept.
    let floor_rev = member.changes.floor;
    let reset = after < member.extent.floor || after_rev < floor_rev;
    let mut page = Page { end_seq: end_seq.unsigned_abs(), end_rev: end_rev.unsigned_abs(), reset, ..Page::default() };
    let mut position = after.max(member.extent.floor).min(end_seq);
    let mut remaining = max_bytes;
    let windows = member.windows();
    // The member may not see what changed before their stay.
    let from_rev = after_rev.max(floor_rev).max(member.change_stay.from - 1).min(end_rev);
    match journal::changes(tx, conversation, scrambler, &windows, (from_rev, end_rev), remaining).await? {
        Some((changes, through)) => {
            let used: usize = changes.iter().map(prost::Message::encoded_len).sum();
            remaining = remaining.saturating_sub(used);
            page.changes = changes;
            page.through_rev = through.unsigned_abs();
        }
        // So far behind, starting over is cheaper than bringing the client's messages up to date.
        None => {
            page.reset = true;
            page.through_rev = end_rev.unsigned_abs();
        }
    }
    for (begin, end) in windows {
        if end <= position {
            continue;
        }
        let (entries, through) =
            journal::messages(tx, conversation, scrambler, (begin.max(position), end), remaining).await?;
        let used: usize = entries.iter().map(prost::Message::encoded_len).sum();
        page.messages.extend(entries);
        position = through;
        remaining = remaining.saturating_sub(used);
        if through < end || remaining == 0 {
            page.through_seq = through.unsigned_abs();
            return Ok(page);
        }
    }
    page.through_seq = end_seq.unsigned_abs();
    Ok(page)
}

/// Returns the caller's view of a conversation.
async fn member_view(tx: &mut Tx<'_>, conversation: ConversationKey, user: UserKey) -> Result<Member, Error> {
    journal::member(tx, conversation, user).await?.ok_or_else(Error::conversation_closed)
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
