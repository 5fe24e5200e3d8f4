//! Outgoing messages, from the call of the app to the answer of the server.

/// How fast messages are sent.
mod pace;
/// The queue of messages that are being sent.
mod queue;

use tokio::sync::{OwnedSemaphorePermit, oneshot};
use zim_protocol::{Message, MessageSendConfig, MessageSentResult};

pub(crate) use self::queue::{Outgoing, SendQueue, is_network};
use crate::error::Error;
use crate::store::message::Pending;
use crate::types::{Key, Name};

/// A message that the app sends.
pub(crate) struct Submission {
    pub(crate) name: Name,
    pub(crate) key: Key,
    pub(crate) kind: SubmissionKind,
    pub(crate) config: MessageSendConfig,
    pub(crate) deadline_ms: i64,
    pub(crate) on_attached: Option<OnAttached>,
    pub(crate) reply: oneshot::Sender<Result<MessageSentResult, Error>>,
    /// Its place in the queue.
    pub(crate) place: OwnedSemaphorePermit,
}

/// Called when the message is in its conversation.
pub(crate) type OnAttached = Box<dyn FnOnce(&Message) + Send>;

/// How a message is sent.
#[derive(Debug)]
pub(crate) enum SubmissionKind {
    /// A message that is stored here and on the server.
    Stored {
        pending: Pending,
        /// The app passed a message that failed, or was being sent, under this key. If it is in this conversation, it is
        /// sent again, and otherwise this is another message.
        earlier: Option<Key>,
    },
    /// A failed message that is sent again.
    Retry { ts: i64 },
    /// A command, which is stored nowhere.
    Transient {
        /// The message as the app sees it.
        message: Box<Message>,
    },
}
