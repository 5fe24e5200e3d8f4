//! Outgoing messages, from the call of the app to the answer of the server.

/// How fast messages are sent.
mod pace;
/// The queue of messages that are being sent.
mod queue;

use tokio::sync::{OwnedSemaphorePermit, oneshot};
use zim_protocol::{Message, MessageSendConfig, MessageSentResult};

pub(crate) use self::queue::{Outgoing, SendQueue, is_network};
use crate::error::Error;
use crate::media::Passing;
use crate::store::outgoing::Pending;
use crate::types::{Key, Name};

/// The result of sending a message.
pub(crate) type SendResult = Result<MessageSentResult, Error>;

/// A message that the app sends.
pub(crate) struct Submission {
    pub(crate) name: Name,
    pub(crate) key: Key,
    pub(crate) kind: SubmissionKind,
    pub(crate) config: MessageSendConfig,
    pub(crate) deadline_ms: i64,
    pub(crate) on_attached: Option<OnAttached>,
    pub(crate) progress: OnProgress,
    pub(crate) reply: oneshot::Sender<SendResult>,
    pub(crate) place: Place,
}

/// The place of a message in the queue, from the call of the app until the message is sent.
#[derive(Debug)]
pub(crate) struct Place {
    _permit: OwnedSemaphorePermit,
    /// Uploads give way to the message.
    passing: Option<Passing>,
}

impl Place {
    pub(crate) fn new(permit: OwnedSemaphorePermit, passing: Passing) -> Self {
        Self { _permit: permit, passing: Some(passing) }
    }

    /// The message has files that are uploaded first: it must not wait for itself.
    pub(crate) fn wait_for_files(&mut self) {
        drop(self.passing.take());
    }
}

/// The callers who wait for the result of a message: one, or more if calls with the same `idempotencyKey` follow while it
/// is being sent.
#[derive(Debug)]
pub(crate) struct Reply {
    first: oneshot::Sender<SendResult>,
    others: Vec<oneshot::Sender<SendResult>>,
}

impl Reply {
    pub(crate) const fn new(first: oneshot::Sender<SendResult>) -> Self {
        Self { first, others: Vec::new() }
    }

    /// Adds a caller.
    pub(crate) fn join(&mut self, other: oneshot::Sender<SendResult>) {
        self.others.push(other);
    }

    /// Answers all callers. Those who have stopped waiting get nothing.
    pub(crate) fn send(self, result: SendResult) {
        for other in self.others {
            drop(other.send(result.clone()));
        }
        drop(self.first.send(result));
    }
}

/// Called when the message is in its conversation.
pub(crate) type OnAttached = Box<dyn FnOnce(&Message) + Send>;

/// Called with the message, the bytes that have moved, and all bytes.
pub(crate) type OnOneProgress = Box<dyn FnMut(&Message, i64, i64) + Send>;

/// Called with the message, the bytes of all files that have moved, those of all files, and the index of a part with its own
/// bytes that have moved and all of them.
pub(crate) type OnPartsProgress = Box<dyn FnMut(&Message, i64, i64, i64, i64, i64) + Send>;

/// Who is told of the progress of uploads.
#[derive(Default)]
pub(crate) struct OnProgress {
    pub(crate) of_one: Option<OnOneProgress>,
    pub(crate) of_parts: Option<OnPartsProgress>,
}

/// How a message is sent.
#[derive(Debug)]
pub(crate) enum SubmissionKind {
    /// A message that is stored here and on the server.
    Stored {
        pending: Pending,
        /// The app passed a message that failed, or was being sent, under this key. If it is in this conversation, it is
        /// sent again, and otherwise this is another message.
        earlier: Option<Key>,
        /// The key is the app's. If a message with this key is being sent, or failed, it counts and not this one.
        is_first_only: bool,
    },
    /// A failed message that is sent again.
    Retry { ts: i64 },
    /// A command, which is stored nowhere.
    Transient {
        /// The message as the app sees it.
        message: Box<Message>,
    },
}
