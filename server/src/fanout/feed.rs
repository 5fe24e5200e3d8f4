//! Pushes of feeds. When many read a message at once, its sender gets an entry for each of them, and each has the counts of its
//! moment. Those that wait in a lane at the same time are one push with the last counts: a push stands for every position from its
//! first to its last, and an entry replaces those before it about the same thing.

use std::collections::{BTreeMap, HashSet};

use bytes::Bytes;
use zim_protocol::{FeedEntry, Push, ReceiptEntry, event_frame::Frame, feed_entry::Detail};

use super::Fanout;
use super::deliver::encode;
use super::feed_order::Fed;
use crate::connection::PushTarget;
use crate::journal::feed_push;
use crate::key::UserKey;

/// The most entries of one push. A frame must not get too long for its client.
const RUN_ENTRIES: usize = 1_000;

/// Entries of feeds that are in order and not pushed yet.
#[derive(Debug, Default)]
pub(super) struct Feeds(BTreeMap<UserKey, Vec<(i64, Fed)>>);

impl Feeds {
    pub(super) fn add(&mut self, user: UserKey, pos: i64, fed: Fed) {
        self.0.entry(user).or_default().push((pos, fed));
    }
}

/// The receipt that an entry of a feed is about.
fn receipt((_, fed): &(i64, Fed)) -> Option<&ReceiptEntry> {
    if let Detail::Receipt(receipt) = &*fed.entry { Some(receipt) } else { None }
}

/// Whether two entries are in one push: receipts that follow each other.
fn is_run(one: &(i64, Fed), next: &(i64, Fed)) -> bool {
    one.0 + 1 == next.0 && receipt(one).is_some() && receipt(next).is_some()
}

/// Returns the entries of each push.
fn runs(entries: &[(i64, Fed)]) -> impl Iterator<Item = &[(i64, Fed)]> {
    entries.chunk_by(is_run).flat_map(|run| run.chunks(RUN_ENTRIES))
}

/// Returns a push of a run. Of the receipts of one message, the last one says it all.
fn run_push(run: &[(i64, Fed)]) -> Push {
    let mut later = HashSet::new();
    let mut entries = Vec::new();
    for item in run.iter().rev() {
        let about = receipt(item).map(|receipt| {
            let conversation = receipt.conversation.as_ref().map(|name| (name.r#type, &*name.id));
            (conversation, receipt.seq, receipt.is_self_operated)
        });
        if about.is_none_or(|about| later.insert(about)) {
            entries.push(FeedEntry { pos: item.0.unsigned_abs(), detail: Some((*item.1.entry).clone()) });
        }
    }
    entries.reverse();
    let position = |item: Option<&(i64, Fed)>| item.map_or(0, |(pos, _)| pos.unsigned_abs());
    Push { from: position(run.first()), to: position(run.last()), ..feed_push(entries) }
}

fn frame(run: &[(i64, Fed)]) -> Bytes {
    encode(Frame::Push(run_push(run)))
}

impl Fanout {
    /// Notes that an entry of a feed is about to be pushed.
    pub(super) fn note_fed(&self, user: UserKey, pos: i64) {
        self.connections(user).iter().for_each(|connection| connection.set_fed(pos.max(connection.fed())));
    }

    /// Pushes the collected entries, those of each user in order.
    pub(super) fn push_feeds(&self, feeds: &mut Feeds) {
        for (user, entries) in std::mem::take(&mut feeds.0) {
            for run in runs(&entries) {
                self.push_feed(user, run);
            }
        }
    }

    fn push_feed(&self, user: UserKey, run: &[(i64, Fed)]) {
        let connections = self.connections(user);
        if connections.is_empty() {
            return;
        }
        // Before the frame is in the queue, so that no acknowledgement comes too early.
        let entries = || run.iter().map(|(pos, fed)| (*pos, &*fed.entry));
        let last = run.last().map_or(0, |(pos, _)| *pos);
        for connection in &connections {
            // It may have come since the entries were noted.
            connection.set_fed(last.max(connection.fed()));
            connection.add_ringing(entries());
        }
        let mut shared: Option<Bytes> = None;
        for connection in connections {
            let Some(login) = connection.identity().map(|identity| identity.login) else { continue };
            if run.iter().all(|(_, fed)| fed.cause != login) {
                let frame = shared.get_or_insert_with(|| frame(run)).clone();
                connection.queue.push(frame, &PushTarget::Feed);
                continue;
            }
            // The responses of this connection carry some of them, so each position stands for itself.
            for one in run.chunks(1).filter(|one| one.iter().all(|(_, fed)| fed.cause != login)) {
                connection.queue.push(frame(one), &PushTarget::Feed);
            }
        }
    }

    /// Gives up the entries of a feed up to `pos`: the clients ask for what is missing.
    pub(super) fn skip_feed(&self, user: UserKey, pos: i64) {
        for connection in self.connections(user) {
            connection.set_fed(pos.max(connection.fed()));
            connection.queue.mark_dirty(&PushTarget::Feed);
        }
    }
}

#[cfg(test)]
mod tests {
    use zim_protocol::{ConversationRef, ReadMark};

    use super::super::tests::connection_of;
    use super::*;
    use crate::key::LoginKey;

    const CAUSE: LoginKey = LoginKey(99);

    fn of(pos: i64, detail: Detail) -> (i64, Fed) {
        (pos, Fed { entry: Box::new(detail), cause: CAUSE })
    }

    fn read(pos: i64, id: &str, seq: u64, read_member_count: i64) -> (i64, Fed) {
        let conversation = Some(ConversationRef { r#type: 2, id: id.to_owned() });
        of(pos, Detail::Receipt(ReceiptEntry { conversation, seq, read_member_count, ..ReceiptEntry::default() }))
    }

    /// The runs of entries: the positions of each, and those that remain.
    fn pushed(entries: &[(i64, Fed)]) -> Vec<(u64, u64, Vec<u64>)> {
        let push = |run: &[(i64, Fed)]| {
            let Push { from, to, feed, .. } = run_push(run);
            (from, to, feed.iter().map(|entry| entry.pos).collect())
        };
        runs(entries).map(push).collect()
    }

    #[test]
    fn the_last_receipt_of_a_message_stands_for_those_before_it() {
        let same = [read(4, "crew", 7, 1), read(5, "crew", 7, 2), read(6, "crew", 7, 3)];
        assert_eq!(pushed(&same), [(4, 6, vec![6])]);
        let Some(Detail::Receipt(last)) = run_push(&same).feed.remove(0).detail else { panic!() };
        assert_eq!(last.read_member_count, 3);
        let others = [read(4, "crew", 7, 1), read(5, "crew", 8, 1), read(6, "team", 7, 1), read(7, "crew", 7, 2)];
        assert_eq!(pushed(&others), [(4, 7, vec![5, 6, 7])]);
        // Their own receipt of a message is another thing than those of others.
        let (pos, mut own) = read(8, "crew", 7, 0);
        let Detail::Receipt(receipt) = &mut *own.entry else { panic!() };
        receipt.is_self_operated = true;
        assert_eq!(pushed(&[read(7, "crew", 7, 2), (pos, own)]), [(7, 8, vec![7, 8])]);
    }

    #[test]
    fn nothing_else_is_merged_and_no_position_is_passed_over() {
        let mark = |pos| of(pos, Detail::Read(ReadMark::default()));
        assert_eq!(pushed(&[mark(1), mark(2)]), [(1, 1, vec![1]), (2, 2, vec![2])]);
        assert_eq!(
            pushed(&[read(4, "crew", 7, 1), mark(5), read(6, "crew", 7, 2), read(8, "crew", 7, 3)]),
            [(4, 4, vec![4]), (5, 5, vec![5]), (6, 6, vec![6]), (8, 8, vec![8])]
        );
    }

    #[test]
    fn many_receipts_are_several_pushes() {
        let most = u64::try_from(RUN_ENTRIES).unwrap();
        let many: Vec<_> = (1..=2 * most + 1).map(|pos| read(pos.cast_signed(), "crew", pos, 1)).collect();
        let spans: Vec<_> = pushed(&many).into_iter().map(|(from, to, _)| (from, to)).collect();
        assert_eq!(spans, [(1, most), (most + 1, 2 * most), (2 * most + 1, 2 * most + 1)]);
    }

    #[test]
    fn what_a_new_session_gets_is_noted() {
        let (fanout, mut feeds, user) = (Fanout::default(), Feeds::default(), UserKey(1));
        fanout.note_fed(user, 5);
        let (pos, fed) = read(5, "crew", 7, 1);
        feeds.add(user, pos, fed);
        let session = connection_of(user, 10);
        fanout.register(user, std::sync::Arc::clone(&session));
        fanout.push_feeds(&mut feeds);
        assert_eq!((session.queue.len(), session.fed()), (1, 5));
    }
}
