//! Where the pages of searches end. Between two pages messages come, change and go: the next page begins behind the last message of the
//! page before, even if that is gone. Only messages of the same millisecond can change their places meanwhile.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;
use prost::Message as _;
use zim_protocol::{ConversationSearchConfig, Message};

/// The most pages that are remembered: the searches that people have open, and a few more.
const MAX: usize = 64;

/// The most conversations that are remembered in all: of long lists, only the page before the next one matters.
const MAX_CONVERSATIONS: usize = 100_000;

/// What tells a message from others, and is the same after it was edited or deleted.
type Place = (i32, String, i64, i64);

fn place(message: &Message) -> Place {
    (message.conversation_type, message.conversation_id.clone(), message.order_key, message.timestamp)
}

/// A request for a page, and the conversations that were shown before it.
type Before = (Vec<u8>, Arc<HashSet<i64>>);

/// The ends of the pages that were returned last.
#[derive(Debug, Default)]
pub(crate) struct SearchPages {
    /// The documents of the messages that pages end with.
    messages: Mutex<VecDeque<(Place, i64)>>,
    /// The conversations that were shown, by the request for the next page.
    conversations: Mutex<VecDeque<Before>>,
}

impl SearchPages {
    /// Notes the document of the last message of a page.
    pub(crate) fn end_with(&self, message: &Message, doc: i64) {
        put(&mut self.messages.lock(), place(message), doc);
    }

    /// Returns the document of a message that a page has ended with.
    pub(crate) fn after(&self, message: &Message) -> Option<i64> {
        let place = place(message);
        self.messages.lock().iter().find(|(known, _)| *known == place).map(|(_, doc)| *doc)
    }

    /// Notes the conversations that a search has shown before the page with this flag.
    pub(crate) fn shown_before(&self, config: &ConversationSearchConfig, next_flag: i64, shown: HashSet<i64>) {
        let mut before = self.conversations.lock();
        put(&mut before, key(config, next_flag), Arc::new(shown));
        while before.len() > 1 && before.iter().map(|(_, shown)| shown.len()).sum::<usize>() > MAX_CONVERSATIONS {
            before.pop_front();
        }
    }

    /// Returns the conversations that a search has shown before this page; `None`: it is not known any more.
    pub(crate) fn shown(&self, config: &ConversationSearchConfig) -> Option<Arc<HashSet<i64>>> {
        let key = key(config, config.next_flag);
        self.conversations.lock().iter().find(|(known, _)| *known == key).map(|(_, shown)| Arc::clone(shown))
    }
}

/// The sizes of pages may differ.
fn key(config: &ConversationSearchConfig, next_flag: i64) -> Vec<u8> {
    let (total_conversation_count, conversation_message_count) = (0, 0);
    ConversationSearchConfig { next_flag, total_conversation_count, conversation_message_count, ..config.clone() }
        .encode_to_vec()
}

fn put<K: PartialEq, V>(list: &mut VecDeque<(K, V)>, key: K, value: V) {
    list.retain(|(known, _)| *known != key);
    if list.len() == MAX {
        list.pop_front();
    }
    list.push_back((key, value));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_pages_are_remembered() {
        let pages = SearchPages::default();
        let message = |order_key| Message { order_key, ..Message::text("hi") };
        for order_key in 0..=64 {
            pages.end_with(&message(order_key), order_key * 2);
        }
        pages.end_with(&message(64), 7);
        let edited = Message { order_key: 64, ..Message::text("ho") };
        assert_eq!(
            (pages.after(&message(0)), pages.after(&message(1)), pages.after(&edited)),
            (None, Some(2), Some(7))
        );
        let config = |keyword: &str, next_flag, total_conversation_count| ConversationSearchConfig {
            keywords: vec![keyword.to_owned()],
            next_flag,
            total_conversation_count,
            ..ConversationSearchConfig::default()
        };
        pages.shown_before(&config("a", 0, 1), 5, HashSet::from([3]));
        assert_eq!(pages.shown(&config("a", 5, 2)).as_deref(), Some(&HashSet::from([3])));
        assert!(pages.shown(&config("a", 0, 1)).is_none() && pages.shown(&config("b", 5, 1)).is_none());
    }
}
