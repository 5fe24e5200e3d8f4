//! The queue of messages that are being sent, in the order of the calls and with many in flight. After a lost
//! connection a message is sent again until its deadline. Pure: no IO, no clock.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bytes::Bytes;
use tokio::sync::oneshot;
use zim_protocol::{ErrorCode, Message};

use super::pace::Pace;
use super::{Place, Reply, SendResult};
use crate::error::{Error, IS_SENT};
use crate::types::{Key, Name};

/// The most messages in flight: more than fills any pipe, and less than the server queues per connection.
const MAX_IN_FLIGHT: usize = 128;
/// The pause after a refusal that names none.
const UNKNOWN_PAUSE_MS: i64 = 1_000;

/// The most contents that are kept of messages that were answered before their push.
const MAX_KEPT: usize = 128;

/// A message that is being sent.
#[derive(Debug)]
pub(crate) struct Outgoing {
    pub(crate) key: Key,
    pub(crate) name: Name,
    /// The encoded request.
    pub(crate) request: Bytes,
    /// The content that the server will store.
    pub(crate) content: Bytes,
    /// The message as the app sees it now.
    pub(crate) message: Message,
    /// It is stored here and on the server, which recognises its key. A command is not.
    pub(crate) is_stored: bool,
    /// Its files were uploaded again, because the server no longer had them.
    pub(crate) is_again: bool,
    /// Why it cannot be sent, unless the server has it already and answers so.
    pub(crate) unless_stored: Option<Error>,
    /// It takes from no allowance.
    pub(crate) is_barrage: bool,
    /// No attempt is made after this time, by the steady clock.
    pub(crate) deadline_ms: i64,
    pub(crate) reply: Reply,
    /// `None` for one of an earlier login.
    pub(crate) place: Option<Place>,
}

#[derive(Debug)]
struct Item {
    outgoing: Outgoing,
    /// The error of the last attempt.
    error: Option<Error>,
    is_in_flight: bool,
}

/// The queue. See the module.
#[derive(Debug, Default)]
pub(crate) struct SendQueue {
    items: BTreeMap<u64, Item>,
    waiting: BTreeSet<u64>,
    keys: HashMap<Key, u64>,
    /// The contents of messages that were answered, and that a push of this connection may still bring without content.
    kept: HashMap<Key, Bytes>,
    /// How many of those that wait have failed once.
    failed: usize,
    next: u64,
    in_flight: usize,
    pace: Pace,
}

impl SendQueue {
    /// Adds a message at the end.
    pub(crate) fn push(&mut self, outgoing: Outgoing) {
        self.next += 1;
        self.keys.insert(outgoing.key, self.next);
        self.waiting.insert(self.next);
        self.items.insert(self.next, Item { outgoing, error: None, is_in_flight: false });
    }

    /// Sets how many messages the server allows.
    pub(crate) fn set_pace(&mut self, per_second: u32, burst: u32) {
        self.pace.set(per_second, burst);
    }

    /// Returns the next message to send, unless too many are in flight or it is too early.
    pub(crate) fn start(&mut self, now_ms: i64) -> Option<(u64, Bytes, bool)> {
        let number = *self.waiting.first()?;
        let is_barrage = self.items.get(&number)?.outgoing.is_barrage;
        if self.in_flight >= MAX_IN_FLIGHT || !(is_barrage || self.pace.take(now_ms, self.in_flight)) {
            return None;
        }
        self.waiting.remove(&number);
        let item = self.items.get_mut(&number)?;
        self.failed -= usize::from(item.error.is_some());
        item.is_in_flight = true;
        self.in_flight += 1;
        Some((number, item.outgoing.request.clone(), is_barrage))
    }

    /// Returns when the next message may be sent, if only the time decides.
    pub(crate) fn next_start_ms(&self, now_ms: i64) -> Option<i64> {
        let is_next = !self.waiting.is_empty() && self.in_flight < MAX_IN_FLIGHT && self.pace.may_start(self.in_flight);
        is_next.then(|| self.pace.next_ms(now_ms))
    }

    /// The connection is lost: each message may wait `window_ms` from now for another one.
    pub(crate) fn disconnected(&mut self, now_ms: i64, window_ms: i64) {
        for item in self.items.values_mut() {
            item.outgoing.deadline_ms = item.outgoing.deadline_ms.max(now_ms.saturating_add(window_ms));
        }
        self.kept.clear();
    }

    /// Keeps the content of a message that was answered before its push has come. If there are too many, a pull brings them.
    pub(crate) fn keep(&mut self, key: Key, content: Bytes) {
        if self.kept.len() >= MAX_KEPT {
            self.kept.clear();
        }
        self.kept.insert(key, content);
    }

    /// Returns the content of a message that is being sent, or is kept.
    pub(crate) fn content(&self, key: &[u8]) -> Option<Bytes> {
        let sending = self.keys.get(key).and_then(|number| self.items.get(number));
        sending.map(|item| &item.outgoing.content).or_else(|| self.kept.get(key)).cloned()
    }

    /// Adds a caller who waits for a message that is being sent, or returns it if there is no such message.
    pub(crate) fn join(
        &mut self,
        key: &[u8],
        reply: oneshot::Sender<SendResult>,
    ) -> Result<(), oneshot::Sender<SendResult>> {
        let item = self.keys.get(key).and_then(|number| self.items.get_mut(number));
        let Some(item) = item else { return Err(reply) };
        item.outgoing.reply.join(reply);
        Ok(())
    }

    /// Removes a message that the server has stored.
    pub(crate) fn sent(&mut self, number: u64) -> Option<Outgoing> {
        self.pace.accepted();
        self.remove(number)
    }

    /// Removes a message that the log shows as stored.
    pub(crate) fn settled(&mut self, key: &[u8]) -> Option<Outgoing> {
        let number = *self.keys.get(key)?;
        self.remove(number)
    }

    /// Removes a message that has not left.
    pub(crate) fn withdraw(&mut self, key: &[u8]) -> Option<Outgoing> {
        let number = *self.keys.get(key)?;
        let has_left = self.items.get(&number).is_none_or(|item| item.is_in_flight || item.error.is_some());
        if has_left { None } else { self.remove(number) }
    }

    /// Whether a message has a row in the local database.
    pub(crate) fn is_stored(&self, number: u64) -> bool {
        self.items.get(&number).is_some_and(|item| item.outgoing.is_stored)
    }

    /// Handles a failed attempt. A message that came too fast is sent again when the server allows it. After a network error the message is sent again before its deadline, but a command only
    /// if it has not left; otherwise it is removed.
    pub(crate) fn failed(&mut self, number: u64, error: Error, now_ms: i64) -> Option<(Outgoing, Error)> {
        let item = self.items.get_mut(&number)?;
        if error.code() == ErrorCode::CommonModuleTriggerServerFrequencyLimit {
            self.pace.refused(now_ms, retry_after_ms(&error));
            if std::mem::take(&mut item.is_in_flight) {
                self.in_flight -= 1;
                self.failed += usize::from(item.error.is_some());
            }
            self.waiting.insert(number);
            return None;
        }
        let is_repeatable = item.outgoing.is_stored || error.detail(IS_SENT) == Some("false");
        if is_network(&error) && is_repeatable && now_ms < item.outgoing.deadline_ms {
            let had_failed = !item.is_in_flight && item.error.is_some();
            item.error = Some(error);
            if std::mem::take(&mut item.is_in_flight) {
                self.in_flight -= 1;
            }
            self.failed += usize::from(!had_failed);
            self.waiting.insert(number);
            return None;
        }
        Some((self.remove(number)?, error))
    }

    /// Removes the waiting messages whose deadline has passed. With a connection, only those for which an attempt failed:
    /// the others wait for their turn.
    pub(crate) fn expired(&mut self, now_ms: i64, is_connected: bool) -> Vec<(Outgoing, Error)> {
        if is_connected && self.failed == 0 {
            return Vec::new();
        }
        let is_expired = |number: &&u64| {
            self.items
                .get(number)
                .is_some_and(|item| item.outgoing.deadline_ms <= now_ms && (!is_connected || item.error.is_some()))
        };
        let expired: Vec<u64> = self.waiting.iter().filter(is_expired).copied().collect();
        self.end(expired)
    }

    /// Returns the earliest deadline of the waiting messages that [`SendQueue::expired`] would remove.
    pub(crate) fn next_deadline_ms(&self, is_connected: bool) -> Option<i64> {
        if is_connected && self.failed == 0 {
            return None;
        }
        let waiting = self.waiting.iter().filter_map(|number| self.items.get(number));
        waiting.filter(|item| !is_connected || item.error.is_some()).map(|item| item.outgoing.deadline_ms).min()
    }

    /// Removes all messages, because nothing more will be sent.
    pub(crate) fn drain(&mut self) -> Vec<(Outgoing, Error)> {
        let all = self.items.keys().copied().collect();
        self.end(all)
    }

    fn end(&mut self, numbers: Vec<u64>) -> Vec<(Outgoing, Error)> {
        let mut ended = Vec::with_capacity(numbers.len());
        for number in numbers {
            let Some((outgoing, error)) = self.take(number) else { continue };
            let error = error.unwrap_or_else(|| {
                Error::new(
                    ErrorCode::NetworkModuleNetworkError,
                    "the message could not be sent: there is no connection",
                )
            });
            ended.push((outgoing, error));
        }
        ended
    }

    fn remove(&mut self, number: u64) -> Option<Outgoing> {
        self.take(number).map(|(outgoing, _)| outgoing)
    }

    /// Removes a message; returns it with the error of the last attempt.
    fn take(&mut self, number: u64) -> Option<(Outgoing, Option<Error>)> {
        let item = self.items.remove(&number)?;
        self.waiting.remove(&number);
        self.keys.remove(&item.outgoing.key);
        if item.is_in_flight {
            self.in_flight -= 1;
        } else {
            self.failed -= usize::from(item.error.is_some());
        }
        Some((item.outgoing, item.error))
    }
}

/// Returns how long to wait after a refusal for the rate.
fn retry_after_ms(error: &Error) -> i64 {
    error.detail("retry_after_ms").and_then(|ms| ms.parse().ok()).unwrap_or(UNKNOWN_PAUSE_MS)
}

/// Returns whether it is unknown if the server got the request.
pub(crate) fn is_network(error: &Error) -> bool {
    error.code() == ErrorCode::NetworkModuleNetworkError || error.code() == ErrorCode::NetworkModuleRequestTimeout
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outgoing(key: u8, deadline_ms: i64) -> Outgoing {
        Outgoing {
            key: [key; 16],
            name: Name::new(0, "bob"),
            request: vec![key].into(),
            content: Bytes::new(),
            message: Message::text("hi"),
            is_stored: true,
            is_again: false,
            unless_stored: None,
            is_barrage: false,
            deadline_ms,
            reply: Reply::new(oneshot::channel().0),
            place: None,
        }
    }

    fn lost() -> Error {
        Error::new(ErrorCode::NetworkModuleNetworkError, "lost")
    }

    fn started(queue: &mut SendQueue) -> Vec<(u64, u8)> {
        std::iter::from_fn(|| queue.start(0)).map(|(number, request, _)| (number, request[0])).collect()
    }

    #[test]
    fn lost_messages_are_sent_again_in_the_order_of_the_calls() {
        let mut queue = SendQueue::default();
        for key in 1..=3 {
            queue.push(outgoing(key, 100));
        }
        assert_eq!(started(&mut queue), [(1, 1), (2, 2), (3, 3)]);
        assert!(queue.sent(2).is_some());
        // The failures of a lost connection arrive in any order.
        assert!(queue.failed(3, lost(), 10).is_none());
        assert!(queue.failed(1, lost(), 10).is_none());
        queue.push(outgoing(4, 100));
        assert_eq!(started(&mut queue), [(1, 1), (3, 3), (4, 4)]);
    }

    #[test]
    fn the_content_of_an_answered_message_is_kept_for_this_connection() {
        let mut queue = SendQueue::default();
        let keep = |queue: &mut SendQueue, number: usize| {
            queue.keep([u8::try_from(number).unwrap(); 16], Bytes::from_static(b"x"));
        };
        (1..=MAX_KEPT).for_each(|number| keep(&mut queue, number));
        assert_eq!(queue.content(&[1; 16]).as_deref(), Some(&b"x"[..]));
        // They are bounded.
        keep(&mut queue, MAX_KEPT + 1);
        assert_eq!(queue.content(&[1; 16]), None);
        assert!(queue.content(&[129; 16]).is_some());
        queue.disconnected(0, 0);
        assert_eq!(queue.content(&[129; 16]), None);
    }

    #[test]
    fn a_message_is_withdrawn_before_it_leaves_and_not_later() {
        let mut queue = SendQueue::default();
        for key in 1..=2 {
            queue.push(outgoing(key, 100));
        }
        assert!(queue.withdraw(&[1; 16]).is_some());
        assert!(queue.withdraw(&[1; 16]).is_none() && queue.withdraw(&[3; 16]).is_none());
        assert_eq!(started(&mut queue), [(2, 2)]);
        assert!(queue.withdraw(&[2; 16]).is_none(), "it is on its way");
        // The server may have it.
        assert!(queue.failed(2, lost(), 10).is_none());
        assert!(queue.withdraw(&[2; 16]).is_none());
        assert!(queue.sent(2).is_some());
    }

    #[test]
    fn a_command_is_sent_at_most_once() {
        let mut queue = SendQueue::default();
        for key in 1..=2 {
            queue.push(Outgoing { is_stored: false, ..outgoing(key, 100) });
        }
        assert_eq!(started(&mut queue).len(), 2);
        assert!(queue.failed(1, lost().with_detail(IS_SENT, "false"), 10).is_none());
        assert!(queue.failed(2, lost(), 10).is_some());
        assert_eq!(started(&mut queue), [(1, 1)]);
    }

    #[test]
    fn an_expired_message_fails_with_its_last_error() {
        let mut queue = SendQueue::default();
        queue.push(outgoing(1, 100));
        queue.push(outgoing(2, 200));
        started(&mut queue);
        let timeout = Error::new(ErrorCode::NetworkModuleRequestTimeout, "late");
        assert!(queue.failed(1, timeout, 10).is_none());
        assert!(queue.failed(2, lost(), 10).is_none());
        assert_eq!(queue.next_deadline_ms(false), Some(100));
        assert!(queue.expired(99, false).is_empty());
        let expired = queue.expired(100, false);
        assert_eq!(expired.len(), 1);
        assert_eq!(expired[0].1.code(), ErrorCode::NetworkModuleRequestTimeout);
        assert_eq!(queue.next_deadline_ms(false), Some(200));
        // With a connection only those count that have failed, so that a long queue is not searched for nothing.
        assert_eq!((queue.failed, queue.next_deadline_ms(true)), (1, Some(200)));
        assert_eq!(queue.expired(200, true).len(), 1);
        queue.push(outgoing(3, 300));
        assert_eq!((queue.failed, queue.next_deadline_ms(true)), (0, None));
    }

    #[test]
    fn a_message_that_came_too_fast_is_sent_again_in_its_place() {
        let mut queue = SendQueue::default();
        for key in 1..=4 {
            queue.push(outgoing(key, 100));
        }
        assert_eq!(started(&mut queue).len(), 4);
        let refused = Error::new(ErrorCode::CommonModuleTriggerServerFrequencyLimit, "too fast");
        let refused = refused.with_detail("retry_after_ms", "500");
        for number in [2, 3, 1, 4] {
            assert!(queue.failed(number, refused.clone(), 1_000).is_none());
        }
        assert_eq!(queue.next_start_ms(1_000), Some(1_500));
        // No deadline applies while there is a connection, and a new one after it is lost.
        assert!(queue.expired(1_499, true).is_empty());
        queue.disconnected(1_499, 100);
        assert!(queue.expired(1_500, false).is_empty());
        assert!(queue.start(1_499).is_none());
        assert_eq!(queue.start(1_500).map(|(number, ..)| number), Some(1));
        // One message finds out whether the server accepts messages again.
        assert!(queue.start(1_500).is_none());
        assert!(queue.sent(1).is_some());
        let rest: Vec<u64> = std::iter::from_fn(|| queue.start(1_500)).map(|(number, ..)| number).collect();
        assert_eq!(rest, [2, 3, 4]);
    }

    #[test]
    fn a_refusal_is_final_and_so_is_the_last_attempt() {
        let mut queue = SendQueue::default();
        queue.push(outgoing(1, 100));
        queue.push(outgoing(2, 100));
        started(&mut queue);
        let refused = Error::new(ErrorCode::MessageModuleTargetDoesNotExist, "nobody");
        assert!(queue.failed(1, refused, 10).is_some());
        assert!(queue.failed(2, lost(), 100).is_some());
        assert!(queue.drain().is_empty());
    }

    #[test]
    fn the_messages_in_flight_are_limited() {
        let mut queue = SendQueue::default();
        for key in 0..=255 {
            queue.push(outgoing(key, 100));
        }
        assert_eq!(started(&mut queue).len(), MAX_IN_FLIGHT);
        assert!(queue.settled(&[0; 16]).is_some());
        assert_eq!(started(&mut queue).len(), 1);
        assert_eq!(queue.drain().len(), 255);
        assert_eq!(queue.in_flight, 0);
    }
}
