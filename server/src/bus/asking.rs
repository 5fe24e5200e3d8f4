//! Questions to all other nodes. Only the sessions are asked for: what a connection is like is known to its node alone.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use prost::Message;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use zim_protocol::SessionInfo;

use super::numbers::NodeId;
use crate::key::AppKey;

/// Sessions in one packet.
const PAGE: usize = 1_000;

/// Asks for the sessions of an app, or of one of its users.
#[derive(Clone, PartialEq, Message)]
pub(super) struct SessionsQuestion {
    #[prost(uint32, tag = "1")]
    pub(super) node: u32,
    #[prost(int64, tag = "2")]
    pub(super) generation: i64,
    #[prost(uint64, tag = "3")]
    pub(super) number: u64,
    #[prost(int64, tag = "4")]
    pub(super) app: i64,
    /// Empty for all.
    #[prost(string, tag = "5")]
    pub(super) user_id: String,
    /// Asks instead which logins have stored a message.
    #[prost(message, optional, tag = "6")]
    pub(super) stored: Option<StoredQuestion>,
}

/// Asks which logins of some users have stored a message, or handled their events.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct StoredQuestion {
    /// The type of the conversation.
    #[prost(int32, tag = "1")]
    pub kind: i32,
    /// The conversation, as the users call it.
    #[prost(string, tag = "2")]
    pub conversation_id: String,
    /// The position of the message.
    #[prost(uint64, tag = "3")]
    pub seq: u64,
    /// The keys of the users.
    #[prost(int64, repeated, tag = "4")]
    pub users: Vec<i64>,
    /// Asks instead which logins have handled all events that they were to get at this time, Unix milliseconds; 0: it does not.
    #[prost(int64, tag = "5")]
    pub handled_at: i64,
    /// When that happened which the events tell of, Unix milliseconds.
    #[prost(int64, tag = "6")]
    pub happened_at: i64,
    /// It is in the feeds of the users.
    #[prost(bool, tag = "7")]
    pub is_in_feed: bool,
}

/// A part of the answer of one node.
#[derive(Clone, PartialEq, Message)]
pub(super) struct SessionsAnswer {
    #[prost(message, repeated, tag = "1")]
    pub(super) sessions: Vec<SessionInfo>,
    #[prost(bool, tag = "2")]
    pub(super) is_last: bool,
    /// The logins that have stored the message.
    #[prost(int64, repeated, tag = "3")]
    pub(super) logins: Vec<i64>,
}

/// A question of another node.
#[derive(Debug)]
pub(crate) struct Question {
    /// The app.
    pub(crate) app: AppKey,
    /// The user; empty for all.
    pub(crate) user_id: String,
    /// Which logins have stored a message, instead of the sessions.
    pub(crate) stored: Option<StoredQuestion>,
    pub(super) reply_to: String,
}

/// Returns the subject, below that of the deployment, of the answers to a question.
pub(super) fn answers_to(node: NodeId, number: u64) -> String {
    format!(".answer.{}.{}.{number}", node.0, node.1)
}

/// Splits an answer into packets.
pub(super) fn pages(mut sessions: Vec<SessionInfo>) -> Vec<SessionsAnswer> {
    let mut pages = Vec::new();
    while sessions.len() > PAGE {
        let rest = sessions.split_off(PAGE);
        pages.push(SessionsAnswer { sessions, ..SessionsAnswer::default() });
        sessions = rest;
    }
    pages.push(SessionsAnswer { sessions, is_last: true, logins: Vec::new() });
    pages
}

/// The questions that wait for answers, by the subject of these.
#[derive(Debug, Default)]
pub(super) struct Asking {
    count: AtomicU64,
    waiting: Mutex<HashMap<String, UnboundedSender<SessionsAnswer>>>,
}

impl Asking {
    /// Returns the number of a new question, and its answers as they arrive.
    pub(super) fn begin(&self, node: NodeId) -> (u64, UnboundedReceiver<SessionsAnswer>) {
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        let (sender, answers) = unbounded_channel();
        self.waiting.lock().insert(answers_to(node, number), sender);
        (number, answers)
    }

    /// Forgets a question.
    pub(super) fn end(&self, node: NodeId, number: u64) {
        self.waiting.lock().remove(&answers_to(node, number));
    }

    /// Hands an answer over, if this node has asked.
    pub(super) fn answer(&self, subject: &str, answer: SessionsAnswer) {
        if let Some(waiting) = self.waiting.lock().get(subject) {
            // The one who asked may have given up.
            let _ = waiting.send(answer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_answer_has_several_packets() {
        let lengths = |count| {
            let pages = pages(vec![SessionInfo::default(); count]);
            pages.iter().map(|page| (page.sessions.len(), page.is_last)).collect::<Vec<_>>()
        };
        assert_eq!(lengths(0), [(0, true)]);
        assert_eq!(lengths(PAGE), [(PAGE, true)]);
        assert_eq!(lengths(PAGE + 1), [(PAGE, false), (1, true)]);
    }

    #[test]
    fn an_answer_reaches_its_question() {
        let asking = Asking::default();
        let ((first, mut one), (second, mut other)) = (asking.begin((1, 2)), asking.begin((1, 2)));
        asking.answer(&answers_to((1, 2), second), SessionsAnswer { is_last: true, ..SessionsAnswer::default() });
        asking.answer(&answers_to((1, 3), first), SessionsAnswer::default());
        assert!(other.try_recv().unwrap().is_last && one.try_recv().is_err());
        asking.end((1, 2), first);
        asking.answer(&answers_to((1, 2), first), SessionsAnswer::default());
        assert!(one.try_recv().is_err());
    }
}
