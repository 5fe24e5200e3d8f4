//! A message as a chat shows it: with its number, what it replies to, its reactions, and what became of it.

use zim_protocol::{Message, MessageDirection, MessageReceiptStatus};

use crate::describe;
use crate::output::{Ink, Output, clock_time};

/// The width of the column of numbers.
const NUMBER: usize = 3;

/// How messages are shown.
#[derive(Clone, Copy, Debug)]
pub(super) struct Form<'a> {
    pub(super) output: Output,
    pub(super) me: &'a str,
    /// The width of the column of senders.
    pub(super) columns: usize,
    /// Whether numbers are shown: the commands of the chat take them.
    pub(super) has_numbers: bool,
}

impl Form<'_> {
    /// Returns a message in lines.
    pub(super) fn lines(self, message: &Message) -> Vec<String> {
        let dim = |text: &str| self.output.paint(Ink::Dim, text);
        let indent = " ".repeat(clock_time(message.timestamp).len() + 2 + self.columns + 2);
        let mut lines = describe::message(self.output, message, self.columns);
        if let Some(last) = lines.last_mut() {
            last.push_str(&self.marks(message));
        }
        if !message.reactions.is_empty() {
            lines.push(format!("{indent}{}", dim(&describe::message::reactions(&message.reactions))));
        }
        let quote = message.replied_info.as_deref().map(describe::message::quoted);
        let quote = quote.map(|quote| format!("{indent}{}", dim(&format!("↪ {quote}"))));
        if !self.has_numbers {
            return quote.into_iter().chain(lines).collect();
        }
        let space = " ".repeat(NUMBER + 2);
        let number = match message.message_seq {
            0 => space.clone(),
            seq => format!("{}  ", dim(&format!("{seq:>NUMBER$}"))),
        };
        let quote = quote.map(|quote| format!("{space}{quote}"));
        let lines = lines.into_iter().enumerate();
        let lines = lines.map(|(index, line)| format!("{}{line}", if index == 0 { &number } else { &space }));
        quote.into_iter().chain(lines).collect()
    }

    /// Returns what stands behind the text of a message.
    fn marks(self, message: &Message) -> String {
        let mut marks = String::new();
        let is_own = message.direction() == MessageDirection::Send;
        let mentions_me = message.is_mention_all || message.mentioned_user_ids.iter().any(|user| user == self.me);
        if message.edited_time > 0 {
            marks.push_str(&self.output.paint(Ink::Dim, " (edited)"));
        }
        if mentions_me && !is_own {
            marks.push_str(&self.output.paint(Ink::Bold, " (mentions you)"));
        }
        if is_own && message.receipt_status() == MessageReceiptStatus::Done {
            marks.push_str(&self.output.paint(Ink::Good, " (read)"));
        }
        marks
    }
}

#[cfg(test)]
mod tests {
    use zim_protocol::message_lite_info::Body as Lite;
    use zim_protocol::{MessageLiteInfo, MessageReaction, MessageRepliedInfo, TextMessageLiteInfo};

    use super::*;
    use crate::output::Format;

    fn form(has_numbers: bool) -> Form<'static> {
        Form { output: Output::from_env(Some(Format::Plain)), me: "ann", columns: 3, has_numbers }
    }

    fn from(sender: &str, message: Message) -> Message {
        let direction = if sender == "ann" { MessageDirection::Send } else { MessageDirection::Receive };
        Message { sender_user_id: sender.into(), direction: direction as i32, message_seq: 7, ..message }
    }

    #[test]
    fn a_message_shows_its_number_where_commands_take_it() {
        let message = from("bob", Message::text("one\ntwo"));
        let lines = form(true).lines(&message);
        assert!(lines[0].starts_with("  7  ") && lines[0].ends_with("  bob  one"), "{lines:?}");
        assert_eq!(lines[1].find("two"), lines[0].find("one"));
        assert!(form(false).lines(&message)[0].ends_with("  bob  one"));
        assert!(!form(false).lines(&message)[0].starts_with(' '));
        let in_a_room = Message { message_seq: 0, ..message };
        assert!(form(true).lines(&in_a_room)[0].starts_with("     "));
    }

    #[test]
    fn a_message_shows_what_became_of_it() {
        let last = |message: &Message| form(false).lines(message).pop().unwrap();
        let edited = Message { edited_time: 1, is_mention_all: true, ..from("bob", Message::text("hi")) };
        assert!(last(&edited).ends_with("hi (edited) (mentions you)"), "{}", last(&edited));
        let named = Message { mentioned_user_ids: vec!["ann".into()], ..from("bob", Message::text("hi")) };
        assert!(last(&named).ends_with("hi (mentions you)"));
        let other = Message { mentioned_user_ids: vec!["cai".into()], ..from("bob", Message::text("hi")) };
        assert!(last(&other).ends_with("hi"));
        let status = MessageReceiptStatus::Done as i32;
        let read = Message { receipt_status: status, is_mention_all: true, ..from("ann", Message::text("hi")) };
        assert!(last(&read).ends_with("hi (read)"));
        let own_receipt = Message { receipt_status: status, ..from("bob", Message::text("hi")) };
        assert!(last(&own_receipt).ends_with("hi"));
    }

    #[test]
    fn a_reply_stands_below_what_it_replies_to_and_above_its_reactions() {
        let info = MessageLiteInfo {
            body: Some(Lite::Text(TextMessageLiteInfo { message: "see you at 8".into() })),
            ..MessageLiteInfo::default()
        };
        let replied =
            MessageRepliedInfo { message_info: Some(info), sender_user_id: "ann".into(), ..Default::default() };
        let reaction = MessageReaction { reaction_type: "👍".into(), total_count: 2, ..MessageReaction::default() };
        let reply = Message {
            replied_info: Some(Box::new(replied)),
            reactions: vec![reaction],
            ..from("bob", Message::text("yes"))
        };
        for has_numbers in [false, true] {
            let lines = form(has_numbers).lines(&reply);
            let [quote, text, reactions] = &lines[..] else { panic!("{lines:?}") };
            assert!(quote.trim() == "↪ ann: see you at 8" && reactions.trim() == "👍 2", "{lines:?}");
            let column = text.find("yes");
            assert_eq!((quote.find('↪'), reactions.find('👍')), (column, column), "{lines:?}");
        }
    }
}
