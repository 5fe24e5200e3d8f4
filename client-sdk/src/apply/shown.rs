//! How the app sees a conversation after a transaction. Most transactions add messages and change what counts as unread. Then the
//! newest message is read, and the rest is as it was: names, settings and places are in other rows.

use std::collections::{HashMap, HashSet};

use rusqlite::Connection;
use zim_protocol::{Conversation, ConversationType};

use crate::engine::State;
use crate::store::{conversation, to_sql};

/// What a transaction has changed of the conversations that it has touched.
#[derive(Debug, Default)]
pub(super) struct Changed {
    /// Those of which anything may have changed.
    anything: HashSet<i64>,
    /// The counts that were stored.
    counts: HashMap<i64, Counts>,
}

/// What the state of the sync engine says of a conversation.
#[derive(Clone, Copy, Debug)]
struct Counts {
    unread: i64,
    read_seq: i64,
    is_on_server: bool,
}

impl Changed {
    /// Notes that anything may have changed, so the conversation is read.
    pub(super) fn anything(&mut self, id: i64) {
        self.anything.insert(id);
    }

    /// Notes the state that was stored last.
    pub(super) fn counted(&mut self, id: i64, state: &State) {
        let (unread, read_seq) = (to_sql(state.tally.unread()), to_sql(state.tally.read_seq));
        self.counts.insert(id, Counts { unread, read_seq, is_on_server: state.head_seq > 0 });
    }

    /// Returns a conversation as the app sees it now, and stores its place in the list. `before` is as the app saw it before the
    /// transaction.
    pub(super) fn shown(
        &self,
        db: &Connection,
        viewer: &str,
        id: i64,
        before: &mut Conversation,
    ) -> rusqlite::Result<Option<Conversation>> {
        if let Some(mut after) = self.counted_anew(id, before)
            && conversation::advanced(db, id, viewer, &mut after)?
        {
            if cfg!(debug_assertions) {
                let read = conversation::reordered(db, id, viewer)?;
                debug_assert_eq!(Some(&after), read.as_ref(), "what is remembered of a conversation is its row");
            }
            return Ok(Some(after));
        }
        conversation::reordered(db, id, viewer)
    }

    /// Returns a conversation with its present counts and without its newest message. `None`: it must be read.
    fn counted_anew(&self, id: i64, before: &mut Conversation) -> Option<Conversation> {
        // The place of a conversation depends on the time of its draft.
        if self.anything.contains(&id) || !before.draft.is_empty() {
            return None;
        }
        // The largest part is replaced in any case, so it is not copied.
        let newest = before.last_message.take();
        let mut after = before.clone();
        before.last_message = newest;
        let Some(counts) = self.counts.get(&id) else {
            let has_no_mentions = after.unread_message_count == 0 || after.mentioned_info_list.is_empty();
            return has_no_mentions.then_some(after);
        };
        // The mentions among unread messages are looked up when there are such messages. From then on, if there were none, only a new
        // message can add one, and that counts as any change.
        let may_mention = before.unread_message_count == 0
            || !before.mentioned_info_list.is_empty()
            || counts.read_seq < before.read_message_seq;
        if counts.unread > 0 && may_mention {
            return None;
        }
        after.mentioned_info_list.clear();
        (after.unread_message_count, after.read_message_seq) = (counts.unread, counts.read_seq);
        // As `save` does: a peer conversation that exists on the server has a peer.
        after.is_disabled &= !(counts.is_on_server && after.r#type == ConversationType::Peer as i32);
        Some(after)
    }
}
