//! The queue of messages that are being sent: in the order of the calls, many in flight, and again after a lost link while
//! their time has not run out. Pure: no IO, no clock.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bytes::Bytes;
use tokio::sync::oneshot;
use zim_protocol::{ErrorCode, Message, MessageSentResult, SendMessageRequest};

use crate::error::Error;
use crate::sync::Name;

/// Sends under way at the same time: more than fills any pipe, less than the server lets wait in one session.
const MAX_IN_FLIGHT: usize = 128;

/// A message's 128 random bits: sent twice is stored once.
pub(crate) type Key = [u8; 16];

/// A message on its way.
#[derive(Debug)]
pub(crate) struct Outgoing {
    pub(crate) key: Key,
    pub(crate) name: Name,
    pub(crate) request: SendMessageRequest,
    /// What the server will store of it.
    pub(crate) content: Bytes,
    /// As the app sees it now.
    pub(crate) message: Message,
    /// After this it is not sent again, by the steady clock.
    pub(crate) deadline_ms: i64,
    pub(crate) reply: oneshot::Sender<Result<MessageSentResult, Error>>,
}

#[derive(Debug)]
struct Item {
    outgoing: Outgoing,
    /// Why the last attempt failed.
    error: Option<Error>,
    is_in_flight: bool,
}

/// The queue. See the module.
#[derive(Debug, Default)]
pub(crate) struct SendQueue {
    items: BTreeMap<u64, Item>,
    waiting: BTreeSet<u64>,
    keys: HashMap<Key, u64>,
    next: u64,
    in_flight: usize,
}

impl SendQueue {
    /// Takes a message into the queue, behind all others.
    pub(crate) fn push(&mut self, outgoing: Outgoing) {
        self.next += 1;
        self.keys.insert(outgoing.key, self.next);
        self.waiting.insert(self.next);
        self.items.insert(self.next, Item { outgoing, error: None, is_in_flight: false });
    }

    /// The next one to send, if there is room.
    pub(crate) fn start(&mut self) -> Option<(u64, SendMessageRequest)> {
        if self.in_flight >= MAX_IN_FLIGHT {
            return None;
        }
        let number = self.waiting.pop_first()?;
        let item = self.items.get_mut(&number)?;
        item.is_in_flight = true;
        self.in_flight += 1;
        Some((number, item.outgoing.request.clone()))
    }

    /// What a message on its way says.
    pub(crate) fn content(&self, key: &[u8]) -> Option<Bytes> {
        let number = self.keys.get(key)?;
        Some(self.items.get(number)?.outgoing.content.clone())
    }

    /// The server has it.
    pub(crate) fn sent(&mut self, number: u64) -> Option<Outgoing> {
        self.remove(number)
    }

    /// The same, learnt from the log.
    pub(crate) fn settled(&mut self, key: &[u8]) -> Option<Outgoing> {
        let number = *self.keys.get(key)?;
        self.remove(number)
    }

    /// An attempt failed. A failure of the network is tried again while there is time; any other, and the last, ends it.
    pub(crate) fn failed(&mut self, number: u64, error: Error, now_ms: i64) -> Option<(Outgoing, Error)> {
        let item = self.items.get_mut(&number)?;
        if is_network(&error) && now_ms < item.outgoing.deadline_ms {
            item.error = Some(error);
            if std::mem::take(&mut item.is_in_flight) {
                self.in_flight -= 1;
            }
            self.waiting.insert(number);
            return None;
        }
        Some((self.remove(number)?, error))
    }

    /// Those that waited in vain.
    pub(crate) fn expired(&mut self, now_ms: i64) -> Vec<(Outgoing, Error)> {
        let is_expired = |number: &&u64| self.items.get(number).is_some_and(|item| item.outgoing.deadline_ms <= now_ms);
        let expired: Vec<u64> = self.waiting.iter().filter(is_expired).copied().collect();
        self.end(expired)
    }

    /// When the first of those that wait has waited too long.
    pub(crate) fn next_deadline_ms(&self) -> Option<i64> {
        self.waiting.iter().filter_map(|number| self.items.get(number)).map(|item| item.outgoing.deadline_ms).min()
    }

    /// Everything, because nothing will be sent any more.
    pub(crate) fn drain(&mut self) -> Vec<(Outgoing, Error)> {
        let all = self.items.keys().copied().collect();
        self.end(all)
    }

    fn end(&mut self, numbers: Vec<u64>) -> Vec<(Outgoing, Error)> {
        let mut ended = Vec::with_capacity(numbers.len());
        for number in numbers {
            let error = self.items.get_mut(&number).and_then(|item| item.error.take());
            let error = error.unwrap_or_else(|| {
                Error::new(
                    ErrorCode::NetworkModuleNetworkError,
                    "the message could not be sent: there is no connection",
                )
            });
            ended.extend(self.remove(number).map(|outgoing| (outgoing, error)));
        }
        ended
    }

    fn remove(&mut self, number: u64) -> Option<Outgoing> {
        let item = self.items.remove(&number)?;
        self.waiting.remove(&number);
        self.keys.remove(&item.outgoing.key);
        if item.is_in_flight {
            self.in_flight -= 1;
        }
        Some(item.outgoing)
    }
}

/// Whether nobody knows if the server got it.
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
            request: SendMessageRequest { client_key: vec![key; 16].into(), ..SendMessageRequest::default() },
            content: Bytes::new(),
            message: Message::text("hi"),
            deadline_ms,
            reply: oneshot::channel().0,
        }
    }

    fn lost() -> Error {
        Error::new(ErrorCode::NetworkModuleNetworkError, "lost")
    }

    fn started(queue: &mut SendQueue) -> Vec<(u64, u8)> {
        std::iter::from_fn(|| queue.start()).map(|(number, request)| (number, request.client_key[0])).collect()
    }

    #[test]
    fn what_was_lost_goes_again_in_the_order_of_the_calls() {
        let mut queue = SendQueue::default();
        for key in 1..=3 {
            queue.push(outgoing(key, 100));
        }
        assert_eq!(started(&mut queue), [(1, 1), (2, 2), (3, 3)]);
        assert!(queue.sent(2).is_some());
        // The answers of a lost link come in any order.
        assert!(queue.failed(3, lost(), 10).is_none());
        assert!(queue.failed(1, lost(), 10).is_none());
        queue.push(outgoing(4, 100));
        assert_eq!(started(&mut queue), [(1, 1), (3, 3), (4, 4)]);
    }

    #[test]
    fn what_waits_too_long_fails_with_its_last_error() {
        let mut queue = SendQueue::default();
        queue.push(outgoing(1, 100));
        queue.push(outgoing(2, 200));
        started(&mut queue);
        let timeout = Error::new(ErrorCode::NetworkModuleRequestTimeout, "late");
        assert!(queue.failed(1, timeout, 10).is_none());
        assert!(queue.failed(2, lost(), 10).is_none());
        assert_eq!(queue.next_deadline_ms(), Some(100));
        assert!(queue.expired(99).is_empty());
        let expired = queue.expired(100);
        assert_eq!(expired.len(), 1);
        assert_eq!(expired[0].1.code(), ErrorCode::NetworkModuleRequestTimeout);
        assert_eq!(queue.next_deadline_ms(), Some(200));
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
    fn the_pipe_is_bounded() {
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
