//! Sending, as the task sees it: a message is stored, shown, sent, and settled.

use bytes::Bytes;
use prost::Message as _;
use tokio::sync::oneshot;
use zim_protocol::{
    ErrorCode, Message, MessageEntry, MessageSendConfig, MessageSentResult, MessageSentStatus, Push, SendMessageRequest,
};

use super::Name;
use super::account_task::{AccountTask, Done};
use super::apply::{Attach, Attached, Settle};
use crate::account::Remote;
use crate::error::Error;
use crate::send_queue::{Key, Outgoing};
use crate::store::message::Pending;

/// A message that the app gives to be sent.
pub(crate) struct Submission {
    pub(crate) name: Name,
    pub(crate) key: Key,
    pub(crate) kind: SubmissionKind,
    pub(crate) config: MessageSendConfig,
    pub(crate) deadline_ms: i64,
    pub(crate) on_attached: Option<OnAttached>,
    pub(crate) reply: oneshot::Sender<Result<MessageSentResult, Error>>,
}

/// Tells the app that its message is in its conversation.
pub(crate) type OnAttached = Box<dyn FnOnce(&Message) + Send>;

/// How a message is sent.
#[derive(Debug)]
pub(crate) enum SubmissionKind {
    /// Stored here and on the server.
    Stored {
        pending: Pending,
        /// What the sender says.
        said: Box<Message>,
    },
    /// A failed one again.
    Retry { ts: i64 },
    /// Stored nowhere: a command.
    Passing {
        /// As the app sees it.
        message: Box<Message>,
    },
}

impl<L: Remote> AccountTask<L> {
    pub(super) async fn submit(&mut self, mut submission: Box<Submission>) {
        let attach = match &submission.kind {
            SubmissionKind::Stored { pending, .. } => {
                self.engine.open(&submission.name);
                Attach::New(pending.clone())
            }
            SubmissionKind::Retry { ts } => Attach::Retry { key: submission.key, ts: *ts },
            SubmissionKind::Passing { message } => {
                let message = message.clone();
                if let Some(on_attached) = submission.on_attached.take() {
                    on_attached(&message);
                }
                let request = request(&submission.name, submission.key, (*message).clone(), submission.config);
                let (response, reply) = (self.remote.request(request), submission.reply);
                let request = async move {
                    let result = response.await.map(|(result, _)| result);
                    Done::Passed { message, reply, result }
                };
                self.start(request).await;
                return;
            }
        };
        self.job.attach.push((submission.name.clone(), attach));
        self.after.attached.push(*submission);
    }

    pub(super) fn attached(&mut self, mut submission: Submission, attached: Option<Attached>) {
        let Some(Attached { message, first }) = attached else {
            let error = Error::new(
                ErrorCode::CommonModuleParamsInvalid,
                "isRetrySend takes a message of this conversation whose sending failed; this one is not, or is being sent again",
            );
            let _ = submission.reply.send(Err(error));
            return;
        };
        if let Some(on_attached) = submission.on_attached.take() {
            on_attached(&message);
        }
        let (said, content, config) = match (submission.kind, first) {
            (SubmissionKind::Stored { pending, said }, _) => (*said, pending.content, submission.config),
            // The same words and the same config: under one key the server takes only one message.
            (_, Some((config, content))) => (
                Message::decode(content.clone()).unwrap_or_default(),
                content,
                MessageSendConfig::decode(config).unwrap_or(submission.config),
            ),
            (_, None) => return,
        };
        self.sends.push(Outgoing {
            key: submission.key,
            request: request(&submission.name, submission.key, said, config),
            name: submission.name,
            content,
            message,
            deadline_ms: submission.deadline_ms,
            reply: submission.reply,
        });
    }

    pub(super) fn sent(&mut self, number: u64, connection: u64, result: Result<(MessageSentResult, Vec<Push>), Error>) {
        match result {
            Ok((result, pushes)) => {
                self.pushes(pushes);
                let Some(mut outgoing) = self.sends.sent(number) else { return };
                let answer = result.message.unwrap_or_default();
                if let Some(seq) = u64::try_from(answer.message_seq).ok().filter(|seq| *seq > 0) {
                    self.engine.hold(&outgoing.name, seq);
                    self.job.settle.push(Settle::Sent(place(&answer, outgoing.key)));
                }
                accept(&mut outgoing.message, &answer);
                self.after.sent.push((outgoing.reply, Ok(MessageSentResult { message: Some(outgoing.message) })));
            }
            Err(error) => {
                if connection == self.connection && error.code() == ErrorCode::NetworkModuleNetworkError {
                    // The rest waits for the next connection, so that nothing overtakes.
                    self.is_connected = false;
                }
                if let Some((outgoing, error)) = self.sends.failed(number, error, self.clock.steady_ms()) {
                    self.fail(outgoing, error);
                }
            }
        }
    }

    pub(super) fn fail(&mut self, outgoing: Outgoing, error: Error) {
        self.job.settle.push(Settle::Failed {
            name: outgoing.name,
            key: outgoing.key,
            reason: error.to_string(),
            is_disabled: error.code() == ErrorCode::MessageModuleTargetDoesNotExist,
        });
        self.after.sent.push((outgoing.reply, Err(error)));
    }
}

/// The call that sends a message.
fn request(name: &Name, key: Key, message: Message, config: MessageSendConfig) -> SendMessageRequest {
    SendMessageRequest {
        message: Some(message),
        to_conversation_id: name.id.to_string(),
        conversation_type: name.kind,
        // Whether this is an attempt of many is no business of the server's: the key tells.
        config: Some(MessageSendConfig { is_retry_send: false, ..config }),
        client_key: Bytes::copy_from_slice(&key),
    }
}

/// What the server says of a message that it stored.
pub(super) fn accept(message: &mut Message, answer: &Message) {
    message.message_id.clone_from(&answer.message_id);
    message.message_seq = answer.message_seq;
    message.timestamp = answer.timestamp;
    message.order_key = answer.order_key;
    message.sent_status = MessageSentStatus::Success as i32;
}

/// The same for the row.
fn place(answer: &Message, key: Key) -> MessageEntry {
    MessageEntry {
        seq: u64::try_from(answer.message_seq).unwrap_or(0),
        message_id: answer.message_id.parse().unwrap_or(0),
        ts: answer.timestamp,
        client_key: Bytes::copy_from_slice(&key),
        ..MessageEntry::default()
    }
}
