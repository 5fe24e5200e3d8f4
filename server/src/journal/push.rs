//! Pushes: runs of log entries, for a response or for other connections.

use zim_protocol::{ChangeEntry, ConversationRef, FeedEntry, LogKind, MessageEntry, Push};

/// A push of consecutive messages of one conversation.
pub fn message_push(messages: Vec<MessageEntry>, conversation: ConversationRef) -> Push {
    Push {
        log: LogKind::Messages as i32,
        conversation: Some(conversation),
        from: messages.first().map_or(0, |message| message.seq),
        to: messages.last().map_or(0, |message| message.seq),
        messages,
        changes: Vec::new(),
        feed: Vec::new(),
    }
}

/// A push of messages of one conversation that stands for these positions. Those without a message are blank.
pub fn message_push_of(messages: Vec<MessageEntry>, conversation: ConversationRef, (from, to): (i64, i64)) -> Push {
    Push { from: from.unsigned_abs(), to: to.unsigned_abs(), ..message_push(messages, conversation) }
}

/// A push of one change of a conversation.
pub fn change_push(entry: ChangeEntry, conversation: ConversationRef) -> Push {
    Push {
        log: LogKind::Changes as i32,
        conversation: Some(conversation),
        from: entry.rev,
        to: entry.rev,
        changes: vec![entry],
        ..Push::default()
    }
}

/// A push of consecutive entries of a feed.
pub fn feed_push(feed: Vec<FeedEntry>) -> Push {
    Push {
        log: LogKind::Feed as i32,
        from: feed.first().map_or(0, |entry| entry.pos),
        to: feed.last().map_or(0, |entry| entry.pos),
        feed,
        ..Push::default()
    }
}
