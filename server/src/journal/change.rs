//! The log of changes of a conversation: of its messages, and of who is in it. An entry refers to what changed and is resolved
//! to the present when it is delivered, so the text of a revoked message does not survive in the log. What happened stands in
//! the entry itself if the present does not tell it.

use std::collections::BTreeSet;

use prost::Message as _;
use zim_protocol::{
    ChangeEntry, ExpiredMessages, GroupChange, MessageChange, MessageChangeKind, MessageEntry, change_entry::Detail,
};

use super::read::{COLUMNS, ROWS, WIDTH, entry};
use super::roster::{self, Record, RosterRecord, Unresolved};
use super::rules::is_visible;
use super::state;
use super::visible::{Viewer, is_shown};
use crate::db::{Row, Tx, Value, params};
use crate::error::Error;
use crate::key::{ConversationKey, Scrambler, UserKey};

/// A client that missed more changes of the roster than this loads it again.
pub(super) const MAX_ROSTER: i64 = 1_000;

const MESSAGE: i64 = 1;
const GROUP: i64 = 2;
const ROSTER: i64 = 3;
const EXPIRED: i64 = 4;

/// What changed.
#[derive(Clone, Debug, PartialEq)]
pub enum Subject {
    /// The message at this position, and what happened to it.
    Message(i64, MessageChange),
    /// The members of a group.
    Roster(RosterRecord),
    /// What a group is.
    Group(GroupChange),
    /// The messages that are kept.
    Expired(ExpiredMessages),
}

/// Appends to the log of a conversation, whose head the job has locked. Returns the position, and the last one at which a stay ended.
///
/// # Errors
/// The conversation does not exist or is dismissed, or the store fails.
pub async fn append(
    tx: &mut Tx<'_>,
    conversation: ConversationKey,
    subject: &Subject,
    actor: UserKey,
    at: i64,
) -> Result<(i64, i64), Error> {
    tx.assert_covers_conversation(conversation);
    // No message is older than the entrance of those who see it first, or their devices would sort the group by different times.
    let dated_from = if matches!(subject, Subject::Roster(_)) { at } else { 0 };
    // A dismissal ends no stay: nothing comes after it.
    let ends_stays = matches!(subject, Subject::Roster(record) if record.ends_stays());
    let ended = if ends_stays { "ended_rev = rev + 1, " } else { "" };
    let sql = format!(
        "UPDATE conversation SET rev = rev + 1, {ended}touched = CASE WHEN touched > $2 THEN touched ELSE $2 END, \
         last_ts = CASE WHEN last_ts > $3 THEN last_ts ELSE $3 END WHERE id = $1 AND end_rev IS NULL RETURNING rev, ended_rev"
    );
    let row = tx
        .fetch_one(&sql, &params![conversation, at, dated_from])
        .await?
        .ok_or_else(|| Error::internal_text("a change of a conversation that does not exist or is dismissed"))?;
    let (rev, ended_rev): (i64, i64) = (row.get(0)?, row.get(1)?);
    let (kind, seq, detail) = match subject {
        Subject::Message(seq, change) => (MESSAGE, *seq, Some(change.encode_to_vec())),
        Subject::Roster(record) => (ROSTER, 0, Some(record.encode_to_vec())),
        Subject::Group(change) => (GROUP, 0, Some(change.encode_to_vec())),
        Subject::Expired(expired) => (EXPIRED, 0, Some(expired.encode_to_vec())),
    };
    tx.execute(
        "INSERT INTO change (conversation, rev, kind, actor, at, subject, detail) VALUES ($1, $2, $3, $4, $5, $6, $7)",
        &params![conversation, rev, kind, actor, at, seq, detail],
    )
    .await?;
    if let Subject::Message(seq, change) = subject {
        let is_content = matches!(change.kind(), MessageChangeKind::Revoked | MessageChangeKind::Edited);
        let table = if is_content { "message" } else { "message_state" };
        let sql = format!("UPDATE {table} SET rev = $3 WHERE conversation = $1 AND seq = $2");
        tx.execute(&sql, &params![conversation, *seq, rev]).await?;
    }
    Ok((rev, ended_rev))
}

/// A page of changes.
#[derive(Debug, Default, PartialEq)]
pub struct Changes {
    /// The changes, ascending.
    pub entries: Vec<ChangeEntry>,
    /// The position up to which they are complete.
    pub through: i64,
    /// The changes of the roster are left out, except the viewer's own: there are too many of them.
    pub is_without_roster: bool,
}

impl Changes {
    /// Leaves out the last changes if all do not fit. What a change says of members is not in its row, and known only when it is
    /// complete. The first one always fits.
    fn fit(&mut self, max_bytes: usize) {
        let mut bytes = 0;
        let fits = |entry: &&ChangeEntry| {
            bytes += entry.encoded_len() + 4;
            bytes <= max_bytes
        };
        let count = self.entries.iter().take_while(fits).count().max(1);
        if count < self.entries.len() {
            self.entries.truncate(count);
            self.through = self.entries.last().map_or(self.through, |last| last.rev.cast_signed());
        }
    }
}

/// Returns the changes of `after < rev <= through`, at most about `max_bytes` of them. Each is resolved to its present meaning
/// for the viewer; without a viewer, for nobody in particular.
///
/// # Errors
/// The store fails.
pub async fn changes(
    tx: &mut Tx<'_>,
    conversation: ConversationKey,
    scrambler: &Scrambler,
    viewer: Option<&Viewer>,
    (after, through): (i64, i64),
    max_bytes: usize,
) -> Result<Changes, Error> {
    let is_without_roster = has_long_roster(tx, conversation, viewer, (after, through)).await?;
    let statements = [select(false, viewer.is_some()), select(true, viewer.is_some())];
    let account = viewer.map_or(UserKey(0), |viewer| viewer.user);
    let message_windows = viewer.map(Viewer::windows);
    let mut page = Changes { entries: Vec::new(), through: after, is_without_roster };
    let (mut bytes, mut unresolved): (usize, Vec<Unresolved>) = (0, Vec::new());
    let mut is_full = false;
    'spans: for (begin, end, without_roster) in spans(viewer, (after, through), is_without_roster) {
        let end = end.min(through);
        let sql = &statements[usize::from(without_roster)];
        page.through = page.through.max(begin.min(end));
        while page.through < end {
            let mut params: Vec<Value> = params![conversation, page.through, end, ROWS].into();
            if viewer.is_some() {
                params.push(account.into());
            }
            let rows = tx.fetch(sql, &params).await?;
            for row in &rows {
                let (change, record) = change(row, scrambler, viewer, message_windows.as_deref())?;
                let size = change.encoded_len() + record.as_ref().map_or(0, |record| record.0.size());
                bytes += size + 4;
                if bytes > max_bytes && !page.entries.is_empty() {
                    is_full = true;
                    break 'spans;
                }
                page.through = change.rev.cast_signed();
                unresolved.extend(record.map(|(record, actor)| (page.entries.len(), record, actor)));
                page.entries.push(change);
            }
            if i64::try_from(rows.len()).is_ok_and(|count| count < ROWS) {
                page.through = end;
            }
        }
    }
    if !is_full {
        page.through = page.through.max(through);
    }
    let places: Vec<usize> =
        page.entries.iter().enumerate().filter(|(_, entry)| is_message(entry)).map(|(place, _)| place).collect();
    let mut messages: Vec<&mut MessageEntry> = page.entries.iter_mut().filter_map(message_mut).collect();
    let complete = state::attach(tx, conversation, scrambler, viewer, &mut messages, max_bytes).await?;
    if let Some(place) = places.get(complete).copied() {
        // The rest does not fit with what happened to its messages. The first message always does.
        page.entries.truncate(place);
        unresolved.retain(|(index, ..)| *index < place);
        page.through = page.entries.last().map_or(after, |last| last.rev.cast_signed());
    }
    // Who is in the group now, and as what, is not for somebody who has left it.
    let group = if viewer.is_some_and(Viewer::has_left) { ConversationKey(0) } else { conversation };
    let has_estimates = !unresolved.is_empty();
    for (index, detail) in roster::resolve(tx, group, unresolved).await? {
        page.entries[index].detail = Some(detail);
    }
    if has_estimates {
        page.fit(max_bytes);
    }
    Ok(page)
}

/// Whether there are more changes of the roster in a span than a client goes through. What the viewer does not see does not
/// count.
async fn has_long_roster(
    tx: &mut Tx<'_>,
    conversation: ConversationKey,
    viewer: Option<&Viewer>,
    (after, through): (i64, i64),
) -> Result<bool, Error> {
    if through - after <= MAX_ROSTER {
        return Ok(false);
    }
    let sql = "SELECT COUNT(*) FROM (SELECT 1 FROM change WHERE conversation = $1 AND kind = $2 AND rev > $3 AND rev <= $4 \
               LIMIT $5) AS found";
    let windows = viewer.map_or_else(|| vec![(after, through)], Viewer::change_windows);
    let mut found = 0;
    for (begin, end) in windows {
        let (begin, end) = (begin.max(after), end.min(through));
        if begin < end && found <= MAX_ROSTER {
            let row = tx.fetch_one(sql, &params![conversation, ROSTER, begin, end, MAX_ROSTER + 1]).await?;
            found += row.map_or(Ok(0), |row| row.get::<i64>(0))?;
        }
    }
    Ok(found > MAX_ROSTER)
}

/// Returns what a viewer may see of a span, as `(after, through)` pairs, and whether changes of the roster are left out there. A
/// client that goes without the roster is still told when its user entered and left, and of the end of the group.
fn spans(viewer: Option<&Viewer>, (after, through): (i64, i64), is_without_roster: bool) -> Vec<(i64, i64, bool)> {
    let Some(viewer) = viewer else { return vec![(after, through, is_without_roster)] };
    let windows = viewer.change_windows();
    if !is_without_roster {
        return windows.into_iter().map(|(begin, end)| (begin, end, false)).collect();
    }
    let bounds = viewer.visits.iter().flat_map(|visit| [Some(visit.rev.from), visit.rev.to]);
    let own = bounds.chain([viewer.change_log.end]).flatten().filter(|rev| *rev > after && *rev <= through);
    let own: BTreeSet<i64> = own.collect();
    let mut spans = Vec::with_capacity(windows.len() + 2 * own.len());
    for (mut begin, end) in windows {
        for rev in own.range(begin + 1..).copied().take_while(|rev| *rev <= end) {
            spans.extend([(begin, rev - 1, true), (rev - 1, rev, false)]);
            begin = rev;
        }
        spans.push((begin, end, true));
    }
    spans
}

/// The statement for a page of changes; its parameters are the conversation, the positions, the number of rows and the viewer. The
/// operator has no account.
fn select(without_roster: bool, has_viewer: bool) -> String {
    let shown = if has_viewer { format!(" AND {}", is_shown("m", "$5")) } else { String::new() };
    // By the index of kinds, so that the changes of the roster are not even read.
    let kind = if without_roster { format!(" AND h.kind IN ({MESSAGE}, {GROUP}, {EXPIRED})") } else { String::new() };
    format!(
        "SELECT {COLUMNS}, h.rev, h.at, COALESCE(w.name, ''), h.kind, h.detail, h.actor FROM change h \
         LEFT JOIN account w ON w.id = h.actor \
         LEFT JOIN message m ON m.conversation = h.conversation AND m.seq = h.subject AND h.kind = {MESSAGE}{shown} \
         LEFT JOIN account a ON a.id = m.sender \
         WHERE h.conversation = $1 AND h.rev > $2 AND h.rev <= $3{kind} ORDER BY h.rev LIMIT $4"
    )
}

type Read = (ChangeEntry, Option<(Record, i64)>);

/// Reads a change; one of a group is completed later.
fn change(
    row: &Row,
    scrambler: &Scrambler,
    viewer: Option<&Viewer>,
    windows: Option<&[(i64, i64)]>,
) -> Result<Read, Error> {
    // If the message is no longer kept, or the member may not see it, the entry is blank: it only advances the
    // position.
    let detail = match row.get::<Option<i64>>(0)? {
        Some(seq) if windows.is_none_or(|windows| is_visible(windows, seq)) => {
            Some(Detail::Message(entry(row, scrambler, viewer)?))
        }
        _ => None,
    };
    let detail = match (row.get::<i64>(WIDTH + 3)?, row.get::<Option<Vec<u8>>>(WIDTH + 4)?) {
        (EXPIRED, Some(expired)) => Some(Detail::Expired(ExpiredMessages::decode(&*expired).map_err(Error::internal)?)),
        _ => detail,
    };
    let record = match (row.get::<i64>(WIDTH + 3)?, row.get::<Option<Vec<u8>>>(WIDTH + 4)?) {
        (ROSTER, Some(record)) => Some(Record::Roster(RosterRecord::decode(&*record).map_err(Error::internal)?)),
        (GROUP, Some(change)) => Some(Record::Group(GroupChange::decode(&*change).map_err(Error::internal)?)),
        _ => None,
    };
    let record = match record {
        Some(record) => Some((record, row.get(WIDTH + 5)?)),
        None => None,
    };
    let rev = row.get::<i64>(WIDTH)?.unsigned_abs();
    let change = match (&detail, row.get::<Option<Vec<u8>>>(WIDTH + 4)?) {
        (Some(Detail::Message(_)), Some(change)) => Some(MessageChange::decode(&*change).map_err(Error::internal)?),
        _ => None,
    };
    Ok((ChangeEntry { rev, at: row.get(WIDTH + 1)?, actor: row.get(WIDTH + 2)?, detail, change }, record))
}

fn is_message(change: &ChangeEntry) -> bool {
    matches!(change.detail, Some(Detail::Message(_)))
}

fn message_mut(change: &mut ChangeEntry) -> Option<&mut MessageEntry> {
    match &mut change.detail {
        Some(Detail::Message(entry)) => Some(entry),
        _ => None,
    }
}
